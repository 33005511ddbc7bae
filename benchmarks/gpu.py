r"""A GPU's rates: of bare networks, of the same as scans call them, and of a whole scan that keeps it busy.

    python benchmarks/gpu.py [--keep FILE]                                    # on a machine with one GPU; under 9 minutes
    python benchmarks/gpu.py --networks small45 --precisions float32 --batch 64 --seconds 0.3 --rounds 2 \
        --compare 16 --targets 2048 --survey legacy                           # anywhere, to try the script itself

Prints JSON, and with ``--keep`` writes it after each measurement, so that a kill costs only what is not measured yet.

models      CMU DeepLens' ResNet-46 (45 and 101 pixels) and ViT-B/16, in each precision, images a second: ``bare`` is the Keras
            network compiled by its framework, ``scan`` is ``survey_scan.models.load`` on the saved file; ``resident`` with
            all pixels on the device already and many calls in flight (bare) or one (scan), ``copied`` with each batch
            brought to it before its call. The four take turns. And the scores' differences from the CPU's in float32.
pipelines   ``survey_scan run`` on one GPU worker and CPU workers that cut from DES-like tiles, against the slower of the
            bare resident network and the cutouts alone (as many processes, no Dask), measured before and after each scan:
            ``pipeline_over_slower``, on workers that have loaded the network, and ``with_start``, on new ones.

Networks run on TensorFlow, or on JAX where TensorFlow is not installed. What ``--budget`` leaves no time for is listed
in ``left_out``; what failed has an ``error`` in place of figures, and the exit code is 1.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import gpu_models
import gpu_pipeline

PRECISIONS = ["float32", "tf32", "mixed_float16", "mixed_bfloat16"]

#: Seconds of a scan that is long enough to be told from its start.
SCAN_SECONDS = 20

#: Of the disk's free bytes, and at most, what the cutouts of a scan may take; there is a second store of cutouts alone.
DISK_SHARE, STORE_BYTES = 0.25, 16e9


class Budget:
    """The seconds that are left."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()


def backend_of(wanted: str | None) -> str:
    """TensorFlow, or JAX where it is missing."""
    if wanted:
        return wanted
    if importlib.util.find_spec("tensorflow"):
        return "tensorflow"
    print("TensorFlow is not installed: networks run on JAX.", file=sys.stderr)
    return "jax"


