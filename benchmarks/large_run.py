"""Runs of very many partitions on disk, for the benchmarks of what a driver does with them: plan and records, without pixels.

A plan as the planner writes it for 4,096 targets a partition (``plan/partitions.csv``, ``plan/tiles.parquet``), and records
as the tasks write them, byte for byte but for the flushing of each to disk.
"""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survey_scan.config import Catalogue, Config, Cutouts, Images, Model, Ranking, Run, Selection
from survey_scan.config_file import dump
from survey_scan.engine import state
from survey_scan.identity import Key
from survey_scan.layout import STAGES, RunDirectory, Stage

#: Targets of a partition.
PARTITION = 4096

BANDS = ("g", "r", "i")


def configuration(folder: Path, top: int = 20_000) -> Config:
    """Cutouts of 64 x 64 pixels in three bands, scored by no network."""
    return Config(
        run=Run(name="large", directory=folder),
        catalogue=Catalogue(files=[f"{folder}/none.fits"], id_column="ID"),
        selection=Selection(cuts={}),
        images=Images(files=f"{folder}/tiles/{{tile}}_{{band}}.fits.fz", bands=list(BANDS)),
        cutouts=Cutouts(bands=list(BANDS), size=64, partition=PARTITION),
        model=Model(path="loopback"),
        ranking=Ranking(top=top),
    )


def names_of_tiles(count: int) -> list[str]:
    """Names as those of DES, in their order."""
    return [f"DES{i:05d}-4441" for i in range(count)]


def plan(run: RunDirectory, config: Config, partitions: int, tiles: int, files: bool = True) -> None:
    """Write the plan; the tiles' files are empty, for it is asked only how large they are."""
    run.plan.mkdir(parents=True)
    run.logs.mkdir()
    names = names_of_tiles(tiles)
    if files:
        folder = Path(config.images.files).parent
        folder.mkdir(parents=True)
        for name in names:
            for band in BANDS:
                (folder / f"{name}_{band}.fits.fz").touch()
    start = np.arange(partitions) * PARTITION
    first, last = start * tiles // (partitions * PARTITION), (start + PARTITION - 1) * tiles // (partitions * PARTITION)
    table = pd.DataFrame({
        "partition": np.arange(partitions), "start": start, "stop": start + PARTITION, "n_targets": PARTITION,
        "n_tiles": last - first + 1, "first_tile": [names[i] for i in first], "last_tile": [names[i] for i in last],
        "targets_digest": [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" for i in range(partitions)],
    })  # fmt: skip
    table.to_csv(run.partitions, index=False)
    pd.DataFrame({"tile": names, "n_targets": partitions * PARTITION // tiles}).to_parquet(run.tiles, index=False)
    run.config_resolved.write_text(dump(config, "of a benchmark"))
    run.manifest.write_text(json.dumps({"format_version": state.FORMAT_VERSION}))


def facts(stage: Stage, partition: int) -> dict[str, Any]:
    """What a finished task reports, of usual length, and other numbers in each."""
    rng = random.Random(partition)
    flagged = rng.randrange(400)
    found: dict[str, Any] = {"targets": PARTITION, "status": {"0": PARTITION - flagged, "1": flagged}}
    if stage == "cutouts":
        found |= {"problems": [], "reads": {"rows": rng.randrange(1, 20)}}
    else:
        found |= {"logits": {str(i): rng.randrange(1, 200) for i in range(rng.randrange(8), 40)}}
        found |= {"device": "NVIDIA A100-SXM4-80GB"}
        found |= {"device_seconds": rng.randrange(1000) / 1e3, "waited_seconds": rng.randrange(100) / 1e3}
    return found | {
        "seconds": rng.randrange(2000) / 1e3,
        "peak_mem": rng.randrange(10**9),
        "host": f"nid{rng.randrange(1000):06d}",
        "finished": f"2026-01-01T{rng.randrange(10, 24)}:{rng.randrange(10, 60)}:00+0000",
    }


def finish(
    run: RunDirectory, config: Config, partitions: Iterable[int], logits: Mapping[int, Mapping[str, int]] | None = None
) -> None:
    """Write the records of finished partitions, of both stages; those of scores with these counts of logits."""
    keys = state.standing(run, config).keys
    numbers = list(partitions)
    for stage in STAGES:
        (run.records_folder / stage).mkdir(parents=True, exist_ok=True)
        for p in numbers:
            found = facts(stage, p)
            if stage == "scores" and logits is not None:
                found["logits"] = logits[p]
            text = json.dumps({"key": keys[stage][p], **found}, indent=1) + "\n"
            run.record(stage, p).write_text(text)


def cut(path: str, partition: int, key: Key) -> dict[str, Any]:
    """What ``tasks.cutouts`` leaves behind, without the cutouts."""
    return _leave("cutouts", path, partition, key)


def score(path: str, partition: int, key: Key) -> dict[str, Any]:
    """What ``tasks.scores`` leaves behind, without the scores."""
    return _leave("scores", path, partition, key)


def _leave(stage: Stage, path: str, partition: int, key: Key) -> dict[str, Any]:
    found = facts(stage, partition)
    text = json.dumps({"key": key, **found}, indent=1) + "\n"
    RunDirectory(Path(path)).record(stage, partition).write_text(text)
    return found
