"""Which lenses the demo's network finds, on a simulated set it never saw: ``python benchmarks/demo_completeness.py [FOLDER]``.

Draws the set of configs/demo-simulate.yaml with another seed into FOLDER (kept: a second call goes on from there), scores it
with the network the package ships, and writes docs/demo-completeness.md.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: Of the test set; the network learnt from that of seed 1.
SEED = 2


def main() -> None:
    """Simulate, score, evaluate."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="demo-completeness-"))
    test, scores = folder / "demo-test", folder / "demo-test.parquet"
    seed, place = f"--set=output.seed={SEED}", f"--set=output.directory={test}"
    call("simulate", ROOT / "configs" / "demo-simulate.yaml", seed, place)
    call("model", "score", ROOT / "survey_scan" / "demo" / "model", test, "--out", scores)
    os.chdir(folder)  # so that the page names no path of this machine
    page = ROOT / "docs" / "demo-completeness.md"
    call("evaluate", scores.name, "--labels", f"{test.name}/truth", "--markdown", "page.md")
    head = (
        "# What the demo's network finds\n\n"
        f"On a simulated set of seed {SEED}, with mergers, ring-like spirals and bright companions among its non-lenses; the\n"
        "network learnt from that of seed 1. Written by `python benchmarks/demo_completeness.py`.\n\n"
    )
    page.write_text(head + Path("page.md").read_text())
    print(f"wrote {page}")


def call(*words: object) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "survey_scan", *map(str, words)], check=True)


if __name__ == "__main__":
    main()
