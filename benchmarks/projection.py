"""What ``plan`` says a scan will take, against what it then takes.

``survey_scan plan`` and ``survey_scan run``, each a process of its own, in turns on two surveys: the demo's sky, where most of the
time is starting workers and loading the network; and a synthetic survey scored by a network of the size of CMU DeepLens, where most
of it is scores. Seconds are those of the whole command. Prints JSON; ``python benchmarks/projection.py [--rounds N] [--keep]``.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import kept
from scan import make

from survey_scan.demo.survey import DEMO_SEED, make_survey


def demo(folder: Path) -> Path:
    """The demo's survey and configuration."""
    make_survey(folder / "survey", DEMO_SEED)
    for name, copy in (("demo.yaml", shutil.copy), ("model", shutil.copytree)):
        with as_file(files("survey_scan.demo") / name) as source:
            copy(source, folder / name)
    return folder / "demo.yaml"


def deeplens(folder: Path) -> Path:
    """The survey and network of ``benchmarks/scan.py``."""
    make(folder, 8192)
    return folder / "survey" / "lrg.yaml"


def call(*words: str) -> tuple[float, str]:
    """Seconds and output of a command."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "survey_scan", *words], check=True, capture_output=True, text=True)
    return time.perf_counter() - began, done.stdout


def measure(config: Path) -> dict[str, Any]:
    """One plan and one run of it, from nothing."""
    for runs in config.parent.rglob("runs"):
        shutil.rmtree(runs)
    planned, said = call("plan", str(config), "--json")
    projected = json.loads(said)["projection"]
    took, _ = call("run", str(config))
    seconds = 3600 * projected["hours"]
    return {
        "plan_seconds": round(planned, 1),
        "projected_seconds": round(seconds, 1),
        "of_them_besides": round(projected["fixed_seconds"], 1),
        "took_seconds": round(took, 1),
        "projected_over_took": round(seconds / took, 3),
        "targets": projected["targets"],
    }


def main() -> None:
    """Take turns."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    kept.option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="survey_scan-projection-") as name:
        configs = {"demo": demo(Path(name) / "demo"), "deeplens": deeplens(Path(name) / "deeplens")}
        found: dict[str, list[dict[str, Any]]] = {which: [] for which in configs}
        for _ in range(options.rounds):
            for which, config in configs.items():
                found[which].append(measure(config))
    ratios = {w: round(statistics.median(one["projected_over_took"] for one in ones), 3) for w, ones in found.items()}
    kept.tell("projection", {"projected_over_took": ratios, "wanted": [0.75, 1.25], "rounds": found}, options.keep)


if __name__ == "__main__":
    main()
