"""Any picture classifier in ONNX with a list of class names, run frame by frame (extra ``export``)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from dferkit.checks import check_choices
from dferkit.errors import BackendError, ConfigError, DataError, MissingExtraError
from dferkit.labels import BASIC, check_name
from dferkit.readings.class_tables import guide_of
from dferkit.readings.classes import class_name, into_labels
from dferkit.readings.scores import PROBABILITIES, SCORES, kind_of_values, softmax
from dferkit.schema import CoarsePrediction, FaceClip
from dferkit.storage import digest_file, read_json

_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
_IMAGENET: tuple[tuple[float, ...], tuple[float, ...]] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_BATCH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxConfig:
    """How a picture becomes a model's input: (level · ``scale`` − ``mean``) / ``std``, per channel. Read from ``model.json`` next to ``model.onnx``.

    Attributes:
        scale: Applied to levels of 0 to 255; 1/255 by default. mean, std: One number, or one per channel in the model's order; by default ImageNet's for
            three channels (0.485 0.456 0.406, 0.229 0.224 0.225), 0 and 1 for one.
        channels: ``rgb`` or ``bgr``: the order of the model's channels; one channel is grey.
        size: Side in pixels where the model leaves it open.
        output: ``auto`` (probabilities if its values for some test pictures are 0 or more and sum to 1, else raw scores), ``probabilities`` or ``scores``.
    """

    scale: float = 1 / 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str = "rgb"
    size: int | None = None
    output: str = "auto"

    def __post_init__(self) -> None:
        check_choices(self, {"channels": ("rgb", "bgr"), "output": ("auto", "probabilities", "scores")})
        if self.std is not None and not all(value > 0 for value in self.std):
            raise ConfigError(f"std is {self.std}; give numbers above 0")
        if self.size is not None and not 8 <= self.size <= 2048:
            raise ConfigError(f"size is {self.size}; give 8 to 2048 pixels")

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str) -> OnnxConfig:
        """Settings of a JSON object.

        Raises:
            ConfigError: An unknown key (names the nearest) or a value of the wrong kind.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            check_name(f"setting of {where}", key, names)
        try:
            changes = {
                key: tuple(float(v) for v in (value if isinstance(value, list) else [value]))
                if key in ("mean", "std")
                else {"scale": float, "size": int}.get(key, str)(value)
                for key, value in values.items()
            }
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}: {error}; expected numbers for scale, mean, std and size") from error
        return cls(**changes)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Input:
    """The model's one input. ``is_last``: channels come last. ``batch``: pictures at a time, None for any number."""

    name: str
    dtype: type
    channels: int
    height: int
    width: int
    is_last: bool
    batch: int | None


