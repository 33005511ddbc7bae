"""Make docs/performance.md, and its pictures, of what the benchmarks kept.

    python benchmarks/page.py

Every number on the page comes from ``benchmarks/kept/SUBJECT.json`` (``python benchmarks/....py --keep``) or, for a Perlmutter
node, from :mod:`perlmutter`, which says what it assumes.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import kept
import perlmutter
import pictures

DOCS = Path(__file__).parent.parent / "docs"

Found = dict[str, Any]

#: What was wanted of a subject: in words, the limit, what was found, and whether that is met.
Wanted = tuple[str, str, str, bool]

#: Of a subject: what was wanted, and its part of the page.
Section = tuple[list[Wanted], list[str]]


def most(words: str, limit: float, found: float, unit: str = "") -> Wanted:
    """At most so much is wanted."""
    return words, f"≤ {limit:g}{unit}", f"{found:,.3g}{unit}" if found < 1000 else f"{found:,.0f}{unit}", found <= limit


def least(words: str, limit: float, found: float, unit: str = "") -> Wanted:
    """At least so much is wanted."""
    return words, f"≥ {limit:g}{unit}", f"{found:,.3g}{unit}", found >= limit


def table(head: list[str], *body: list[str]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)] + [""]


def points(found: list[dict[str, float]], unit: str = "") -> list[str]:
    """A curve as a table."""
    names = list(found[0])
    rows = [
        [f"{point['n']:,}", *(f"{point[name]:,.4g}" if name in point else "" for name in names[1:])] for point in found
    ]
    return table(["N", *(f"{name}{unit}" for name in names[1:])], *rows)


def curve(subject: str, found: list[dict[str, float]], x: str, y: str, ours: list[str]) -> list[str]:
    """The picture of a cost against N."""
    name = f"performance-{subject}.png"
    pictures.curves(DOCS / name, found, x, y, ours)
    return [f"![{y}, against {x}]({name})", ""]


def select(found: Found) -> Section:
    ratios = found["ratios"]
    text = [
        f"A sweep-like table of {found['table']['columns']} columns, {found['table']['read']} of them used, and a cut in colour. A FITS "
        "table's rows lie one after the other, so that few columns take reading all of the file.",
        "",
        *curve("select", found["curve"], "rows", "µs of processor time a row", ["fits", "parquet"]),
        *points(found["curve"], ", µs"),
        f"Over reading the bytes alone: FITS {ratios['over the bytes alone']['fits']:g}, Parquet "
        f"{ratios['over the bytes alone']['parquet']:g} (over decoding the columns {ratios['over decoding']['parquet']:g}). Most "
        f"resident memory with {found['peak_mb'][-1]['n']:,} rows: FITS {found['peak_mb'][-1]['fits']:,.0f} MB, Parquet "
        f"{found['peak_mb'][-1]['parquet']:,.0f} MB, astropy {found['peak_mb'][-1]['astropy']:,.0f} MB.",
        "",
    ]
    return [
        least("faster than astropy's `Table.read` and the same cut", 10, ratios["faster than astropy"]["fits"])
    ], text


def plan(found: Found) -> Section:
    peaks = found["peak_mb"][-1]
    over = max(found["large_over_small"].values())
    large, small = found["curve"][-1]["n"], found["curve"][0]["n"]
    wanted = [
        most(f"cost of a target at {large:,} over that at {small:,}", 1.5, over),
        *(
            most(f"most memory of {who}", 1024, max(v for name, v in peaks.items() if name.startswith(kind)), " MB")
            for kind, who in (("worker", "a worker, which may have 1 GiB"), ("driver", "the driver"))
        ),
    ]
    text = [
        "Located, counted, divided and written as partitions by tile and row, out of core, on two workers; the catalogue in the sky's "
        "order, or in none (`shuffled`).",
        "",
        *curve("plan", found["curve"], "targets", "µs of processor time a target", ["sky", "shuffled"]),
        *points(found["curve"], ", µs"),
        f"A loop over rows takes {found['peer_us']['per_row']:,.0f} µs a target, one over tiles {found['peer_us']['per_tile']:,.0f}.",
        "",
    ]
    return wanted, text


def score(found: Found) -> Section:
    rows = [
        [one["network"], f"{one['parameters']:,}", f"{one['targets_per_second']['bare']:,.0f}",
         f"{one['scoring_of_bare']['processor']:.2f}", f"{one['predict_of_bare']['processor']:.2f}"]
        for one in found["networks"]
    ]  # fmt: skip
    text = [
        "One core, from the store to a score table, against the network in a `tf.function` on pixels in memory (`bare`), and "
        "`model.predict` in a loop. `feed` is scoring with a network that takes no time.",
        "",
        *table(["network", "parameters", "bare, targets/s", "scoring of bare", "`predict` of bare"], *rows),
        *curve("score", found["curve"], "targets", "µs of processor time a target", ["scoring", "feed"]),
    ]
    return [], text


def scan(found: Found) -> Section:
    clusters = {"shared": "two workers that do both stages", "pools": "one worker that cuts, one that scores"}
    pictures.timelines(DOCS / "performance-scan.png", {clusters[name]: found[name]["timeline"] for name in clusters})
    wanted = [
        least(
            f"whole scan over its slower stage alone, {clusters[name]}",
            found["wanted"],
            found[name]["whole_against_slower_stage"],
        )
        for name in clusters
    ]
    rows = [
        [clusters[name], *(f"{found[name]['targets_per_second'][way]:,}" for way in ("whole", "cutouts", "scores")),
         f"{found[name]['most_on_shared_cores']:.2f}"]
        for name in clusters
    ]  # fmt: skip
    text = [
        "45² × 3 cutouts, a network of the size of CMU DeepLens. The last column is what both stages one after the other would reach of the "
        "slower one; each scan takes about a second besides, for Dask's report of it.",
        "",
        *table(["workers", "whole, targets/s", "cutouts alone", "scores alone", "one after the other"], *rows),
        "![When each task began and ended](performance-scan.png)",
        "",
    ]
    return wanted, text


def rank(found: Found) -> Section:
    wanted = [
        most("the best over reading the column of logits alone", 1.3, found["over_column"]["best"]),
        most("the best and every tile's quantiles, over the same", 1.3, found["over_column"]["rank"]),
        most("most memory", 1000, found["wanted"]["at most 1000 MB"], " MB"),
    ]
    text = [
        f"The best {found['options']['top']:,}, of score tables of 4,096 targets. `column` reads the logits of each table and nothing "
        "else, by the quickest call there is; `sparse` ranks with as few of the best a table as there are in 320 million.",
        "",
        *curve("rank", found["curve"], "scores", "ns of processor time a score", ["rank", "best"]),
        *points(found["curve"], ", ns"),
    ]
    return wanted, text


def resume(found: Found) -> Section:
    seconds, records = next(iter(found["wanted"].values())), found["curve"][-1]["n"]
    text = [
        f"What is finished is found out from records: {found['us_a_record']:g} µs of processor time each, "
        f"{found['standing_over_bytes']:g} times reading their bytes and nothing else.",
        "",
        *curve("resume", found["curve"], "records", "µs of processor time a record", ["standing"]),
    ]
    return [
        most(
            f"records of {records // 2:,} finished partitions of {records:,} recognised, processor time",
            15,
            seconds,
            " s",
        )
    ], text


def driver(found: Found) -> Section:
    large, small = found["options"]["partitions"], found["options"]["small"]
    wanted = [
        most(f"driver and scheduler grow over {large:,} partitions", 300, found["growth_mb_both"], " MB"),
        most(f"cost of a partition at {large:,} over that at {small:,}", 1.2, found["large_over_small"]["cpu"]),
    ]
    text = [
        f"{large:,} partitions of two stages that do nothing but write their records, on two workers: what driver and scheduler take.",
        "",
        *curve("driver", found["curve"], "partitions", "µs of processor time a partition", ["scan"]),
        *points(found["curve"], ", µs"),
        "Growth of resident memory over what it was before, MB:",
        "",
        *points(found["growth_curve_mb"]),
    ]
    return wanted, text


def projection(found: Found) -> Section:
    ratios = found["projected_over_took"]
    rows = [
        [name, f"{one['projected_seconds']:g}", f"{one['took_seconds']:g}", f"{one['projected_over_took']:.2f}"]
        for name, ones in found["rounds"].items()
        for one in ones
    ]
    low, high = found["wanted"]
    text = [
        "`survey_scan plan` says what `survey_scan run` will take, by a scan of a few partitions; seconds of the whole command.",
        "",
        *table(["scan", "projected, s", "took, s", "ratio"], *rows),
    ]
    wanted = [
        (f"projected over taken, {name}", f"{low:g} to {high:g}", f"{ratio:.2f}", low <= ratio <= high)
        for name, ratio in ratios.items()
    ]
    return wanted, text


#: A part of a function's name in a profile → what it does.
FUNCTIONS = {
    "native.py": "the part in C: half of it takes bits apart into whole numbers, half makes them pixels in their windows, band after band",
    "_io.BufferedWriter": "the kernel copies the shard into fresh pages of its cache",
    "few.py encoded": "bitshuffle and LZ4 of int16 pixels",
    "_encode": "bitshuffle and LZ4 of int16 pixels",
    "_in_c": "peaks, division and rounding of int16 pixels, in C",
    "quantisation.py quantise": "division and rounding of int16 pixels",
    "_peak": "largest pixel of each cutout and band",
    "ufunc": "largest pixel of each cutout and band",
    "crc32c": "checksums of the store's chunks",
    "fsync": "the shard is flushed to disk",
    "diff": "noise along the borders of int16 cutouts",
    "partition": "noise along the borders of int16 cutouts",
    "full": "memory for the partition's pixels, once a worker",
}


def explained(function: str) -> str:
    """What a function of the profile does."""
    return next((text for part, text in FUNCTIONS.items() if part in function), "")


def cutouts(found: Found) -> Section:
    cases, ratio = found["cases"], lambda case, name: found["cases"][case]["ratios"][name]
    best = {
        case: max(("float32", "int16"), key=lambda d, c=case: cases[c]["cutouts_per_cpu_second"][f"ours-{d}"])
        for case in cases
    }
    wanted = []
    for size, times in ((64, 3.5), (101, 4.0)):
        case, plain = f"des-24000-{size}", f"des-plain-24000-{size}"
        for dtype in ("float32", "int16"):
            wanted.append(
                least(
                    f"of astropy's decoding alone, dense DES-like, {size}², {dtype}",
                    0.75,
                    ratio(case, f"{dtype}_of_decode"),
                )
            )
        for dtype in ("float32", "int16"):
            wanted.append(least(f"times cutana, `.fz`, {size}², {dtype}", times, ratio(case, f"{dtype}_times_cutana")))
        wanted.append(
            least(f"times cutana, plain tiles, {size}², {best[plain]}", 8, ratio(plain, f"{best[plain]}_times_cutana"))
        )
    wanted.append(
        least("times decoding the whole brick, 50 targets, 64², float32", 5, ratio("legacy-50-64", "float32_of_decode"))
    )
    both = found["curve"] + found["curve_des"]
    wanted.append(
        most(
            "reader's own choice over the best fixed way, 5 to 4,000 targets",
            1.2,
            max(row["own_choice_over_best"] for row in both),
        )
    )
    names = ["ours-float32", "ours-int16", "decode", "own_decode", "write", "Cutout2D", "cutana"]
    rows = [
        [
            f"{one['tiles']}, {one['targets']:,} of {one['size']}²",
            *(f"{one['cutouts_per_cpu_second'][n]:,.0f}" if n in one["cutouts_per_cpu_second"] else "" for n in names),
        ]
        for one in cases.values()
    ]
    shown = ("n", "own_choice", "library_whole", "library_rows", "library_sections")
    drawn = [{name.replace("library_", ""): row[name] for name in shown if name in row} for row in found["curve"]]
    drawn = [{name: row.get(name, float("nan")) for name in drawn[0] | drawn[-1]} for row in drawn]
    text = [
        "Three bands, one core, store included; cutouts/s of processor time. `decode` is astropy decoding the images and nothing else, `own_decode` our own decoder, `write` writing as many bytes as float32 takes and nothing else.",
        "",
        *table(["tile", *names], *rows),
        "The cost of a target against how many of them lie on one brick (64², without a store), by the way the reader chooses and by each fixed way without our decoder:",
        "",
        *curve("cutouts", drawn, "targets on a brick", "µs of processor time a target", ["own_choice"]),
        "Where cutting and storing a dense DES-like tile spends its time:",
        "",
        *table(
            ["case", "function", "share", "what it does"],
            *(
                [one["case"], f"`{one['function']}`", f"{one['share']:.0%}", explained(one["function"])]
                for one in found["profile"]
                if one["share"] >= 0.03
            ),
        ),
    ]
    return wanted, text


def store(found: Found) -> Section:
    names = ["float32", "float16", "int16", "held", "candidates"]
    pixels = [
        [f"{size}²", name, f"{one['bytes']:,.0f}", f"{one['write_us']:.1f}", f"{one['read_us']:.1f}"]
        for size, of in found["pixels"].items()
        for name, one in of.items()
    ]
    rows = [
        [
            one["targets"],
            f"{one['size']}²",
            one["store"],
            one["dtype"],
            f"{one['tb']:,.3g}",
            *(f"{n:,}" for n in one["files_by_partition"].values()),
            f"{one['core_hours']:,.3g}",
        ]
        for one in found["surveys"]
    ]
    sizes = list(found["surveys"][0]["files_by_partition"])
    text = [
        "Microseconds of processor time a cutout of three bands, flushed to disk. `held` is what `cutouts.store: none` does instead of writing, `candidates` writes one in a thousand.",
        "",
        *table(["size", "kept as", "bytes a cutout", "write, µs", "read, µs"], *pixels),
        *curve(
            "store",
            [{name: point[name] for name in point} for point in found["curve"]],
            "targets of a partition",
            "µs a cutout of 45² × 3 to write",
            [n for n in names if n in found["curve"][0]],
        ),
        "What the run directory takes, by arithmetic on what was measured (one cutout in a thousand kept as a candidate), and core-hours of writing:",
        "",
        *table(
            [
                "targets",
                "size",
                "store",
                "dtype",
                "TB",
                *(f"files, {int(n):,} a partition" for n in sizes),
                "core-hours",
            ],
            *rows,
        ),
    ]
    return [], text


def cutting(found: Found) -> dict[int, float]:
    """Cutouts/s of one core by size, int16, dense DES-like tiles."""
    return {size: found["cases"][f"des-24000-{size}"]["cutouts_per_cpu_second"]["ours-int16"] for size in (64, 101)}


def perlmutter_node(all_found: dict[str, Found]) -> list[str]:
    """8 and 320 million objects on one node."""
    rates = cutting(all_found["cutouts"]["result"])
    plan_us = max(value for name, value in all_found["plan"]["result"]["curve"][-1].items() if name != "n")
    crew = perlmutter.workers()
    rows = []
    for targets in (8_000_000, 320_000_000):
        for search in perlmutter.searches():
            rate = rates[64 if search.size <= 64 else 101]
            found = perlmutter.node(targets, search, rate, "int16")
            reading, writing = (n / perlmutter.DISK / 3600 for n in (perlmutter.IMAGES, found.data_bytes))
            parts = {
                "scores": found.scores_hours or 0.0,
                "cutouts": found.cutouts_hours or 0.0,
                "disk": reading + writing,
            }
            hours = max(parts.values()) + targets * plan_us / 3.6e9 / crew.cutouts
            rows.append(
                [f"{targets // 10**6} M", f"{search.name} {search.size}², {search.precision}", f"{search.scores:,.0f}",
                 *(f"{value:.2g}" for value in parts.values()), f"**{hours:.2g}**", max(parts, key=parts.__getitem__),
                 f"{hours * perlmutter.workers().scores:,.2g}", f"{found.data_bytes / 1e12:.2g}", f"{found.files:,}"]
            )  # fmt: skip
    published = " and ".join(f"{hours:,g} h {how}" for how, hours in perlmutter.PUBLISHED.items())
    whys = dict.fromkeys(
        f"{search.name} {search.size}² {search.precision}: {search.why}" for search in perlmutter.searches()
    )
    return [
        "## 8 M and 320 M objects on one Perlmutter GPU node",
        "",
        f"Four A100s, 64 cores: by the profile `perlmutter-regular`, {crew.scores} workers that score and {crew.cutouts} that cut. "
        f"Published for 320 M images: {published} (González et al. 2025, ViT). **Nothing here was measured on such a node**:",
        "",
        f"* cutouts: a core there cuts as many as one here ({rates[64]:,.0f}/s of 64² × 3, taken for 45² too, {rates[101]:,.0f}/s of 101² × "
        "3, int16, dense tiles), and cores do not slow each other;",
        *(f"* scores, assumed: {why};" for why in whys),
        f"* disk: {perlmutter.IMAGES / 1e12:.1f} TB of images are read and the store is written (int16, before compression) at "
        f"{perlmutter.DISK / 1e9:g} GB/s, all at the same time as the rest; with `cutouts.store: none` nothing is written;",
        "* a worker keeps its GPU at work all the time: bringing it pixels takes "
        f"{all_found['score']['result']['curve'][-1]['feed']:.0f} µs of one core a cutout (`feed`, above);",
        f"* the plan takes {plan_us:.2g} µs of processor time a target, as here; ranking and starting take minutes, and are left out.",
        "",
        *table(
            ["objects", "network", "an A100, cutouts/s", "scores, h", "cutouts, h", "disk, h", "altogether, h", "limit", "GPU-hours",
             "store, TB", "files"],
            *rows,
        ),
        "`python benchmarks/gpu.py` on a node measures the assumed ones.",
        "",
    ]  # fmt: skip


SECTIONS: dict[str, Callable[[Found], Section]] = {
    "select": select,
    "plan": plan,
    "cutouts": cutouts,
    "store": store,
    "score": score,
    "scan": scan,
    "rank": rank,
    "resume": resume,
    "driver": driver,
    "projection": projection,
}


def main() -> None:
    """Write the page."""
    all_found = {path.stem: json.loads(path.read_text()) for path in sorted(kept.FOLDER.glob("*.json"))}
    made = {subject: make(all_found[subject]["result"]) for subject, make in SECTIONS.items() if subject in all_found}
    machine = next(iter(all_found.values()))["machine"]
    rows = [
        [f"[{subject}](#{subject})", words, limit, value if met else f"**{value}: not met**"]
        for subject, (wanted, _) in made.items()
        for words, limit, value, met in wanted
    ]
    lines = [
        "# Performance",
        "",
        "Made by `python benchmarks/page.py` of what the benchmarks found and kept (`benchmarks/kept/`), each by the command that its part "
        f"gives, on {machine['cores']} shared cores ({machine['processor']}), {machine['memory_gb']} GB, {machine['system']}, Python "
        f"{machine['python']}, without a GPU. Such a machine is noisy: ratios within one run say more than seconds, and processor time "
        "more than the clock. What was expected of each, and what was learned, is in `benchmarks/README.md`.",
        "",
        *table(["subject", "wanted", "limit", "found"], *rows),
    ]
    for subject, (_, text) in made.items():
        said = all_found[subject]
        load = said["machine"]["load_15_minutes"]
        lines += [f"## {subject}", "", f"`{said['command']}`, {said['measured']}, load {load:g}.", "", *text]
    if {"cutouts", "plan", "score"} <= set(all_found):
        lines += perlmutter_node(all_found)
    (DOCS / "performance.md").write_text("\n".join(lines).rstrip() + "\n")
    print(DOCS / "performance.md")


if __name__ == "__main__":
    main()
