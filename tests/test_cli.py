import importlib.util
import subprocess
import sys

import pytest
from click.testing import CliRunner

from survey_scan.cli import main

COMMANDS = [
    "demo",
    "simulate",
    "evaluate",
    "check",
    "plan",
    "run",
    "submit",
    "status",
    "inspect",
    "partition",
    "rank",
    "verify",
    "surveys",
    "papers",
    "grade",
    "report",
    "train",
    "drift",
    "known",
    "export",
    "model",
]


def test_help_names_every_command_and_the_exit_codes():
    said = CliRunner().invoke(main, ["--help"]).output
    assert all(f"\n  {name} " in said for name in COMMANDS)
    assert set(main.commands) == set(COMMANDS)
    assert "2 something to mend" in " ".join(said.split())


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv = ['x', '--help']\nfrom survey_scan.cli import main\ntry: main()\nfinally: print(len(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out.splitlines()[-1]) < 400  # pandas alone brings more


@pytest.mark.parametrize(
    "words", [["run"], ["status", "x", "--set"], ["partition", "x", "rank", "1"], ["rank", "x", "--top", "0"]]
)
def test_wrong_usage_is_exit_2(words):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_no_such_config():
    result = CliRunner().invoke(main, ["run", "/nowhere/lrg.yaml"])
    assert (result.exit_code, result.output) == (2, "/nowhere/lrg.yaml: no such file\n")


def test_demo_without_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(main, ["demo"])
    assert (result.exit_code, result.output) == (
        2,
        "the demo needs lenstronomy, which is not installed. pip install 'survey_scan[demo,tf-cpu]'\n",
    )
