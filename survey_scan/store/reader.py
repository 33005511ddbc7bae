"""Reading the store: rows of any of its arrays, and never what is not there or damaged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.errors import RunError
from survey_scan.layout import RunDirectory
from survey_scan.store import few, shards
from survey_scan.store.quantisation import restore


class NotKept(RunError):
    """The pixels of a target were not kept; nothing is damaged."""


@dataclass(frozen=True)
class StoredBatch:
    """Pixels as they are stored.

    Attributes
    ----------
    image : ndarray, shape (n, size, size, bands)
        float32, float16 or int16.
    step : ndarray of float32, shape (n, bands), or None
        Of int16 only: a pixel is ``image * step``, and NaN where ``image`` is -32768.
    """

    image: NDArray[Any]
    step: NDArray[np.float32] | None


class Reader:
    """Reads what is written.

    Parameters
    ----------
    path : Path
        The group.

    Raises
    ------
    RunError
        If there is no such store.
    """

    def __init__(self, path: Path):
        import zarr

        if not (path / "zarr.json").exists():
            raise RunError(kept_none(path) or f"{path} is not a store of cutouts. Run the scan first.")
        self.path = path
        self._group = zarr.open_group(path, mode="r")
        #: Attributes of the group: bands, n_targets, partition, dtype, orientation ...
        self.attributes: dict[str, Any] = dict(self._group.attrs)
        #: Rows that are targets.
        self.n_targets = int(self.attributes["n_targets"])
        #: Whether all targets have pixels, as far as they are written.
        self.whole = "kept" not in self._group

    def kept(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Which of the rows ``start`` to ``stop - 1`` have pixels; raises as :meth:`read`."""
        return np.ones(stop - start, bool) if self.whole else self.column("kept", start, stop)

    def read(self, start: int, stop: int) -> StoredBatch:
        """Rows ``start`` to ``stop - 1`` as stored; of those that are not :meth:`kept` fill values, which are no data.

        Raises
        ------
        IndexError
            If there are no such targets.
        RunError
            If a partition is not written, or its checksums say that it is damaged.
        """
        step = self.column("step", start, stop) if "step" in self._group else None
        return StoredBatch(self.column("image", start, stop), step)

    def pixels(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows ``start`` to ``stop - 1`` as float32 fluxes, NaN where there is none; raises as :meth:`read`."""
        batch = self.read(start, stop)
        return batch.image.astype(np.float32) if batch.step is None else restore(batch.image, batch.step)

    def column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop - 1`` of any array of the store; raises as :meth:`read`."""
        if not 0 <= start <= stop <= self.n_targets:
            raise IndexError(f"{self.path} has targets 0 to {self.n_targets - 1}, not {start} to {stop - 1}")
        array: Any = self._group[name]
        rows = int(self.attributes["partition"])
        pieces: list[NDArray[Any]] = [] if start < stop else [array[:0]]
        for partition in range(start // rows, -(-stop // rows) if start < stop else 0):
            low, high = max(start, partition * rows), min(stop, (partition + 1) * rows)
            # zarr reads a file that is not there, or is empty, as fill values and without a word
            file = shards.file(self.path, name, partition, array.ndim)
            again = f"Cut it again: survey_scan partition {self.path.parent} cutouts {partition}"
            if name == "image" and not self.whole:
                pieces.append(self._few(file, low, high, array, again))
                continue
            if not file.exists():
                raise RunError(f"partition {partition} of {self.path} is not there (no {name}/{file.name}). {again}")
            try:
                if file.stat().st_size == 0:
                    raise ValueError("0 bytes")
                pieces.append(array[low:high])
            except (ValueError, RuntimeError) as error:
                raise RunError(f"{file} is damaged, in partition {partition} ({error}). {again}") from error
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _few(self, file: Path, start: int, stop: int, array: Any, again: str) -> NDArray[Any]:
        """Rows of one partition of which some are kept."""
        rows = int(self.attributes["partition"])
        pixels = np.full((stop - start, *array.shape[1:]), array.fill_value, array.dtype)
        kept = np.flatnonzero(self.kept(start, stop))
        if not len(kept):
            return pixels
        wanted = np.empty((len(kept), *array.shape[1:]), array.dtype)
        try:
            few.read(file, (start % rows + kept).tolist(), rows, wanted)
        except FileNotFoundError:
            raise RunError(
                f"partition {start // rows} of {self.path} is not there (no image/{file.name}). {again}"
            ) from None
        except ValueError as error:
            raise RunError(f"{file} is damaged, in partition {start // rows} ({error}). {again}") from None
        pixels[kept] = wanted
        return pixels


def kept_none(path: Path) -> str | None:
    """What to say where there is no store because the run of its folder keeps no pixels; None if that is not why."""
    import yaml

    try:
        said = yaml.safe_load(RunDirectory(path.parent).config_resolved.read_text())["cutouts"]["store"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return None
    if said != "none":
        return None
    return (
        f"{path.parent} kept no cutouts (cutouts.store: none), and this needs their pixels. Set cutouts.store to candidates "
        "or all, and cut again: survey_scan run CONFIG --redo cutouts"
    )
