"""Every path of a run directory, here and nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Stage = Literal["cutouts", "scores"]

#: The stages that are done partition by partition, in their order.
STAGES: tuple[Stage, ...] = ("cutouts", "scores")


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run.

    Parameters
    ----------
    path : Path
        The run directory itself.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def readme(self) -> Path:
        """What this is and how to open it."""
        return self.path / "README.txt"

    @property
    def config_given(self) -> Path:
        """The configuration as given."""
        return self.path / "config.yaml"

    @property
    def config_resolved(self) -> Path:
        """The configuration with defaults and command-line settings."""
        return self.path / "config.resolved.yaml"

    @property
    def manifest(self) -> Path:
        """Format version, software versions, counts, state."""
        return self.path / "manifest.json"

    @property
    def lock(self) -> Path:
        """Who is driving this run."""
        return self.path / "run.lock"

    @property
    def logs(self) -> Path:
        """Folder of logs."""
        return self.path / "logs"

    @property
    def events(self) -> Path:
        """One JSON line for each thing that happened: starts, finished tasks, failures, ends."""
        return self.logs / "events.jsonl"

    @property
    def now(self) -> Path:
        """How far the scan is, written by its driver every few seconds."""
        return self.logs / "now.json"

    @property
    def batch_script(self) -> Path:
        """The script of the last submitted Slurm job."""
        return self.path / "job.sbatch"

    @property
    def plan(self) -> Path:
        """Folder of the plan."""
        return self.path / "plan"

    @property
    def partitions(self) -> Path:
        """One line a partition: partition,start,stop,n_targets,n_tiles,targets_digest."""
        return self.plan / "partitions.csv"

    @property
    def cut_flow(self) -> Path:
        """One line a cut: cut,kept,removed,fraction."""
        return self.plan / "cut_flow.csv"

    @property
    def memory(self) -> Path:
        """Projected memory of each stage."""
        return self.plan / "memory.json"

    @property
    def plan_facts(self) -> Path:
        """What the plan found out: counts, pixel scale, largest tile."""
        return self.plan / "plan.json"

    @property
    def tiles(self) -> Path:
        """The tile index the plan used."""
        return self.plan / "tiles.parquet"

    @property
    def calibration(self) -> Path:
        """How fast a few of the partitions were scanned beforehand, and on what."""
        return self.plan / "calibration.json"

    @property
    def located(self) -> Path:
        """Scratch folder of the plan: selected rows with their tiles, one file a catalogue slice."""
        return self.plan / "located"

    @property
    def targets_folder(self) -> Path:
        """Folder of the target tables."""
        return self.path / "targets"

    def targets(self, partition: int) -> Path:
        """Targets of one partition; row i is row ``start + i`` of the store."""
        return self.targets_folder / f"part-{partition:05d}.parquet"

    @property
    def downloads_folder(self) -> Path:
        """Scratch folder of a scan that asks a cutout service."""
        return self.path / "downloads"

    def downloads(self, partition: int) -> Path:
        """What a cutout service sent for one partition, until that is finished."""
        return self.downloads_folder / f"{partition:05d}"

    @property
    def store(self) -> Path:
        """The Zarr group of cutouts."""
        return self.path / "cutouts.zarr"

    @property
    def scores_folder(self) -> Path:
        """Folder of the score tables."""
        return self.path / "scores"

    @property
    def ranks(self) -> Path:
        """How the logits of several networks are distributed, where candidates are ranked by the mean of their ranks."""
        return self.records_folder / "ranks.json"

    def scores(self, partition: int) -> Path:
        """Scores of one partition, in the order of its targets."""
        return self.scores_folder / f"part-{partition:05d}.parquet"

    @property
    def candidates_parquet(self) -> Path:
        """The ranked candidates, VOParquet."""
        return self.path / "candidates.parquet"

    @property
    def candidates_fits(self) -> Path:
        """The same table as FITS."""
        return self.path / "candidates.fits"

    @property
    def failures(self) -> Path:
        """Every target without a score: object_id,ra,dec,tile,status,reason."""
        return self.path / "failures.csv"

    @property
    def drift(self) -> Path:
        """Quantiles of the scores of each tile and bin of seeing, and which are out of line with the others."""
        return self.path / "drift.csv"

    @property
    def report(self) -> Path:
        """All of the scan on one page."""
        return self.path / "report.html"

    @property
    def records_folder(self) -> Path:
        """Folder of the records."""
        return self.path / "records"

    def record(self, stage: Stage, partition: int) -> Path:
        """The record that says one partition of one stage is finished."""
        return self.records_folder / stage / f"{partition:05d}.json"

    @property
    def ranking_record(self) -> Path:
        """The record that says the ranking is finished."""
        return self.records_folder / "rank.json"
