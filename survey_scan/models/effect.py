"""What the options that make a network faster do to its logits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.config import Model
from survey_scan.models.device import Device
from survey_scan.models.loader import load


def measure(
    model: Model,
    bands: list[str],
    size: int,
    dtype: str,
    image: NDArray[Any],
    step: NDArray[np.float32] | None,
    device: Device,
) -> dict[str, Any] | None:
    """Logits of some cutouts with ``model.precision`` and ``model.jit``, against float32 without XLA.

    On JAX, which always uses XLA, both are with it. The network is loaded twice, one after the other.

    Parameters
    ----------
    model, bands, size, dtype, device
        As of :func:`survey_scan.models.load`.
    image, step
        Cutouts as stored, as of :meth:`survey_scan.models.Network.logits`.

    Returns
    -------
    dict or None
        ``options`` in words; ``n`` cutouts; ``max`` and ``median`` of the absolute differences of the logits that are
        finite both times, null if there are none; ``lost``, how many logits are finite in float32 only; ``moved``, how
        many of the best tenth by one are not among the best tenth by the other. None if there is nothing to compare.

    Raises
    ------
    ModelError, ResourceError, DeviceLost
        As :func:`survey_scan.models.load`.
    """
    xla = model.jit and model.backend == "tensorflow"
    if model.path == "loopback" or not (xla or model.precision != "float32"):
        return None
    plain = model.model_copy(update={"precision": "float32", "jit": False})
    # The network that is asked for comes last: TensorFlow's use of TF32 is that of the network loaded last.
    before, after = (load(m, bands, size, dtype, device).logits(image, step) for m in (plain, model))
    words = [model.precision] * (model.precision != "float32") + ["XLA"] * xla
    return {"options": " + ".join(words), "n": len(image), **compare(before, after)}


def compare(before: NDArray[np.float32], after: NDArray[np.float32]) -> dict[str, Any]:
    """The numbers of :func:`measure`, from logits of the same cutouts, of shape (n,)."""
    both = np.isfinite(before) & np.isfinite(after)
    change = np.abs(after[both].astype(float) - before[both])
    return {
        "max": float(change.max()) if len(change) else None,
        "median": float(np.median(change)) if len(change) else None,
        "lost": int((np.isfinite(before) & ~np.isfinite(after)).sum()),
        "moved": len(_best(before) - _best(after)),
    }


def line(found: dict[str, Any]) -> str:
    """What :func:`measure` found, in one line."""
    lost = f"; {found['lost']} of them get none" if found["lost"] else ""
    if found["max"] is None:
        return f"{found['options']} leaves none of {found['n']} cutouts a logit that float32 gives one"
    return (
        f"{found['options']} changes the logits of {found['n']} cutouts by {found['median']:.2g} (median) "
        f"to {found['max']:.2g} (largest); of the best {_tenth(found['n'])}, {found['moved']} are others{lost}"
    )


def _tenth(n: int) -> int:
    return -(-n // 10)


def _best(logits: NDArray[np.float32]) -> set[int]:
    """The best tenth, the first of equals; what has no logit comes last."""
    order = np.argsort(-np.where(np.isfinite(logits), logits, -np.inf), kind="stable")
    return set(order[: _tenth(len(logits))].tolist())
