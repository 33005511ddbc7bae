"""A network that is trained, with what is done to its pixels first, on one device or several; imports TensorFlow."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from survey_scan.errors import ResourceError, UserError
from survey_scan.models import steps
from survey_scan.normalisation import AnyStep
from survey_scan.training import augment
from survey_scan.training.config import Augmentation, Schedule

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """What a step does beside the network.

    Parameters
    ----------
    bands : tuple of str
        Of the pixels.
    size : int
        Their side.
    nan_fill : float
        In place of missing pixels.
    steps : tuple of Step
        The normalisation.
    augmentation : Augmentation
        Of training cutouts.
    weights : (float, float)
        What a non-lens and a lens count in the loss.
    """

    bands: tuple[str, ...]
    size: int
    nan_fill: float
    steps: tuple[AnyStep, ...]
    augmentation: Augmentation
    weights: tuple[float, float]


def strategy() -> Any:
    """All GPUs TensorFlow sees, each with a copy of the network and a part of each batch, or the one device there is.

    Without a GPU, several logical processors count as devices.
    """
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in devices])


class Trainee:
    """A network and its optimiser.

    Parameters
    ----------
    build : callable
        Makes the network; it gives one column of logits.
    recipe : Recipe
        Of each step.
    schedule : Schedule
        Its batch and optimiser.
    where : tf.distribute.Strategy
        From :func:`strategy`.

    Raises
    ------
    UserError
        If a batch cannot be divided evenly among the devices.
    """

    def __init__(self, build: Callable[[], Any], recipe: Recipe, schedule: Schedule, where: Any):
        self.recipe, self.batch, self._where = recipe, schedule.batch, where
        self.devices = int(where.num_replicas_in_sync)
        if self.batch % self.devices:
            raise UserError(
                f"schedule.batch is {self.batch}, which {self.devices} devices cannot share evenly. Set it to a multiple "
                f"of {self.devices}, or let fewer be seen (CUDA_VISIBLE_DEVICES)."
            )
        with where.scope():
            self.network = build()
            self._optimizer = _optimizer(schedule)
            self._optimizer.build(self.network.trainable_variables)
        self._train = tf.function(self._train_step, autograph=False)
        self._score = tf.function(self._logits, autograph=False)

    @property
    def parameters(self) -> int:
        """How many numbers are learnt."""
        return int(sum(np.prod(variable.shape) for variable in self.network.trainable_variables))

    @property
    def text(self) -> str:
        """The devices in words."""
        gpus = tf.config.list_logical_devices("GPU")
        kind = "GPU" if gpus else "processor device" if self.devices > 1 else "processor"
        return (
            f"{self.devices} {kind}s, {self.batch // self.devices} of a batch on each"
            if self.devices > 1
            else f"one {kind}"
        )

    def step(self, pixels: Pixels, is_lens: NDArray[np.bool_], drawn: Sequence[NDArray[Any]], rate: float) -> Any:
        """Learn from one batch; the loss, which need not be there yet."""
        self._optimizer.learning_rate = rate
        return self._train(*(self._spread(array) for array in (pixels, is_lens, *drawn)))

    def logits(self, pixels: Pixels) -> NDArray[np.float32]:
        """Logits of at most a batch of cutouts, as scoring gives them."""
        whole = pixels
        if len(pixels) < self.batch:
            whole = np.zeros((self.batch, *pixels.shape[1:]), np.float32)
            whole[: len(pixels)] = pixels
        logits: NDArray[np.float32] = self._score(tf.constant(whole)).numpy()
        return logits[: len(pixels)]

    def save(self, path: Path) -> None:
        """Write the network as a ``.keras`` file."""
        with warnings.catch_warnings():
            # Keras makes arrays of TensorFlow's variables in a way that NumPy 2 warns of
            warnings.filterwarnings(
                "ignore", "__array__ implementation doesn't accept a copy keyword", DeprecationWarning
            )
            self.network.save(path)

    def state(self) -> dict[str, list[NDArray[Any]]]:
        """All numbers that the next step depends on."""
        return {
            "network": [np.asarray(variable) for variable in self.network.variables],
            "optimizer": [np.asarray(variable) for variable in self._optimizer.variables],
        }

    def restore(self, state: dict[str, list[NDArray[Any]]]) -> None:
        """Go back to a state, of the network alone or with its optimiser."""
        pairs = {"network": self.network.variables, "optimizer": self._optimizer.variables}
        for name, values in state.items():
            for variable, value in zip(pairs[name], values, strict=True):
                variable.assign(value)

    def _spread(self, array: NDArray[Any]) -> Any:
        """A batch, in equal parts on the devices."""
        if self.devices == 1:
            return tf.constant(array)
        part = self.batch // self.devices
        pieces = [tf.constant(array[at : at + part]) for at in range(0, self.batch, part)]
        return self._where.experimental_distribute_values_from_function(
            lambda context: pieces[context.replica_id_in_sync_group]
        )

    def _train_step(self, *arguments: Any) -> Any:
        losses = self._where.run(self._learn, arguments)
        return self._where.reduce("SUM", losses, axis=None)

    def _learn(self, pixels: Any, is_lens: Any, *drawn: Any) -> Any:
        """One device's part of a step."""
        x = augment.apply(self.recipe.augmentation, self._filled(pixels), *drawn)
        x = steps.apply(self.recipe.steps, x, list(self.recipe.bands))
        other, lens = (np.float32(weight) for weight in self.recipe.weights)
        truth = tf.cast(is_lens, tf.float32)
        counts = tf.where(is_lens, lens, other)
        with tf.GradientTape() as tape:
            z = tf.cast(self.network(x, training=True), tf.float32)[:, 0]
            each = tf.nn.sigmoid_cross_entropy_with_logits(truth, z)
            loss = tf.reduce_sum(counts * each) / np.float32(self.batch)
            loss += sum(self.network.losses) / np.float32(self.devices) if self.network.losses else 0.0
        variables = self.network.trainable_variables
        self._optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    def _logits(self, pixels: Any) -> Any:
        x = steps.apply(self.recipe.steps, self._filled(pixels), list(self.recipe.bands))
        return tf.cast(self.network(x, training=False), tf.float32)[:, 0]

    def _filled(self, pixels: Any) -> Any:
        return tf.where(tf.math.is_nan(pixels), np.float32(self.recipe.nan_fill), pixels)


