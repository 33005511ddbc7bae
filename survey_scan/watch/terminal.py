"""The scan on a terminal: what its driver last wrote to ``logs/now.json``, until the run ends."""

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from survey_scan.errors import RunError
from survey_scan.layout import RunDirectory
from survey_scan.schema import Status
from survey_scan.watch.tally import STALE_SECONDS

#: Seconds between two looks at the file.
LOOK_SECONDS = 2.0

#: Characters a bar is wide.
BAR = 32

#: A bin of the histogram, from none to the most.
HISTOGRAM = " ▁▂▃▄▅▆▇█"

#: What a run does, by the name of its stage.
DOING = {"plan": "planning", "scan": "scanning", "rank": "ranking"}


def watch(
    run: RunDirectory,
    holder: Callable[[RunDirectory], Mapping[str, Any] | None],
    console: Console | None = None,
    now: Callable[[], float] = time.time,
    wait: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Show a run until it ends, its driver is gone, or Ctrl-C.

    Parameters
    ----------
    run : RunDirectory
        The run.
    holder : callable
        Tells who drives a run now, or None if nobody alive does.
    console : Console, optional
        Where to; standard output by default. Without a terminal only the last view is printed.
    now, wait : callable
        The clock.

    Returns
    -------
    dict
        The last snapshot.

    Raises
    ------
    RunError
        If no driver has ever written a snapshot.
    """
    snapshot: dict[str, Any] = {}
    with Live(console=console or Console(), auto_refresh=False, vertical_overflow="visible") as live:
        try:
            while run.batch_script.exists() and not run.now.exists():
                live.update(Text("The job has not begun: it waits in the queue (squeue --me)."), refresh=True)
                wait(LOOK_SECONDS)
            snapshot = read(run)
            while True:
                alive = holder(run) is not None  # asked first: a driver that ends in between has written its last
                snapshot = read(run)
                live.update(view(snapshot, now(), alive), refresh=True)
                if not alive or snapshot["state"] in ("complete", "incomplete"):
                    break
                wait(LOOK_SECONDS)
        except KeyboardInterrupt:  # the reader has seen enough
            pass
    return snapshot


def read(run: RunDirectory) -> dict[str, Any]:
    """The last snapshot of a run's driver.

    Raises
    ------
    RunError
        If there is none.
    """
    try:
        snapshot: dict[str, Any] = json.loads(run.now.read_bytes())
    except FileNotFoundError:
        raise RunError(
            f"{run} has no {run.now.relative_to(run.path)}: no driver of this version has run here. "
            f"'survey_scan status {run}' says what is finished."
        ) from None
    except ValueError:
        raise RunError(f"{run.now} is not readable as JSON. Remove it; the driver writes it anew.") from None
    return snapshot


def view(snapshot: Mapping[str, Any], now: float, alive: bool) -> RenderableType:
    """What is shown of a snapshot.

    Parameters
    ----------
    snapshot : mapping
        As :meth:`survey_scan.watch.tally.Tally.snapshot` gives it.
    now : float
        Seconds since 1970.
    alive : bool
        Whether its driver is.
    """
    parts: list[RenderableType] = [*_head(snapshot, now, alive), Text(), _stages(snapshot)]
    if snapshot["verdict"]:
        parts += [Text(), Text(snapshot["verdict"], style="bold")]
    pools = [_pool(stage, pool) for stage, pool in snapshot["pools"].items()]
    if pools:
        parts.append(Text(" · ".join(pools), style="dim"))
    if flagged := snapshot["flagged"]:
        share = snapshot["flagged_fraction"]
        reasons = sorted(flagged.items(), key=lambda item: -item[1])
        text = ", ".join(f"{Status(int(code)).reason} {n:,}" for code, n in reasons)
        parts.append(Text("flagged  " + (f"{share:.1%}: " if share is not None else "") + text))
    if any(snapshot["histogram"]["counts"]):
        parts.append(_histogram(snapshot["histogram"]))
    for stage in snapshot["stages"]:
        slow = [one for one in snapshot["slowest"] if one["stage"] == stage][:1]
        parts += [Text(f"slowest  {_name(one)}: {one['seconds']:,.1f} s on {one['host']}", style="dim") for one in slow]
    if snapshot["n_failures"]:
        parts.append(Text(f"failures {snapshot['n_failures']:,}, the last:", style="red"))
        parts += [Text(f"         {failure['reason']}", style="red") for failure in snapshot["failures"][-3:]]
    return Group(*parts)


def _head(snapshot: Mapping[str, Any], now: float, alive: bool) -> list[Text]:
    age, end = max(0.0, now - snapshot["now"]), snapshot["walltime_end"]
    over = snapshot["state"] in ("complete", "incomplete")
    state = DOING.get(snapshot["stage"], snapshot["stage"]) if snapshot["state"] == "running" else snapshot["state"]
    title = Text.assemble((snapshot["name"], "bold"), "  ", (snapshot["run"], "dim"), "  ")
    title.append(state, style={"stopping": "yellow", "incomplete": "red"}.get(snapshot["state"], "green"))
    lines = [title]
    if not over:
        words = [f"{duration(snapshot['eta'] - snapshot['now'])} left"] if snapshot["eta"] is not None else []
        if end is not None:
            words.append(f"allocation ends in {duration(end - now)}" if end > now else "the allocation has ended")
        note = {True: ": in time", False: ": before the scan does", None: ""}[snapshot["in_time"]]
        lines.append(Text(", ".join(words) + note, style="yellow" if snapshot["in_time"] is False else ""))
    if snapshot["state"] == "stopping":
        lines.append(Text(f"stopping: {snapshot['stopping']}", style="yellow"))
    if not over and not alive:
        lines.append(Text(f"the driver is gone; these are its last numbers, {duration(age)} old", style="bold red"))
    elif not over and age > STALE_SECONDS:
        lines.append(Text(f"nothing heard of the driver for {duration(age)}", style="bold red"))
    return lines


def _stages(snapshot: Mapping[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    for stage, of in snapshot["stages"].items():
        share = of["done"] / of["targets"] if of["targets"] else 0.0
        left = "" if of["eta"] is None else f"{duration(of['eta'] - snapshot['now'])} left"
        table.add_row(
            stage,
            ProgressBar(total=max(of["targets"], 1), completed=of["done"], width=BAR, complete_style="cyan"),
            f"{share:.1%}",
            f"{of['done']:,} of {of['targets']:,}",
            "" if of["rate"] is None else f"{of['rate']:,.0f}/s",
            left,
        )
    return table


def _pool(stage: str, pool: Mapping[str, Any]) -> str:
    gpu = stage == "scores" and (pool["device"] or "CPU") != "CPU"
    what = f"{pool['workers']:,} × {pool['device']}" if gpu else f"{pool['workers']:,} workers"
    return f"{stage}: {what}" + ("" if pool["busy"] is None else f", {pool['busy']:.0%} busy")


def _histogram(histogram: Mapping[str, Any]) -> Text:
    """Bins of one unit of the logit as one line of blocks, as high as the logarithm of their counts."""
    pairs = list(zip(histogram["counts"][::2], histogram["counts"][1::2], strict=True))
    heights = [math.log10(a + b) + 0.3 if a + b else 0.0 for a, b in pairs]
    step = max(heights) / (len(HISTOGRAM) - 1)
    blocks = "".join(HISTOGRAM[math.ceil(h / step - 1e-9)] for h in heights)
    edges = histogram["edges"]
    return Text.assemble("logits   ", (f"{edges[0]:.0f} ", "dim"), blocks, (f" {edges[-1]:.0f}  (log counts)", "dim"))


def _name(one: Mapping[str, Any]) -> str:
    return f"{one['stage']} {one['partition']:05d}"


def duration(seconds: float) -> str:
    """Time in words of at most two units, as in ``9 s``, ``12 min``, ``5 h 12 min`` or ``3 d 4 h``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    hours = minutes // 60
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
