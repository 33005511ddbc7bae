"""The whole plan on a small survey: nothing lost, nothing that depends on how the work was divided."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import distributed
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from survey_scan import catalogue
from survey_scan.config import Catalogue, Config, Cutouts, Images, Model, Run, Selection
from survey_scan.engine import memory, planning
from survey_scan.errors import CatalogueError, ImageError, ResourceError, SelectionError
from survey_scan.layout import RunDirectory
from survey_scan.plan import targets_digest

SIDE, STEP, SCALE = 60, 50, 30.0  # pixels, pixels, arcsec: tiles of 0.5 deg that overlap
N = 4000


def wcs_of(column, row):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [0.0, 40.0]
    wcs.wcs.crpix = [80 - column * STEP, 80 - row * STEP]
    wcs.wcs.cd = np.array([[-SCALE, 0], [0, SCALE]]) / 3600
    return wcs


@pytest.fixture(scope="module")
def sky(tmp_path_factory) -> Path:
    """Nine tiles across RA 0, one of them corrupt, one without band r; a catalogue in no order; an index."""
    folder = tmp_path_factory.mktemp("sky")
    corners = []
    for column in range(3):
        for row in range(3):
            name, wcs = f"T{column}{row}", wcs_of(column, row)
            for band in "gr":
                image = fits.ImageHDU(np.zeros((SIDE, SIDE), np.float32), wcs.to_header())
                if (name, band) != ("T20", "r"):
                    fits.HDUList([fits.PrimaryHDU(), image]).writeto(folder / f"{name}_{band}.fits")
            edges = wcs.all_pix2world([[-0.5, -0.5], [59.5, -0.5], [59.5, 59.5], [-0.5, 59.5]], 0)
            corners.append([name, *edges.ravel()])
    for band in "gr":
        path = folder / f"T02_{band}.fits"
        path.write_bytes(path.read_bytes()[:4000])
    names = ["tile", *(f"{axis}{i}" for i in (1, 2, 3, 4) for axis in ("ra", "dec"))]
    pd.DataFrame(corners, columns=names).to_csv(folder / "index.csv", index=False)
    rng = np.random.default_rng(11)
    frame = pd.DataFrame(
        {
            "object_id": rng.permutation(N) + 10**12,
            "ra": rng.uniform(-1.2, 1.2, N) % 360,
            "dec": rng.uniform(39.2, 41.2, N),
            "mag_g": rng.uniform(18, 24, N),
            "mag_r": rng.uniform(18, 22, N),
            "kind": pd.Series(rng.choice(["DEV", "PSF"], N), dtype="str"),
            "zone": rng.integers(0, 9, N),
        }
    )
    frame.loc[:4, "dec"] = [np.nan, 95.0, -95.0, np.inf, 40.0]
    frame.iloc[: N // 3].to_parquet(folder / "cat-1.parquet", row_group_size=40)
    frame.iloc[N // 3 :].to_parquet(folder / "cat-0.parquet", row_group_size=40)
    return folder


def config(sky, images=None, selection=None, partition=256, **catalogue) -> Config:
    columns = {name: name for name in ("mag_g", "mag_r", "kind", "zone")}
    return Config(
        run=Run(name="t"),
        catalogue=Catalogue(
            **{"files": [f"{sky}/cat-*.parquet"], "columns": columns, "rows_per_task": 500} | catalogue
        ),
        selection=selection
        or Selection(define={"g_r": "mag_g - mag_r"}, cuts={"red": "g_r > 0", "galaxy": "kind == 'DEV'"}),
        images=Images(
            **{"files": f"{sky}/{{tile}}_{{band}}.fits", "bands": ["g", "r"], "hdu": 1, "index": f"{sky}/index.csv"}
            | (images or {})
        ),
        cutouts=Cutouts(bands=["g", "r"], size=8, partition=partition),
        model=Model(path="loopback"),
    )


def contents(run: RunDirectory) -> dict[str, bytes]:
    return {str(p.relative_to(run.path)): p.read_bytes() for p in sorted(run.path.rglob("*")) if p.is_file()}


def all_targets(run: RunDirectory) -> pd.DataFrame:
    partitions = pd.read_csv(run.partitions)
    return pd.concat([pd.read_parquet(run.targets(p)) for p in partitions["partition"]], ignore_index=True)


@pytest.fixture(scope="module")
def planned(sky, tmp_path_factory):
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return run, planning.make_plan(config(sky), run)


def test_every_object_is_cut_or_planned(planned, sky):
    run, result = planned
    flow = pd.read_csv(run.cut_flow)
    assert list(flow.columns) == ["cut", "kept", "removed", "fraction"]
    assert flow["cut"].tolist() == ["valid position", "red", "galaxy"]
    assert flow["removed"].tolist()[0] == 4
    targets = all_targets(run)
    assert N == flow["removed"].sum() + len(targets) == flow["removed"].sum() + result.facts["selected"]
    frame = pd.concat([pd.read_parquet(sky / "cat-0.parquet"), pd.read_parquet(sky / "cat-1.parquet")])
    good = (frame["dec"].abs() <= 90) & (frame["mag_g"] > frame["mag_r"]) & (frame["kind"] == "DEV")
    assert sorted(targets["object_id"]) == sorted(frame.loc[good, "object_id"])
    together = targets.merge(frame, on="object_id", suffixes=("", "_catalogue"))
    for name in ("ra", "dec", "mag_g", "mag_r", "kind"):
        assert (together[name] == together[f"{name}_catalogue"]).all()
    assert (targets["g_r"] == targets["mag_g"] - targets["mag_r"]).all()


def test_each_target_is_on_the_tile_that_holds_it_most_centrally(planned):
    targets = all_targets(planned[0])
    margin = np.full((9, len(targets)), -np.inf)
    x, y = np.zeros_like(margin), np.zeros_like(margin)
    names = [f"T{i}{j}" for i in range(3) for j in range(3)]
    for k, name in enumerate(names):
        x[k], y[k] = wcs_of(int(name[1]), int(name[2])).all_world2pix(targets["ra"], targets["dec"], 0)
        margin[k] = np.min([x[k] + 0.5, 59.5 - x[k], y[k] + 0.5, 59.5 - y[k]], axis=0)
    inside = margin.max(axis=0) > 0
    best = np.array(names)[(margin > margin.max(axis=0) - 1e-6).argmax(axis=0)]  # of equals the first by name
    # pixels are not exactly angles: leave out what is near, but not at, a tie, and what is near an edge
    largest, second = -np.sort(-margin, axis=0)[:2]
    sure = (np.abs(largest) > 0.01) & ((largest - second > 0.01) | (largest - second < 1e-6))
    assert sure.mean() > 0.99
    assert (largest - second < 1e-6)[inside].sum() > 2, "no ties to be broken"
    assert (targets["tile"].to_numpy()[sure] == np.where(inside, best, "")[sure]).all()
    assert 100 < (targets["tile"] == "").sum() < len(targets) - 100
    k = np.array([names.index(tile) if tile else 0 for tile in targets["tile"]])
    rows = np.arange(len(targets))
    lost = (targets["tile"].isin(["", "T02"])).to_numpy()
    np.testing.assert_allclose(targets["x"].to_numpy()[~lost], x[k, rows][~lost], atol=1e-9)
    np.testing.assert_allclose(targets["y"].to_numpy()[~lost], y[k, rows][~lost], atol=1e-9)
    assert targets.loc[lost, ["x", "y"]].isna().all(axis=None)
    assert (targets["tile"] == "T02").any(), "an unreadable tile keeps its targets"


def test_targets_are_in_order_and_partitions_divide_them(planned):
    run, result = planned
    targets, partitions = all_targets(run), pd.read_csv(run.partitions, keep_default_na=False)
    keys = (targets["object_id"], targets["x"], targets["y"], targets["tile"], targets["tile"] == "")
    inside = int((targets["tile"] != "").sum())
    assert (np.lexsort(keys)[:inside] == np.arange(inside)).all()
    assert partitions["partition"].tolist() == list(range(len(partitions)))
    assert partitions["start"].tolist() == [256 * p for p in range(len(partitions))]
    assert partitions["stop"].tolist() == [*partitions["start"].tolist()[1:], len(targets)]
    assert (partitions["n_targets"] == partitions["stop"] - partitions["start"]).all()
    for row in partitions.itertuples():
        part = pd.read_parquet(run.targets(row.partition))
        assert targets_digest(part) == row.targets_digest
        tiles = part.loc[part["tile"] != "", "tile"]
        assert (row.n_tiles, row.first_tile, row.last_tile) == (
            tiles.nunique(),
            part["tile"].iloc[0],
            part["tile"].iloc[-1],
        )
    assert result.facts["partitions"] == len(partitions)


def test_facts_and_warnings(planned, sky):
    run, result = planned
    assert json.loads(run.plan_facts.read_text()) == result.facts
    outside = int((all_targets(run)["tile"] == "").sum())
    selected = result.cut_flow.selected
    assert result.facts == {
        "catalogue": N, "selected": selected, "planned": selected, "limit": None, "outside": outside,
        "partitions": -(-selected // 256), "n_tiles": 9, "pixel_scale": pytest.approx(SCALE, rel=1e-4),
        "layouts": [{"codec": "none", "shape": [60, 60], "tile": [1, 60]}], "object_id": "int64", "service": None,
        "flux": {"zero_point": {"g": None, "r": None}, "unit": None, "from_headers": [], "differ": []},
    }  # fmt: skip
    assert result.warnings[:2] == [
        "4 of 4,000 objects of the catalogue have no valid position",
        f"{outside:,} of {selected:,} selected objects lie on no tile and get no score",
    ]
    assert len(result.warnings) == 3
    assert str(sky / "T02_g.fits") in result.warnings[2]
    tiles = pd.read_parquet(run.tiles).set_index("tile")
    assert tiles["n_targets"].sum() == selected - outside
    assert tiles.loc["T20", "size_r"] == -1
    assert tiles.loc["T00", "size_g"] == (sky / "T00_g.fits").stat().st_size
    assert tiles.loc["T02", "problem"] == result.warnings[2]
    assert (tiles["problem"] == "").sum() == 8
    assert not run.located.exists()


@pytest.mark.parametrize(("rows_per_task", "group_rows", "workers"), [(97, 300, 0), (10**6, 10**6, 0), (700, 900, 2)])
def test_the_plan_does_not_depend_on_how_the_work_is_divided(
    planned, sky, tmp_path, monkeypatch, request, rows_per_task, group_rows, workers
):
    monkeypatch.setattr(planning, "GROUP_ROWS", group_rows)
    monkeypatch.setattr(planning, "SHARE_ROWS", group_rows)
    run, told = RunDirectory(tmp_path), []
    client = distributed.Client(request.getfixturevalue("scheduler")) if workers else None
    try:
        planning.make_plan(
            config(sky, rows_per_task=rows_per_task), run, client, report=lambda *fact: told.append(fact)
        )
    finally:
        if client is not None:
            client.close()
    assert contents(run) == contents(planned[0])
    assert [name for name, done, total in told if done == total] == ["locate", "unique", "targets"]


def test_tiles_from_their_headers(planned, sky, tmp_path, monkeypatch):
    """Without an index; the corrupt tile is then nowhere, and what only it holds is outside."""
    run = RunDirectory(tmp_path)
    monkeypatch.setattr(planning, "_HEADERS", 4)
    planning.make_plan(config(sky, images={"index": None}), run)
    ours, theirs = all_targets(run).set_index("object_id"), all_targets(planned[0]).set_index("object_id")
    elsewhere = theirs["tile"] != "T02"
    pd.testing.assert_frame_equal(ours.loc[theirs.index][elsewhere], theirs[elsewhere])
    assert "T02" not in set(ours["tile"])


def test_limit(planned, sky, tmp_path):
    run = RunDirectory(tmp_path)
    result = planning.make_plan(config(sky), run, limit=300)
    pd.testing.assert_frame_equal(all_targets(run), all_targets(planned[0]).iloc[:300])
    assert (result.facts["planned"], result.facts["limit"]) == (300, 300)
    assert result.cut_flow == planned[1].cut_flow
    assert pd.read_parquet(run.tiles)["n_targets"].sum() == 300
    more = planning.make_plan(config(sky), run, limit=10**6).facts
    assert more == {**planned[1].facts, "limit": 10**6}


def test_the_catalogue_may_name_the_tiles(sky, tmp_path):
    frame = pd.read_parquet(sky / "cat-0.parquet").assign(brick="T11 ")
    frame.loc[frame.index[10:], "brick"] = "nowhere"
    frame.loc[frame.index[-500:], "brick"] = None
    frame.to_parquet(tmp_path / "cat.parquet")
    run = RunDirectory(tmp_path / "run")
    cfg = config(
        sky, files=[str(tmp_path / "cat.parquet")], tile_column="brick", selection=Selection(cuts={"all": "dec < 90"})
    )
    result = planning.make_plan(cfg, run)
    targets = all_targets(run)
    assert targets["tile"].value_counts().drop(["nowhere", ""]).to_dict() == {"T11": 10}
    assert targets["x"].notna().sum() == 10, "wherever on the sky they are"
    assert result.facts["outside"] == (targets["tile"] == "").sum() == 500
    assert result.facts["n_tiles"] == 2


def test_text_identifiers_and_few_columns(sky, tmp_path):
    run = RunDirectory(tmp_path)
    chosen = Selection(cuts={"red": "mag_g > 20"}, keep=[])
    result = planning.make_plan(config(sky, id_column=["kind", "object_id"], selection=chosen), run)
    targets = all_targets(run)
    assert list(targets.columns) == ["object_id", "ra", "dec", "tile", "x", "y"]
    assert targets["object_id"].str.fullmatch(r"(DEV|PSF)-10+\d+").all()
    assert result.facts["object_id"] == "<U17"


# ---- what is refused


def refused(kind, cfg, run, **options) -> str:
    with pytest.raises(kind) as caught:
        planning.make_plan(cfg, run, **options)
    assert not run.partitions.exists()
    assert not run.located.exists()
    return str(caught.value)


def test_a_selection_of_nothing(sky, tmp_path):
    chosen = Selection(cuts={"red": "mag_g > mag_r", "bright": "mag_r < 10"})
    assert refused(SelectionError, config(sky, selection=chosen), RunDirectory(tmp_path)).startswith(
        "cut 'bright' leaves none of the 4,000 objects of the catalogue. Widen it, or see whether columns, units and "
        "catalogue.missing are right.\n  cut              kept  removed  fraction\n"
        "  valid position  3,996        4    0.9990\n"
    )


def test_a_selection_that_cannot_be_evaluated_is_refused_before_anything_is_touched(planned, sky, tmp_path):
    run = RunDirectory(tmp_path)
    planning.make_plan(config(sky), run)
    with pytest.raises(SelectionError) as caught:
        planning.make_plan(config(sky, selection=Selection(cuts={"red": "g_i > 1"})), run)
    assert str(caught.value) == (
        "cut 'red' uses 'g_i', which is neither a column of cat-0.parquet nor defined. Defined: mag_g, mag_r, kind, "
        "zone."
    )
    assert contents(run) == contents(planned[0])


def test_identifiers_that_occur_twice(sky, tmp_path):
    files = [f"{sky}/cat-0.parquet", f"{sky}/cat-1.parquet", f"{tmp_path}/again.parquet"]
    again = pd.read_parquet(files[1]).iloc[10:40]
    again.to_parquet(files[2])
    cfg = config(sky, files=files, selection=Selection(cuts={"all": "dec < 90"}))
    text = refused(CatalogueError, cfg, RunDirectory(tmp_path / "run"))
    ids = sorted(again["object_id"])
    first = "; ".join(f"{i} (in cat-1.parquet, again.parquet)" for i in ids[:3])
    assert text == (
        f"catalogue.id_column: of the 4,026 selected objects' identifiers, 30 occur more than once: {first}; and "
        "27 more. Name a column, or a list of columns, that is unique, or add a cut that keeps one row of each."
    )


def test_rows_that_came_or_went_are_noticed(sky, tmp_path, monkeypatch):
    contents = planning.catalogue.survey(config(sky).catalogue)
    monkeypatch.setattr(planning.catalogue, "survey", lambda _: replace(contents, rows=4001))
    assert refused(CatalogueError, config(sky), RunDirectory(tmp_path)) == (
        "catalogue.files: 4,000 rows were read, but the files' headers say 4,001. Did the files change "
        "meanwhile? Run again."
    )


def workers_of(memory: int | None, **more) -> SimpleNamespace:
    """A client of one worker."""
    workers = {"one": {"memory_limit": memory, "nthreads": 1, "resources": {}}}
    return SimpleNamespace(scheduler_info=lambda n_workers: {"workers": workers}, **more)


@pytest.mark.parametrize("rows_per_task", [2_000_000, 1_000_000])
def test_a_plan_that_does_not_fit_is_refused_before_it_starts(sky, tmp_path, monkeypatch, rows_per_task):
    contents = planning.catalogue.survey(config(sky).catalogue)
    large = (catalogue.Slice("/s/cat.parquet", 0, 2_000_000),)
    monkeypatch.setattr(planning.catalogue, "survey", lambda _: replace(contents, slices=large))
    client = workers_of(2**30)  # which fails if it is asked for more than its workers
    text = refused(
        ResourceError, config(sky, rows_per_task=rows_per_task), RunDirectory(tmp_path / "run"), client=client
    )
    ways = "Lower catalogue.rows_per_task"
    if rows_per_task < 2_000_000:
        ways = "Write /s/cat.parquet anew with smaller row groups, which are read whole"
    assert text == (
        "the plan needs 1.4 GiB a worker (an idle worker 0.3 GiB, 2,000,000 rows at a time 1.1 GiB, 9 tiles 0.0 GiB) but a "
        f"worker has 1.0 GiB. {ways}, have fewer workers (resources.workers, or the profile), or give them more memory "
        "(resources.memory, or the profile)."
    )


def test_a_tile_of_too_many_targets_is_refused(sky):
    asked, columns = (
        config(sky),
        planning.catalogue.empty(config(sky).catalogue, planning.catalogue.survey(config(sky).catalogue)),
    )
    memory.check_groups(asked, 500_000, "T00", columns, 0, workers_of(2**30))
    memory.check_groups(asked, 10**9, "T00", columns, 0, workers_of(None))
    with pytest.raises(ResourceError) as caught:
        memory.check_groups(asked, 5_000_000, "T00", columns, 9, workers_of(2**30))
    assert str(caught.value) == (
        "the plan needs 2.3 GiB a worker (an idle worker 0.3 GiB, 5,000,000 targets at a time 2.0 GiB, 9 tiles 0.0 GiB) but a "
        "worker has 1.0 GiB. Targets of a tile are sorted together, here those of T00: keep fewer columns (selection.keep), have "
        "fewer workers (resources.workers, or the profile), or give them more memory (resources.memory, or the profile)."
    )


def test_a_task_that_kills_its_worker(sky, tmp_path, monkeypatch):
    def as_completed(futures):
        yield from ()
        raise distributed.KilledWorker("locate-00003", None, 3)

    monkeypatch.setattr(distributed, "as_completed", as_completed)
    client = workers_of(None, compute=lambda tasks, retries: tasks, cancel=lambda futures: None)
    assert refused(ResourceError, config(sky), RunDirectory(tmp_path), client=client) == (
        "plan: the task locate-00003 killed its worker again and again, as it does where memory is short. Raise "
        "resources.memory, have fewer resources.workers, or lower catalogue.rows_per_task."
    )


def test_another_sky(sky, tmp_path):
    text = refused(ImageError, config(sky, ra_column="mag_g"), RunDirectory(tmp_path))
    assert text.startswith("images: none of the ")
    assert f"lies on one of the 9 tiles of {sky}/index.csv (declination 39.3" in text
    assert text.endswith("Check that catalogue and images are of the same sky and that positions are in degrees.")


def test_no_tile_that_can_be_read(sky, tmp_path):
    text = refused(ImageError, config(sky, images={"hdu": 7}), RunDirectory(tmp_path))
    assert text.startswith("images.files: none of the 9 tiles with targets can be read. The first: ")
    assert text.endswith("Check images.files and images.hdu.")


def test_a_failure_leaves_no_plan_and_the_next_call_plans(planned, sky, tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    planning.make_plan(config(sky, partition=512), run)

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(planning.plan, "write_targets", fail)
        with pytest.raises(OSError, match="No space left"):
            planning.make_plan(config(sky), run)
    assert not run.partitions.exists()
    planning.make_plan(config(sky), run)
    assert contents(run) == contents(planned[0])


def test_an_error_on_a_worker_comes_back_as_it_is(sky, tmp_path, scheduler):
    with distributed.Client(scheduler) as client:
        cfg = config(sky, selection=Selection(cuts={"bits": "(mag_r & 1) == 1"}))
        text = refused(SelectionError, cfg, RunDirectory(tmp_path), client=client)
    assert text.startswith("cut 'bits': 'mag_r & 1' (character 2 of '(mag_r & 1) == 1') needs whole numbers, not ")


# ---- real surveys


def test_pixels_agree_with_those_of_the_legacy_pipeline(survey_data, tmp_path):
    folder = survey_data / "legacysurvey/pipeline_bricks"
    cfg = config(
        folder,
        files=[f"{folder}/tractor/*/tractor-*.fits"],
        id_column=["release", "brickid", "objid"],
        columns={"bx": "bx", "by": "by", "brick": "brickname"},
        selection=Selection(cuts={"primary": "bx > 0"}),
        images={
            "files": f"{folder}/coadd/{{tile:.3}}/{{tile}}/legacysurvey-{{tile}}-image-{{band}}.fits.fz",
            "index": None,
        },
    )
    run = RunDirectory(tmp_path)
    result = planning.make_plan(cfg, run)
    targets = all_targets(run)
    assert (targets["tile"] == targets["brick"]).all()
    assert len(targets) == result.facts["catalogue"] == 38
    np.testing.assert_allclose(targets["x"], targets["bx"], atol=2e-3)
    np.testing.assert_allclose(targets["y"], targets["by"], atol=2e-3)
    assert result.facts["pixel_scale"] == pytest.approx(0.262, rel=1e-6)
    assert result.warnings == []


@pytest.mark.parametrize("tile_column", [None, "TILENAME"])
def test_pixels_agree_with_those_of_the_des_catalogue(survey_data, tmp_path, tile_column):
    folder = survey_data / "des/des_like_tile"
    cfg = config(
        folder,
        files=[f"{folder}/*_dr2_main_like.csv"],
        id_column="COADD_OBJECT_ID",
        tile_column=tile_column,
        columns={
            "xwin": "XWIN_IMAGE",
            "ywin": "YWIN_IMAGE",
            "mag_g": "MAG_AUTO_G",
            "mag_r": "MAG_AUTO_R",
            "kind": "FLAGS_G",
        },
        selection=Selection(cuts={"red": "mag_g - mag_r > 0.5"}),
        images={"files": f"{folder}/{{tile}}_r*_{{band}}.fits.fz", "hdu": "SCI", "index": None},
    )
    run = RunDirectory(tmp_path)
    planning.make_plan(cfg, run)
    targets = all_targets(run)
    assert len(targets) > 500
    assert set(targets["tile"]) == {"DES0900-0030"}
    np.testing.assert_allclose(targets["x"], targets["xwin"] - 1, atol=2e-3)
    np.testing.assert_allclose(targets["y"], targets["ywin"] - 1, atol=2e-3)


@pytest.fixture
def cards(sky, tmp_path):
    """The sky with cards in its headers: of all tiles, and of some."""

    def make(some: dict[str, dict], **all_tiles) -> Path:
        folder = tmp_path / "sky"
        folder.mkdir()
        for path in sky.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
            if path.suffix == ".fits" and not path.name.startswith("T02"):
                with fits.open(folder / path.name, mode="update") as file:
                    file[1].header.update(all_tiles | some.get(path.stem, {}))
        return folder

    return make


def facts_of(folder, tmp_path, images=None, **cutouts):
    asked = config(folder, images)
    asked = asked.model_copy(update={"cutouts": asked.cutouts.model_copy(update=cutouts)})
    return planning.make_plan(asked, RunDirectory(tmp_path / "run"))


def test_the_zero_point_of_headers_counts_where_none_is_given(cards, tmp_path):
    folder = cards({f"T{i}{j}_r": {"MAGZERO": 25.0} for i in range(3) for j in range(3)}, MAGZERO=30.0, BUNIT="adu")
    result = facts_of(folder, tmp_path)
    assert result.facts["flux"] == {
        "zero_point": {"g": 30.0, "r": 25.0}, "unit": "adu", "from_headers": ["g", "r"], "differ": [],
    }  # fmt: skip
    result = facts_of(folder, tmp_path, {"zero_point": {"r": 25.0}}, zero_point=22.5)
    assert result.facts["flux"]["zero_point"] == {"g": 30.0, "r": 25.0}
    assert result.facts["flux"]["from_headers"] == ["g"]


def test_zero_points_that_differ_from_tile_to_tile(cards, tmp_path):
    folder = cards({"T00_g": {"MAGZERO": 29.0}, "T22_g": {"MAGZERO": 28.0}}, MAGZERO=30.0)
    result = facts_of(folder, tmp_path)
    assert result.facts["flux"]["zero_point"] == {"g": None, "r": 30.0}
    assert (
        "the zero points of tiles differ in g, so a pixel means another flux on another tile; 'survey_scan check' says what "
        "they are"
    ) in result.warnings
    with pytest.raises(ImageError) as caught:
        facts_of(folder, tmp_path, zero_point=22.5)
    assert str(caught.value) == (
        "cutouts.zero_point is 22.5, but the zero point of the images is not known in g: neither images.zero_point gives it, nor "
        "do the headers agree in one. Give images.zero_point, one number or one a band, or leave cutouts.zero_point out."
    )


def test_a_survey_of_another_kind_is_refused_before_anything_is_planned(cards, tmp_path):
    folder = cards({}, MAGZERO=30.0, FILTER="r")
    with pytest.raises(ImageError) as caught:
        facts_of(folder, tmp_path, {"zero_point": 22.5, "pixel_scale": 0.263})
    keys = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert keys == ["images.bands", "images.pixel_scale", "images.zero_point"]
    run = RunDirectory(tmp_path / "run")
    assert not run.partitions.exists() and not run.targets_folder.exists() and not run.located.exists()


def test_single_tiles_that_differ_are_planned(cards, tmp_path):
    folder = cards({"T11_g": {"MAGZERO": 25.0}, "T11_r": {"MAGZERO": 25.0}}, MAGZERO=30.0)
    assert facts_of(folder, tmp_path, {"zero_point": 30.0}).facts["flux"]["differ"] == []


def test_widths_of_the_psf_are_kept_with_the_tiles(cards, tmp_path):
    folder = cards({"T00_g": {"PSF_FWHM": (1.25, "[arcsec]")}}, PSF_FWHM=(2.0, "pixels"))
    facts_of(folder, tmp_path)
    tiles = pd.read_parquet(RunDirectory(tmp_path / "run").tiles).set_index("tile")
    assert tiles.loc["T00", "psf_g"] == 1.25
    assert tiles.loc["T11", "psf_g"] == pytest.approx(60, rel=1e-3)
    assert tiles.loc["T02", ["psf_g", "psf_r"]].isna().all() and np.isnan(tiles.loc["T20", "psf_r"])