def combinations(networks: list[str], precisions: list[str], first: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is measured, in order: what the pipelines need, then each precision of all networks."""
    rest = [(network, precision) for precision in precisions for network in networks]
    return first + [each for each in rest if each not in first]


def scan_size(rate: float, pixels: int, workers: int, free: float) -> tuple[int, int]:
    """Targets of a scan of some seconds, and of a partition: enough of them for every worker, a multiple of 256."""
    room = min(free * DISK_SHARE, STORE_BYTES) / (pixels**2 * len(gpu_models.BANDS) * 4)
    targets = max(2048, int(min(rate * SCAN_SECONDS, room)))
    return targets, partition_size(targets, workers)


def partition_size(targets: int, workers: int) -> int:
    """At least eight partitions a worker, none of more than 4,096 targets."""
    return min(4096, max(256, targets // (8 * workers) // 256 * 256))


def child(job: dict[str, Any], timeout: float, cpu: bool = False) -> dict[str, Any]:
    """The result of ``gpu_models.py``, or the error it ended with."""
    env = {**os.environ, "KERAS_BACKEND": job["backend"], "TF_CPP_MIN_LOG_LEVEL": "2"}
    if cpu:
        env["CUDA_VISIBLE_DEVICES"] = ""
        env["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, gpu_models.__file__, json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(timeout, 1), env=env)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {timeout:.0f} s"}
    if done.returncode:
        return {"error": (done.stderr.strip() or f"exit code {done.returncode}")[-1500:]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


class Benchmark:
    """All measurements of one call, and the JSON they go into.

    Parameters
    ----------
    options : argparse.Namespace
        The command line.
    folder : Path
        For networks, tiles and scans.
    """

    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder, self.budget = options, folder, Budget(options.budget)
        self.backend = backend_of(options.backend)
        self.result: dict[str, Any] = {
            "benchmark": "gpu",
            "backend": self.backend,
            "device": {"cards": gpu_models.cards(), "used": None, "note": None},
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
            "models": [],
            "pipelines": [],
            "left_out": [],
        }

    def go(self) -> bool:
        """Measure everything; whether all of it succeeded."""
        began = time.monotonic()
        options = self.options
        pipelines = [] if options.skip_pipeline else options.pipelines
        tiles = self._tiles() if pipelines else None
        self._networks()
        if tiles and tiles.wait():
            raise RuntimeError("make_tiles.py failed")
        todo = combinations(options.networks, options.precisions, pipelines)
        for network, precision in todo[: len(pipelines)]:
            self._model(network, precision)
        for network, precision in pipelines:
            self._pipeline(network, precision)
        for network, precision in todo[len(pipelines) :]:
            self._model(network, precision)
        self.result["seconds"] = round(time.monotonic() - began, 1)
        self._keep()
        return not any("error" in each for each in self.result["models"] + self.result["pipelines"])

    def _tiles(self) -> subprocess.Popen[bytes]:
        """Make the tiles beside the networks' files: nothing is measured yet."""
        code = "import sys, make_tiles as m; m.make_tile(sys.argv[1], m.cache_folder())"
        command = [sys.executable, "-c", code, self.options.survey]
        return subprocess.Popen(command, cwd=Path(__file__).parent)

    def _file(self, network: str, suffix: str) -> str:
        return str(self.folder / f"{network}{suffix}")

    def _job(self, task: str, network: str, precision: str = "float32") -> dict[str, Any]:
        options = self.options
        return {
            "task": task, "network": network, "precision": precision, "backend": self.backend, "jit": options.jit,
            "file": self._file(network, ".keras"), "reference": self._file(network, ".npy"), "compare": options.compare,
            "batch": options.batch or gpu_models.NETWORKS[network].batch, "seconds": options.seconds,
            "rounds": options.rounds,
        }  # fmt: skip

    def _networks(self) -> None:
        """The networks' files, and their logits on the CPU."""
        files = {network: self._file(network, ".keras") for network in self.options.networks}
        jobs: list[dict[str, Any]] = [{"task": "make", "files": files, "backend": self.backend}]
        for network in self.options.networks:
            job = self._job("reference", network)
            jobs.append({**job, "batch": min(job["batch"], 64), "jit": False})
        for job in jobs:
            done = child(job, self.budget.left(), cpu=True)
            if "error" in done:
                raise RuntimeError(f"{job['task']} of {job.get('network', 'all networks')}: {done['error']}")

    def _model(self, network: str, precision: str) -> None:
        name = {"network": network, "precision": precision}
        if self.budget.left() < self._longest():
            self.result["left_out"].append(name)
            return
        began = time.monotonic()
        found = child(self._job("measure", network, precision), self.budget.left())
        self.result["models"].append({**name, **found, "seconds": round(time.monotonic() - began, 1)})
        if "device" in found:
            self._device(found["device"])
        self._keep()

    def _longest(self) -> float:
        """Seconds the longest measurement of a network took so far."""
        return max((each["seconds"] for each in self.result["models"]), default=0.0)

    def _device(self, used: str) -> None:
        device = self.result["device"]
        device["used"] = used
        if used == "CPU":
            seen = f", though nvidia-smi lists {device['cards'][0]['name']}" if device["cards"] else ""
            device["note"] = f"{self.backend} used no GPU{seen}: these are not figures of a GPU and say nothing of one"

    def _pipeline(self, network: str, precision: str) -> None:
        name = {"network": network, "precision": precision}
        measured = [each for each in self.result["models"] if {**each, **name} == each and "error" not in each]
        if not measured:
            self.result["left_out"].append({"pipeline": True, **name})
            return
        options, kind = self.options, gpu_models.NETWORKS[network]
        bare = measured[0]["images_per_second"]["bare_resident"]
        cores = self.result["cores"]
        gpu_cores = options.gpu_cores or max(1, min(4, cores // 4))
        workers = options.workers or max(1, cores - gpu_cores - 1)
        # About what a core cuts (see the section cutouts), for the length of the scan alone.
        targets, partition = scan_size(
            min(bare, 4000.0 * workers), kind.size, workers, shutil.disk_usage(self.folder).free
        )
        if options.targets:
            targets, partition = options.targets, partition_size(options.targets, workers)
        model = {"batch_size": options.batch or kind.batch, "backend": self.backend, "jit": options.jit}
        model |= {"precision": precision, **({} if kind.column is None else {"column": kind.column})}
        folder = self.folder / f"scan-{network}-{precision}"
        job = gpu_pipeline.Job(
            folder, Path(self._file(network, ".keras")), model, kind.size, targets, partition, options.survey, workers,
            gpu_cores, self.result["device"]["used"] != "CPU", options.scans, max(self.budget.left(), 60),
        )  # fmt: skip
        began = time.monotonic()
        try:
            gpu_pipeline.make_survey(job)
            found = gpu_pipeline.measure(job, bare)
        except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
            found = {"error": str(error)[-2000:]}
        shutil.rmtree(folder, ignore_errors=True)  # its disk space is the next one's
        self.result["pipelines"].append({**name, **found, "seconds": round(time.monotonic() - began, 1)})
        self._keep()

    def _keep(self) -> None:
        if self.options.keep:
            self.options.keep.write_text(json.dumps(self.result, indent=1) + "\n")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def listed(allowed: list[str]) -> Any:
        def split(text: str) -> list[str]:
            if unknown := sorted(set(text.split(",")) - set(allowed)):
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(allowed)}")
            return text.split(",")

        return split

    def pairs(text: str) -> list[tuple[str, str]]:
        found = [tuple(word.split(":")) for word in text.split(",")]
        if any(len(p) != 2 or p[0] not in gpu_models.NETWORKS or p[1] not in PRECISIONS for p in found):
            raise argparse.ArgumentTypeError(f"{text}: give NETWORK:PRECISION, such as deeplens45:float32")
        return [(network, precision) for network, precision in found]

    networks = list(gpu_models.NETWORKS)
    parser.add_argument("--networks", type=listed(networks), default=networks[:3], help=",".join(networks))
    parser.add_argument("--precisions", type=listed(PRECISIONS), default=PRECISIONS, help=",".join(PRECISIONS))
    parser.add_argument("--backend", choices=["tensorflow", "jax"], help="default: TensorFlow, or JAX without it")
    parser.add_argument("--jit", action="store_true", help="compile with XLA (on JAX it always is)")
    parser.add_argument("--batch", type=int, help="default: what fills a large GPU, by network")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each of the four ways, all rounds together")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way")
    parser.add_argument("--compare", type=int, default=256, help="cutouts whose scores are compared with the CPU's")
    parser.add_argument("--skip-pipeline", action="store_true")
    parser.add_argument("--pipelines", type=pairs, help="NETWORK:PRECISION,... (default: the first network in float32)")
    parser.add_argument("--targets", type=int, help=f"of a scan; default: what takes about {SCAN_SECONDS} s")
    parser.add_argument("--scans", type=int, default=1, help="on warm workers, of each pipeline; the median counts")
    parser.add_argument("--survey", choices=["des", "legacy"], default="des", help="what the tiles are like")
    parser.add_argument("--workers", type=int, help="that cut; default: the cores that are left")
    parser.add_argument("--gpu-cores", type=int, help="of the worker that scores; default: a quarter, at most 4")
    parser.add_argument("--budget", type=float, default=480, help="seconds; nothing is begun that would exceed them")
    parser.add_argument("--folder", type=Path, help="for networks, tiles' names and stores; default: a temporary one")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the JSON there, too")
    options = parser.parse_args(words)
    if options.pipelines is None:
        options.pipelines = [(options.networks[0], options.precisions[0])]
    if options.compare < 10:
        parser.error("--compare must be at least 10: the best tenth is compared")
    return options


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        benchmark = Benchmark(options, Path(folder))
        ok = benchmark.go()
    print(json.dumps(benchmark.result, indent=1))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
