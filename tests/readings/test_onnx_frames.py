"""A classifier in ONNX, built by hand so that its answer is known in closed form."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from tool_tables import face_clip, write

from dferkit.errors import BackendError, ConfigError, MissingExtraError
from dferkit.labels import BASIC
from dferkit.readings import OnnxConfig, OnnxFrames, open_classifier
from dferkit.readings.onnx_frames import read_classes

PLAIN = OnnxConfig(mean=(0.0,), std=(1.0,))  # values of 0 to 1
NAMES = ("Happy", "Sad", "Neutral")


@pytest.fixture
def names(tmp_path) -> Path:
    return write(tmp_path / "names.txt", *NAMES)


def build(
    path: Path,
    *,
    shape: tuple[object, ...] = ("n", 3, 4, 4),
    weight: np.ndarray | None = None,
    with_softmax: bool = False,
) -> Path:
    """The mean over the picture of each channel, times ``weight`` (channels, classes), plus a bias of 0, 0, 1 (scores)."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    is_last = shape[1] not in (1, 3)
    channels = shape[3] if is_last else shape[1]
    weight = np.eye(channels, 3, dtype=np.float32) if weight is None else weight.astype(np.float32)
    bias = np.zeros(weight.shape[1], np.float32)
    bias[-1] = 1.0
    axes = np.array([1, 2] if is_last else [2, 3], np.int64)
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "w", "b"], ["scores"]),
    ]
    if with_softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["p"], axis=1))
    graph = helper.make_graph(
        nodes,
        "closed form",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [
            helper.make_tensor_value_info(
                "p" if with_softmax else "scores", TensorProto.FLOAT, [shape[0], weight.shape[1]]
            )
        ],
        [
            numpy_helper.from_array(axes, "axes"),
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(bias, "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return path


def pictures(*colours: tuple[int, int, int], size: int = 8) -> np.ndarray:
    """Plain pictures of these colours (red, green, blue)."""
    return np.stack([np.full((size, size, 3), colour, np.uint8) for colour in colours])


def soft(*scores: float) -> np.ndarray:
    shares = np.exp(np.array(scores))
    return shares / shares.sum()


def expected(happy: float, sad: float, neutral: float) -> np.ndarray:
    out = np.zeros(len(BASIC))
    for name, value in (("happiness", happy), ("sadness", sad), ("neutral", neutral)):
        out[BASIC.index(name)] = value
    return out


@pytest.mark.parametrize("shape", [("n", 3, 4, 4), (1, 3, 4, 4), (4, 3, 4, 4), ("n", 4, 4, 3)])
def test_mean_over_found_frames_in_every_layout(tmp_path, names, shape):
    model = OnnxFrames(build(tmp_path / "m.onnx", shape=shape), names, config=PLAIN)
    clip = face_clip(pictures((255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 255)), found=[True, True, False, True])
    # Scores: channel means plus 0, 0, 1.
    rows = [soft(1, 0, 1), soft(0, 1, 1), soft(0, 0, 2)]
    np.testing.assert_allclose(model.answer(clip), expected(*np.mean(rows, 0)), rtol=1e-6)
    assert model.classes == ("happiness", "sadness", "neutral")
    assert "not predicted, taken as 0" in model.notes[0]


def test_the_order_of_channels_and_a_scale(tmp_path, names):
    path = build(tmp_path / "m.onnx")
    clip = face_clip(pictures((255, 0, 0)))
    config = OnnxConfig(mean=(0.0,), std=(1.0,), channels="bgr")
    np.testing.assert_allclose(OnnxFrames(path, names, config=config).answer(clip), expected(*soft(0, 0, 2)), rtol=1e-6)
    # (level · scale − mean) / std, per channel: (2 − 1) / 0.5, (0 − 1) / 1, (0 − 1) / 1
    config = OnnxConfig(scale=2 / 255, mean=(1.0,), std=(0.5, 1.0, 1.0))
    np.testing.assert_allclose(
        OnnxFrames(path, names, config=config).answer(clip), expected(*soft(2, -1, 0)), rtol=1e-6
    )


def test_the_defaults_are_imagenets_for_colour_and_none_for_grey(tmp_path, names):
    clip = face_clip(pictures((255, 0, 0)))
    path = build(tmp_path / "colour.onnx")
    scores = ((1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0 - 0.406) / 0.225 + 1)
    np.testing.assert_allclose(OnnxFrames(path, names).answer(clip), expected(*soft(*scores)), rtol=1e-5)
    path = build(tmp_path / "grey.onnx", shape=("n", 1, 4, 4), weight=np.array([[3.0, 0, 0]]))
    grey = 3 * 76 / 255  # 0.299 · 255, rounded; the weight is 3
    np.testing.assert_allclose(OnnxFrames(path, names).answer(clip), expected(*soft(grey, 0, 1)), rtol=1e-5)


def test_probabilities_are_not_softmaxed_again(tmp_path, names):
    path = build(tmp_path / "m.onnx", with_softmax=True)
    model = OnnxFrames(path, names, config=PLAIN)
    np.testing.assert_allclose(model.answer(face_clip(pictures((255, 0, 0)))), expected(*soft(1, 0, 1)), rtol=1e-6)
    path = build(tmp_path / "s.onnx")
    with pytest.raises(BackendError, match="output is set to probabilities"):
        OnnxFrames(path, names, config=OnnxConfig(mean=(0.0,), std=(1.0,), output="probabilities"))


def test_values_that_are_neither_are_refused_until_somebody_says(tmp_path, names):
    path = build(tmp_path / "m.onnx", shape=("n", 1, 4, 4), weight=np.array([[1.0, 0, 0]]))  # from 0 to 1, sum 1 to 2
    with pytest.raises(
        BackendError, match=r"neither probabilities nor raw scores.* name the kind of values as output in"
    ):
        OnnxFrames(path, names)
    model = OnnxFrames(path, names, config=OnnxConfig(output="scores"))
    np.testing.assert_allclose(model.answer(face_clip(pictures((255, 255, 255)))), expected(*soft(1, 0, 1)), rtol=1e-6)


def test_settings_beside_the_model(tmp_path, names):
    path = build(tmp_path / "m.onnx", shape=("n", 3, "h", "w"))
    with pytest.raises(ConfigError, match=r"leaves the size of its pictures open; write it as size into m\.json"):
        OnnxFrames(path, names)
    (tmp_path / "m.json").write_text(json.dumps({"size": 16, "mean": 0, "std": 1, "channels": "bgr"}))
    model = open_classifier(path, names)
    np.testing.assert_allclose(model.answer(face_clip(pictures((255, 0, 0)))), expected(*soft(0, 0, 2)), rtol=1e-6)
    (tmp_path / "m.json").write_text(json.dumps({"meen": 0}))
    with pytest.raises(ConfigError, match=r"unknown setting of .*'meen'; did you mean 'mean'"):
        OnnxFrames(path, names)
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(ConfigError, match=r"m\.json is not JSON"):
        OnnxFrames(path, names)
    (tmp_path / "m.json").write_text(json.dumps({"size": 16, "mean": [0, 0]}))
    with pytest.raises(ConfigError, match=r"mean has 2 numbers, but the model has 3 channel"):
        OnnxFrames(path, names)


def test_a_class_that_is_none_of_ours_is_left_out(tmp_path):
    path = build(tmp_path / "m.onnx")
    listed = write(tmp_path / "c.json", json.dumps({"0": "happiness", "1": "contempt", "2": "neutral"}))
    model = OnnxFrames(path, listed, config=PLAIN)
    assert model.notes[0] == "contempt left out, the other classes scaled to sum to 1"
    answer = model.answer(face_clip(pictures((255, 0, 0))))
    np.testing.assert_allclose(answer, expected(0.5, 0, 0.5), rtol=1e-6)


def test_no_face_no_answer(tmp_path, names):
    model = OnnxFrames(build(tmp_path / "m.onnx"), names, config=PLAIN)
    assert model.answer(face_clip(pictures((255, 0, 0)), found=[False])) is None
    guide = model.for_video("a.mp4", np.arange(3.0))(face_clip(pictures((255, 0, 0))))
    assert guide.labels == BASIC
    assert guide.model.startswith("ONNX model m.onnx (")
    assert math.isclose(guide.probabilities.sum(), 1)


def test_a_list_of_the_wrong_length_is_refused(tmp_path):
    path = build(tmp_path / "m.onnx")
    short = write(tmp_path / "two.txt", "happy", "sad")
    with pytest.raises(ConfigError, match=r"two\.txt names 2 classes, but m\.onnx answers with 3 values"):
        OnnxFrames(path, short)


def test_wrong_models_are_refused_with_one_sentence(tmp_path, names):
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"this is no model")
    with pytest.raises(BackendError, match=r"bad\.onnx is not an ONNX model that can be loaded"):
        OnnxFrames(tmp_path / "bad.onnx", names)
    whole = build(tmp_path / "m.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackendError, match=r"cut\.onnx"):
        OnnxFrames(tmp_path / "cut.onnx", names)
    with pytest.raises(BackendError, match=r"no\.onnx: no such file"):
        OnnxFrames(tmp_path / "no.onnx", names)
    five = build(tmp_path / "five.onnx", shape=("n", 5, 4, 4), weight=np.ones((4, 3)))
    with pytest.raises(BackendError, match="expected 1 or 3 channels"):
        OnnxFrames(five, names)
    with pytest.raises(ConfigError, match="give a file of its class names"):
        open_classifier(tmp_path / "m.onnx")


def test_lists_of_classes(tmp_path):
    assert read_classes(write(tmp_path / "a.txt", "Angry", "", " fearful ")) == ("anger", "fear")
    assert read_classes(write(tmp_path / "a.json", '["Happiness", "sad"]')) == ("happiness", "sadness")
    with pytest.raises(ConfigError, match=r"a\.txt:2: unknown label 'hapy'; did you mean 'happiness'"):
        read_classes(write(tmp_path / "a.txt", "sad", "hapy"))
    with pytest.raises(ConfigError, match="names sadness twice"):
        read_classes(write(tmp_path / "a.txt", "sad", "sadness"))
    with pytest.raises(ConfigError, match="is not a list of class names"):
        read_classes(write(tmp_path / "a.json", '{"1": "sad"}'))
    with pytest.raises(ConfigError, match="not found"):
        read_classes(tmp_path / "none.txt")


def test_without_onnxruntime_the_extra_is_named(tmp_path, names, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[export\]'"):
        OnnxFrames(tmp_path / "m.onnx", names)
