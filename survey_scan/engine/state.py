"""What of a run is finished, what is not, and why: plan, keys and records compared."""

import importlib.metadata
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survey_scan import records
from survey_scan.combination import Combination, Ranks
from survey_scan.config import Config, Images, Model, Ranking
from survey_scan.engine.keys import Keys, compare
from survey_scan.errors import ModelError, RunError
from survey_scan.identity import Key, digest, digest_each, digest_path, explain
from survey_scan.layout import STAGES, RunDirectory, Stage
from survey_scan.models.package import Cutouts, open_package
from survey_scan.records import Records

#: Version of the run directory; a program reads its own and older ones.
FORMAT_VERSION = 1

#: Parts of the configuration that change no result: how fast it comes, and the name of a paper whose cuts are spelled out.
_NO_RESULT: dict[str, set[str]] = {
    "catalogue": {"rows_per_task"},
    "selection": {"paper", "box"},
}
#: Keys that came later, with what they were until then, and count only where they say something else.
_LATER: dict[str, dict[str, Any]] = {
    "cutouts": {"zero_point": None, "store": "all", "above": None},
    "images": {"service": None},
    "ranking": {"combine": None},
}

#: Why a partition is cut again for scores that are to do: its pixels were not kept.
NOT_KEPT = "pixels"


@dataclass(frozen=True)
class Standing:
    """Keys and records of a planned run, compared.

    Parameters
    ----------
    partitions : DataFrame
        plan/partitions.csv.
    keys : mapping
        Stage → partition → the key a finished record must have.
    done : dict
        Stage → the finished records by partition.
    todo : dict
        Stage → partition → the names of the key's parts that changed, or ``["new"]``; of cutouts also ``["pixels"]``, which
        were not kept and are needed again.
    streamed : bool
        Whether pixels go to the networks through memory: what is to be scored is then to be cut, too.
    """

    partitions: pd.DataFrame
    keys: Mapping[Stage, Keys]
    done: dict[Stage, Records]
    todo: dict[Stage, dict[int, list[str]]]
    ranking_key: Key
    ranking_todo: list[str]
    streamed: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return not any(self.todo.values()) and not self.ranking_todo

    def reasons(self, stage: Stage) -> dict[str, int]:
        """How many partitions are to do, by reason."""
        return dict(Counter(", ".join(names) for names in self.todo[stage].values()))

    @cached_property
    def targets(self) -> dict[int, int]:
        """Partition → its number of targets."""
        return dict(zip(self.partitions["partition"].tolist(), self.partitions["n_targets"].tolist(), strict=True))

    def status_counts(self, stage: Stage) -> Counter[int]:
        """Targets of the finished partitions of a stage, by status code."""
        total: Counter[int] = Counter()
        for record in self.done[stage].values():
            total.update({int(code): n for code, n in record["status"].items()})
        return total


def standing(run: RunDirectory, config: Config) -> Standing:
    """Compare what is on disk with what the configuration asks for.

    Parameters
    ----------
    run : RunDirectory
        A planned run.
    config : Config
        What is asked for.
    """
    from survey_scan.cutouts import CUTOUTS_VERSION
    from survey_scan.ranking import RANKING_VERSION
    from survey_scan.scores import SCORES_VERSION

    partitions = read_partitions(run)
    images = _image_digests(run, config.images, config.cutouts.bands, partitions)
    spec = digest([_section(config, "images"), _section(config, "cutouts")])
    models = models_key(config)
    targets = partitions["targets_digest"].tolist()

    def cut(row: int) -> Key:
        return {"targets": str(targets[row]), "images": images[row], "spec": spec, "code": str(CUTOUTS_VERSION)}

    cuts = np.array([digest(cut(row)) for row in range(len(targets))], "S16")

    def scored(row: int) -> Key:
        return {"cutouts": cuts[row].decode(), **models, "code": str(SCORES_VERSION)}

    rows = {p: row for row, p in enumerate(partitions["partition"].tolist())}
    keys: dict[Stage, Keys] = {"cutouts": Keys(rows, cut), "scores": Keys(rows, scored)}
    done: dict[Stage, Records] = {}
    todo: dict[Stage, dict[int, list[str]]] = {}
    for stage in STAGES:
        done[stage], todo[stage] = compare(run.records_folder / stage, keys[stage])
    for p in todo["cutouts"]:  # new pixels need new scores, even if by chance their key is the same
        if done["scores"].remove(p):
            todo["scores"][p] = ["cutouts"]
    if config.cutouts.streamed:
        for p in todo["scores"]:
            if done["cutouts"].remove(p):
                todo["cutouts"][p] = [NOT_KEPT]
    ranking_key = {
        "scores": digest_each(keys["scores"][p] for p in sorted(keys["scores"])),
        "ranking": digest(_section(config, "ranking")),
        **_tables(config.ranking),
        "code": str(RANKING_VERSION),
    }
    record = records.read(run.ranking_record)
    ranking_todo = explain(record["key"] if record else None, ranking_key)
    if not ranking_todo and (any(todo.values()) or not run.candidates_parquet.exists()):
        ranking_todo = ["scores" if any(todo.values()) else "missing"]
    return Standing(partitions, keys, done, todo, ranking_key, ranking_todo, config.cutouts.streamed)


