"""Batch scripts: those in cluster/ are what ``submit`` writes for the profiles beside them.

``python tests/test_cluster_batch.py`` writes them anew.
"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from survey_scan.cluster import batch, profile

TOP = Path(__file__).parent.parent / "cluster"
SCRIPTS = ("perlmutter-regular", "perlmutter-preempt", "generic-slurm")


def script(name: str) -> str:
    chosen = profile.load(name)
    return batch.script(chosen.batch, "lrg", ["run", "lrg.yaml", "--profile", name], "python", "slurm-%j.out")


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_in_cluster_are_those_of_the_profiles(name):
    assert (TOP / f"{name}.sbatch").read_text() == script(name)


def test_the_driver_of_a_regular_job_becomes_the_batch_script():
    text = script("perlmutter-regular")
    assert "#SBATCH --signal=B:USR1@300\n" in text
    assert text.endswith("\nexec python -m survey_scan run lrg.yaml --profile perlmutter-regular\n")


def test_the_driver_of_a_preemptable_job_is_a_step():
    text = script("perlmutter-preempt")
    assert "#SBATCH --signal=USR1@120\n" in text
    assert "srun --overlap --nodes=1 --ntasks=1 --cpus-per-task=2 --mem=0 --gpus=0 \\\n" in text
    assert text.endswith("exit $code\n")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\0", exclude_categories=["Cs"])))
def test_no_word_is_taken_apart_by_the_shell(word):
    import shlex

    wanted = profile.Batch(time="10")
    last = batch.script(wanted, "n", ["run", word], "python", "log").splitlines(keepends=True)
    line = "".join(last)[len("#!/bin/bash -l\n") :].split("\nexec ")[1]
    assert shlex.split(line) == ["python", "-m", "survey_scan", "run", word]


if __name__ == "__main__":
    for name in SCRIPTS:
        (TOP / f"{name}.sbatch").write_text(script(name))
