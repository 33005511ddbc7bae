"""A projection in words."""

from survey_scan.cluster.projection import LOST_SECONDS, Projection
from survey_scan.watch.tally import CPU


def lines(found: Projection) -> list[str]:
    """A projection in words, one line a fact."""
    workers, at_most = found.workers, "at most " if found.at_most else ""
    device = ("GPU" if workers.scores == 1 else "GPUs") if workers.gpu else "workers"
    if workers.shared:
        who = f"{workers.cutouts:,} for both stages" + (f", on {workers.scores:,} {device}" if workers.gpu else "")
    else:
        who = f"{workers.cutouts:,} for cutouts, {workers.scores:,} {device} for scores"
    upper = found.at_most or (found.dtype == "int16" and found.store != "none")
    size = f"{'at most ' if upper else ''}{_size(found.data_bytes)}"
    told = [
        f"targets     {at_most}{found.targets:,} in {found.partitions:,} partitions of {found.partition:,}",
        f"workers     {workers.nodes:,} {'node' if workers.nodes == 1 else 'nodes'}: {who}",
        f"disk        {size} in {'at most ' if found.store == 'candidates' else at_most}{found.files:,} files",
    ]
    if found.store == "candidates" and found.rates.kept is None:
        told.append(f"            and {found.cutout_bytes / 1000:,.1f} kB for each cutout that is kept")
    elif found.store == "candidates":
        told.append(f"            with {found.rates.kept:.2%} of the cutouts kept ({found.rates.where})")
    one = "a GPU" if found.rates.device != CPU else "a worker"
    for stage, hours, rate, each in (
        ("cutouts", found.cutouts_hours, found.rates.cutouts, "a thread"),
        ("scores", found.scores_hours, found.rates.scores, one),
    ):
        if hours is None or rate is None:
            told.append(f"{stage:<11} not known: measure it with 'survey_scan run --limit 20000' in a short job")
        else:
            told.append(f"{stage:<11} {at_most}{_time(hours)}, by {rate:,.0f} targets/s {each} ({found.rates.where})")
    if workers.gpu and found.rates.device == CPU and found.rates.scores is not None:
        told.append(
            f"            scores were measured on CPU ({found.rates.where}): a GPU will be faster; measure it with "
            f"'survey_scan run --limit 20000' in a short job"
        )
    elif not workers.gpu and found.rates.device != CPU:
        told.append(
            f"            scores were measured on {found.rates.device}: a CPU will be far slower; measure it with "
            f"'survey_scan run --limit 20000' in a short job"
        )
    if found.hours is not None:
        if found.fixed_seconds:
            told.append(
                f"besides     {_time(found.fixed_seconds / 3600)}: starting workers, the network, ranking, the report"
            )
        told.append(f"altogether  {at_most}{_time(found.hours)}: {_why(found)}")
        if found.gpu_hours is not None:
            told.append(f"GPU-hours   {at_most}{found.gpu_hours:,.1f}")
        if found.walltime is not None:
            told.append(f"walltime    {_time(found.walltime / 3600)}: {_fits(found.jobs)}")
    return told


def _why(found: Projection) -> str:
    """Which stage limits."""
    cut, score = found.cutouts_hours, found.scores_hours
    assert cut is not None and score is not None
    share = max(cut, score) / (cut + score) if cut + score else 0.0
    longer = "cutouts" if cut >= score else "scores"
    if found.limits == "both":
        return f"both stages in turn on the same workers, {longer} {share:.0%} of it"
    return f"{longer} take longer"


def _fits(jobs: int | None) -> str:
    if jobs is None:
        return f"too short: starting and stopping take {_time(LOST_SECONDS / 3600)}"
    return "it fits" if jobs == 1 else f"{jobs:,} jobs, each going on where the last one stopped"


def _time(hours: float) -> str:
    minutes = round(60 * hours)
    if 3600 * hours < 120:
        return f"{max(round(3600 * hours), 1)} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60:,} h {minutes % 60} min"


def _size(n: int) -> str:
    for unit, one in (("TB", 10**12), ("GB", 10**9)):
        if n >= one:
            return f"{n / one:,.1f} {unit}"
    return f"{n / 10**6:,.1f} MB"