class OnnxFrames:
    """A picture classifier. Its answer for a clip is the mean over the frames in which the face was found.

    Input: NCHW or NHWC, 1 or 3 channels, float. Output: one row of class values per picture.

    Attributes:
        classes: Of the model, in dferkit's names. labels: Classes of the answers, in their order. notes: How unclear values were read.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        BackendError: No such file, not an ONNX model, or an input or output that is not a picture classifier's.
        ConfigError: Wrong settings, or a list of classes that does not fit.
    """

    def __init__(
        self,
        path: Path | str,
        classes: Path | str,
        *,
        labels: tuple[str, ...] = BASIC,
        config: OnnxConfig | None = None,
    ) -> None:
        self.path, self.labels = Path(path), labels
        self.config = config or _config_beside(self.path)
        self.classes = read_classes(classes)
        self._session = _open(self.path)
        self._input = _read_input(self._session, self.path.name, self.config)
        self._check_settings()
        probe = _probe_pictures(self._input.height, self._input.width)
        num_found = self._run(probe[:1]).shape[1]
        if num_found != len(self.classes):
            raise ConfigError(
                f"{Path(classes).name} names {len(self.classes)} classes, but {self.path.name} answers with {num_found} values; list one name per value, in the model's order"
            )
        self._kind = self._kind_of_output(probe)
        self.notes = into_labels(np.zeros((1, len(self.classes))), self.classes, labels)[1]
        self.digest = digest_file(self.path)

    @property
    def name(self) -> str:
        """File and the beginning of its SHA-256."""
        return f"ONNX model {self.path.name} ({self.digest[:8]})"

    def answer(self, clip: FaceClip) -> Float[np.ndarray, " classes"] | None:
        """Class probabilities of a clip; None where no frame has a face, or none of our classes is probable in any.

        Raises:
            BackendError: The model fails.
        """
        pictures = clip.images[np.asarray(clip.track.found, bool)]
        if not len(pictures):
            return None
        values = self._run(pictures)
        rows, _ = into_labels(self._probabilities(values), self.classes, self.labels)
        rows = rows[~np.isnan(rows).any(1)]
        return rows.mean(0) if len(rows) else None

    def for_video(
        self, video: str, frame_seconds: Float[np.ndarray, " frames"]
    ) -> Callable[[FaceClip], CoarsePrediction]:
        """Guides of one video's clips; a guide raises DataError for a clip without an answer."""

        def guide(clip: FaceClip) -> CoarsePrediction:
            probabilities = self.answer(clip)
            if probabilities is None:
                raise DataError(f"{self.name} has no answer: no frame of the clip shows a face")
            return guide_of(self.labels, probabilities, self.name)

        return guide

    def _check_settings(self) -> None:
        for name in ("mean", "std"):
            given = getattr(self.config, name)
            if given is not None and len(given) not in (1, self._input.channels):
                raise ConfigError(
                    f"{self.path.name}: {name} has {len(given)} numbers, but the model has {self._input.channels} channel(s)"
                )

    def _kind_of_output(self, probe: np.ndarray) -> str:
        """What the values are (probabilities, percent or scores), found once per model from its output for black, white and noise."""
        values = self._run(probe)
        if not np.isfinite(values).all():
            raise BackendError(f"{self.path.name} answers with values that are not finite; check the model")
        if self.config.output == SCORES:
            return SCORES
        try:
            kind = kind_of_values(values, self.path.name)
        except DataError as error:
            raise BackendError(f"{error}; or name the kind of values as output in {self.path.stem}.json") from error
        if self.config.output == PROBABILITIES and kind != PROBABILITIES:
            raise BackendError(
                f"{self.path.name}: output is set to probabilities, but its values do not sum to 1; set it to auto or scores"
            )
        return kind

    def _probabilities(self, values: np.ndarray) -> np.ndarray:
        return softmax(values) if self._kind == SCORES else values / values.sum(1, keepdims=True)

    def _run(self, pictures: np.ndarray) -> np.ndarray:
        """Raw values (pictures, classes) of uint8 RGB pictures (pictures, height, width, 3)."""
        step = self._input.batch or _BATCH
        return np.concatenate([self._run_batch(pictures[i : i + step]) for i in range(0, len(pictures), step)])

    def _run_batch(self, pictures: np.ndarray) -> np.ndarray:
        lacking = (self._input.batch or 0) - len(pictures)
        # A fixed batch is filled up with the last picture.
        filled = np.concatenate([pictures, np.repeat(pictures[-1:], lacking, 0)]) if lacking > 0 else pictures
        try:
            values = np.asarray(self._session.run(None, {self._input.name: self._prepare(filled)})[0])
        except Exception as error:  # the runtime's errors have no common class of their own
            raise BackendError(f"{self.path.name} cannot be run: {_first_line(error)}") from error
        if values.ndim < 2 or values.size != len(filled) * values.shape[1] or values.dtype.kind not in "fiu":
            raise BackendError(
                f"{self.path.name} answers with shape {values.shape} for {len(filled)} picture(s); expected one row of class values per picture"
            )
        return values.reshape(len(filled), -1)[: len(pictures)].astype(np.float64)

    def _prepare(self, pictures: np.ndarray) -> np.ndarray:
        model, config = self._input, self.config
        size = (model.width, model.height)
        way = cv2.INTER_AREA if pictures.shape[1] > model.height else cv2.INTER_LINEAR
        sized = np.stack([cv2.resize(picture, size, interpolation=way) for picture in pictures])
        if model.channels == 1:
            sized = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in sized])[..., None]
        elif config.channels == "bgr":
            sized = sized[..., ::-1]
        usual_mean, usual_std = _IMAGENET if model.channels == 3 else ((0.0,), (1.0,))
        order = -1 if config.channels == "bgr" else 1
        mean = np.array(config.mean or usual_mean[::order])
        std = np.array(config.std or usual_std[::order])
        values = (sized * config.scale - mean) / std
        values = values if model.is_last else values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype=model.dtype)


