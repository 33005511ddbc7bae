"""What combinations of networks find in the demo's sky: ``python benchmarks/combine.py --equal PACKAGE --weaker PACKAGE [FOLDER]``.

The first network is the one the package ships. ``--equal`` was trained as it was, with another seed, and ``--weaker`` is another
architecture that had too few epochs:

    survey_scan simulate configs/demo-simulate.yaml
    survey_scan train configs/demo-train.yaml --set output.seed=2 --set output.directory=equal
    survey_scan train configs/demo-train.yaml --set network.architecture=shielded_resnet --set schedule.epochs=5 \
        --set schedule.rate=2e-3 --set output.directory=weaker

The cascade's second network is the equal one on eight views of a cutout, which takes eight times as long; it sees the best tenth of
each partition. Prints JSON: lenses of the 30 in the top 30 and the top 100 by each network alone and by what comes of two, and the
time the networks took; of the cascade also the share of targets its second network saw, and the lenses it was not shown.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from survey_scan.demo import recovery
from survey_scan.demo.network import NETWORK
from survey_scan.schema import Status


def main() -> None:
    """Scan once for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where to; an earlier demo there is used again")
    parser.add_argument("--equal", type=Path, required=True)
    parser.add_argument("--weaker", type=Path, required=True)
    parser.add_argument(
        "--fraction", type=float, default=0.1, help="that the second of the cascade sees (default: 0.1)"
    )
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="combine-"))
    call("demo", folder)
    first, equal, weaker = ({"path": str(path.resolve())} for path in (NETWORK, given.equal, given.weaker))
    views, pair = {"views": 8}, {"first": first, "equal": equal}
    ways: dict[str, dict[str, Any]] = {
        "first": {"model": first},
        "equal": {"model": equal},
        "weaker": {"model": weaker},
        "first, 8 views": {"model": first | views},
        "equal, 8 views": {"model": equal | views},
        "mean logit of first and equal": {"models": pair, "ranking": {"combine": "mean_logit"}},
        "mean rank of first and equal": {"models": pair, "ranking": {"combine": "mean_rank"}},
        "max of first and equal": {"models": pair, "ranking": {"combine": "max"}},
        "mean logit of first and weaker": {
            "models": {"first": first, "weaker": weaker},
            "ranking": {"combine": "mean_logit"},
        },
        f"cascade of first and equal, 8 views, which sees {given.fraction:g}": {
            "models": {"first": first, "equal": equal | views},
            "cascade": {"fraction": given.fraction},
        },
    }
    print(json.dumps({name: scan(folder, sections) for name, sections in ways.items()}, indent=1))


def scan(folder: Path, sections: dict[str, Any]) -> dict[str, Any]:
    """Score the demo's cutouts in one way and count what was found."""
    data = yaml.safe_load((folder / "demo.yaml").read_text())
    data = {key: value for key, value in data.items() if key not in ("model", "models", "cascade")}
    data |= sections | {"ranking": data["ranking"] | sections.get("ranking", {})}
    config = folder / "combine.yaml"
    config.write_text(yaml.safe_dump(data, sort_keys=False))
    call("run", config, "--redo", "scores")
    run = folder / "runs" / "demo"
    truth = pd.read_csv(folder / "survey" / "truth.csv")
    found = recovery(pd.read_parquet(run / "candidates.parquet"), truth)
    records = [json.loads(path.read_text()) for path in (run / "records" / "scores").glob("*.json")]
    result: dict[str, Any] = {
        "lenses": found.lenses,
        "top 30": found.top30,
        "top 100": found.top100,
        "device_seconds": round(sum(record["device_seconds"] for record in records), 2),
    }
    if "cascade" in sections:
        scores = pd.concat([pd.read_parquet(path) for path in (run / "scores").glob("*.parquet")])
        seen, aside = scores["status"] == Status.OK, scores["status"] == Status.SET_ASIDE
        lenses = truth.loc[truth["kind"] == "lens", "object_id"]
        result["share seen by the second"] = round(float(seen.sum() / (seen | aside).sum()), 4)
        result["lenses set aside"] = int(scores.loc[aside, "object_id"].isin(lenses).sum())
    return result


def call(*words: object) -> None:
    """Run the command line, quietly."""
    subprocess.run([sys.executable, "-m", "survey_scan", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
