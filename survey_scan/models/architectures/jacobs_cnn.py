"""A network like that of Jacobs et al. 2017 (MNRAS 471, 167) and 2019 (MNRAS 484, 5330; ApJS 243, 17)."""

from typing import Any


def build(size: int, bands: int, classes: int = 1) -> Any:
    """Build four convolutions and two dense layers of 1,024, with ReLU and dropout.

    An approximation, of which no number was checked against the papers' text: 96 filters of 11 pixels, 128 of 5, 256 of 3,
    256 of 3; then 1,024 numbers twice. Nor is known here where the maps are pooled (2 × 2
    after the first, second and fourth here), whether the convolutions keep the size of the map (here they do), and where
    and how strong the dropout is (0.25 after each pooling, 0.5 after each dense layer). Do not expect their weights to fit.

    Parameters
    ----------
    size, bands, classes : int
        See :func:`survey_scan.models.architectures.build`. The first dense layer grows with the square of the size.

    Returns
    -------
    keras.Model
    """
    import keras
    from keras import layers

    pixels = keras.Input((size, size, bands), name="pixels")
    x = pixels
    for number, (filters, kernel, pooled) in enumerate(
        ((96, 11, True), (128, 5, True), (256, 3, False), (256, 3, True)), 1
    ):
        x = layers.Conv2D(filters, kernel, padding="same", activation="relu", name=f"conv_{number}")(x)
        if pooled:
            x = layers.MaxPooling2D(2, name=f"pool_{number}")(x)
            x = layers.Dropout(0.25, name=f"dropout_{number}")(x)
    x = layers.Flatten(name="flat")(x)
    for number in (1, 2):
        x = layers.Dense(1024, activation="relu", name=f"dense_{number}")(x)
        x = layers.Dropout(0.5, name=f"dense_dropout_{number}")(x)
    return keras.Model(pixels, layers.Dense(classes, dtype="float32", name="logit")(x), name="jacobs_cnn")
