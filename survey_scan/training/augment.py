"""Training cutouts turned, mirrored, moved and made noisier, on the device; what is drawn for a step depends on nothing else.

The numbers are drawn here on the host, from seed and step alone, so that they are the same on whatever and however many
devices the step runs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.errors import UserError
from survey_scan.training.config import Augmentation


def interpolates(settings: Augmentation) -> bool:
    """Whether pixels are interpolated."""
    return settings.rotation or settings.zoom is not None or settings.shift > 0


def sigma(settings: Augmentation) -> list[float]:
    """Standard deviation of the noise that is added: none, one for all bands, or one a band."""
    values = settings.noise if isinstance(settings.noise, list) else [settings.noise]
    return [float(value) for value in values] if any(values) else []


def check(settings: Augmentation, bands: list[str]) -> None:
    """See that there is noise for each band.

    Raises
    ------
    UserError
        If there is of more or fewer.
    """
    if len(sigma(settings)) not in (0, 1, len(bands)):
        raise UserError(
            f"augmentation.noise has {len(sigma(settings))} values, but there are {len(bands)} bands ({', '.join(bands)}). Give "
            "one number for all, or one a band in this order."
        )


def draw(settings: Augmentation, size: int, batch: int, seed: int, step: int) -> list[NDArray[Any]]:
    """What one step needs.

    Parameters
    ----------
    settings : Augmentation
    size : int
        Side of the cutouts.
    batch : int
        Cutouts of the step.
    seed, step : int

    Returns
    -------
    list of ndarray
        Bool (batch, 3), whether a cutout is transposed, and mirrored along y and x; float32 (batch, 8), where in a cutout
        each of its new pixels lies, as ``keras.ops.image.affine_transform`` takes it; int32 (batch, 2), seeds of noise.
    """
    rng = np.random.default_rng([seed, 3, step])
    mirrors = rng.random((batch, 3)) < 0.5
    if not settings.turns:
        mirrors[:, 0] = False  # a transposition is a turn and a mirror
    elif not settings.flips:
        mirrors[:, 2] = mirrors[:, 0] ^ mirrors[:, 1]  # an even number of mirrors is a turn
    if not (settings.turns or settings.flips):
        mirrors[:] = False
    angle = rng.uniform(0, 2 * np.pi, batch) if settings.rotation else np.zeros(batch)
    part = rng.uniform(settings.zoom[0], settings.zoom[1], batch) if settings.zoom else np.ones(batch)
    shift = rng.uniform(-settings.shift, settings.shift, (batch, 2))
    cos, sin, middle = part * np.cos(angle), part * np.sin(angle), (size - 1) / 2
    warp = np.zeros((batch, 8), np.float32)
    warp[:, 0], warp[:, 1], warp[:, 2] = cos, -sin, middle - (cos - sin) * middle + shift[:, 0]
    warp[:, 3], warp[:, 4], warp[:, 5] = sin, cos, middle - (sin + cos) * middle + shift[:, 1]
    return [mirrors, warp, rng.integers(0, 2**31 - 1, (batch, 2), dtype=np.int32)]


def apply(settings: Augmentation, x: Any, mirrors: Any, warp: Any, seeds: Any) -> Any:
    """Change cutouts as was drawn for them; TensorFlow, in the compiled step.

    Parameters
    ----------
    settings : Augmentation
    x : float32 tensor, shape (n, size, size, bands)
        Finite, in the unit of the store.
    mirrors, warp, seeds : tensor
        Of these cutouts, from :func:`draw`.
    """
    import tensorflow as tf
    from keras import ops

    if settings.turns:
        x = tf.where(mirrors[:, 0, None, None, None], tf.transpose(x, (0, 2, 1, 3)), x)
    if settings.flips or settings.turns:
        x = tf.where(mirrors[:, 1, None, None, None], x[:, ::-1], x)
        x = tf.where(mirrors[:, 2, None, None, None], x[:, :, ::-1], x)
    if interpolates(settings):
        x = ops.image.affine_transform(
            x, warp, interpolation="bilinear", fill_mode="reflect", data_format="channels_last"
        )
    if deviations := sigma(settings):
        x = x + tf.constant(deviations) * tf.random.stateless_normal(x.shape, seeds[0])
    return x


def words(settings: Augmentation) -> str:
    """In words."""
    said = [name for name, on in (("flips", settings.flips), ("right-angle turns", settings.turns)) if on]
    said += ["any rotation"] if settings.rotation else []
    said += [f"zoom to {settings.zoom[0]:g} to {settings.zoom[1]:g} of the side"] if settings.zoom else []
    said += [f"shifts up to {settings.shift:g} pixels"] if settings.shift else []
    said += [f"noise of {', '.join(f'{value:g}' for value in sigma(settings))}"] if sigma(settings) else []
    return ", ".join(said) or "none"
