"""Read-only: what is known of a run, and of one object in it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survey_scan import ranking, scores, store
from survey_scan.config_file import load
from survey_scan.engine import account, lock, state
from survey_scan.errors import RunError
from survey_scan.layout import STAGES, RunDirectory
from survey_scan.schema import Status


def status(run: RunDirectory) -> dict[str, Any]:
    """State, counts and stages of a run.

    Returns
    -------
    dict
        ``state`` is ``planned``, ``running``, ``incomplete`` or ``complete``; ``counts`` has catalogue, selected,
        cutouts_ok, cutouts_flagged (by status code), kept (cutouts whose pixels are in the store), scored, unscored,
        set_aside (of these, by a cascade) and
        candidates, all None before there is a plan;
        ``stages`` has partitions, done and reasons (how many are to do, by what changed) a stage.

    Raises
    ------
    RunError
        If this is no run directory, or a newer program's.
    """
    manifest = state.read_manifest(run)
    driver = lock.holder(run)
    found: dict[str, Any] = {"run": str(run), "state": "running" if driver else "incomplete", "driver": driver}
    if not run.partitions.exists():
        return {
            **found,
            "limit": manifest.get("limit"),
            "counts": dict.fromkeys(account.COUNTS),
            "stages": {},
            "problems": [],
        }
    standing = state.standing(run, load(run.config_resolved))
    if driver is None:
        started = any(standing.done.values())
        found["state"] = "complete" if standing.complete else "incomplete" if started else "planned"
    stages: dict[str, Any] = {
        stage: {
            "partitions": len(standing.partitions),
            "done": len(standing.done[stage]),
            "reasons": standing.reasons(stage),
        }
        for stage in STAGES
    }
    todo = {", ".join(standing.ranking_todo): 1} if standing.ranking_todo else {}
    stages["rank"] = {"partitions": 1, "done": 0 if todo else 1, "reasons": todo}
    return {
        **found,
        "limit": manifest.get("limit"),
        "counts": account.counts(run, standing),
        "stages": stages,
        "problems": account.problems(standing),
    }


def inspect(run: RunDirectory, object_id: str) -> dict[str, Any]:
    """All that a run knows of one object: target, PSF of its tile (band → FWHM, arcsec), cutout, score, rank.

    Parameters
    ----------
    run : RunDirectory
        A planned run.
    object_id : str
        As in the catalogue.

    Raises
    ------
    RunError
        If no target has this id.
    """
    state.read_manifest(run)
    partitions = state.read_partitions(run)
    targets = _find(_files(run.targets(int(p)) for p in partitions["partition"]), object_id)
    if targets is None:
        raise RunError(
            f"{run} has no target with object_id {object_id}. It is not in the catalogue, or a cut removed it "
            f"(see {run.cut_flow})."
        )
    partition, row, target = targets
    index = int(partitions["start"].tolist()[partition]) + row
    found: dict[str, Any] = {"target": target, "partition": partition, "row": index, "cutout": None, "score": None}
    found["psf"] = _psf(run, target["tile"])
    if run.record("cutouts", partition).exists():
        found["cutout"] = _cutout(run, partition, row, index)
    if run.record("scores", partition).exists():
        score = _scores(run, partition).iloc[row]
        found["score"] = {
            "logits": {
                str(name).removeprefix("logit_"): None if pd.isna(value) else float(value)
                for name, value in score.items()
                if str(name).startswith("logit_")
            },
            "logit": None if pd.isna(score["logit"]) else float(score["logit"]),
            "score": None if pd.isna(score["logit"]) else float(ranking.probability(score["logit"])),
            "status": int(score["status"]),
            "reason": Status(int(score["status"])).reason,
        }
    ranked = _find(_files([run.candidates_parquet]), object_id)
    found["rank"] = int(ranked[2]["rank"]) if ranked else None
    return found


def _cutout(run: RunDirectory, partition: int, row: int, index: int) -> dict[str, Any]:
    """Of a run that keeps no pixels by its scores, which have the cutout's status or found out more."""
    if load(run.config_resolved).cutouts.store == "none":
        code = int(pd.read_parquet(run.scores(partition), columns=["status"])["status"].iloc[row])
        code = Status.OK if code in (Status.NOT_FINITE, Status.SET_ASIDE) else code
        return {"status": int(code), "reason": Status(code).reason, "bad_fraction": {}, "kept": False}
    reader = store.Reader(run.store)
    code = int(reader.column("status", index, index + 1)[0])
    bad = reader.column("bad_fraction", index, index + 1)[0]
    return {
        "status": code,
        "reason": Status(code).reason,
        "bad_fraction": dict(zip(reader.attributes["bands"], bad.tolist(), strict=True)),
        "kept": bool(reader.kept(index, index + 1)[0]),
    }


def _scores(run: RunDirectory, partition: int) -> pd.DataFrame:
    """A score table; the ranks that a mean of ranks takes are not known before the run is ranked."""
    config = load(run.config_resolved)
    if config.ranking.combine == "mean_rank" and not run.ranks.exists():
        return pd.read_parquet(run.scores(partition)).assign(logit=np.nan)
    return scores.read(run.scores(partition), state.combination(run, config))


def _psf(run: RunDirectory, tile: str) -> dict[str, float]:
    """Width of the point spread function in each band in which it is known, arcseconds."""
    tiles = pd.read_parquet(run.tiles, filters=[("tile", "==", tile)])
    widths = tiles.filter(regex="^psf_").iloc[:1].dropna(axis=1)
    return {str(name).removeprefix("psf_"): float(widths[name].iloc[0]) for name in widths} if len(tiles) else {}


def _files(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]


def _find(files: list[Path], object_id: str) -> tuple[int, int, dict[str, Any]] | None:
    """Number of the file, row in it, and that row, of an object."""
    if not files:
        return None
    for number, file in enumerate(files):
        ids = pd.read_parquet(file, columns=["object_id"])["object_id"].astype(str)
        rows = ids.index[ids == str(object_id)]
        if len(rows):
            row = pd.read_parquet(file).iloc[int(rows[0])]
            return number, int(rows[0]), {str(k): v.item() if hasattr(v, "item") else v for k, v in row.items()}
    return None
