"""One front end for every verb: names, what each needs, and one sentence where it cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from dferkit.encoders.front_end import FRONT_ENDS, FrontEnd, choose_encoder, choose_front_end, front_end_of
from dferkit.encoders.open import open_visual_encoder
from dferkit.errors import BackendError, ConfigError
from dferkit.model_files import find_model


@pytest.fixture
def without_landmarker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DFERKIT_MODELS", raising=False)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_every_front_end_has_its_encoder(name: str) -> None:
    chosen = choose_front_end(name, has_landmarks=True)
    encoder = open_visual_encoder(chosen.encoder)
    assert encoder.name == chosen.encoder
    assert encoder.needs_landmarks == (name != "pixels")
    assert front_end_of(encoder.name) == name


@pytest.mark.usefixtures("without_landmarker")
def test_auto_is_pixels_where_no_landmarks_can_be_read() -> None:
    assert choose_front_end() == choose_front_end("auto") == FrontEnd(name="pixels")
    assert choose_front_end("auto", landmarker="none") == FrontEnd(name="pixels")


def test_auto_follows_what_a_store_holds() -> None:
    assert choose_front_end("auto", has_landmarks=True) == FrontEnd(name="landmarks")
    assert choose_front_end("auto", has_landmarks=False) == FrontEnd(name="pixels")


@pytest.mark.usefixtures("without_landmarker")
@pytest.mark.parametrize("name", ["landmarks", "both"])
def test_landmarks_that_cannot_be_read_are_one_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"dferkit models get face-landmarker"):
        choose_front_end(name)
    with pytest.raises(BackendError, match=r"leave --landmarker out"):
        choose_front_end(name, landmarker="none")
    with pytest.raises(BackendError, match=r"gone\.task: no such landmarker file"):
        choose_front_end(name, landmarker=str(tmp_path / "gone.task"))
    with pytest.raises(BackendError, match=rf"--front-end {name}: these faces are stored without landmarks"):
        choose_front_end(name, has_landmarks=False)


def test_a_folder_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that names it is used from another working directory."""
    (tmp_path / "small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert choose_encoder(None, "clip:small") == f"clip:{tmp_path}/small"
    assert choose_encoder(None, "clip-interpolate:./small") == f"clip-interpolate:{tmp_path}/small"
    assert choose_encoder(None, "small") == f"{tmp_path}/small"
    for as_it_is in ("videomae", "clip:publisher/model", "publisher/model", "clip:"):
        assert choose_encoder(None, as_it_is) == as_it_is


def test_an_unknown_kind_of_backbone_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown encoder 'clp'; did you mean 'clip'\? Known: clip, .*videomae"):
        open_visual_encoder("clp:x")


def test_landmarks_where_mediapipe_and_the_file_are_there() -> None:
    pytest.importorskip("mediapipe")
    path = find_model("face-landmarker")
    if path is None:
        pytest.skip("DFERKIT_MODELS has no face landmarker")
    assert choose_front_end("auto") == FrontEnd(name="landmarks", landmarker=path)
    assert choose_front_end("both", landmarker=str(path)) == FrontEnd(name="both", landmarker=path)
    assert choose_front_end("pixels") == FrontEnd(name="pixels")


def test_a_misspelt_front_end_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        ConfigError, match=r"'landmark'; did you mean 'landmarks'\? Known: auto, pixels, landmarks, both"
    ):
        choose_front_end("landmark")


def test_a_backbone_takes_the_place_of_the_front_end() -> None:
    assert choose_encoder("pixels") == "box"
    assert choose_encoder(None, "videomae") == "videomae"
    assert choose_encoder(None, "clip:folder") == "clip:folder"
    with pytest.raises(ConfigError, match=r"--front-end pixels and --encoder videomae exclude each other"):
        choose_encoder("pixels", "videomae")


@pytest.mark.parametrize(("name", "encoder"), FRONT_ENDS.items())
def test_the_bundled_model_is_no_backbone(name: str, encoder: str) -> None:
    with pytest.raises(ConfigError, match=rf"give --front-end {name} instead"):
        choose_encoder(None, encoder)
