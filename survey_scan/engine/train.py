"""``survey_scan train``: from labelled stores to a network packed with its contract, resumed from its last epoch."""

import io
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from survey_scan import __version__, normalisation, records
from survey_scan.config import Model
from survey_scan.engine import interrupt, lock, training_contract, training_data
from survey_scan.engine.progress import duration
from survey_scan.engine.training_contract import NETWORK
from survey_scan.engine.training_data import Opened
from survey_scan.errors import RunError, UserError
from survey_scan.evaluation import curve, metrics
from survey_scan.evaluation.sample import Sample
from survey_scan.identity import Key, digest, digest_path, explain
from survey_scan.layout import RunDirectory
from survey_scan.models.contract import Contract
from survey_scan.models.device import Device
from survey_scan.models.package import Package
from survey_scan.models.runtime import configure
from survey_scan.training import augment, balance, schedule
from survey_scan.training.config import Training
from survey_scan.training.fit import Fit, Sets
from survey_scan.training.folder import Folder
from survey_scan.training.reading import GB, Held, Stored

if TYPE_CHECKING:
    from survey_scan.training.network import Trainee

Say = Callable[[str], None]

#: Changes with what the same configuration and data lead to.
TRAINING_VERSION = 1


def run(config: Training, config_path: Path, say: Say) -> Path:
    """Train a network, from wherever an earlier start of the same ended.

    Parameters
    ----------
    config : Training
        What to train, and on what.
    config_path : Path
        The file it came from, kept as given.
    say : callable
        Prints a line.

    Returns
    -------
    Path
        The package.

    Raises
    ------
    UserError
        Something to mend: data, labels, the network, a folder of another training, a loss that is no number.
    Interrupted
        Stopped; the same call resumes.
    """
    folder, directory = Folder(config.output.directory), RunDirectory(config.output.directory)
    opened = training_data.open_data(config)
    for entry in opened.entries:
        say(f"store       {training_data.describe(entry)}")
    base = None if config.network.start is None else training_contract.base_of(config.network.start)
    contract = training_contract.of_stores(config.network, opened) if base is None else training_contract.further(base)
    views = training_data.views(opened, contract)
    training, validation = (Stored(opened.readers, views, rows) for rows in (opened.training, opened.validation))
    augment.check(config.augmentation, contract.bands)
    with lock.held(directory), interrupt.handled(directory, say) as stop:
        configure("tensorflow", Device(every=True))
        from survey_scan.training.network import within_memory

        if base is None:
            contract = training_contract.normalised(config, training, contract)
        key = _key(config, opened, contract, base)
        complete = _open(folder, config, config_path, key)
        _announce(config, opened, contract, say)
        if complete:
            say(f"done        {folder.package} already")
            return folder.package
        trainee = _trainee(config, opened, contract, base)
        say(f"learnt      {trainee.parameters:,} parameters, on {trainee.text}")
        sets = _sets(config, training, validation, say)
        fit = Fit(config, trainee, sets, _measured, folder.state, key)
        if fit.progress.epoch or fit.progress.step:
            more = f" and {fit.progress.step} of {fit.steps} steps" if fit.progress.step else ""
            say(f"resumed     after {fit.progress.epoch} epochs{more}")
        began = time.perf_counter()
        with stop.graceful("this step"), within_memory(config.schedule.batch):
            finished = fit.run(lambda: stop.requested is not None, say)
        if fit.progress.history:
            _history(folder, fit)
        if not finished:
            stop.raise_if_requested()
        say(f"trained     in {duration(time.perf_counter() - began)}")
        _close(folder, config, opened, contract, fit, key, say)
    return folder.package


def _key(config: Training, opened: Opened, contract: Contract, base: Package | None) -> Key:
    """What the trained network depends on."""
    said = contract.model_dump(mode="json", exclude={"training", "parity"})
    start = None if base is None else digest_path(base.network)
    return {
        "data": digest(training_data.identity(opened, opened.training)),
        "validation": digest(training_data.identity(opened, opened.validation)),
        "network": digest([config.network.architecture, start, said]),
        "schedule": digest(config.schedule.model_dump(mode="json")),
        "augmentation": digest(config.augmentation.model_dump(mode="json")),
        "balance": digest(config.balance),
        "seed": digest(config.output.seed),
        "reading.blocks": digest(config.reading.blocks),
        "version": str(TRAINING_VERSION),
    }


def _open(folder: Folder, config: Training, config_path: Path, key: Key) -> bool:
    """Make the folder, or see that it belongs to this configuration; whether its training is complete."""
    known = records.read(folder.manifest)
    mine = (RunDirectory(folder.path).lock,)
    if known is None and (strangers := [p.name for p in sorted(folder.path.iterdir()) if p not in mine]):
        raise RunError(
            f"{folder.path} exists and is no training: it holds {', '.join(strangers[:3])}. Choose another output.directory."
        )
    if known is not None and folder.state.exists() and (changed := explain(known["key"], key)):
        raise RunError(
            f"{folder.path} is a training made otherwise (another {', '.join(changed)}). Choose another "
            "output.directory, or delete it."
        )
    complete = known is not None and folder.state.exists() and known.get("state") == "complete"
    if not complete:  # also of one of which there is nothing yet, whatever it was to be
        records.write(folder.manifest, key, {"state": "incomplete", "survey_scan": __version__})
    header = f"# All settings of this training, defaults included (survey_scan {__version__}). Edit your own file, not this one.\n"
    body = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    records.write_atomically(folder.config_given, config_path.read_bytes())
    records.write_atomically(folder.config_resolved, (header + body).encode())
    return complete


