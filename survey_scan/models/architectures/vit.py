"""The vision transformer ViT-B/16 of Dosovitskiy et al. 2021 (arXiv:2010.11929), with which González et al. 2025 searched."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """What tells one vision transformer from another.

    Parameters
    ----------
    image, patch : int
        Sides of the image and of its patches, in pixels.
    width, depth, heads, hidden : int
        Numbers a token has; blocks; heads of the attention; width of the dense layers in the blocks.
    """

    image: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072


#: ViT-B/16 at 224 pixels.
B16 = Shape()


def build(size: int, bands: int, classes: int = 1, shape: Shape = B16) -> Any:
    """Build it, with a resizing (bilinear) in front unless the cutouts are of its size.

    Patches become tokens, a class token comes before them, learnt positions are added; twelve blocks of attention and two
    dense layers with the exact GELU, each behind a layer normalisation (epsilon 1e-6) and beside a shortcut; a last
    normalisation, and the logits from the class token. No dropout.

    Class token and positions are embeddings of whole numbers that are made of the patches, so that no layer of our own is
    needed, and the numbers of both are learnt as elsewhere.

    Parameters
    ----------
    size, bands, classes : int
        See :func:`survey_scan.models.architectures.build`.
    shape : Shape
        Of the transformer.

    Returns
    -------
    keras.Model
        With three bands 85,798,656 parameters before the layer ``logit``.
    """
    import keras
    from keras import layers, ops

    pixels = keras.Input((size, size, bands), name="pixels")
    x = pixels
    if size != shape.image:
        x = layers.Resizing(shape.image, shape.image, interpolation="bilinear", name="resize")(x)
    x = layers.Conv2D(shape.width, shape.patch, shape.patch, name="patch_embedding")(x)
    tokens = (shape.image // shape.patch) ** 2
    x = layers.Reshape((tokens, shape.width), name="tokens")(x)
    zero = ops.zeros_like(x[:, :1, 0], dtype="int32")
    x = layers.Concatenate(axis=1, name="with_class_token")(
        [layers.Embedding(1, shape.width, embeddings_initializer="zeros", name="class_token")(zero), x]
    )
    place = ops.cumsum(ops.ones_like(x[:1, :, 0], dtype="int32"), axis=1) - 1  # 0 ... tokens, once for the whole batch
    normal = keras.initializers.RandomNormal(stddev=0.02)
    x = x + layers.Embedding(tokens + 1, shape.width, embeddings_initializer=normal, name="position_embedding")(place)
    for number in range(1, shape.depth + 1):
        x = _block(x, f"block_{number}", shape)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return keras.Model(pixels, layers.Dense(classes, dtype="float32", name="logit")(x[:, 0]), name="vit")


def _block(x: Any, name: str, shape: Shape) -> Any:
    from keras import layers

    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm_1")(x)
    attention = layers.MultiHeadAttention(shape.heads, shape.width // shape.heads, name=f"{name}_attention")
    x = layers.Add(name=f"{name}_sum_1")([x, attention(y, y)])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm_2")(x)
    y = layers.Dense(shape.hidden, activation="gelu", name=f"{name}_dense_1")(y)
    return layers.Add(name=f"{name}_sum_2")([x, layers.Dense(shape.width, name=f"{name}_dense_2")(y)])