def _probe_pictures(height: int, width: int) -> np.ndarray:
    """Black, white, and noise that is always the same."""
    noise = np.random.default_rng(0).integers(0, 256, (6, height, width, 3), dtype=np.uint8)
    flat = np.stack([np.full((height, width, 3), level, np.uint8) for level in (0, 255)])
    return np.concatenate([flat, noise])


def read_classes(path: Path | str) -> tuple[str, ...]:
    """Class names of a text file (one per line) or JSON (a list, or an object of number → name), in our spelling.

    Raises:
        ConfigError: Missing, another form, a name twice, or an unknown name.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = (
            json.loads(text) if path.suffix.lower() == ".json" else [line for line in text.splitlines() if line.strip()]
        )
        if isinstance(found, dict):
            found = [found[str(number)] for number in range(len(found))]
        if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
            raise ValueError("no names")
    except FileNotFoundError as error:
        raise ConfigError(f"{path.name}: not found; give the model's class names, one per line") from error
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{path.name} is not a list of class names; expected one name per line, or JSON: a list, or names by number from 0"
        ) from error
    names = tuple(class_name(name, f"{path.name}:{number}") for number, name in enumerate(found, 1))
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{path.name} names {twice} twice; each value of the model needs its own class")
    return names


def _config_beside(model: Path) -> OnnxConfig:
    path = model.with_suffix(".json")
    if not path.is_file():
        return OnnxConfig()
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} is not JSON that can be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path.name}: expected an object of settings such as scale, mean, std, channels")
    return OnnxConfig.from_values(values, path.name)


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("an ONNX model", "export") from error
    if not path.is_file():
        raise BackendError(f"{path.name}: no such file; give an ONNX model")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # sums keep one order
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no common class of their own
        raise BackendError(f"{path.name} is not an ONNX model that can be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """The runtime's sentence, without the folders it may name."""
    words = str(error).splitlines()[0].removeprefix("[ONNXRuntimeError] : ").split(" ")
    return " ".join(Path(word).name if "/" in word else word for word in words)[:200]


def _read_input(session: Any, name: str, config: OnnxConfig) -> _Input:
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if inputs else []
    if len(inputs) != 1 or len(shape) != 4 or inputs[0].type not in _TYPES:
        found = ", ".join(f"{i.name} {i.type} {list(i.shape)}" for i in inputs) or "none"
        raise BackendError(
            f"{name} has the input {found}; expected one float input of four axes (pictures, channels, height, width)"
        )
    batch, *rest = shape
    is_last = rest[0] not in (1, 3) and rest[2] in (1, 3)
    channels, height, width = (rest[2], rest[0], rest[1]) if is_last else rest
    if channels not in (1, 3):
        raise BackendError(f"{name} has an input of shape {shape}; expected 1 or 3 channels, second or last")
    sides = [side if isinstance(side, int) and side > 0 else config.size for side in (height, width)]
    if None in sides:
        raise ConfigError(
            f"{name} leaves the size of its pictures open; write it as size into {Path(name).stem}.json, such as 224"
        )
    return _Input(
        name=inputs[0].name,
        dtype=_TYPES[inputs[0].type],
        channels=int(channels),
        height=int(sides[0] or 0),
        width=int(sides[1] or 0),
        is_last=is_last,
        batch=batch if isinstance(batch, int) and batch > 0 else None,
    )
