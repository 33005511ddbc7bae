"""Imports go down only, and the command line stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "survey_scan"

#: Each level imports from itself and from those before it.
LEVELS = [
    ["schema", "errors", "identity", "c_library"],
    [
        "box",
        "normalisation",
        "config",
        "config_file",
        "config_paths",
        "combination",
        "spell_out",
        "yaml_file",
        "presets",
        "layout",
        "records",
        "store",
    ],
    ["catalogue", "selection", "plan", "imaging", "cutouts", "models", "scores", "ranking", "simulation", "training"],
    ["cluster", "watch", "engine", "views", "evaluation", "grading", "export", "report"],
    ["demo", "cli", "__main__"],
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
PURE = [name for number in (0, 1, 2) for name in LEVELS[number] if name != "catalogue"]


def modules() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name != "__init__" and "__pycache__" not in path.parts:
            found.setdefault(name, []).append(path)
    return found


def imports(path: Path) -> set[str]:
    """All modules a file imports at run time, wherever in it the import stands."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_every_module_has_a_level_and_every_level_its_modules():
    assert set(modules()) == set(LEVEL)


@pytest.mark.parametrize("name", sorted(LEVEL))
def test_imports_go_down_only(name):
    for path in modules()[name]:
        for imported in imports(path):
            package, _, rest = imported.partition(".")
            other = rest.split(".")[0]
            if package == "survey_scan" and other in LEVEL:
                assert LEVEL[other] <= LEVEL[name], (
                    f"{path.name} (level {LEVEL[name]}) imports {other} ({LEVEL[other]})"
                )


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_know_nothing_of_dask(name):
    for path in modules()[name]:
        heavy = {i for i in imports(path) if i.split(".")[0] in ("dask", "distributed")}
        assert not heavy, f"{path} imports {heavy}"


HEAVY = {"numpy", "pandas", "dask", "distributed", "tensorflow", "keras", "astropy", "zarr", "pyarrow"}


@pytest.mark.parametrize("module", ["survey_scan", "survey_scan.cli", "survey_scan.config", "survey_scan.layout"])
def test_light_modules_import_nothing_heavy(module):
    code = f"import sys, {module}; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & HEAVY


def test_architecture_document_names_every_room():
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    missing = [name for name in LEVEL if f"`{name}`" not in text and f"`{name}/`" not in text and name != "__main__"]
    assert not missing
