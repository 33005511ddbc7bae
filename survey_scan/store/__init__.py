"""``cutouts.zarr``: the cutouts of all targets in one Zarr v3 group.

::

    image         (target, y, x, band)  pixels; one shard a partition, one chunk 256 targets
    step          (target, band)        only of int16: flux of one step; pixel = image * step, -32768 is NaN
    object_id, ra, dec, status          (target)
    bad_fraction  (target, band)
    kept          (target)              only of ``store: candidates``: whether its pixels are there

Of ``store: candidates`` a chunk of ``image`` is one target, and only those that are kept are there (:mod:`~survey_scan.store.few`).
Rows ``0 … n_targets - 1`` are the targets in the order of the plan. All arrays are padded to whole partitions; padding,
and what is not written yet, has status 255. A partition owns its files: no other partition ever touches them.
"""

import json
import shutil
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from survey_scan import __version__
from survey_scan.config import CHUNK_ROWS, Cutouts
from survey_scan.errors import RunError
from survey_scan.schema import REASONS
from survey_scan.store import few, shards
from survey_scan.store.held import FLOAT16_MAX, Held, as_stored, hold
from survey_scan.store.quantisation import NAN_INT16
from survey_scan.store.reader import NotKept, Reader, StoredBatch, kept_none

if TYPE_CHECKING:
    from survey_scan.imaging import base

#: Status of rows that are padding, or not written yet.
UNWRITTEN = 255

#: Said in the attributes of every store.
ORIENTATION = (
    "image[target, y, x, band]: rows and columns as in the survey's FITS files, y up the array (show with "
    "origin='lower'); the first column is column ceil(x - size/2) of the tile, the first row row ceil(y - size/2)"
)
#: Said in the attributes of a store that does not hold all pixels.
KEPT = "only targets with a logit of at least {:g} have pixels: those whose 'kept' is true; of the others image is fill value"

#: Said in the attributes of every store, of its ``zero_point``: one number, or one a band where bands differ.
MAGNITUDE = "magnitude = zero_point - 2.5 log10(flux)"
#: Units that say the same as a zero point (AB).
_UNITS = {22.5: "nanomaggy", 31.4: "nJy", 23.9: "uJy"}

#: Instead of "as in the tile" of pixels that were multiplied.
BROUGHT = "of the tile brought to zero_point"

_PIXELS = {
    "float32": "flux as in the tile; NaN is no data",
    "float16": "flux as in the tile to 1 part in 2048, at most 65504 in absolute value; NaN is no data",
    "int16": "flux = image * step, to half a step; -32768 is no data",
}
_NDIM = {"image": 4, "object_id": 1, "ra": 1, "dec": 1, "status": 1, "bad_fraction": 2, "step": 2, "kept": 1}
_FILL = {
    "object_id": 0,
    "ra": np.nan,
    "dec": np.nan,
    "status": UNWRITTEN,
    "bad_fraction": np.nan,
    "step": np.nan,
    "kept": False,
}


