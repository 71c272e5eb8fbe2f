"""Does the renderer draw what the truth says?

The oracle is optical: pictures that differ in one thing are subtracted.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dferkit.faces import HaarDetector
from dferkit.facs import AU_NAMES
from dferkit.labels import BASIC
from dferkit.synthetic import BenchmarkConfig, Nuisances, plan_clips
from dferkit.synthetic.anatomy import AU_INDEX, EYE_S, EYE_Y, MOUTH_HALF_WIDTH, MOUTH_Y, NUM_AUS, REGIONS, openings
from dferkit.synthetic.benchmark import draw_clip, draw_identity, generator
from dferkit.synthetic.flow import GRID, _points, _positions, motion_truth
from dferkit.synthetic.identity import Identity
from dferkit.synthetic.motion import Performance, draw_scene
from dferkit.synthetic.render import render_frames, side_weights
from dferkit.synthetic.scene import HEIGHT_IN_CM, Scene

SIZE = 112
CONFIG = BenchmarkConfig(clips=12)
# Block means of one frame of version 1, 8 x 8.
GOLDEN_FRAME = np.array(
    [
        [0, 16, 22, 11, 22, 24, 48, 45],
        [5, 12, 23, 27, 42, 39, 13, 49],
        [4, 8, 21, 62, 115, 139, 42, 39],
        [20, 9, 21, 74, 89, 115, 69, 58],
        [48, 26, 42, 71, 92, 121, 62, 23],
        [73, 41, 28, 57, 66, 81, 25, 19],
        [72, 55, 53, 45, 57, 69, 33, 33],
        [52, 60, 39, 63, 52, 52, 35, 35],
    ]
)


@pytest.fixture(scope="module")
def person() -> Identity:
    """Without glasses, so that nothing hides the eyes, and with a face at rest."""
    people = (draw_identity(CONFIG, number) for number in range(20))
    found = next(p for p in people if not p.glasses)
    return replace(found, resting=np.zeros_like(found.resting), strength=np.ones_like(found.strength), eye_opening=1.0)


def still_scene(frames: int) -> Scene:
    """Nothing moves: no head turn, no blink, one light."""
    return draw_scene(np.arange(frames) / 8, "posed", Nuisances.only(None), np.random.default_rng(0))


def script(au: np.ndarray, scene: Scene) -> Performance:
    soft = np.zeros(len(BASIC))
    soft[-1] = 1
    return Performance(
        label="neutral",
        soft_label=soft,
        is_ambiguous=False,
        au=au.astype(np.float32),
        asymmetry=np.zeros(NUM_AUS, np.float32),
        envelope="full",
        scene=scene,
    )


def one_unit(name: str, levels: tuple[float, ...]) -> np.ndarray:
    au = np.zeros((len(levels), NUM_AUS), np.float32)
    au[:, AU_INDEX[name]] = levels
    return au


def render(person: Identity, au: np.ndarray, scene: Scene | None = None) -> np.ndarray:
    return render_frames(person, au, np.zeros(NUM_AUS, np.float32), scene or still_scene(len(au)), size=SIZE).astype(
        np.float32
    )


def place(s: float, y: float) -> tuple[float, float]:
    """Column and row of a point of the frontal face at the centre of the picture; sideways only roughly."""
    return SIZE / 2 + s * SIZE / HEIGHT_IN_CM, SIZE / 2 - (y - 0.6) * SIZE / HEIGHT_IN_CM


def change_near(change: np.ndarray, s: float, y: float, radius_cm: float) -> float:
    column, row = place(s, y)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    near = np.hypot(rows - row, columns - column) < radius_cm * SIZE / HEIGHT_IN_CM
    return float(change[near].mean())


# AU → a point of the chart where it must show, and one where it must not.
WHERE = {
    "AU1": ((1.6, 6.0), (2.5, -3.5)),
    "AU4": ((1.2, 5.0), (2.5, -3.5)),
    "AU5": ((3.1, 3.8), (0.0, -3.5)),
    "AU9": ((1.2, 1.2), (0.0, -7.0)),
    "AU12": ((2.6, -3.3), (0.0, 7.5)),
    "AU15": ((2.5, -3.9), (0.0, 7.5)),
    "AU20": ((2.9, -3.6), (1.6, 5.7)),
    "AU26": ((0.0, -4.6), (1.6, 5.7)),
    "AU43": ((3.1, 3.4), (0.0, -3.5)),
}


@pytest.mark.parametrize("name", WHERE)
def test_unit_moves_its_own_part_and_little_else(person: Identity, name: str) -> None:
    rest, shown = render(person, one_unit(name, (0.0, 1.0)))
    change = np.abs(shown - rest).mean(2)
    here, elsewhere = WHERE[name]
    own = np.mean([change_near(change, side * here[0], here[1], 1.2) for side in (-1, 1)])
    other = np.mean([change_near(change, side * elsewhere[0], elsewhere[1], 1.2) for side in (-1, 1)])
    assert own > 3.0  # levels; noise of the picture is about 1
    assert own > 5 * other


@pytest.mark.parametrize("name", AU_NAMES)
def test_every_unit_is_visible_where_its_heat_map_says(person: Identity, name: str) -> None:
    """The cells that change in the picture are the cells of the unit's heat map."""
    au = one_unit(name, (0.0, 1.0))
    pictures, truth = render(person, au), motion_truth(person, script(au, still_scene(2)), size=SIZE)
    change = np.abs(pictures[1] - pictures[0]).mean(2).reshape(GRID, SIZE // GRID, GRID, SIZE // GRID).mean((1, 3))
    assert change.max() > 1.0
    hot = truth.heat[AU_INDEX[name]] > 0.2
    assert change[hot].mean() > 3 * change[~hot].mean()


def test_smile_widens_the_mouth(person: Identity) -> None:
    """AU12 pulls the corners out and up: beyond the resting corner lip-coloured skin appears on both sides."""
    rest, smile = render(person, one_unit("AU12", (0.0, 1.0)))
    change = np.abs(smile - rest).mean(2)
    corner = change_near(change, MOUTH_HALF_WIDTH + 0.3, MOUTH_Y + 0.4, 0.9)
    assert corner > 4 * change_near(change, 0.0, 5.3, 1.5)
    left, right = (change_near(change, side * (MOUTH_HALF_WIDTH + 0.3), MOUTH_Y + 0.4, 0.9) for side in (-1, 1))
    assert left == pytest.approx(right, rel=0.6)


def test_shut_lids_hide_the_eyes(person: Identity) -> None:
    """Iris and white vanish under AU43 and under a blink: what is left between the lids is skin."""
    scene = still_scene(3)
    blink = scene.blink.copy()
    blink[2] = 1.0
    open_eye, shut, blinked = render(person, one_unit("AU43", (0.0, 1.0, 0.0)), replace(scene, blink=blink))
    # The white of the eye is the least red part of the face, the pupil its darkest.
    column, row = place(EYE_S, EYE_Y)
    area = (slice(round(row) - 3, round(row) + 4), slice(round(column) - 5, round(column) + 6))
    skin = float(np.median(open_eye[60:70, 45:67].mean(2)))
    assert open_eye[area].mean(2).min() < 0.45 * skin
    for closed in (shut, blinked):
        assert closed[area].mean(2).min() > 0.45 * skin
        assert np.ptp(closed[area].mean(2)) < np.ptp(open_eye[area].mean(2))


def test_camera_translation_is_all_nuisance(person: Identity) -> None:
    """A moving camera shifts every cell by the same, known number of pixels, and none of it is expression."""
    scene = still_scene(3)
    camera = scene.camera.copy()
    camera[1:, 0], camera[2, 1] = 0.5, 0.25  # cm
    truth = motion_truth(person, script(np.zeros((3, NUM_AUS)), replace(scene, camera=camera)), size=SIZE)
    assert not truth.flow_expression.any()
    pixels = SIZE / HEIGHT_IN_CM
    for frame, shift in ((0, 0.0), (1, 0.5 * pixels), (2, 0.25 * pixels)):
        seen = (
            truth.flow_nuisance[frame][truth.flow_nuisance[frame] > 0] if shift else truth.flow_nuisance[frame].ravel()
        )
        np.testing.assert_allclose(seen, shift, atol=1e-4)


def test_camera_translation_moves_the_picture_by_that_much(person: Identity) -> None:
    """The same shift, measured in the rendered pictures by correlation."""
    scene = still_scene(2)
    pixels = 3.0
    camera = scene.camera.copy()
    camera[1, 0] = pixels * HEIGHT_IN_CM / SIZE
    first, second = render(person, np.zeros((2, NUM_AUS), np.float32), replace(scene, camera=camera))
    face = (slice(30, 85), slice(35, 75))
    errors = [np.abs(second[face[0], face[1].start + d : face[1].stop + d] - first[face]).mean() for d in range(7)]
    assert int(np.argmin(errors)) == pixels


@pytest.mark.parametrize("name", ["AU4", "AU12", "AU26"])
def test_pure_expression_is_no_nuisance(person: Identity, name: str) -> None:
    truth = motion_truth(person, script(one_unit(name, (0.0, 0.5, 1.0)), still_scene(3)), size=SIZE)
    assert not truth.flow_nuisance.any()
    assert not truth.flow_expression[0].any()
    assert truth.flow_expression[1].max() > 0.3


def test_blink_and_speech_are_nuisance(person: Identity) -> None:
    scene = still_scene(2)
    moved = replace(
        scene, blink=np.array([0, 1], np.float32), speech=np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    )
    truth = motion_truth(person, script(np.zeros((2, NUM_AUS)), moved), size=SIZE)
    assert not truth.flow_expression.any()
    rows = truth.flow_nuisance[1].max(1)
    eyes, mouth = int(place(0, EYE_Y)[1] * GRID / SIZE), int(place(0, MOUTH_Y)[1] * GRID / SIZE)
    assert rows[eyes] > 0.3
    assert rows[mouth : mouth + 2].max() > 0.3


def test_heat_maps_lie_where_anatomy_says(person: Identity) -> None:
    truth = motion_truth(person, script(np.zeros((2, NUM_AUS)), still_scene(2)), size=SIZE)
    rows = np.arange(GRID)[:, None]

    def height(name: str) -> float:
        heat = truth.heat[AU_INDEX[name]]
        return float((heat * rows).sum() / heat.sum())

    brows, eyes, nose, mouth, chin = (
        np.mean([height(n) for n in names])
        for names in (
            ("AU1", "AU2", "AU4"),
            ("AU5", "AU7", "AU43"),
            ("AU9",),
            ("AU12", "AU15", "AU20", "AU24"),
            ("AU17", "AU26"),
        )
    )
    assert brows < eyes < mouth < chin
    assert brows < nose < mouth
    np.testing.assert_allclose(truth.heat.max((1, 2)), 1.0, atol=1e-5)


def test_region_map_reads_like_a_face(person: Identity) -> None:
    truth = motion_truth(person, script(np.zeros((2, NUM_AUS)), still_scene(2)), size=SIZE)
    middle = [REGIONS[r] for r in truth.regions[:, GRID // 2] if r >= 0]
    order = [middle.index(name) for name in ("forehead", "nose", "mouth", "chin")]
    assert order == sorted(order)
    assert set(np.unique(truth.regions)) <= {-1, *range(len(REGIONS))}
    assert truth.regions[0, 0] == -1
    assert truth.visible[0, 0] == 0
    assert truth.visible[GRID // 2, GRID // 2] == 1


def test_two_people_differ_and_one_person_stays(person: Identity) -> None:
    au = np.zeros((1, NUM_AUS), np.float32)
    other = draw_identity(CONFIG, 7)
    np.testing.assert_array_equal(render(person, au), render(person, au))
    assert np.abs(render(person, au) - render(other, au)).mean() > 8


def test_detector_finds_rendered_faces() -> None:
    """The default detector must find at least 95 % of the pictures, or the benchmark would measure the detector."""
    found = total = 0
    detector = HaarDetector()
    for number in range(20):
        config = BenchmarkConfig(clips=120, profile="natural" if number % 2 else "posed")
        plan = plan_clips(config)[number]
        performance = draw_clip(config, plan)
        frame = int(performance.au.sum(1).argmax())
        scene = performance.scene
        cut = replace(
            scene,
            **{
                key: getattr(scene, key)[[0, frame]]
                for key in ("pose", "camera", "blink", "speech", "gaze", "light", "exposure")
            },
        )
        images = render_frames(
            draw_identity(config, plan.subject),
            performance.au[[0, frame]],
            performance.asymmetry,
            cut,
            size=SIZE,
            noise_seed=plan.number,
        )
        for image in images:
            boxes = detector.detect(image)
            total += 1
            found += bool(boxes) and 0.3 * SIZE < boxes[0].x + boxes[0].width / 2 < 0.7 * SIZE
    assert found >= 0.95 * total, f"{found} of {total}"


def test_version_1_looks_as_it_did() -> None:
    """One frame of the frozen benchmark, as block means.

    Another library version may change single levels, nobody may change the face.
    """
    plan = plan_clips(CONFIG)[0]
    performance = draw_clip(CONFIG, plan)
    frame = render_frames(
        draw_identity(CONFIG, plan.subject),
        performance.au,
        performance.asymmetry,
        performance.scene,
        size=SIZE,
        noise_seed=plan.number,
    )[8]
    blocks = frame.astype(float).mean(2).reshape(8, 14, 8, 14).mean((1, 3))
    np.testing.assert_allclose(
        blocks,
        GOLDEN_FRAME,
        atol=1.5,
        err_msg="the picture of version 1 changed: scores would no longer be comparable. Raise benchmark.VERSION",
    )


def test_identity_draws_are_separate_from_clip_draws() -> None:
    assert generator(CONFIG, 0, 0).integers(2**63) != generator(CONFIG, 1, 0).integers(2**63)


@pytest.mark.parametrize(("axis", "angle"), [(0, 0.15), (0, -0.15), (1, 0.12), (1, -0.12), (2, 0.12), (2, -0.12)])
def test_head_turn_in_the_truth_is_the_one_in_the_picture(person: Identity, axis: int, angle: float) -> None:
    """Optical flow between two rendered poses against the geometry behind the truth: same direction, same size."""
    scene = still_scene(2)
    pose = scene.pose.copy()
    pose[1, axis] = angle
    turned = replace(scene, pose=pose)
    size = 224
    au = np.zeros((2, NUM_AUS), np.float32)
    pictures = render_frames(person, au, np.zeros(NUM_AUS, np.float32), turned, size=size)
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in pictures]
    seen = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    weights = side_weights(person, au, np.zeros(NUM_AUS, np.float32), turned.speech)
    opening = openings(au, turned.blink, turned.speech)
    points, visible = _positions(person, weights, opening, turned.pose, turned.camera)
    s, y, _ = _points()
    chosen = visible.all(0) & (np.abs(s) < 4.5) & (np.abs(y - 0.5) < 5)
    start, move = points[0, chosen] * size, (points[1] - points[0])[chosen] * size
    measured = seen[np.round(start[:, 1]).astype(int), np.round(start[:, 0]).astype(int)]
    assert float((measured * move).sum() / np.sqrt((measured**2).sum() * (move**2).sum())) > 0.9
    assert np.linalg.norm(measured, axis=1).mean() == pytest.approx(np.linalg.norm(move, axis=1).mean(), rel=0.25)
