"""Every path of a training."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folder:
    """The paths of one training.

    Parameters
    ----------
    path : Path
        Its folder.
    """

    path: Path

    @property
    def manifest(self) -> Path:
        """What the training depends on, and whether it is complete."""
        return self.path / "training.json"

    @property
    def state(self) -> Path:
        """Network, optimiser, and how far they are."""
        return self.path / "state.npz"

    @property
    def package(self) -> Path:
        """The trained network with its contract."""
        return self.path / "package"

    @property
    def history(self) -> Path:
        """One line an epoch."""
        return self.path / "history.csv"

    @property
    def picture(self) -> Path:
        """The same, drawn."""
        return self.path / "history.png"

    @property
    def config_given(self) -> Path:
        """The configuration as given."""
        return self.path / "config.yaml"

    @property
    def config_resolved(self) -> Path:
        """The configuration with all that its preset says, and defaults."""
        return self.path / "config.resolved.yaml"