def create(path: Path, n_targets: int, spec: Cutouts, id_dtype: Any, attributes: Mapping[str, Any]) -> None:
    """Create the store, without any pixels.

    Parameters
    ----------
    path : Path
        The group; must not exist.
    n_targets : int
        Rows that are targets.
    spec : Cutouts
        Section ``cutouts`` of the configuration.
    id_dtype : dtype
        Of ``object_id``: int64, uint64, or any kind of text.
    attributes : mapping
        Added to the group's attributes, as JSON: pixel scale, zero point, release.

    Raises
    ------
    RunError
        If there is something at the path.
    OSError
        If the disk is full or the folder is not writable.
    """
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec
    from zarr.errors import ZarrUserWarning

    if path.exists():
        raise RunError(f"{path} exists already. Move it away, or delete it to cut all targets again.")
    rows = -(-max(n_targets, 1) // spec.partition) * spec.partition
    pixels = (spec.size, spec.size, len(spec.bands))
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    kind = np.dtype(id_dtype).kind
    side = {
        "object_id": np.dtype(id_dtype).name if kind in "iu" else "string",
        "ra": "float64",
        "dec": "float64",
        "status": "uint8",
        "bad_fraction": "float32",
        **({"step": "float32"} if spec.dtype == "int16" else {}),
        **({"kept": "bool"} if spec.store == "candidates" else {}),
    }
    dots: dict[str, Any] = {"name": "default", "separator": "."}
    try:
        group = zarr.create_group(partial, attributes=_attributes(n_targets, spec, side["object_id"], attributes))
        codecs = [BloscCodec(typesize=2, cname="lz4", clevel=5, shuffle="bitshuffle")] if spec.dtype == "int16" else []
        group.create_array(
            "image",
            shape=(rows, *pixels),
            shards=(spec.partition, *pixels),
            chunks=(1 if spec.store == "candidates" else CHUNK_ROWS, *pixels),
            dtype=spec.dtype,
            fill_value=NAN_INT16 if spec.dtype == "int16" else np.nan,
            compressors=[*codecs, Crc32cCodec()],
            dimension_names=("target", "y", "x", "band"),
            chunk_key_encoding=dots,
            config={"write_empty_chunks": True},
        )
        for name, dtype in side.items():
            more = (len(spec.bands),) * (_NDIM[name] - 1)
            group.create_array(
                name,
                shape=(rows, *more),
                chunks=(spec.partition, *more),
                dtype=dtype,
                fill_value="" if dtype == "string" else _FILL[name],
                compressors=[Crc32cCodec()],
                dimension_names=("target", "band")[: _NDIM[name]],
                chunk_key_encoding=dots,
                config={"write_empty_chunks": True},
            )
        with warnings.catch_warnings():
            # xarray wants consolidated metadata; readers that do not know them use those of each array
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(partial)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def flux_scale(
    zero_points: Mapping[str, float | None], unit: str | None, common: float | None = None
) -> dict[str, Any]:
    """Attributes that say what a pixel's value means.

    Parameters
    ----------
    zero_points : mapping
        Band → zero point of the images, None if it is not known.
    unit : str or None
        Unit of the images, by their headers.
    common : float, optional
        The zero point that all bands were brought to.

    Returns
    -------
    dict
        ``zero_point`` (a number, a mapping if bands differ, None if it is not known), ``unit``, ``magnitude``, and
        ``zero_point_of_images`` if pixels are not as they were there.
    """
    if common is not None:
        said: dict[str, Any] = {
            "zero_point": common,
            "unit": _UNITS.get(common),
            "zero_point_of_images": dict(zero_points),
        }
    else:
        same = len(set(zero_points.values())) == 1
        said = {"zero_point": next(iter(zero_points.values())) if same else dict(zero_points), "unit": unit}
    return {**said, "magnitude": MAGNITUDE}


def write(
    path: Path,
    partition: int,
    object_id: ArrayLike,
    ra: ArrayLike,
    dec: ArrayLike,
    cutouts: "base.Cutouts",
) -> None:
    """Write one partition: first remove its files, then write them anew and flush them to disk.

    Parameters
    ----------
    path : Path
        The group.
    partition : int
        Which; its rows begin at ``partition * spec.partition``.
    object_id, ra, dec : array_like, shape (n,)
        Of the partition's targets, all of them.
    cutouts : Cutouts
        Row by row those of the targets.

    Raises
    ------
    ValueError
        If there are more or fewer rows than the partition has targets, or the pixels have another shape.
    TypeError
        If the identifiers are of another kind than those the store was made for.
    OSError
        If the disk is full or fails; it names the file.
    """
    facts = _facts(path, partition, object_id, cutouts.image)
    forget(path, partition)
    steps: list[NDArray[np.float32]] = []
    chunks = _encode(cutouts.image, str(facts["dtype"]), steps)
    _publish(path, "image", partition, 4, shards.shard(chunks, int(facts["partition"]) // CHUNK_ROWS))
    more = {"step": np.concatenate(steps)} if facts["dtype"] == "int16" else {}
    _write_side(path, partition, facts, object_id, ra, dec, cutouts, more)


def write_kept(path: Path, partition: int, ra: ArrayLike, dec: ArrayLike, held: Held, kept: NDArray[np.bool_]) -> None:
    """Write one partition of a store made for ``store: candidates``, as :func:`write` does, with the pixels of some targets.

    Parameters
    ----------
    path, partition, ra, dec
        As of :func:`write`.
    held : Held
        All cutouts of the partition.
    kept : ndarray of bool, shape (n,)
        Whose pixels are written.

    Raises
    ------
    ValueError, TypeError, OSError
        As :func:`write`.
    """
    facts = _facts(path, partition, held.object_id, held.image)
    forget(path, partition)
    if kept.any():
        parts = shards.shard(few.chunks(held.image, kept), int(facts["partition"]))
        _publish(path, "image", partition, 4, parts)
    more = {"kept": kept} if held.step is None else {"step": held.step, "kept": kept}
    _write_side(path, partition, facts, held.object_id, ra, dec, held, more)


def _facts(path: Path, partition: int, object_id: ArrayLike, image: NDArray[Any]) -> dict[str, Any]:
    """Attributes of a store, if it takes such pixels."""
    facts: dict[str, Any] = json.loads((path / "zarr.json").read_bytes())["attributes"]
    rows, size, n = int(facts["partition"]), int(facts["size"]), len(np.asarray(object_id))
    expected = (min(rows, facts["n_targets"] - partition * rows), size, size, len(facts["bands"]))
    if image.shape != expected or n != expected[0]:
        found = f"{n} targets and pixels of shape {image.shape}"
        raise ValueError(f"partition {partition} of {path} takes pixels of shape {expected}, not {found}")
    return facts


def _write_side(
    path: Path,
    partition: int,
    facts: Mapping[str, Any],
    object_id: ArrayLike,
    ra: ArrayLike,
    dec: ArrayLike,
    cutouts: "base.Cutouts | Held",
    more: Mapping[str, NDArray[Any]],
) -> None:
    """Write the arrays beside the pixels."""
    ids = np.asarray(object_id)
    side: dict[str, NDArray[Any]] = {
        "object_id": ids.astype(facts["object_id"], casting="safe") if facts["object_id"] != "string" else ids,
        "ra": np.asarray(ra, np.float64),
        "dec": np.asarray(dec, np.float64),
        "status": np.asarray(cutouts.status, np.uint8),
        "bad_fraction": np.asarray(cutouts.bad_fraction, np.float32),
        **more,
    }
    for name, values in side.items():
        parts = shards.checked(_padded(name, values, int(facts["partition"])))
        _publish(path, name, partition, values.ndim, parts)


def forget(path: Path, partition: int) -> None:
    """Remove all files of one partition, also those a killed writer left unfinished."""
    shards.sweep(path / "image" / "partial", f"{partition}")
    for name, ndim in _NDIM.items():
        shards.file(path, name, partition, ndim).unlink(missing_ok=True)


def _encode(image: NDArray[np.float32], dtype: str, steps: list[NDArray[np.float32]]) -> Iterator[shards.Data]:
    """The chunks of a partition as stored; the steps of int16 pixels are added to the list."""
    memory = np.empty((CHUNK_ROWS, *image.shape[1:]), np.int16) if dtype == "int16" else None
    for start in range(0, len(image), CHUNK_ROWS):
        chunk = image[start : start + CHUNK_ROWS]
        if len(chunk) < CHUNK_ROWS:
            padding = np.full((CHUNK_ROWS - len(chunk), *image.shape[1:]), np.nan, np.float32)
            chunk = np.concatenate([chunk, padding])
        stored, step = as_stored(chunk, dtype, memory)
        if step is not None:
            steps.append(step[: len(image) - start])
        yield few.encoded(stored)


def _padded(name: str, values: NDArray[Any], rows: int) -> bytes:
    """A side array's values as bytes, up to a whole partition."""
    if values.dtype.kind not in "biuf":
        from numcodecs.vlen import VLenUTF8  # type: ignore[import-untyped]

        text = np.full(rows, "", dtype=object)
        text[: len(values)] = values
        return bytes(VLenUTF8().encode(text))
    padded = np.full((rows, *values.shape[1:]), _FILL[name], dtype=values.dtype)
    padded[: len(values)] = values
    return padded.tobytes()


def _publish(path: Path, name: str, partition: int, ndim: int, parts: Iterable[shards.Data]) -> None:
    shards.publish(parts, shards.file(path, name, partition, ndim), path / "image" / "partial", str(partition))


def _attributes(n_targets: int, spec: Cutouts, object_id: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader has to know, from the store alone."""
    return {
        "title": "cutouts of the targets of a survey_scan run",
        "version": __version__,
        "n_targets": n_targets,
        "partition": spec.partition,
        "bands": list(spec.bands),
        "size": spec.size,
        "dtype": spec.dtype,
        "object_id": object_id,
        "orientation": ORIENTATION,
        "pixels": _PIXELS[spec.dtype].replace(
            "as in the tile", "as in the tile" if spec.zero_point is None else BROUGHT
        ),
        "status": {
            **{str(int(code)): text for code, text in REASONS.items()},
            str(UNWRITTEN): "padding or not written",
        },
        **({"kept": KEPT.format(spec.above), "above": spec.above} if spec.store == "candidates" else {}),
        **more,
    }


__all__ = [
    "FLOAT16_MAX",
    "UNWRITTEN",
    "Held",
    "NotKept",
    "Reader",
    "StoredBatch",
    "create",
    "flux_scale",
    "forget",
    "hold",
    "kept_none",
    "write",
    "write_kept",
]
