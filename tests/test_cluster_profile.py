"""Profiles: what may stand in one, and what is said of what may not."""

from pathlib import Path

import dask
import distributed  # noqa: F401 - whose settings these are
import pytest

from survey_scan.cluster import profile, settings
from survey_scan.errors import ConfigError

KINDS = "local, cuda, slurm-allocation, slurm-jobs, scheduler"
TOP = Path(__file__).parent.parent / "cluster"


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_of_the_package_loads_and_stands_in_cluster(name):
    found = profile.load(name)
    assert found.kind in profile.KINDS
    assert (TOP / f"{name}.yaml").resolve() == profile.path_of(name).resolve()


def test_there_is_a_profile_of_every_kind_that_needs_no_address():
    assert {profile.load(name).kind for name in profile.names()} == set(profile.KINDS) - {"scheduler"}


def test_dasks_settings_are_the_file_in_cluster(tmp_path):
    assert (TOP / "dask.yaml").read_text() == settings.write(tmp_path).read_text()
    with dask.config.set(settings.load()):
        assert dask.config.get("distributed.scheduler.allowed-failures") == 3
        assert dask.config.get("distributed.client.heartbeat")  # what is not ours stays


def said(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        profile.load(str(path))
    return str(caught.value).replace(str(tmp_path) + "/", "")


def test_an_unknown_name():
    with pytest.raises(ConfigError) as caught:
        profile.load("perlmuter")
    assert str(caught.value) == (
        "there is no profile 'perlmuter'. There are cuda, generic-slurm, local, perlmutter-preempt, perlmutter-regular, "
        "slurm-allocation, slurm-jobs; or give a file, ./mine.yaml."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: slurm\n", f"mine.yaml:1:1: 'kind' is 'slurm': it should be one of {KINDS}"),
        ("cpu: {}\n", f"mine.yaml:1:1: 'kind' is None: it should be one of {KINDS}"),
        ("kind: cuda\ngpu: {thread: 2}\n", "mine.yaml:2:7: unknown key 'gpu.thread'. Did you mean 'threads'?"),
        (
            "kind: slurm-allocation\nnodes: 4\nbatch: {nodes: 2, time: '10'}\n",
            "mine.yaml:1:1: nodes is 4, but batch.nodes is 2",
        ),
        (
            "kind: slurm-allocation\ngpu: {}\nbatch: {nodes: 2, time: '10'}\n",
            "mine.yaml:1:1: there are gpu workers, but batch.gpus_per_node is 0: set it, or leave out gpu",
        ),
        ("kind: slurm-jobs\ntime: '10'\n", "mine.yaml:1:1: give 'cpu' or 'gpu' jobs, or both"),
        ("kind: scheduler\n", "mine.yaml:1:1: 'address' is required"),
        (
            "kind: local\ncpu: {memory: 4 gigs}\n",
            r"mine.yaml:2:7: 'cpu.memory' is '4 gigs': string should match pattern '^\d+(\.\d+)? ?([kKMGT]i?)?B$'",
        ),
        (
            "kind: local\ncpu: {workers: -1}\n",
            "mine.yaml:2:7: 'cpu.workers' is -1: input should be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, message):
    assert said(tmp_path, text) == message


def test_a_time_limit_is_slurms(tmp_path):
    text = said(tmp_path, "kind: slurm-jobs\ncpu: {jobs: 1, memory: 1GB}\ntime: 4 hours\n")
    assert text.startswith("mine.yaml:3:1: 'time' is '4 hours': ")
