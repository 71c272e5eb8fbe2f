"""Files of others: fetched only when asked, kept only when they are the known ones. A real HTTP server answers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dferkit import model_files
from dferkit.errors import BackendError, ConfigError
from dferkit.model_files import MODEL_FILES, find_model, get_model, model_file

CONTENT = b"weights" * 40_000
ANSWERS = {"/good": CONTENT, "/other": b"x" + CONTENT[1:], "/long": CONTENT * 3, "/cut": CONTENT[:-1]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Answers with the content of a path; the face landmarker is known to be ``CONTENT``."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = ANSWERS.get(self.path)
            self.send_response(200 if data else 404)
            self.end_headers()
            if data:
                self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    small = replace(
        MODEL_FILES["face-landmarker"], num_bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), url="http://127.0.0.1:9/"
    )  # fmt: skip
    monkeypatch.setattr(model_files, "MODEL_FILES", {"face-landmarker": small})
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_file_is_fetched_once(server: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = get_model(
        "face-landmarker", tmp_path / "models", url=f"{server}/good", on_progress=lambda a, b: told.append((a, b))
    )
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    # It is there: no server is asked (port 9 answers nobody).
    assert get_model("face-landmarker", tmp_path / "models") == path
    assert find_model("face-landmarker", tmp_path / "models") == path


@pytest.mark.parametrize("answer", ["other", "long", "cut"])
def test_another_file_is_not_kept(server: str, tmp_path: Path, answer: str) -> None:
    with pytest.raises(BackendError, match="does not have the expected digest"):
        get_model("face-landmarker", tmp_path, url=f"{server}/{answer}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["SERVER/none", "http://127.0.0.1:9/x", "nonsense"])
def test_what_cannot_be_fetched_is_one_sentence(server: str, tmp_path: Path, url: str) -> None:
    with pytest.raises(BackendError, match="cannot be fetched") as caught:
        get_model("face-landmarker", tmp_path, url=url.replace("SERVER", server))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_fetched_anew(server: str, tmp_path: Path) -> None:
    path = tmp_path / MODEL_FILES["face-landmarker"].file
    path.write_bytes(b"cut")
    assert get_model("face-landmarker", tmp_path, url=f"{server}/good").read_bytes() == CONTENT


def test_files_in_the_folder_of_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)
    assert find_model("yunet") is None
    for name in ("face_detection_yunet_2022mar.onnx", "face_detection_yunet_2023mar.onnx"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setenv("DFERKIT_MODELS", str(tmp_path))
    found = find_model("yunet")
    assert found is not None
    assert found.name.endswith("2023mar.onnx")
    with pytest.raises(ConfigError, match="did you mean 'face-landmarker'"):
        model_file("face-landmarks")
