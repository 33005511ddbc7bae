"""``survey_scan demo``: render the sky, scan it with the ordinary ``run``, and say how many lenses were found."""

import json
import shutil
import time
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import pandas as pd

from survey_scan import records
from survey_scan.config_file import load
from survey_scan.demo import recovery
from survey_scan.demo.survey import DEMO_SEED, make_survey
from survey_scan.engine import pipeline
from survey_scan.errors import UserError


def run(directory: Path, seed: int | None, say: Callable[[str], None]) -> None:
    """Render, scan, compare with the truth.

    Parameters
    ----------
    directory : Path
        Where survey, network, configuration and run go; what an earlier call finished there is used again.
    seed : int or None
        Of the sky; None is the usual one.
    say : callable
        Prints a line.

    Raises
    ------
    UserError
        If the directory holds another sky.
    """
    seed = DEMO_SEED if seed is None else seed
    survey, made = directory / "survey", directory / "survey" / "made.json"
    if made.exists():
        if json.loads(made.read_text())["seed"] != seed:
            raise UserError(
                f"{directory} holds the sky of seed {json.loads(made.read_text())['seed']}. Choose another DIR."
            )
        say(f"sky         {survey} is there already")
    else:
        say("sky         rendering four tiles in three bands")
        began = time.perf_counter()
        sky = make_survey(survey, seed)
        records.write_json(made, {"seed": seed, "objects": sky.n_objects, "lenses": sky.n_lenses})
        say(
            f"sky         seed {seed}: {sky.n_objects:,} objects, {sky.n_lenses} of them lenses, in "
            f"{time.perf_counter() - began:.0f} s; the network never saw one of them"
        )
    for name, copy in (("demo.yaml", shutil.copy), ("model", shutil.copytree)):
        if not (directory / name).exists():
            with as_file(files("survey_scan.demo") / name) as source:
                copy(source, directory / name)
    config = load(directory / "demo.yaml")
    run_directory = pipeline.run(config, directory / "demo.yaml", pipeline.Options(say=say))
    candidates, truth = pd.read_parquet(run_directory.candidates_parquet), pd.read_csv(survey / "truth.csv")
    found = recovery(candidates, truth)
    say(
        f"lenses      {found.top30} of the {found.lenses} injected lenses stand in the top 30, {found.top100} in the top 100"
    )
    say(f"again       change {directory / 'demo.yaml'}, then: python -m survey_scan run {directory / 'demo.yaml'}")
