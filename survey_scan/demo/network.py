"""The architecture of the demo's network: small enough to score thousands of cutouts a second on one core."""

from typing import Any

from survey_scan.demo.photometry import BANDS, SKY_NOISE
from survey_scan.models.architectures import demo

CUTOUT_SIZE = 45
"""Width in pixels of the cutouts the network takes: 11.8 arcsec."""


def build(filters: tuple[int, int, int] = (12, 16, 24)) -> Any:
    """Build the network.

    Its input are raw pixels (45, 45, 3): counts at zero point 30 in g, r, i, missing pixels 0. It is the architecture
    ``demo``, which divides each band by the sky noise, and a sigmoid of its logit of "this is a lens". Only layers and
    operations of Keras itself are used, so the saved file loads without this package.

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

    logits = demo.build(CUTOUT_SIZE, len(BANDS), noise=SKY_NOISE, filters=filters)
    probability = keras.layers.Activation("sigmoid", name="probability")(logits.output)
    return keras.Model(logits.input, probability, name="demo_lens_finder")