def models_key(config: Config) -> Key:
    """What of the networks changes the scores: :func:`model_key`, of several one each under its name, and the cascade."""
    spec = config.cutouts
    key: Key = {}
    for name, model in config.networks.items():
        own = model_key(model, spec.bands, spec.size)
        key |= {f"{part} {name}".rstrip(): value for part, value in own.items()}
    return key | ({"cascade": digest(config.cascade.model_dump())} if config.cascade is not None else {})


def _tables(ranking: Ranking) -> Key:
    """What the tables of known lenses and of the training set hold.

    One that cannot be read has no digest here, and is an error where it is read.
    """
    found: Key = {}
    for name, table in (("known lenses", ranking.known), ("training set", ranking.training)):
        if table == "lenscat":
            try:
                found[name] = importlib.metadata.version("lenscat")
            except importlib.metadata.PackageNotFoundError:
                found[name] = "none"
        elif table is not None:
            try:
                found[name] = digest_path(Path(table))
            except OSError:
                found[name] = "none"
    return found


def model_key(model: Model, bands: Sequence[str], size: int) -> Key:
    """What of a network changes the scores of cutouts of such bands and size.

    Returns
    -------
    dict
        ``model``, the digest of its file; ``contract``, that of how its pixels are made and its output is read, whether its
        contract says so or the configuration. The loopback scorer's is its name.

    Raises
    ------
    ConfigError
        If its contract cannot be read.
    ModelError
        If there is no such file, or its contract is for other cutouts.
    """
    if model.path == "loopback":
        return {"model": "loopback", "contract": "loopback"}
    package = open_package(model)
    try:
        file = digest_path(package.network)
    except OSError as error:
        raise ModelError(f"model.path: {model.path} cannot be read: {error.strerror}. Set model.path.") from None
    return {"model": file, "contract": package.digest(Cutouts(tuple(bands), size), model.precision, model.views)}


def combination(run: RunDirectory, config: Config) -> Combination:
    """How the networks' logits of a run become the one its targets are ranked by.

    Raises
    ------
    RunError
        If that takes the ranks of the whole run, and it is not ranked.
    """
    ranks = None
    if config.ranking.combine == "mean_rank":
        try:
            ranks = Ranks.read(run.ranks)
        except FileNotFoundError:
            raise RunError(
                f"{run} is not ranked, which the mean of ranks takes. Run 'survey_scan run' first."
            ) from None
    return Combination(config, ranks)


def read_manifest(run: RunDirectory) -> dict[str, Any]:
    """The manifest of a run.

    Raises
    ------
    RunError
        If there is none, or a newer program wrote it.
    """
    try:
        manifest: dict[str, Any] = json.loads(run.manifest.read_text())
    except FileNotFoundError:
        raise RunError(
            f"{run} is not a run directory (it has no {run.manifest.name}). Give the folder a 'survey_scan run' wrote."
        ) from None
    except ValueError:
        raise RunError(f"{run.manifest} is not readable as JSON. Move {run} away and run again.") from None
    version = manifest.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RunError(
            f"{run} has format version {version} (survey_scan {manifest.get('survey_scan')}); this program reads up to "
            f"{FORMAT_VERSION}. Use a newer survey_scan, or a new run.name."
        )
    return manifest


