"""The house's order: imports point downwards only, and each third-party technology has one door.

The first half reads the package's source without running it; the second half shows that it would notice.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "daemon" / "batchbox"

Modules = Mapping[str, AbstractSet[str]]
"""Each module of the package by its dotted name, with the dotted names that it imports, wherever in its code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Units that stand on the same floor. A unit is a module, or a package together with everything in it."""

    name: str
    units: AbstractSet[str]
    siblings: bool = False
    """Whether its units may import each other, as long as there is no circle."""
    standard_library_only: bool = False
    pure: bool = False


LAYERS = (
    Layer(
        name="nouns",
        units={"errors", "model", "api", "logs", "environment"},
        siblings=True,
        standard_library_only=True,
    ),
    Layer(
        name="pure",
        units={
            *("lifecycle", "timing", "config", "pricing", "formats", "naming"),
            *("triage", "results", "documents", "settling"),
        },
        siblings=True,
        pure=True,
    ),
    Layer(name="adapters", units={"store", "folders", "anthropic_api", "watch", "lanes", "report", "alone"}),
    Layer(name="stages", units={"account", "intake", "dispatch", "polling", "delivery"}),
    Layer(name="service", units={"service"}),
    Layer(name="simulator", units={"simulator"}),
    Layer(name="cli", units={"cli"}),
    Layer(name="script", units={"__main__"}),
)
"""From the ground up. The simulator stands just below cli, so that nothing but cli can import it."""

NOT_PURE = frozenset(
    {
        *("os", "shutil", "tempfile", "glob", "sqlite3", "aiosqlite", "watchfiles"),
        *("socket", "ssl", "select", "selectors", "http", "urllib.request", "httpx2", "anthropic", "uvicorn"),
        *("subprocess", "multiprocessing", "signal", "threading", "concurrent", "asyncio", "anyio"),
        *("time", "random", "secrets"),
    }
)
"""What acts on the world, waits for it, or asks it for the time or for chance. `pathlib` is let in for its type."""

DOORS = {"anthropic": "anthropic_api", "httpx2": "anthropic_api", "aiosqlite": "store", "watchfiles": "watch"}
"""The only unit that may import each of these."""

FLOORS = {unit: floor for floor, layer in enumerate(LAYERS) for unit in layer.units}


def violations(package: Path) -> list[str]:
    """Return a sentence for everything in the package that breaks the order."""
    modules = _modules(package)
    strangers = sorted({_unit(name) for name in modules} - {*FLOORS, ""})
    if strangers:
        return [f"{unit} is in no layer: add it to LAYERS in tests/test_layers.py" for unit in strangers]
    found = [
        problem
        for name, targets in modules.items()
        for target in sorted(targets)
        if (problem := _problem(name, target, names=modules.keys()))
    ]
    return [*found, *_circles(modules)]


def _problem(name: str, target: str, *, names: AbstractSet[str]) -> str | None:
    """Say what is wrong with one import, if something is."""
    inner = target in names
    if _unit(name) == "":
        return f"{name} imports {target}, but the package's own module imports nothing of it" if inner else None
    return _inner_problem(name, target) if inner else _outer_problem(name, target)


def _inner_problem(name: str, target: str) -> str | None:
    importer, imported = _unit(name), _unit(target)
    if imported in {"", importer}:
        return None
    here, there = LAYERS[FLOORS[importer]], LAYERS[FLOORS[imported]]
    if FLOORS[imported] > FLOORS[importer]:
        return f"{name} ({here.name}) imports {target} ({there.name}), which is above it"
    if here is there and not here.siblings:
        return f"{name} imports {target}: {here.name} never import each other"
    return None


def _outer_problem(name: str, target: str) -> str | None:
    unit, top = _unit(name), target.partition(".")[0]
    layer = LAYERS[FLOORS[unit]]
    if layer.standard_library_only and top not in sys.stdlib_module_names:
        return f"{name} imports {target}: {layer.name} stand on the standard library alone"
    if layer.pure and any(target == banned or target.startswith(f"{banned}.") for banned in NOT_PURE):
        return f"{name} imports {target}: {layer.name} modules decide, and leave acting to others"
    if DOORS.get(top, unit) != unit:
        return f"{name} imports {target}: only {DOORS[top]} does"
    return None


def _circles(modules: Modules) -> Iterator[str]:
    """Find a circle between units, and one between modules: what is a line of modules can be a circle of units."""
    units: dict[str, set[str]] = {}
    for name, targets in modules.items():
        inner = {_unit(target) for target in targets if target in modules}
        units.setdefault(_unit(name), set()).update(inner - {_unit(name)})
    for graph in (units, {name: targets & modules.keys() for name, targets in modules.items()}):
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            yield f"imports go in a circle: {' - '.join(reversed(error.args[1]))}"


def _modules(package: Path) -> Modules:
    paths = {_dotted(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: set(_imports(name, path, names=paths.keys())) for name, path in paths.items()}


def _dotted(path: Path, package: Path) -> str:
    parts = [package.name, *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _unit(name: str) -> str:
    """Return the part of a dotted name that LAYERS knows; the package's own module is the empty unit."""
    return name.partition(".")[2].partition(".")[0]


