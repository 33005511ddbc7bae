"""What a benchmark found: printed as JSON, and kept beside what it was measured on.

``benchmarks/kept/SUBJECT.json`` holds ``subject``, ``command``, ``measured`` (UTC), ``machine`` and ``result``; from these alone
``python benchmarks/page.py`` makes ``docs/performance.md``.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import psutil

FOLDER = Path(__file__).parent / "kept"

#: Whose versions change what is measured.
PACKAGES = ("numpy", "pandas", "pyarrow", "astropy", "fitsio", "zarr", "dask", "distributed", "tensorflow-cpu", "keras")


def option(parser: argparse.ArgumentParser) -> None:
    """Add ``--keep`` to a benchmark's options."""
    parser.add_argument("--keep", action="store_true", help=f"keep the result in benchmarks/{FOLDER.name}/")


def tell(subject: str, result: dict[str, Any], keep: bool) -> None:
    """Print what was found, and keep it if that was asked for."""
    words = [word for word in sys.argv[1:] if word != "--keep"]
    found = {
        "subject": subject,
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words]),
        "measured": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
        "machine": machine(),
        "result": result,
    }
    text = json.dumps(found, indent=1)
    if keep:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{subject}.json").write_text(text + "\n")
    print(text)


def machine() -> dict[str, Any]:
    """Processor, memory, load and versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load_15_minutes": round(os.getloadavg()[2], 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
