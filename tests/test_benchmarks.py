"""The benchmarks are run by hand; that they still fit the program is seen here."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "benchmarks"

IMPORT_ALL = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
for path in sys.argv[2:]:
    print(path)
    runpy.run_path(path, run_name="benchmark")
"""


def test_every_benchmark_can_be_imported():
    files = sorted(map(str, FOLDER.glob("*.py")))
    assert files
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, str(FOLDER), *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr[-2000:]
