"""Cluster profiles: where and on what a scan runs, one small YAML file each. No part of one changes a result.

A profile's ``kind`` says who starts the workers; its pools say which. Those of the pool ``cpu`` cut, those of the pool
``gpu`` score, unless there is one pool only or ``gpu.cutouts`` says that its workers cut too: then they do both.
"""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from survey_scan.config import PositiveInt, Section
from survey_scan.config_file import validate
from survey_scan.errors import ConfigError
from survey_scan.yaml_file import read

#: Bytes with a unit, as in ``4 GiB`` or ``500MB``.
Size = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)? ?([kKMGT]i?)?B$")]

#: A time limit as Slurm writes it: minutes, H:MM:SS or D-HH:MM:SS.
TimeLimit = Annotated[str, StringConstraints(pattern=r"^(\d+|(\d+-)?\d{1,2}:\d{2}:\d{2})$")]


class CpuPool(Section):
    """Workers without a GPU, of one thread each."""

    workers: Annotated[int, Field(ge=0)] | None = None
    cores: PositiveInt = 1
    memory: Size | None = None


class GpuPool(Section):
    """Workers with one GPU each; two threads, so that one task reads and writes while the other has the device."""

    launcher: Literal["plain", "dask-cuda"] = "plain"
    workers: PositiveInt | None = None
    threads: PositiveInt = 2
    cores: PositiveInt = 4
    memory: Size | None = None
    memory_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    require: bool = True
    cutouts: bool = False
    pre_import: bool = True


class Batch(Section):
    """What ``survey_scan submit`` asks of Slurm."""

    nodes: PositiveInt = 1
    time: TimeLimit
    account: str | None = None
    qos: str | None = None
    partition: str | None = None
    constraint: str | None = None
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    cpus_per_node: PositiveInt | None = None
    options: list[Annotated[str, StringConstraints(pattern=r"^-")]] = []
    driver: Literal["exec", "step"] = "exec"
    signal_seconds: PositiveInt = 300
    setup: list[str] = []


class Local(Section):
    """A cluster on this machine."""

    kind: Literal["local"]
    cpu: CpuPool = CpuPool()


class Cuda(Section):
    """A cluster on this machine: a worker on each GPU, and CPU workers on the cores that are left."""

    kind: Literal["cuda"]
    gpu: GpuPool = GpuPool(launcher="dask-cuda")
    cpu: CpuPool = CpuPool()


class SlurmAllocation(Section):
    """Scheduler and workers on the nodes of the Slurm job this process runs in."""

    kind: Literal["slurm-allocation"]
    gpu: GpuPool | None = None
    cpu: CpuPool = CpuPool()
    nodes: PositiveInt | None = None
    interface: str | None = None
    local_directory: Path = Field(Path("/tmp"), strict=False)
    container: list[str] = []
    python: str | None = None
    nanny: bool = True
    start_seconds: PositiveInt = 300
    login: str | None = None
    batch: Batch | None = None

    @model_validator(mode="after")
    def _enough_nodes(self) -> Self:
        if self.batch and self.nodes and self.nodes > self.batch.nodes:
            raise ValueError(f"nodes is {self.nodes}, but batch.nodes is {self.batch.nodes}")
        if self.batch and self.gpu and not self.batch.gpus_per_node:
            raise ValueError("there are gpu workers, but batch.gpus_per_node is 0: set it, or leave out gpu")
        return self


class Jobs(Section):
    """A number of Slurm jobs of one worker each."""

    jobs: PositiveInt
    cores: PositiveInt = 1
    memory: Size
    options: list[Annotated[str, StringConstraints(pattern=r"^-")]] = []


class SlurmJobs(Section):
    """Workers as Slurm jobs of their own, which come and go; scheduler and driver here."""

    kind: Literal["slurm-jobs"]
    gpu: Jobs | None = None
    cpu: Jobs | None = None
    time: TimeLimit
    account: str | None = None
    partition: str | None = None
    options: list[Annotated[str, StringConstraints(pattern=r"^-")]] = []
    setup: list[str] = []
    interface: str | None = None
    local_directory: Path = Field(Path("/tmp"), strict=False)
    require_gpu: bool = True
    start_seconds: PositiveInt = 3600

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.gpu is None and self.cpu is None:
            raise ValueError("give 'cpu' or 'gpu' jobs, or both")
        return self


class Scheduler(Section):
    """A Dask scheduler that runs already."""

    kind: Literal["scheduler"]
    address: str

    @field_validator("address")
    @classmethod
    def _some(cls, value: str) -> str:
        if not value:
            raise ValueError("give the scheduler's address (tcp://host:port), or its scheduler file")
        return value


Profile = Local | Cuda | SlurmAllocation | SlurmJobs | Scheduler

KINDS: dict[str, type[Profile]] = {
    "local": Local,
    "cuda": Cuda,
    "slurm-allocation": SlurmAllocation,
    "slurm-jobs": SlurmJobs,
    "scheduler": Scheduler,
}


def names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(Path(str(f)).stem for f in files("survey_scan.cluster").joinpath("profiles").iterdir() if f.is_file())


def path_of(profile: str) -> Path:
    """The file of a profile: one of :func:`names`, or any file ``*.yaml``.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if profile.endswith((".yaml", ".yml")):
        return Path(profile)
    if profile not in names():
        raise ConfigError(
            f"there is no profile {profile!r}. There are {', '.join(names())}; or give a file, ./mine.yaml."
        )
    return Path(str(files("survey_scan.cluster").joinpath("profiles", f"{profile}.yaml")))


def load(profile: str) -> Profile:
    """Read a profile.

    Parameters
    ----------
    profile : str
        Name or file.

    Raises
    ------
    ConfigError
        With every problem found, one a line, each with its place.
    """
    path = path_of(profile)
    data, places, problems = read(path, ["kind"])
    if problems:
        raise ConfigError("\n".join(problems))
    kind = data.get("kind")
    if kind not in KINDS:
        place = places.get(("kind",), f"{path}:1:1")
        raise ConfigError(f"{place}: 'kind' is {kind!r}: it should be one of {', '.join(KINDS)}")
    return validate(KINDS[kind], data, places, path)
