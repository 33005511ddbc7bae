"""One partition, or the ranking alone, in this process and without Dask."""

from collections.abc import Callable, Mapping
from typing import Any

from survey_scan import records
from survey_scan.config_file import load
from survey_scan.engine import account, lock, pipeline, prepare, state, tasks
from survey_scan.engine.rank import rank as rank_scores
from survey_scan.errors import RunError
from survey_scan.layout import STAGES, RunDirectory, Stage
from survey_scan.schema import Status


def partition(run: RunDirectory, stage: Stage, number: int, say: Callable[[str], None]) -> None:
    """Do one partition again, whether or not it is finished, and print its record.

    Where not all pixels are stored, both stages are done, whichever is asked for.

    Raises
    ------
    RunError
        If there is no such partition, or its cutouts are not finished where scores are asked for.
    """
    state.read_manifest(run)
    with lock.held(run):
        config = load(run.config_resolved)
        standing = state.standing(run, config)
        if number not in standing.targets:
            raise RunError(f"{run} has no partition {number}; it has 0 to {len(standing.partitions) - 1}.")
        if standing.streamed:
            if config.cutouts.store != "none" and not run.store.exists():
                pipeline.create_store(config, run)
            keys = {one: standing.keys[one][number] for one in STAGES}
            records.forget(run.record("scores", number))
            handed = tasks.hold(str(run), number, keys)
            found = tasks.score_held(str(run), number, keys, handed)
        else:
            if stage == "scores" and number in standing.todo["cutouts"]:
                raise RunError(
                    f"partition {number} of {run} has no cutouts yet. First: survey_scan partition {run} cutouts {number}"
                )
            records.forget(run.record(stage, number))
            function = tasks.cutouts if stage == "cutouts" else tasks.scores
            found = {stage: function(str(run), number, standing.keys[stage][number])}
    for one, facts in found.items():
        say(f"{one} {number:05d}: {facts['targets']:,} targets in {facts['seconds']:.1f} s")
        for code, n in facts["status"].items():
            say(f"  {n:>9,}  {Status(int(code)).reason} (status {code})")
        for problem in facts.get("problems", []):
            say(f"  tile     {problem}")
        if "kept" in facts:
            say(f"  {facts['kept']:>9,}  with their pixels in the store")


def rank(run: RunDirectory, given: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Rank again; what is given here, by keys of ``ranking``, takes the place of the run's configuration.

    Raises
    ------
    RunError
        If not all scores are there.
    """
    state.read_manifest(run)
    config = load(run.config_resolved)
    config = config.model_copy(update={"ranking": config.ranking.model_copy(update=given)})
    with lock.held(run):
        standing = state.standing(run, config)
        missing = sum(len(todo) for todo in standing.todo.values())
        if missing:
            raise RunError(f"{run} lacks {missing} partitions of cutouts or scores. Run 'survey_scan run' first.")
        prepare.write_config(run, config)
        rank_scores(config, run, standing, None)
        prepare.write_manifest(run, {"state": "complete"})
        account.closing(run, state.standing(run, config), say)
        pipeline.report(run, say)
