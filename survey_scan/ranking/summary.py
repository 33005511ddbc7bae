"""What a ranking asks of nearly every score table, kept in its footer: the best rows whole, and how all are distributed.

A run's best are a few rows of very many partitions. To open a partition's target table for one of them, and both tables to
compare its tile with others, takes several times what reading all logits does; a footer is read anyway. What does not stand
in it, or in the table of an older run, is read from the tables: the result is the same.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey_scan.ranking import drift
from survey_scan.schema import Status

#: Best rows that are kept whole: of 20,000 in 320 million a partition of 4,096 has one in four.
SHORT = 32

_BEST, _COUNTS = "survey_scan.best", "survey_scan.counts"
_BIN, _COUNT = np.dtype("<u2"), np.dtype("<u4")


class Best(NamedTuple):
    """The best rows of a partition, in the table's order.

    Parameters
    ----------
    targets : Table
        All columns of the target table.
    scored : dict
        Columns of the score table, and ``logit``.
    beyond : float
        No other row that has a score has a higher logit; -inf if there is none.
    """

    targets: pa.Table
    scored: dict[str, NDArray[Any]]
    beyond: float


def of(targets: pa.Table, scored: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Summarise a partition.

    Parameters
    ----------
    targets : Table
        Its target table.
    scored : mapping
        Row by row ``status``, the ``logit`` it is ranked by, and other columns that candidates keep.

    Returns
    -------
    dict
        For the footer of its score table; the same tables give the same texts.
    """
    logit, known = scored["logit"], scored["status"] == Status.OK
    rows = np.flatnonzero(known & np.isfinite(logit))
    order = rows[np.argsort(-logit[rows], kind="stable")]
    short = np.sort(order[:SHORT])
    columns = [pa.array(values[short]) for values in scored.values()]
    both = targets.take(short).replace_schema_metadata({"scored": json.dumps(list(scored))})
    for name, values in zip(scored, columns, strict=True):  # by place: a target may have a column of that name
        both = both.append_column(name, values)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, both.schema) as stream:
        stream.write_table(both.combine_chunks())
    beyond = float(logit[order[SHORT]]) if len(order) > SHORT else None
    best = {"beyond": beyond, "rows": base64.b64encode(sink.getvalue()).decode()}
    tile = targets["tile"].fill_null("").to_numpy()
    counted = drift.count(np.where(known & (tile != ""), logit, np.nan), tile)
    return {_BEST: json.dumps(best), _COUNTS: json.dumps({name: _packed(n) for name, n in counted.items()})}


def best(footer: Mapping[bytes, bytes] | None) -> Best | None:
    """The best rows, of the key-value metadata of a score table's footer; None if they do not stand in it."""
    text = (footer or {}).get(_BEST.encode())
    if text is None:
        return None
    found = json.loads(text)
    table = pa.ipc.open_stream(base64.b64decode(found["rows"])).read_all()
    names = json.loads(table.schema.metadata[b"scored"])
    first = table.num_columns - len(names)
    scored = {name: table.column(first + i).to_numpy() for i, name in enumerate(names)}
    beyond = -np.inf if found["beyond"] is None else found["beyond"]
    return Best(table.select(list(range(first))).replace_schema_metadata(), scored, beyond)


def counts(footer: Mapping[bytes, bytes] | None) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]] | None:
    """How a partition's logits are distributed by tile: its name, bins of :mod:`~survey_scan.ranking.drift`, how many in each."""
    text = (footer or {}).get(_COUNTS.encode())
    return None if text is None else ((tile, *_unpacked(packed)) for tile, packed in json.loads(text).items())


def _packed(counts: NDArray[np.int64]) -> str:
    bins = np.flatnonzero(counts)
    return base64.b64encode(bins.astype(_BIN).tobytes() + counts[bins].astype(_COUNT).tobytes()).decode()


def _unpacked(text: str) -> tuple[NDArray[Any], NDArray[Any]]:
    data = base64.b64decode(text)
    n = len(data) // (_BIN.itemsize + _COUNT.itemsize)
    return np.frombuffer(data, _BIN, n), np.frombuffer(data, _COUNT, n, n * _BIN.itemsize)
