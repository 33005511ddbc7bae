"""The loop: step after step, epoch after epoch, from wherever an earlier start of the same ended."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.errors import UserError
from survey_scan.identity import Key
from survey_scan.training import augment, balance, checkpoint
from survey_scan.training.config import Training
from survey_scan.training.labels import Rows
from survey_scan.training.reading import Batches, Source
from survey_scan.training.schedule import rate

if TYPE_CHECKING:
    from survey_scan.training.network import Trainee

#: Steps whose losses are looked at together: looking at each would keep the device waiting.
LOOK = 20

#: ``measure(is_lens, logits)``: numbers of one epoch by name.
Measure = Callable[[NDArray[np.bool_], NDArray[np.float64]], dict[str, float]]


@dataclass
class Progress:
    """How far a training is, and what came of each epoch.

    Parameters
    ----------
    epoch, step : int
        Epochs that are finished; steps of the next one that are.
    loss : float
        Sum of the losses of these steps.
    history : list of dict
        One an epoch: ``epoch``, ``loss``, ``validation_loss``, what is measured, ``rate``, ``seconds``.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def best(self) -> dict[str, float]:
        """The epoch with the lowest validation loss."""
        return min(self.history, key=lambda entry: entry["validation_loss"])


@dataclass(frozen=True)
class Sets:
    """What is learnt from, and what judges.

    Parameters
    ----------
    training, validation : (Source, Rows)
        Pixels and rows.
    """

    training: tuple[Source, Rows]
    validation: tuple[Source, Rows]


class Fit:
    """One training.

    Parameters
    ----------
    config : Training
        Schedule, augmentation, balance, seed.
    trainee : Trainee
        The network; if it trained before, its state is put back.
    sets : Sets
        The data.
    measure : callable
        Of the validation's logits.
    place : Path
        The file of the state.
    key : Key
        What the training depends on, kept with the state.

    Raises
    ------
    RunError
        If the file is damaged.
    """

    def __init__(self, config: Training, trainee: "Trainee", sets: Sets, measure: Measure, place: Path, key: Key):
        self.config, self.trainee, self.sets = config, trainee, sets
        self._measure, self._place, self._key = measure, place, key
        self.progress, self.best = Progress(), trainee.state()["network"]
        rows = sets.training[1]
        self.steps = max(int(rows.repeat.sum()) // config.schedule.batch, 1)
        self._share = balance.share(rows, config.balance)
        if (found := checkpoint.read(place)) is not None:
            facts, arrays = found
            self.progress = Progress(**facts["progress"])
            self.best = arrays.pop("best")
            trainee.restore(arrays)

    def run(self, stopped: Callable[[], bool], say: Callable[[str], None]) -> bool:
        """Go on until the last epoch is finished, or it is to stop; whether it is finished.

        Raises
        ------
        UserError
            If the loss is no finite number.
        """
        schedule, progress, seed = self.config.schedule, self.progress, self.config.output.seed
        if progress.epoch >= schedule.epochs:
            return True
        source, rows = self.sets.training
        groups = balance.groups(rows, self.config.balance, schedule.batch)
        done = progress.epoch * self.steps + progress.step
        batches = Batches(source, rows, groups, self.config.reading.blocks, seed, done)
        try:
            while progress.epoch < schedule.epochs:
                if not self._epoch(batches, stopped):
                    self._write()
                    return False
                self._judge(say)
                self._write()
        finally:
            batches.close()
        return True

    def _epoch(self, batches: Batches, stopped: Callable[[], bool]) -> bool:
        """What is left of an epoch; whether it was finished."""
        progress, schedule, size = self.progress, self.config.schedule, self.trainee.recipe.size
        began, before, losses = time.perf_counter(), progress.seconds, []
        while progress.step < self.steps and not stopped():
            number = progress.epoch * self.steps + progress.step
            pixels, is_lens = batches.take()
            drawn = augment.draw(self.config.augmentation, size, schedule.batch, self.config.output.seed, number)
            losses.append(self.trainee.step(pixels, is_lens, drawn, rate(schedule, number, self.steps)))
            progress.step += 1
            if len(losses) == LOOK:
                self._add(losses)
        self._add(losses)
        progress.seconds = before + time.perf_counter() - began
        return progress.step == self.steps

    def _add(self, losses: list[Any]) -> None:
        for loss in losses:
            self.progress.loss += float(loss)
        losses.clear()
        if not math.isfinite(self.progress.loss):
            number, schedule = self.progress.epoch + 1, self.config.schedule
            raise UserError(
                f"the loss became {self.progress.loss} in epoch {number}, in one of its first {self.progress.step} steps: the "
                f"training diverged, or pixels are not what the normalisation expects. Lower schedule.rate ({schedule.rate:g}), "
                "lengthen schedule.warm_up, or mend network.normalisation, and choose another output.directory."
            )

    def _judge(self, say: Callable[[str], None]) -> None:
        """Score the validation rows, and close the epoch."""
        progress, schedule = self.progress, self.config.schedule
        began = time.perf_counter()
        is_lens, logits = self.sets.validation[1].is_lens, self.validation_logits()
        each = np.logaddexp(0, np.where(is_lens, -logits, logits))
        loss = float(self._share * each[is_lens].mean() + (1 - self._share) * each[~is_lens].mean())
        if not math.isfinite(loss):
            raise UserError(
                f"the network gives {int((~np.isfinite(logits)).sum()):,} validation cutouts no finite logit in epoch "
                f"{progress.epoch + 1}. Mend network.normalisation, or leave those cutouts out of the labels."
            )
        number = progress.epoch * self.steps + progress.step - 1
        speed = progress.step * schedule.batch / progress.seconds
        entry = {
            "epoch": progress.epoch + 1,
            "loss": progress.loss / progress.step,
            "validation_loss": loss,
            **self._measure(is_lens, logits),
            "rate": rate(schedule, number, self.steps),
            "seconds": progress.seconds + time.perf_counter() - began,
        }
        progress.history.append(entry)
        progress.epoch, progress.step, progress.loss, progress.seconds = progress.epoch + 1, 0, 0.0, 0.0
        if progress.best is entry:
            self.best = self.trainee.state()["network"]
        left = (schedule.epochs - progress.epoch) * float(np.median([one["seconds"] for one in progress.history[-5:]]))
        end = f" · {_duration(left)} left" if progress.epoch < schedule.epochs else ""
        say(
            f"{f'epoch {progress.epoch}/{schedule.epochs}':<13} loss {entry['loss']:.4f} · validation {loss:.4f} · "
            f"AUC {entry['auc']:.4f} · TPR at 1 % FPR {entry['tpr_1pct']:.3f} · {speed:,.0f}/s{end}"
        )

    def validation_logits(self) -> NDArray[np.float64]:
        """Logits of all validation rows, by the network as it is now."""
        source, rows = self.sets.validation
        batch = self.trainee.batch
        return np.concatenate(
            [
                self.trainee.logits(source.fetch(np.arange(first, min(first + batch, len(rows))))).astype(np.float64)
                for first in range(0, len(rows), batch)
            ]
        )

    def _write(self) -> None:
        facts = {"key": self._key, "progress": vars(self.progress)}
        checkpoint.write(self._place, facts, {**self.trainee.state(), "best": self.best})


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