def _imports(name: str, path: Path, *, names: AbstractSet[str]) -> Iterator[str]:
    """Yield what the module imports: the module, where `from … import` names one, else what it is taken from."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _source(node, name, is_package=path.name == "__init__.py")
            for alias in node.names:
                member = f"{source}.{alias.name}"
                yield member if member in names or member in NOT_PURE else source


def _source(node: ast.ImportFrom, name: str, *, is_package: bool) -> str:
    """Return the dotted name behind `from`, leading dots resolved."""
    if node.level == 0:
        return node.module or ""
    parts = name.split(".")
    above = parts[: len(parts) - node.level + is_package]
    return ".".join([*above, node.module] if node.module else above)


def test_the_package_keeps_its_order() -> None:
    found = violations(PACKAGE)

    assert found == []


def test_the_check_looks_at_the_real_package() -> None:
    modules = _modules(PACKAGE)

    assert "batchbox.model" in modules["batchbox.errors"]


def test_every_unit_is_on_one_floor() -> None:
    assert len(FLOORS) == sum(len(layer.units) for layer in LAYERS)


def test_commands_that_need_no_api_do_not_pay_for_the_sdk() -> None:
    """Importing the command line leaves the SDK, which takes 0.7 s and 66 MB, alone."""
    question = "import batchbox.cli, sys; print(sorted({'anthropic', 'httpx2'} & set(sys.modules)))"

    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=False)

    assert (answer.stdout, answer.stderr) == ("[]\n", "")


def _package(folder: Path, files: Mapping[str, str]) -> Path:
    package = folder / "batchbox"
    for name, text in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


SOUND = {
    "__init__.py": '__version__ = "1"\n',
    "model.py": "from enum import StrEnum\n",
    "errors.py": "from batchbox.model import Reason\n",
    "environment.py": "import os\n",
    "pricing.py": "from pathlib import Path\nimport pydantic\nfrom urllib.parse import urlsplit\n",
    "formats/__init__.py": "from batchbox.formats import text\n",
    "formats/text.py": "import yaml\nfrom batchbox.formats.rules import Rules\nfrom ..errors import Rejected\n",
    "formats/rules.py": "from batchbox import naming\n",
    "naming.py": "from . import errors\n",
    "anthropic_api.py": "import anthropic\nimport httpx2._types\nfrom batchbox import __version__, api\n",
    "api.py": "",
    "store/__init__.py": "from .database import Store\n",
    "store/database.py": "import aiosqlite\n",
    "watch.py": "from watchfiles import awatch\nimport asyncio, os, time\n",
    "intake.py": "from batchbox.store import Store\n",
    "service.py": "from batchbox.intake import Intake\n",
    "simulator/__init__.py": "import starlette\nfrom batchbox.pricing import cap\n",
    "cli/__init__.py": "def main():\n    from batchbox.simulator import app\n    from batchbox.service import run\n",
}


def test_a_sound_package_has_no_violations(tmp_path: Path) -> None:
    package = _package(tmp_path, SOUND)

    assert violations(package) == []


@pytest.mark.parametrize(
    ("file", "line", "violation"),
    [
        ("gateway.py", "", "gateway is in no layer: add it to LAYERS"),
        ("helpers/__init__.py", "", "helpers is in no layer: add it to LAYERS"),
        ("__init__.py", "from batchbox.model import Lane", "batchbox imports batchbox.model, but"),
        ("model.py", "import pydantic", "model imports pydantic: nouns stand on the standard library alone"),
        ("errors.py", "from batchbox.naming import x", "errors (nouns) imports batchbox.naming (pure)"),
        ("naming.py", "import os.path", "naming imports os.path: pure modules decide"),
        ("naming.py", "from urllib import request", "naming imports urllib.request: pure modules decide"),
        ("formats/text.py", "def f():\n    import time", "formats.text imports time: pure modules decide"),
        (
            "formats/text.py",
            "from asyncio.locks import Lock",
            "formats.text imports asyncio.locks: pure modules decide",
        ),
        ("naming.py", "from .store import Store", "naming (pure) imports batchbox.store (adapters)"),
        ("formats/text.py", "from ..store.database import x", "text (pure) imports batchbox.store.database (adapters)"),
        ("watch.py", "from batchbox import store", "watch imports batchbox.store: adapters never import each other"),
        ("store/database.py", "import batchbox.watch", "imports batchbox.watch: adapters never import each other"),
        ("watch.py", "from batchbox.intake import x", "watch (adapters) imports batchbox.intake (stages)"),
        ("intake.py", "import batchbox.delivery", "intake imports batchbox.delivery: stages never import each other"),
        ("intake.py", "from batchbox.service import x", "intake (stages) imports batchbox.service (service)"),
        ("service.py", "from batchbox.simulator import x", "service (service) imports batchbox.simulator (simulator)"),
        ("simulator/app.py", "from batchbox.cli import x", "simulator.app (simulator) imports batchbox.cli (cli)"),
        ("service.py", "import anthropic", "service imports anthropic: only anthropic_api does"),
        ("cli/run.py", "def f():\n    import httpx2", "cli.run imports httpx2: only anthropic_api does"),
        ("intake.py", "from aiosqlite import Row", "intake imports aiosqlite: only store does"),
        ("intake.py", "from watchfiles.main import x", "intake imports watchfiles.main: only watch does"),
    ],
)
def test_a_violation_is_named(tmp_path: Path, file: str, line: str, violation: str) -> None:
    """One line added to a sound package is noticed."""
    package = _package(tmp_path, {"delivery.py": "", **SOUND, file: f"{SOUND.get(file, '')}{line}\n"})

    found = violations(package)

    assert violation in "\n".join(found)


@pytest.mark.parametrize(
    ("file", "line", "circle"),
    [
        ("model.py", "import batchbox.errors", {"errors", "model"}),
        ("store/database.py", "import batchbox.store", {"batchbox.store", "batchbox.store.database"}),
        ("naming.py", "import batchbox.formats.limits", {"formats", "naming"}),
    ],
)
def test_a_circle_is_named(tmp_path: Path, file: str, line: str, circle: set[str]) -> None:
    """Between units of one layer, within a package, and between units whose modules form no circle."""
    package = _package(tmp_path, {"formats/limits.py": "", **SOUND, file: f"{SOUND.get(file, '')}{line}\n"})

    found = violations(package)

    assert found[0].startswith("imports go in a circle: ")
    assert set(found[0].partition(": ")[2].split(" - ")) == circle
