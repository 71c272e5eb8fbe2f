"""The README and the docs say only what is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_WORD_DATES = re.compile(r"/(work|home|tmp|root)/")


def blocks(language: str) -> list[object]:
    """Code blocks of all documents."""
    found = []
    for path in DOCUMENTS:
        if path.is_file():
            for number, match in enumerate(_BLOCK.finditer(path.read_text(encoding="utf-8"))):
                if match.group(1) == language:
                    found.append(pytest.param(match.group(2), id=f"{path.relative_to(ROOT)}-{number}"))
    return found


def slug(title: str) -> str:
    """Anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        if not place.exists():
            broken.append(target)
        elif anchor and place.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), flags=re.MULTILINE)
            if anchor not in {slug(title) for title in titles}:
                broken.append(target)
    assert not broken, broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_path_of_a_machine(path: Path) -> None:
    assert not _WORD_DATES.search(path.read_text(encoding="utf-8"))


def test_readme_maps_every_folder() -> None:
    """The file map names every unit of the package and every top-level folder, and nothing that is not there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Map")[2].partition("\n## ")[0]
    named = {name.rstrip("/") for name in re.findall(r"^\| `([^`]+)`", table, flags=re.MULTILINE)}
    units = {
        f"src/dferkit/{p.name}"
        for p in (ROOT / "src" / "dferkit").iterdir()
        if p.name not in {"__init__.py", "__pycache__", "py.typed"}
    }
    assert units <= named, f"missing from the map: {sorted(units - named)}"
    gone = sorted(name for name in named if not (ROOT / name).exists())
    assert not gone, f"in the map, but not there: {gone}"


def test_repository_paths_in_docs_exist() -> None:
    """A path such as `src/dferkit/motion.py` or `tests/…` in a document is a promise."""
    gone = []
    for path in DOCUMENTS:
        for name in re.findall(r"`((?:src|tests|docs|scripts|benchmarks)/[\w./-]+)`", path.read_text(encoding="utf-8")):
            if not (ROOT / name).exists():
                gone.append(f"{path.relative_to(ROOT)}: {name}")
    assert not gone, gone


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_name_real_things(code: str, request: pytest.FixtureRequest) -> None:
    """Every block compiles, and what it imports from dferkit is there. Blocks that load no weights also run; those of ``how-to/add-*`` run as a page."""
    compile(code, "block", "exec")
    for module, names in re.findall(r"^from (dferkit[\w.]*) import ([\w, ]+)", code, flags=re.MULTILINE):
        loaded = importlib.import_module(module)
        missing = [n.strip() for n in names.split(",") if not hasattr(loaded, n.strip())]
        assert not missing, f"{module} has no {missing}"
    if "dferkit.load(" not in code and "how-to/add-" not in request.node.callspec.id:
        exec(compile(code, "block", "exec"), {"__name__": "block"})


@pytest.mark.parametrize("text", blocks("bash"))
def test_commands_use_real_verbs(text: str) -> None:
    """``dferkit VERB`` in a document is a verb of the command, and its options are options of that verb."""
    main = pytest.importorskip("dferkit.cli.main")
    import typer

    group = typer.main.get_command(main.app)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for call in re.findall(r"(?:^|[\s;&|])dferkit ([^|&;#]*)", line):
            words = call.split()
            if not words or words[0].startswith("-"):
                continue
            assert words[0] in group.commands, f"no verb {words[0]!r}: {line}"
            command = group.commands[words.pop(0)]
            if hasattr(command, "commands"):
                assert words, f"no verb: {line}"
                assert words[0] in command.commands, f"no verb {words[0]!r}: {line}"
                command = command.commands[words.pop(0)]
            known = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            } | {"--help"}
            unknown = [
                word
                for word in words
                if word.startswith("-") and not re.match(r"-\d", word) and word.split("=")[0] not in known
            ]
            assert not unknown, f"{command.name} has no {unknown}: {line}"


def test_readme_shell_files_are_there_and_executable() -> None:
    import os

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"(?:^|\s)(scripts/[\w-]+|\.ci/run)", text)):
        path = ROOT / name
        assert path.is_file(), name
        assert os.access(path, os.X_OK), f"{name} is not executable"


def test_every_finding_is_explained() -> None:
    """Codes that a check can give, and the page that explains them, are the same."""
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "src" / "dferkit").rglob("*.py"))
    given = set(re.findall(r'(?:findings\.(?:error|warning|note)\(\s*|code=)"([A-Z][A-Z0-9_]+)"', source))
    given = {code for code in given if not code.startswith(("E_", "W_"))}
    page = (ROOT / "docs" / "reference" / "data-findings.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", page, flags=re.MULTILINE))
    planted = {"LABEL_ZERO_BASED", "SPLIT_LEAK", "MEDIA_16F", "CLIP_UNREADABLE"}
    assert planted <= given
    assert given == explained
