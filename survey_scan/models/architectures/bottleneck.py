"""What the residual networks for lenses are made of, after Lanusse et al. 2018."""

from typing import Any


def conv(filters: int, kernel: int, name: str, strides: int = 1, bias: bool = True) -> Any:
    """A convolution with the initialisation of He et al. 2015, from a normal distribution that is not cut off."""
    from keras import initializers, layers

    he = initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
    return layers.Conv2D(
        filters, kernel, strides, padding="same", use_bias=bias, kernel_initializer=he, name=f"{name}_conv"
    )


def activated(x: Any, name: str) -> Any:
    """Batch normalisation and ELU.

    The running mean moves by 0.1 a batch: Lasagne's ``alpha`` 0.1 is Keras' ``momentum`` 0.9. Epsilon is Lasagne's, 1e-4.
    """
    from keras import layers

    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-4, name=f"{name}_norm")(x)
    return layers.ELU(name=f"{name}_elu")(x)


def first(pixels: Any) -> Any:
    """The first layer: 32 filters of 7 × 7, without pooling; Glorot's uniform distribution with the gain of a ReLU, √2."""
    from keras import initializers, layers

    glorot = initializers.VarianceScaling(2.0, "fan_avg", "uniform")
    x = layers.Conv2D(32, 7, padding="same", use_bias=False, kernel_initializer=glorot, name="first_conv")(pixels)
    return activated(x, "first")


def block(x: Any, middle: int, out: int, name: str, halve: bool = False, pre: bool = True, bias: bool = True) -> Any:
    """A bottleneck of three convolutions (1, 3, 1) beside a shortcut.

    The shortcut is the block's input as it is; where its size or width changes, a 1 × 1 convolution of the activated input.

    Parameters
    ----------
    x : KerasTensor
    middle, out : int
        Filters of the first two convolutions, and of the last.
    name : str
        Before the names of its layers.
    halve : bool
        Whether the first convolution takes every second pixel.
    pre : bool
        Whether the input is activated first.
    bias : bool
        Of the last convolution and the shortcut; the others have none, for a normalisation follows them.
    """
    from keras import layers

    entry = activated(x, f"{name}_in") if pre else x
    strides = 2 if halve else 1
    y = conv(middle, 1, f"{name}_1", strides, bias=False)(entry)
    y = conv(middle, 3, f"{name}_2", bias=False)(activated(y, f"{name}_1"))
    y = conv(out, 1, f"{name}_3", bias=bias)(activated(y, f"{name}_2"))
    if halve or x.shape[-1] != out:
        x = conv(out, 1, f"{name}_shortcut", strides, bias=bias)(entry)
    return layers.Add(name=f"{name}_sum")([y, x])


def head(x: Any, classes: int) -> Any:
    """The mean over the map, and the logits."""
    from keras import layers

    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return layers.Dense(classes, dtype="float32", name="logit")(x)
