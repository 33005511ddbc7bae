"""The architecture of the demo's network: small enough to score thousands of cutouts a second on one core."""

from typing import Any

from survey_scan.demo.photometry import BANDS, SKY_NOISE

CUTOUT_SIZE = 45
"""Width in pixels of the cutouts the network takes: 11.8 arcsec."""


def build(filters: tuple[int, int, int] = (12, 16, 24)) -> Any:
    """Build the network.

    Its input are raw pixels (45, 45, 3): counts at zero point 30 in g, r, i, missing pixels 0. It divides each
    band by the sky noise, mixes the bands (a blue arc stands out in a difference of bands) and compresses the
    range with asinh, and ends in the logit of "this is a lens" and a sigmoid. Only layers and operations of
    Keras itself are used, so the saved file loads without this package.

    Parameters
    ----------
    filters : tuple of int
        Channels of the three stages.

    Returns
    -------
    keras.Model
        Output (n, 1): the probability, from the layer ``probability``; its input is the layer ``logit``.
    """
    import keras
    from keras import layers

    pixels = keras.Input((CUTOUT_SIZE, CUTOUT_SIZE, len(BANDS)), name="pixels")
    x = layers.Rescaling([1.0 / noise for noise in SKY_NOISE], name="sky_noise_units")(pixels)
    x = layers.Conv2D(4, 1, use_bias=False, name="mix_bands")(x)
    x = keras.ops.arcsinh(x)
    for stage, (width, size, steps) in enumerate(zip(filters, (5, 3, 3), (1, 2, 2), strict=True)):
        for step in range(steps):
            strides = 1 if stage else 2
            x = layers.Conv2D(width, size, strides, padding="same", use_bias=False, name=f"conv_{stage}_{step}")(x)
            x = layers.BatchNormalization(momentum=0.95, name=f"norm_{stage}_{step}")(x)
            x = layers.ReLU(name=f"relu_{stage}_{step}")(x)
        if stage:
            x = layers.MaxPooling2D(2, name=f"pool_{stage}")(x)
    x = layers.Conv2D(filters[-1], 3, padding="same", activation="relu", name="conv_last")(x)
    x = layers.Concatenate(name="summary")([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    logit = layers.Dense(1, name="logit")(x)
    return keras.Model(pixels, layers.Activation("sigmoid", name="probability")(logit), name="demo_lens_finder")