@contextmanager
def within_memory(batch: int) -> Iterator[None]:
    """Say it plainly if a batch does not fit.

    Raises
    ------
    ResourceError
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise ResourceError(
            f"a batch of {batch} cutouts does not fit in memory with what learning from it needs. Lower schedule.batch below "
            f"{batch}; what was learnt so far cannot go on with another batch, so choose another output.directory, too."
        ) from None


def applied(chain: Sequence[AnyStep], pixels: Pixels, bands: list[str]) -> Pixels:
    """Steps of a normalisation done to some pixels."""
    return np.asarray(steps.apply(chain, tf.constant(pixels), bands))


def trainable(model: Any, path: Any) -> Any:
    """A network as it was loaded, ending in its one logit.

    Raises
    ------
    UserError
        If it does not end in one column, of a dense layer with a sigmoid or none, or of a sigmoid of its own.
    """
    layers = keras.layers
    last = model.layers[-1]
    if isinstance(last, layers.Activation) and last.activation is keras.activations.sigmoid and len(model.layers) > 1:
        model = keras.Model(model.inputs[0], last.input, name=model.name)
        last = model.layers[-1]
    if isinstance(last, layers.Dense) and last.activation is keras.activations.sigmoid:
        last.activation = keras.activations.linear
    linear = isinstance(last, layers.Dense) and last.activation is keras.activations.linear
    if not linear or tuple(model.output_shape) != (None, 1):
        raise UserError(
            f"{path} ends in '{last.name}' ({type(last).__name__}), of shape {model.output_shape}. What can be trained "
            "further ends in one column: Dense(1), with a sigmoid or without. Start from an architecture instead."
        )
    return model


def _optimizer(schedule: Schedule) -> Any:
    kinds = keras.optimizers
    if schedule.optimizer == "adamw":
        return kinds.AdamW(schedule.rate, weight_decay=schedule.weight_decay)
    return kinds.Adam(schedule.rate) if schedule.optimizer == "adam" else kinds.SGD(schedule.rate, momentum=0.9)
