"""``survey_scan evaluate``: what it prints and writes, and that docs/evaluation.md describes it."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from survey_scan.cli import main
from survey_scan.ranking import probability

DOCUMENT = Path(__file__).parent.parent / "docs" / "evaluation.md"


def call(*words, code=0):
    result = CliRunner().invoke(main, ["evaluate", *map(str, words)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A model's scores, a worse one's, and the truth; the current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    lenses, others = 300, 1500
    n = lenses + others
    is_lens = np.arange(n) < lenses
    theta_e, snr = rng.uniform(0.8, 2.4, n), rng.uniform(20, 150, n)
    kind = np.where(is_lens, "lens", rng.choice(["merger", "ring", "spiral"], n, p=[0.2, 0.1, 0.7]))
    easy = np.where(is_lens, 2 + 2 * (theta_e - 1.2), np.where(kind == "ring", -2, -5))
    logit = rng.normal(easy, 1.5).astype(np.float32)
    ids = 1_140_000_001 + rng.permutation(n)
    status = np.where(np.arange(n) % 300 == 7, 3, 0).astype(np.uint8)  # one lens, five others
    good = pd.DataFrame({"object_id": ids, "logit": np.where(status == 0, logit, np.nan), "status": status})
    good.to_parquet("good.parquet")
    worse = probability(rng.normal(logit, 2.0)).astype(np.float32).round(3)
    pd.DataFrame({"object_id": ids, "score": worse}).iloc[10:].to_csv("worse.csv", index=False)
    truth = pd.DataFrame(
        {"object_id": ids, "label": is_lens.astype(int), "theta_E": theta_e, "arc_snr": snr, "kind": kind}
    )
    truth.loc[~is_lens, ["theta_E", "arc_snr"]] = np.nan
    truth.to_parquet("truth.parquet")
    return tmp_path


def test_one_model(tables):
    said = call("good.parquet", "--labels", "truth.parquet")
    found = json.loads((tables / "evaluation/evaluation.json").read_text())
    assert found["format"] == 1
    [model] = found["models"]
    assert model["objects"]["in_sample"] == [300, 1500]
    assert model["objects"]["without_score"] == {"tile or band missing": [1, 5]}
    assert model["auc"]["low"] < model["auc"]["value"] < model["auc"]["high"]
    assert found["comparison"] is None
    assert (tables / "evaluation/evaluation.png").read_bytes().startswith(b"\x89PNG")
    lines = said.splitlines()
    assert lines[:3] == [
        "labels      truth.parquet, label: 300 lenses and 1,500 non-lenses",
        "scores      good.parquet, logit: 1,800 objects, 0 of them without a label",
        "not found   1 lens and 5 non-lenses without a score: tile or band missing",
    ]
    assert (
        "TPR0 stands on 1,495 non-lenses with a score: none found among so many still allows 16,015 in a scan of 8,000,000 (95 %)"
    ) in lines
    assert "FPR 0.0001, 0.001: fewer than 10 non-lenses of these may be found there, too few to know the rate" in lines
    assert lines[-2:] == ["wrote       evaluation/evaluation.json", "wrote       evaluation/evaluation.png"]
    none, auc = model["tpr0"]["point"], model["auc"]
    assert f"AUC         {auc['value']:.4f} ({auc['low']:.4f} to {auc['high']:.4f})" in lines
    assert any(line.startswith(f"TPR0        {none['tpr']:.3f} (") for line in lines)
    assert max(map(len, lines)) < 200


def test_two_models(tables):
    said = call("good.parquet", "worse.csv", "--labels", "truth.parquet", "--out", "both", "--budget", "50,100,9000")
    found = json.loads((tables / "both/evaluation.json").read_text())
    first, second = found["models"]
    assert first["objects"]["without_row"] == second["objects"]["without_row"] == [10, 0]
    assert first["objects"]["in_sample"] == second["objects"]["in_sample"] == [290, 1500]
    difference = found["comparison"]["auc"]
    assert difference["value"] == pytest.approx(second["auc"]["value"] - first["auc"]["value"])
    assert difference["high"] < 0
    assert [top["budget"] for top in found["comparison"]["top"]] == [50, 100]  # the best 9000 are all of them
    top = found["comparison"]["top"][0]
    assert (
        top["lenses"]["both"] + top["lenses"]["only_first"] + top["others"]["both"] + top["others"]["only_first"] == 50
    )
    assert len(top["only_first"]) == top["lenses"]["only_first"]
    ties = second["ties"]
    tied = ties["top_lenses"] + ties["top_others"]
    assert tied > 1
    assert f"{tied:,} share the highest, {ties['top_lenses']:,} of them lenses" in said
    assert "left out    10 lenses and 0 non-lenses, which are not in the scores" in said.splitlines()
    assert (
        f"best 50: {top['lenses']['both']} lenses in both, {top['lenses']['only_first']} only in 1, "
        f"{top['lenses']['only_second']} only in 2; {top['others']['both']} non-lenses in both, "
        f"{top['others']['only_first']} only in 1, {top['others']['only_second']} only in 2"
    ) in said.splitlines()
    assert (tables / "both/evaluation.png").stat().st_size > 100_000


def test_two_columns_of_one_table(tables):
    table = pd.read_parquet("good.parquet")
    table.assign(logit_b=table["logit"] - 3).to_parquet("two.parquet")
    words = ["two.parquet", "two.parquet", "--labels", "truth.parquet", "--column", "logit", "--column", "logit_b"]
    found = json.loads(call(*words, "--json"))
    assert [model["scores"]["column"] for model in found["models"]] == ["logit", "logit_b"]
    assert found["comparison"]["auc"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_json_is_the_file_and_nothing_else(tables):
    said = call("good.parquet", "--labels", "truth.parquet", "--json")
    assert json.loads(said) == json.loads((tables / "evaluation/evaluation.json").read_text())


def test_the_same_evaluation_gives_the_same_bytes(tables):
    for out in ("a", "b"):
        call("good.parquet", "worse.csv", "--labels", "truth.parquet", "--out", out)
    for name in ("evaluation.json", "evaluation.png"):
        assert (tables / "a" / name).read_bytes() == (tables / "b" / name).read_bytes()


def test_settings_reach_the_figures(tables):
    words = ["good.parquet", "--labels", "truth.parquet", "--prior", "0.001", "--fpr", "0.05", "--budget", "700,200"]
    found = json.loads(call(*words, "--json"))
    assert found["settings"] == {"prior": 0.001, "budgets": [200, 700], "fpr": 0.05, "scan": 8_000_000}
    [model] = found["models"]
    assert [r["fpr"] for r in model["at_fpr"]] == [1e-4, 1e-3, 0.01, 0.05, 0.1]
    point = model["completeness"]["point"]
    assert 0.04 < point["fpr"] <= 0.05
    rate = next(r for r in model["at_fpr"] if r["fpr"] == 0.05)
    tpr, fpr = point["tpr"], point["fpr"]
    assert rate["purity"]["value"] == pytest.approx(tpr * 0.001 / (tpr * 0.001 + fpr * 0.999))
    kinds = {kind["kind"]: kind for kind in model["kinds"]}
    assert sum(kind["found"] for kind in kinds.values() if not kind["is_lens"]) == point["false"]
    assert kinds["lens"]["found"] == point["true"]
    assert kinds["ring"]["found"] / kinds["ring"]["objects"] > kinds["spiral"]["found"] / kinds["spiral"]["objects"]


def test_the_document_names_every_key(tables):
    call("good.parquet", "worse.csv", "--labels", "truth.parquet", "--budget", "50")
    found = json.loads((tables / "evaluation/evaluation.json").read_text())
    found["models"][0]["objects"]["without_score"] = {}  # its keys are reasons
    named = set(re.findall(r"`([a-z0-9_]+)`", DOCUMENT.read_text()))

    def keys(value):
        if isinstance(value, dict):
            for key, item in value.items():
                yield key
                yield from keys(item)
        elif isinstance(value, list):
            for item in value:
                yield from keys(item)

    missing = {k for k in keys(found) if k not in named and k.removesuffix("_low").removesuffix("_high") not in named}
    assert missing == set()


def test_markdown_is_made_by_the_command_it_names(tables):
    call("good.parquet", "--labels", "truth.parquet", "--markdown", "docs/table.md", "--fpr", "0.02")
    text = (tables / "docs/table.md").read_text()
    command = "survey_scan evaluate good.parquet --labels truth.parquet --fpr 0.02 --markdown docs/table.md"
    assert text.splitlines()[0] == f"<!-- written by: {command} -->"
    (tables / "docs/table.md").unlink()
    call(*shlex.split(command)[2:])
    assert (tables / "docs/table.md").read_text() == text
    [model] = json.loads((tables / "evaluation/evaluation.json").read_text())["models"]
    point = model["completeness"]["point"]
    assert f"({point['false']:,} of 1,500 non-lenses; at most 0.02 was asked for)" in text
    assert "before the first of 1,495 non-lenses with a score." in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    counts = [
        tuple(map(int, pair)) for row in rows[2:-1] for pair in re.findall(r"\((\d+)/(\d+)\)", row.rsplit("|", 2)[0])
    ]
    assert (sum(a for a, _ in counts), sum(b for _, b in counts)) == (point["true"], 300)
    assert rows[-1].endswith(f"({point['true']}/300) |")


def test_markdown_without_radii(tables):
    pd.read_parquet("truth.parquet")[["object_id", "label"]].to_csv("plain.csv", index=False)
    said = call("good.parquet", "--labels", "plain.csv", "--markdown", "table.md")
    assert "The labels give no Einstein radii and S/N of the lenses." in (tables / "table.md").read_text()
    assert "kind" not in said
    assert "θ_E" not in said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--prior", "1"], "--prior is 1; it must be above 0 and below 1.\n"),
        (["--fpr", "0"], "--fpr is 0; it must be above 0 and below 1.\n"),
        (
            ["--budget", "100,many"],
            "--budget is '100,many'; it must be whole numbers above 0, separated by commas, such as 1000,5000.\n",
        ),
        (
            ["--column", "a", "--column", "b"],
            "--column is given 2 times for 1 sets of scores. Name one for each.\n",
        ),
        (
            ["--column", "logits"],
            "scores: good.parquet has no column 'logits'. Did you mean 'logit'? It has: object_id, logit, status.\n",
        ),
    ],
)  # fmt: skip
def test_wrong_usage(tables, words, text):
    assert call("good.parquet", "--labels", "truth.parquet", *words, code=2) == text
    assert not (tables / "evaluation").exists()


def test_labels_are_asked_for(tables):
    assert "Missing option '--labels'" in call("good.parquet", code=2)


@pytest.mark.parametrize("lenses", [1, 30])
def test_few_and_perfectly_separated_objects_can_be_evaluated(tmp_path, monkeypatch, lenses):
    monkeypatch.chdir(tmp_path)
    n = lenses + 40
    is_lens = np.arange(n) < lenses
    table = pd.DataFrame({"object_id": np.arange(n), "logit": np.where(is_lens, 5.0, -5.0), "label": is_lens})
    table.to_parquet("both.parquet")
    said = call("both.parquet", "both.parquet", "--labels", "both.parquet", "--budget", "5,20")
    [model, _] = json.loads((tmp_path / "evaluation/evaluation.json").read_text())["models"]
    assert model["auc"] == {"value": 1.0, "low": None, "high": None}
    assert model["calibration"]["temperature"] is None
    assert "no temperature fits" in said


def test_a_model_that_gives_all_the_same_score(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"object_id": range(60), "score": np.float32(1), "label": [1] * 10 + [0] * 50})
    table.to_parquet("flat.parquet")
    said = call("flat.parquet", "--labels", "flat.parquet")
    assert "60 scores take 1 values; 60 share the highest, 10 of them lenses" in said
    [model] = json.loads((tmp_path / "evaluation/evaluation.json").read_text())["models"]
    assert model["auc"]["value"] == 0.5
    assert model["tpr0"]["point"]["threshold"] is None
    assert "more tie at the highest" in said
