"""Small tables in the exact form of the tools that write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dferkit.schema import FaceClip, FaceQuality, FaceTrack

# OpenFace writes a blank after each comma, and counts frames from 1.
OPENFACE_HEADER = "frame, face_id, timestamp, confidence, success, pose_Tx, AU01_r, AU04_r, AU12_r, AU45_r, AU01_c, AU04_c, AU12_c, AU28_c, AU45_c"

LIVE_LINK_SHAPES = [
    "EyeBlinkLeft",
    "EyeLookDownLeft",
    "EyeLookInLeft",
    "EyeLookOutLeft",
    "EyeLookUpLeft",
    "EyeSquintLeft",
    "EyeWideLeft",
    "EyeBlinkRight",
    "EyeLookDownRight",
    "EyeLookInRight",
    "EyeLookOutRight",
    "EyeLookUpRight",
    "EyeSquintRight",
    "EyeWideRight",
    "JawForward",
    "JawRight",
    "JawLeft",
    "JawOpen",
    "MouthClose",
    "MouthFunnel",
    "MouthPucker",
    "MouthRight",
    "MouthLeft",
    "MouthSmileLeft",
    "MouthSmileRight",
    "MouthFrownLeft",
    "MouthFrownRight",
    "MouthDimpleLeft",
    "MouthDimpleRight",
    "MouthStretchLeft",
    "MouthStretchRight",
    "MouthRollLower",
    "MouthRollUpper",
    "MouthShrugLower",
    "MouthShrugUpper",
    "MouthPressLeft",
    "MouthPressRight",
    "MouthLowerDownLeft",
    "MouthLowerDownRight",
    "MouthUpperUpLeft",
    "MouthUpperUpRight",
    "BrowDownLeft",
    "BrowDownRight",
    "BrowInnerUp",
    "BrowOuterUpLeft",
    "BrowOuterUpRight",
    "CheekPuff",
    "CheekSquintLeft",
    "CheekSquintRight",
    "NoseSneerLeft",
    "NoseSneerRight",
    "TongueOut",
]
LIVE_LINK_ANGLES = [
    "HeadYaw",
    "HeadPitch",
    "HeadRoll",
    "LeftEyeYaw",
    "LeftEyePitch",
    "LeftEyeRoll",
    "RightEyeYaw",
    "RightEyePitch",
    "RightEyeRoll",
]
LIVE_LINK_HEADER = ",".join(["Timecode", "BlendShapeCount", *LIVE_LINK_SHAPES, *LIVE_LINK_ANGLES])


def live_link_row(timecode: str, **shapes: float) -> str:
    """One row; shapes that are not given are 0, head angles are those of a turned head."""
    values = [f"{shapes.get(name, 0.0):.8f}" for name in LIVE_LINK_SHAPES]
    return ",".join([timecode, "61", *values, *["-1.7"] * len(LIVE_LINK_ANGLES)])


def write(path: Path, *lines: str) -> Path:
    """A text file of lines."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def face_clip(images: np.ndarray, *, found: list[bool] | None = None, fps: float = 8.0) -> FaceClip:
    """A face clip of given pictures (frames, size, size, 3)."""
    count = len(images)
    seen = np.ones(count, bool) if found is None else np.array(found)
    times = np.arange(count) / fps
    track = FaceTrack(
        track_id=0, boxes=np.zeros((count, 4)), scores=np.ones(count), found=seen, detector="test", num_people=1
    )
    quality = FaceQuality(
        coverage=float(seen.mean()), median_height_pixels=100, sharpness=100, brightness=100, jitter=0
    )
    return FaceClip(
        images=images,
        timestamps=times,
        track=track,
        quality=quality,
        start_seconds=0.0,
        end_seconds=count / fps,
    )
