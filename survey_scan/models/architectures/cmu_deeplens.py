"""CMU DeepLens, the ResNet-46 of Lanusse et al. 2018 (MNRAS 473, 3895), also that of Huang et al. 2020."""

from typing import Any

from survey_scan.models.architectures import bottleneck


def build(size: int, bands: int, classes: int = 1) -> Any:
    """Build it layer by layer as in the authors' code (github.com/McWilliamsCenter/CMUDeepLens, Lasagne).

    A 7 × 7 convolution without pooling; five stages of three bottlenecks, 32, 64, 128, 256, 512 wide, of which all but the
    first halve the map; its mean, with no normalisation or ELU before it. Initialisation and batch normalisation as there,
    but for one thing: Lasagne averages the inverse standard deviation of the batches, Keras their variance.

    Parameters
    ----------
    size, bands, classes : int
        See :func:`survey_scan.models.architectures.build`. Published for 45 and 101 pixels.

    Returns
    -------
    keras.Model
        3,511,681 trainable parameters with three bands and one class.
    """
    import keras

    pixels = keras.Input((size, size, bands), name="pixels")
    x = bottleneck.first(pixels)
    for stage, middle in enumerate((16, 32, 64, 128, 256), 1):
        for number in (1, 2, 3):
            leads = number == 1
            x = bottleneck.block(
                x,
                middle,
                2 * middle,
                f"stage_{stage}_block_{number}",
                halve=leads and stage > 1,
                pre=not (leads and stage == 1),
            )
    return keras.Model(pixels, bottleneck.head(x, classes), name="cmu_deeplens")