def read_partitions(run: RunDirectory) -> pd.DataFrame:
    """plan/partitions.csv.

    Raises
    ------
    RunError
        If the run is not planned.
    """
    try:
        return pd.read_csv(
            run.partitions, dtype={"targets_digest": str, "first_tile": str, "last_tile": str}, keep_default_na=False
        )
    except FileNotFoundError:
        raise RunError(
            f"{run} has no finished plan. Run 'survey_scan run' or 'survey_scan plan' with its config."
        ) from None


def plan_facts(run: RunDirectory) -> dict[str, Any]:
    """What the plan found out: counts, pixel scale, largest tile, compression layout."""
    facts: dict[str, Any] = json.loads(run.plan_facts.read_text())
    return facts


def differences(old: Config, new: Config) -> dict[str, list[str]]:
    """What differs between the planned and the present configuration, by the stage it makes necessary again.

    Returns
    -------
    dict
        ``plan`` and ``cutouts`` → texts such as ``cutouts.size 101; the config says 121``.
    """
    found: dict[str, list[str]] = {"plan": [], "cutouts": []}
    for section in ("catalogue", "selection", "images", "cutouts"):
        before, now = ({**_LATER.get(section, {}), **_section(config, section)} for config in (old, new))
        for name in before | now:
            if before.get(name) != now.get(name):
                late = section == "cutouts" and name != "partition"
                was, says = _shortened(before.get(name), now.get(name))
                text = f"{section}.{name} {was}; the config says {says}"
                found["cutouts" if late else "plan"].append(text)
    return found


def _section(config: Config, name: str) -> dict[str, Any]:
    section: dict[str, Any] = getattr(config, name).model_dump(mode="json", exclude=_NO_RESULT.get(name))
    if section.get("service") is not None:
        section["service"] = section["service"]["url"]  # how fast, how often and as whom it is asked changes no pixel
    later = _LATER.get(name, {})
    return {key: value for key, value in section.items() if key not in later or value != later[key]}


def _image_digests(run: RunDirectory, images: Images, bands: list[str], partitions: pd.DataFrame) -> list[str]:
    """One digest a partition of the files its tiles need: which there are, and how large.

    Sizes, not times, so that copying a survey changes nothing, while a tile that was missing or truncated and is now
    there whole is cut again.
    """
    from survey_scan.imaging.remote import size
    from survey_scan.imaging.tiles import tile_file

    tiles = sorted(pd.read_parquet(run.tiles, columns=["tile"])["tile"])
    sources = [images.files, *(s.files for s in (images.mask, images.weight) if s is not None and s.files)]
    with ThreadPoolExecutor(16) as pool:
        sizes = list(pool.map(lambda t: [size(tile_file(images, t, b, s)) for s in sources for b in bands], tiles))
    position = {tile: i for i, tile in enumerate(tiles)}
    found = []
    known: dict[tuple[int, int], str] = {}  # partitions lie side by side on their tiles
    for first_tile, last_tile in zip(partitions["first_tile"], partitions["last_tile"], strict=True):
        first = position.get(first_tile, len(tiles))
        last = position.get(last_tile, len(tiles) - 1)  # targets outside every tile ('') stand last
        if (first, last) not in known:
            known = {(first, last): digest([images.release, sizes[first : last + 1]])}
        found.append(known[first, last])
    return found


def _shortened(*values: Any) -> list[str]:
    """Values in at most 60 characters each, from a little before where they begin to differ."""
    texts = [str(value) for value in values]
    same = next(
        (i for i, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), min(map(len, texts))
    )
    if max(map(len, texts)) > 60 and same > 20:
        texts = ["..." + text[same - 20 :] for text in texts]
    return [text if len(text) <= 60 else text[:57] + "..." for text in texts]
