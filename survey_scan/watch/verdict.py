"""What the measured rates say about the cluster: which workers wait for which, and how many more would mend it."""

import math
from dataclasses import dataclass

#: Partitions of a stage that must have ended, for each of its workers where it has its own, before its rate is
#: believed: the first of each worker has the loading of the network in it.
ENOUGH = 3

#: Capacities that differ by less are equal.
EQUAL = 1.1

#: Devices idle less than this are well fed.
FED = 0.05

#: Threads in use more than this always hold work.
ALWAYS = 0.9


@dataclass(frozen=True)
class Use:
    """What one stage has of the cluster, and what it made of it lately.

    Parameters
    ----------
    workers, threads : int
        Of its pool; a worker of scores has one device.
    finished : int
        Partitions finished in this start.
    targets, seconds, device_seconds : float
        Sums over the partitions finished lately; ``device_seconds`` is 0 where no device was asked for them.
    left : bool
        Whether the stage has partitions left to do.
    busy, device_busy : float or None
        Share of its threads' and of its devices' time in use lately, while it had work left.
    gpu : bool
        Whether its devices are GPUs.
    """

    workers: int
    threads: int
    finished: int
    targets: float
    seconds: float
    device_seconds: float
    left: bool
    busy: float | None
    device_busy: float | None
    gpu: bool = False

    @property
    def thread_rate(self) -> float:
        """Targets per second of one thread at work."""
        return self.targets / self.seconds if self.seconds else 0.0

    @property
    def capacity(self) -> float:
        """Targets per second if nothing had to wait: devices at their own rate, else threads at theirs."""
        if self.device_seconds:
            return self.workers * self.targets / self.device_seconds
        return self.threads * self.thread_rate


def verdict(cutouts: Use, scores: Use, shared: bool) -> str | None:
    """One sentence on the cluster, or None as long as too little was seen.

    The GPUs could score ``devices × targets per device-second``; the workers of cutouts can cut
    ``threads × targets per thread-second``. Whichever is less holds up the other; the number of workers that are
    missing is the larger capacity divided by what one of them does, rounded up, without those present.

    Parameters
    ----------
    cutouts, scores : Use
        The two stages.
    shared : bool
        Whether the same workers do both.
    """
    if shared:
        return _shared(cutouts, scores)
    if scores.finished < ENOUGH * scores.workers or scores.busy is None:
        return None
    idle = 1 - (scores.busy if scores.device_busy is None else scores.device_busy)
    one, many = ("GPU", "GPUs") if scores.gpu else ("scoring worker", "scoring workers")
    them = many if scores.workers > 1 else one
    if scores.device_busy is not None and scores.left and scores.busy >= ALWAYS and idle > 1 - ALWAYS:
        return (
            f"{them} idle {percent(idle)} though always given work: reading pixels and writing scores takes the rest. "
            f"More threads a worker may help, more CPU workers would not"
        )
    if cutouts.finished < ENOUGH * cutouts.workers or not cutouts.left or not cutouts.capacity or not scores.capacity:
        return None
    if scores.capacity > EQUAL * cutouts.capacity and idle >= FED:
        more = _missing(scores.capacity, cutouts)
        return f"{them} idle {percent(idle)}: {_some(more, 'CPU worker', 'CPU workers')} would feed " + (
            "them" if scores.workers > 1 else "it"
        )
    if cutouts.capacity > EQUAL * scores.capacity:
        more = _missing(cutouts.capacity, scores)
        return f"cutouts wait for the {them} (idle {percent(idle)}): {_some(more, one, many)} would keep up"
    return f"CPU workers and {them} keep pace ({them} idle {percent(idle)})"


def _shared(cutouts: Use, scores: Use) -> str | None:
    enough = all(use.finished >= ENOUGH or not use.left for use in (cutouts, scores))
    if not enough or cutouts.busy is None or scores.busy is None or not (cutouts.finished or scores.finished):
        return None
    cut, scored = round(100 * cutouts.busy), round(100 * scores.busy)
    whose = "1 worker's" if cutouts.workers == 1 else f"{cutouts.workers:,} workers'"
    return f"cutouts {cut} %, scores {scored} %, idle {max(0, 100 - cut - scored)} % of {whose} time"


def _missing(capacity: float, of: Use) -> int:
    """Workers that a pool lacks to do as much as the other one could."""
    needed = round(of.workers * capacity / of.capacity, 6)  # 40 and the last bit of a sum are not 41
    return math.ceil(needed) - of.workers


def percent(share: float) -> str:
    """A share in whole percent."""
    return f"{100 * share:.0f} %"


def _some(n: int, one: str, many: str) -> str:
    return f"{n:,} more {one if n == 1 else many}"
