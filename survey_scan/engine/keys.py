"""The keys of very many partitions, and the records compared with them."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from survey_scan import records
from survey_scan.identity import Key, explain
from survey_scan.records import Records


class Keys(Mapping[int, Key]):
    """Partition → the key its finished record must have, made whenever it is asked for: it takes more memory than time.

    Parameters
    ----------
    rows : dict
        Partition → its row of the plan.
    make : callable
        Row → key.
    """

    def __init__(self, rows: dict[int, int], make: Callable[[int], Key]):
        self._rows, self._make = rows, make

    def __getitem__(self, partition: int) -> Key:
        return self._make(self._rows[partition])

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, partition: object) -> bool:
        return partition in self._rows


def compare(folder: Path, keys: Keys) -> tuple[Records, dict[int, list[str]]]:
    """A stage's finished records and why each other partition is to do, both in the order of the plan."""
    done = Records()
    changed: dict[int, list[str]] = {}
    reasons: dict[tuple[str, ...], list[str]] = {}  # each held once
    for p, content in records.contents(folder):
        if p not in keys or (record := records.parse(content)) is None:
            continue
        if record["key"] == (key := keys[p]):
            done.add(p, content)
        else:
            why = explain(record["key"], key)
            changed[p] = reasons.setdefault(tuple(why), why)
    done.sort()
    new = explain(None, {})
    return done, {p: changed.get(p, new) for p in keys if p not in done}
