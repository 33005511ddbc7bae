"""The targets of a run with their scores, one partition at a time."""

from collections.abc import Collection, Iterator

import pandas as pd

from survey_scan import scores
from survey_scan.config_file import load
from survey_scan.engine import state
from survey_scan.errors import RunError
from survey_scan.layout import RunDirectory
from survey_scan.schema import Status


def check(run: RunDirectory, partitions: Collection[int]) -> None:
    """See that partitions are scored.

    Raises
    ------
    RunError
        If one is not.
    """
    lacking = sum(not run.record("scores", p).exists() for p in partitions)
    if lacking:
        raise RunError(
            f"{run} lacks the scores of {lacking:,} of {len(partitions):,} partitions. Run 'survey_scan run' again with its config."
        )


def scored(
    run: RunDirectory, columns: Collection[str] = ("object_id",), partitions: Collection[int] | None = None
) -> Iterator[pd.DataFrame]:
    """Partitions' targets: some of their columns, ``logit`` (NaN without a score) and ``status``; all, or those named.

    Raises
    ------
    RunError
        If a partition is not scored, the tables do not belong together, or there is no such column; before anything is
        yielded, but for the tables.
    """
    state.read_manifest(run)
    numbers = state.read_partitions(run)["partition"].tolist() if partitions is None else list(partitions)
    check(run, numbers)
    combination = state.combination(run, load(run.config_resolved))
    names = list(dict.fromkeys(["object_id", *columns]))

    def tables() -> Iterator[pd.DataFrame]:
        for p in numbers:
            targets = pd.read_parquet(run.targets(p), columns=names)
            table = scores.read(run.scores(p), combination)
            if len(table) != len(targets) or (table["object_id"].to_numpy() != targets["object_id"].to_numpy()).any():
                raise RunError(f"{run.scores(p)} is not of its partition's targets. Run again with '--redo scores'.")
            yield targets.assign(
                logit=table["logit"].where(table["status"] == Status.OK).to_numpy(), status=table["status"].to_numpy()
            )

    return tables()