def _announce(config: Training, opened: Opened, contract: Contract, say: Say) -> None:
    """Say what will be done, before it is."""
    training, validation = opened.training, opened.validation
    how = (
        "stores of their own" if config.validation.data else "the same rows each time, by a hash of store and object_id"
    )
    say(f"training    {training.lenses:,} lenses, {training.others:,} non-lenses")
    say(f"validation  {validation.lenses:,} lenses, {validation.others:,} non-lenses: {how}")
    what = config.network.architecture or f"{config.network.start}, trained further"
    say(
        f"network     {what}; {', '.join(contract.bands)}, {contract.size} pixels on a side of {contract.pixel_scale:g} arcsec"
    )
    for step in contract.normalisation:
        say(f"normalise   {step.words()}")
    say(f"schedule    {config.preset}: {schedule.words(config.schedule)}; seed {config.output.seed}")
    say(
        f"batches     {balance.words(config.balance, config.schedule.batch)}; augmented by {augment.words(config.augmentation)}"
    )


def _trainee(config: Training, opened: Opened, contract: Contract, base: Package | None) -> "Trainee":
    """The network, as it begins."""
    import keras

    from survey_scan.models import architectures
    from survey_scan.models.files import open_file
    from survey_scan.training.network import Recipe, Trainee, strategy, trainable

    bands, size = normalisation.after(contract.normalisation, contract.bands, contract.size)
    keras.utils.set_random_seed(config.output.seed % 2**32)

    def build() -> Any:
        if base is None:
            assert config.network.architecture is not None
            return architectures.build(config.network.architecture, size, len(bands))
        if base.network.suffix not in (".keras", ".h5", ".hdf5"):
            raise UserError(
                f"{base.network} is no Keras file, and cannot be trained further. Start from a .keras package."
            )
        return trainable(
            open_file(base.network, Model(path=str(base.network), backend="tensorflow")).keep, base.network
        )

    weights = balance.weights(opened.training, config.balance)
    recipe = Recipe(
        tuple(contract.bands),
        contract.size,
        contract.nan_fill,
        tuple(contract.normalisation),
        config.augmentation,
        weights,
    )
    return Trainee(build, recipe, config.schedule, strategy())


def _sets(config: Training, training: Stored, validation: Stored, say: Say) -> Sets:
    """Both sets in memory if they fit, validation first: it is read whole after each epoch."""
    left, sources, said = config.reading.memory * GB, [], []
    for stored, name in ((validation, "validation"), (training, "training")):
        held = stored.nbytes <= left
        left -= stored.nbytes if held else 0
        size = f"{stored.nbytes / GB:.2g} GB"
        said.append(f"{name} ({size}) {'in memory' if held else f'in lots of {config.reading.blocks} chunks'}")
        sources.append(Held(stored) if held else stored)
    say(f"reading     {', '.join(said[::-1])}")
    return Sets((sources[1], training.rows), (sources[0], validation.rows))


def _measured(is_lens: NDArray[np.bool_], logits: NDArray[np.float64]) -> dict[str, float]:
    """What an epoch is judged by, besides its loss."""
    sample = Sample(np.arange(len(logits)), is_lens, logits)
    found = curve.curve(sample)
    return {
        "auc": metrics.area(sample).value,
        "tpr_1pct": curve.at_fpr(found, 0.01).tpr,
        "tpr0": curve.with_at_most(found, 0).tpr,
    }


def _history(folder: Folder, fit: Fit) -> None:
    """Write the history as a table, and draw it."""
    from survey_scan.training.picture import draw

    buffer = io.StringIO()
    pd.DataFrame(fit.progress.history).to_csv(buffer, index=False, float_format="%.8g")
    records.write_atomically(folder.history, buffer.getvalue().encode())
    records.write_atomically(folder.picture, draw(fit.progress.history))


def _close(folder: Folder, config: Training, opened: Opened, contract: Contract, fit: Fit, key: Key, say: Say) -> None:
    """Pack the best epoch."""
    from survey_scan.models import packing

    best, trainee = fit.progress.best, fit.trainee
    trainee.restore({"network": fit.best})
    provenance = training_contract.provenance(config, opened, best)
    allow = contract.allow if config.network.start is not None else []
    contract = contract.model_copy(update={"training": provenance, "allow": allow})
    source, rows = fit.sets.validation
    pixels = source.fetch(training_data.parity_rows(rows, packing.PARITY))
    shutil.rmtree(folder.package, ignore_errors=True)  # of a start that was killed here
    partial = folder.path / NETWORK
    trainee.save(partial)
    packing.pack(partial, contract, pixels, folder.package)
    partial.unlink()
    records.write(folder.manifest, key, {"state": "complete", "survey_scan": __version__, **best})
    say(
        f"kept        epoch {int(best['epoch'])}: validation {best['validation_loss']:.4f}, AUC {best['auc']:.4f}, TPR at "
        f"1 % FPR {best['tpr_1pct']:.3f}, TPR0 {best['tpr0']:.3f} ({rows.lenses:,} lenses, {rows.others:,} non-lenses)"
    )
    say(f"done        {folder.package}: model.path of a scan; {folder.history.name} has every epoch")
