"""The shielded ResNet of Huang et al. 2021 (ApJ 909, 27), as far as it is published."""

from typing import Any

from survey_scan.models.architectures import bottleneck

_WIDTH, _MIDDLE, _SHIELD = 32, 16, 16


def build(size: int, bands: int, classes: int = 1) -> Any:
    """Build a network that has what the paper says; it is not known to be theirs layer by layer.

    The paper: CMU DeepLens with "shields", 1 × 1 convolutions, between every three blocks; 32 channels at the end; 60
    thousand parameters instead of 3 million. Not published are the widths of the stages and shields, where the biases
    are, and what normalises. Here all stages are 32 wide, 16 in the bottlenecks; the shields are to 16 channels; every
    block and shield, and the mean at the end, has batch normalisation and ELU before it; no convolution has a bias.
    These are the choices of a public reproduction whose count, 59,905, this one has.

    Parameters
    ----------
    size, bands, classes : int
        See :func:`survey_scan.models.architectures.build`. Published for 101 pixels and three bands.

    Returns
    -------
    keras.Model
        59,905 trainable parameters with three bands and one class.
    """
    import keras

    pixels = keras.Input((size, size, bands), name="pixels")
    x = bottleneck.first(pixels)
    for stage in (1, 2, 3, 4, 5):
        if stage > 1:
            name = f"shield_{stage - 1}"
            x = bottleneck.conv(_SHIELD, 1, name, bias=False)(bottleneck.activated(x, name))
        for number in (1, 2, 3):
            name = f"stage_{stage}_block_{number}"
            x = bottleneck.block(x, _MIDDLE, _WIDTH, name, halve=stage > 1 and number == 1, bias=False)
    return keras.Model(pixels, bottleneck.head(bottleneck.activated(x, "last"), classes), name="shielded_resnet")
