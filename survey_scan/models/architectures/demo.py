"""A small network: thousands of cutouts a second on one core. The demo's is one of these."""

from collections.abc import Sequence
from typing import Any


def build(
    size: int,
    bands: int,
    classes: int = 1,
    noise: Sequence[float] | None = None,
    filters: tuple[int, int, int] = (12, 16, 24),
) -> Any:
    """Build it.

    It mixes the bands (a blue arc stands out in a difference of bands), compresses the range with asinh, and so wants
    pixels in units of the sky's noise.

    Parameters
    ----------
    size, bands, classes : int
        See :func:`survey_scan.models.architectures.build`.
    noise : sequence of float, optional
        Of the sky in each band; the network then divides by it and takes raw pixels.
    filters : tuple of int
        Channels of the three stages.

    Returns
    -------
    keras.Model
        19,325 trainable parameters with three bands and one class.
    """
    import keras
    from keras import layers

    pixels = keras.Input((size, size, bands), name="pixels")
    x = pixels
    if noise is not None:
        x = layers.Rescaling([1.0 / sigma for sigma in noise], name="sky_noise_units")(x)
    x = layers.Conv2D(4, 1, use_bias=False, name="mix_bands")(x)
    x = keras.ops.arcsinh(x)
    for stage, (width, kernel, steps) in enumerate(zip(filters, (5, 3, 3), (1, 2, 2), strict=True)):
        for step in range(steps):
            strides = 1 if stage else 2
            x = layers.Conv2D(width, kernel, strides, padding="same", use_bias=False, name=f"conv_{stage}_{step}")(x)
            x = layers.BatchNormalization(momentum=0.95, name=f"norm_{stage}_{step}")(x)
            x = layers.ReLU(name=f"relu_{stage}_{step}")(x)
        if stage:
            x = layers.MaxPooling2D(2, name=f"pool_{stage}")(x)
    x = layers.Conv2D(filters[-1], 3, padding="same", activation="relu", name="conv_last")(x)
    x = layers.Concatenate(name="summary")([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    return keras.Model(pixels, layers.Dense(classes, dtype="float32", name="logit")(x), name="demo")
