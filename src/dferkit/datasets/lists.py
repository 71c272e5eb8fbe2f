"""Lines of annotation files, each with its place; line ends and byte-order marks of editors are accepted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dferkit.datasets.findings import Findings

_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank, without its end. ``where`` is ``file:number`` below the release's root."""

    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A clip as one line of a list names it. ``caption`` is None where the list has none."""

    clip_id: str
    label: str
    where: str
    caption: str | None = None


def place(path: Path, root: Path) -> str:
    """Path below the root, as messages name it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def read_lines(path: Path, root: Path, findings: Findings, *, encoding: str = "utf-8") -> list[Line]:
    """Lines of a text file; CRLF, LF and a byte-order mark are accepted, undecodable lines become findings.

    Args:
        encoding: Of the official file. One that was saved again in another encoding is refused.
    """
    name, data = place(path, root), path.read_bytes()
    if data.startswith(_UTF16_BOMS):
        findings.error(
            "ENCODING", f"the file is UTF-16, but the release's is {encoding}; use the release's own file", name
        )
        return []
    if b"\0" in data:
        number = data[: data.index(b"\0")].count(b"\n") + 1
        findings.error(
            "NUL_BYTE",
            "a NUL byte; the file is damaged or not text. Copy it again from the release",
            f"{name}:{number}",
        )
        return []
    if data.startswith(_UTF8_BOM):
        findings.note(
            "BOM",
            "the file begins with a byte-order mark, which the release's file does not have; an editor saved it again",
            name,
        )
        data = data[len(_UTF8_BOM) :]
    if encoding != "utf-8" and not data.isascii() and _is(data, "utf-8"):
        findings.error(
            "ENCODING",
            f"the file is UTF-8, but the release's is {encoding}: it was converted; use the release's own file",
            name,
        )
        return []
    lines = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        try:
            text = raw.decode(encoding).strip("\r").strip(" ")
        except UnicodeDecodeError as error:
            findings.error(
                "ENCODING",
                f"byte {error.start + 1} of the line is not {encoding}; use the release's own file",
                f"{name}:{number}",
            )
            continue
        if text.strip():
            lines.append(Line(f"{name}:{number}", text))
    if not lines:
        findings.error("EMPTY_LIST", "the list is empty; copy it again from the release", name)
    return lines


def _is(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
