"""The order of the layers, held as one list.

A layer imports only from those before it; units of one layer do not import each other.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import dferkit
from dferkit import schema

PACKAGE = Path(dferkit.__file__).parent

# Read downwards: the flow from a file to an answer. ``docs/explanation/architecture.md`` says why each stands where
# it stands.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("storage", "parallel", "devices", "checks"),
    ("schema",),
    ("labels",),
    ("facs", "model_files"),
    ("datasets", "video", "synthetic"),
    ("faces", "mini_release", "inspection"),
    ("preparation",),
    ("captions", "encoders", "readings"),
    ("motion", "alignment", "losses"),
    ("models",),
    ("evaluation", "explain", "judgement"),
    ("reports",),
    ("tokens",),
    ("training", "pipeline"),
    ("pretraining",),
    ("mechanism",),
    ("recipes",),
    ("diagnose",),
    ("cli",),
    ("__main__",),
)
STATUSES = {*schema.STATUSES}
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base", "types", "tools"}


def test_statuses_are_given_in_one_place() -> None:
    """Only ``faces.status`` writes what became of a clip; others hand it on."""
    given = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in modules()
        if path != PACKAGE / "faces" / "status.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "status"
        if STATUSES & {part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)}
    ]
    assert not given


def unit_of(path: Path) -> str:
    """Top-level unit a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    """All Python files of the package but its top ``__init__``."""
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import in the file, also inside functions."""
    package = ("dferkit", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield node.lineno, module
            if module == "dferkit":  # ``from dferkit import faces`` names a unit
                for alias in node.names:
                    yield node.lineno, f"dferkit.{alias.name}"


def test_every_unit_has_a_layer() -> None:
    units = {unit_of(p) for p in modules()}
    assert units - set(LEVEL) == set(), "a new unit needs its place in LAYERS and in docs/explanation/architecture.md"


def test_layers_import_only_from_earlier_ones() -> None:
    faults = []
    for path in modules():
        own = unit_of(path)
        for line, module in imports(path):
            parts = module.split(".")
            if parts[0] != "dferkit" or len(parts) < 2 or parts[1] == own or parts[1] not in LEVEL:
                continue
            if LEVEL[parts[1]] >= LEVEL[own]:
                faults.append(f"{path.relative_to(PACKAGE)}:{line} imports {parts[1]}")
    assert not faults, "imports against the order of LAYERS (pass the thing as data, or move it):\n" + "\n".join(faults)


@pytest.mark.parametrize("unit", ["explain", "evaluation"])
def test_science_of_scores_builds_no_model(unit: str) -> None:
    """Explanations and scores read what a model returned, or call a function; they never build one."""
    files = [p for p in modules() if unit_of(p) == unit]
    found = [
        f"{p.name}:{line} {module}"
        for p in files
        for line, module in imports(p)
        if module.startswith(("dferkit.models", "dferkit.encoders"))
    ]
    assert not found, found


def test_no_name_that_says_nothing() -> None:
    named = [p.relative_to(PACKAGE) for p in [*modules(), *(d for d in PACKAGE.rglob("*") if d.is_dir())]]
    assert not [str(p) for p in named if p.stem in FORBIDDEN_NAMES], "name a module by what is inside"


TENSORS_ONLY = {PACKAGE / "encoders" / "videomae_load.py"}
"""Files that read published weights with torch's reader, which then takes tensors alone."""


def test_nothing_unpickles() -> None:
    """Weights and caches are safetensors and JSON; a file from a stranger must not run code."""
    faults = []
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called == "torch.load" and path in TENSORS_ONLY and "weights_only=True" in ast.unparse(node):
                    continue
                if called in {"torch.load", "torch.save", "eval", "exec", "np.save", "yaml.load", "yaml.unsafe_load"}:
                    faults.append(f"{where} calls {called}")
                if any(k.arg == "allow_pickle" for k in node.keywords):
                    faults.append(f"{where} passes allow_pickle")
        faults += [
            f"{path.relative_to(PACKAGE)}:{line} imports {module}"
            for line, module in imports(path)
            if module.split(".")[0] in banned
        ]
    assert not faults, faults


def test_no_bare_except_and_no_leftovers() -> None:
    faults = []
    for path in modules():
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                faults.append(f"{path.relative_to(PACKAGE)}:{node.lineno} bare except")
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(r"#\s*(TODO|FIXME|XXX)", line) and not re.search(r"#\d+|issue", line):
                faults.append(f"{path.relative_to(PACKAGE)}:{number} a TODO names its issue")
    assert not faults, faults


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(p.relative_to(PACKAGE))
        for p in modules()
        if p.stat().st_size and not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))
    ]
    assert not silent, silent


def test_every_deviation_is_listed() -> None:
    """A departure from a paper starts with ``Deviation:`` in the code, and its file stands in docs/deviations.md."""
    listed = (PACKAGE.parents[1] / "docs" / "deviations.md").read_text(encoding="utf-8")
    missing = [
        str(p.relative_to(PACKAGE))
        for p in modules()
        if "Deviation:" in p.read_text(encoding="utf-8") and str(p.relative_to(PACKAGE)) not in listed
    ]
    assert not missing, missing


NAME_OF_MODULE = {"cv2": "opencv-python-headless", "yaml": "pyyaml", "tokenizers": "transformers"}


def _loaded_at_import(tree: ast.Module) -> set[str]:
    """Top-level names of what a module imports when it is loaded; what functions import, or types alone need, is left out."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).split(".")[0])
    return found


def test_a_plain_installation_can_load_every_module() -> None:
    """A module that needs an extra imports it inside a function: without the extra everything else works."""
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=;\[ ]", line)[0] for line in project["dependencies"]}
    known = declared | set(sys.stdlib_module_names) | {"dferkit"}
    missing = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in _loaded_at_import(ast.parse(path.read_text(encoding="utf-8")))
        if NAME_OF_MODULE.get(name, name) not in known
    }
    assert missing <= {"alignment/fused.py: triton"}, "that one is loaded only where Triton is"


def test_functions_and_files_stay_small() -> None:
    texts = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in modules()}
    large = [f"{name} has {text.count(chr(10))} lines" for name, text in texts.items() if text.count("\n") > 500]
    long = [
        f"{name}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for name, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 80
    ]
    assert not [*large, *long], "at most 500 lines a file and 80 a function"


def _needed(tree: ast.AST, files: Mapping[str, Path]) -> Iterator[str]:
    """Files that loading a file loads; what functions import, or type checkers alone, is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in files else str(node.module) for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            yield from _needed(node, files)


def test_no_circle_of_imports_between_files() -> None:
    files = {
        ".".join(("dferkit", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in modules()
    }
    needs = {
        name: set(_needed(ast.parse(path.read_text(encoding="utf-8")), files)) & (files.keys() - {name})
        for name, path in files.items()
    }
    list(graphlib.TopologicalSorter(needs).static_order())  # raises CycleError, which names the circle
