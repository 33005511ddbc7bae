"""What 8 and 320 million objects would take on one Perlmutter GPU node: measured rates and assumptions, put together.

A node has four A100s and 64 cores. What can be measured without one (cutouts, plan, ranking, bytes, files) is taken from
``benchmarks/kept``; how fast an A100 scores was not measured and is assumed, as :func:`scored_a_second` says.
"""

from dataclasses import dataclass

from survey_scan.cluster import profile
from survey_scan.cluster.projection import Projection, Rates, Workers, project
from survey_scan.engine.forecast import workers_of

#: Bytes a second that one node is taken to read from, or write to, the scratch file system.
DISK = 5e9

#: Floating-point operations a second of an A100 at its best, TF32 and float16 with float32 sums (NVIDIA's data sheet).
PEAK = {"tf32": 156e12, "mixed_float16": 312e12}

#: Share of it that ViT-B/16 is taken to reach.
SHARE = 0.25

#: Operations of ViT-B/16 at 224 x 224, two a multiplication and addition (17.6 G of these, Dosovitskiy et al. 2021).
VIT = 35.2e9

#: Seconds of CMU DeepLens for a 45 x 45 image on a Titan X, published by Lanusse et al. 2018.
TITAN_X = 350e-6

#: Memory bandwidth of an A100 of 40 GB over that of a Titan X (Pascal): 1,555 and 480 GB/s by NVIDIA's data sheets.
BANDWIDTH = 1555 / 480

#: Bytes of a survey's images in three bands: 10,169 DES tiles of 81.5 MB a band (a tile made with DES' compression settings).
IMAGES = 10_169 * 3 * 81.5e6

#: Published: hours of a scan of 320 million images by a ViT (González et al. 2025).
PUBLISHED = {"with high-throughput computing": 72.0, "one image after the other": 39_420.0}


@dataclass(frozen=True)
class Search:
    """What is scanned, with what.

    Parameters
    ----------
    name : str
        The network.
    size : int
        Pixels a side of its cutouts of three bands.
    precision : str
        Of the network.
    scores : float
        Cutouts/s of an A100.
    why : str
        Where that is from.
    """

    name: str
    size: int
    precision: str
    scores: float
    why: str


def deeplens_operations(size: int, bands: int = 3) -> float:
    """Operations of CMU DeepLens' convolutions for one cutout, two a multiplication and addition.

    Layer by layer as :mod:`survey_scan.models.architectures` builds it: 7 x 7 to 32 maps, then five stages of three
    bottlenecks (1 x 1, 3 x 3, 1 x 1), each stage but the first at half the side.
    """
    side, channels = size, 32
    total = side**2 * 49 * bands * 32
    for stage in range(5):
        middle, out = 16 * 2**stage, 32 * 2**stage
        for block in range(3):
            if stage and not block:
                side = -(-side // 2)
            shortcut = channels * out if stage and not block else 0
            total += side**2 * (channels * middle + 9 * middle**2 + middle * out + shortcut)
            channels = out
    return 2.0 * total


def searches() -> list[Search]:
    """The published networks, at the speed an A100 is assumed to have."""
    found = [
        Search("ViT-B/16", 45, name, SHARE * peak / VIT, f"{SHARE:.0%} of {peak / 1e12:.0f} Tflop/s")
        for name, peak in PEAK.items()
    ]
    small = BANDWIDTH / TITAN_X
    for size in (45, 101):
        scores = small * deeplens_operations(45) / deeplens_operations(size)
        why = f"350 µs on a Titan X, {BANDWIDTH:.1f} times its memory bandwidth"
        if size != 45:
            why += f", {deeplens_operations(size) / deeplens_operations(45):.1f} times the operations"
        found.append(Search("CMU DeepLens", size, "float32", scores, why))
    return found


def workers() -> Workers:
    """Those of one node, by the profile perlmutter-regular."""
    found = profile.load("perlmutter-regular")
    assert isinstance(found, profile.SlurmAllocation) and found.batch is not None
    return workers_of(found, found.batch.model_copy(update={"nodes": 1}))


def node(targets: int, search: Search, cutouts: float, dtype: str) -> Projection:
    """What a scan takes on one node, by the program's own projection; ``cutouts`` is the rate of one core."""
    rates = Rates(cutouts, search.scores, "NVIDIA A100", "assumed")
    return project(targets, 0, search.size, 3, dtype, 4096, workers(), rates, None)
