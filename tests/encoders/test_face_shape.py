"""Head coordinates: what the camera and the head do is taken out exactly, what the face does is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_faces import RIGID_PAIRS, head, partners, random_turn, seen

from dferkit.encoders.box import BOX_FOLDER
from dferkit.encoders.face_shape import (
    AREAS,
    MIDLINE,
    PAIRS,
    RIGID,
    fit_template,
    head_shape,
    members,
    mirror_order,
    outlines,
    to_frame,
)
from dferkit.encoders.landmarks import LandmarkEncoder
from dferkit.errors import DataError


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_turning_scaling_and_moving_a_head_leaves_its_shape(seed: int) -> None:
    rng = np.random.default_rng(seed)
    template = head(rng)
    shape = head_shape(seen(np.stack([template] * 5), rng), template)
    np.testing.assert_allclose(shape.points, np.stack([template] * 5), atol=2e-5)
    np.testing.assert_allclose(shape.turn @ shape.turn.transpose(0, 2, 1), np.stack([np.eye(3)] * 5), atol=1e-5)
    assert np.linalg.det(shape.turn) == pytest.approx(1, abs=1e-5), "never a mirrored head"


def test_what_the_face_does_is_kept() -> None:
    """Points outside the rigid set move: in head coordinates they move by just that."""
    rng = np.random.default_rng(1)
    template = head(rng)
    free = np.setdiff1d(np.arange(478), RIGID)
    moved = np.stack([template] * 6)
    moved[:, free] += rng.standard_normal((6, len(free), 3)) * 0.1
    np.testing.assert_allclose(head_shape(seen(moved, rng), template).points, moved, atol=2e-5)


def test_the_way_back_leads_to_the_frame() -> None:
    rng = np.random.default_rng(2)
    template = head(rng)
    landmarks = seen(np.stack([template + rng.standard_normal((478, 3)) * 0.05 for _ in range(4)]), rng)
    shape = head_shape(landmarks, template)
    np.testing.assert_allclose(to_frame(shape.points, shape, template), landmarks, atol=1e-2)


def test_a_known_turn_is_told_in_degrees() -> None:
    rng = np.random.default_rng(3)
    template = head(rng)
    angle = np.deg2rad(30)
    about_y = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    shape = head_shape(np.stack([template @ about_y, template @ about_x, template]) * 50 + 100, template)
    assert np.abs(shape.yaw_degrees) == pytest.approx([30, 0, 0], abs=0.01)


def test_frames_without_landmarks_repeat_the_nearest() -> None:
    rng = np.random.default_rng(4)
    template = head(rng)
    landmarks = seen(np.stack([template * s for s in (1.0, 1.1, 1.2, 1.3)]), rng)
    landmarks[[0, 2]] = np.nan
    shape = head_shape(landmarks, template)
    assert shape.seen.tolist() == [False, True, False, True]
    np.testing.assert_array_equal(shape.points[0], shape.points[1])
    np.testing.assert_array_equal(shape.points[2], shape.points[1])


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_cannot_be_put_into_head_coordinates_is_refused() -> None:
    template = head(np.random.default_rng(5))
    with pytest.raises(DataError, match="found no face"):
        head_shape(np.full((3, 478, 3), np.nan), template)
    with pytest.raises(DataError, match="expected the 478"):
        head_shape(np.zeros((3, 468, 3)), template)


def test_the_mean_of_many_heads_is_found() -> None:
    """Upright and symmetric, although the first face of all is neither."""
    rng = np.random.default_rng(6)
    truth = head(rng)
    faces = seen(truth + rng.standard_normal((400, 478, 3)) * 0.02, rng)
    found = fit_template(faces)
    np.testing.assert_allclose(found, truth, atol=0.02)
    assert np.square(found[RIGID]).sum(1).mean() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found[partners()] * (-1, 1, 1), found, atol=1e-6)


def test_every_landmark_belongs_to_one_area() -> None:
    template = head(np.random.default_rng(7))
    found = members(template)
    assert sorted(i for area in found for i in area) == list(range(478))
    for area, mine in zip(AREAS, found, strict=True):
        assert set(area.anchors) <= set(mine), area.name
    anchors = [i for area in AREAS for i in area.anchors]
    assert len(set(anchors)) == len(anchors)


def test_the_other_side_of_every_landmark_is_found() -> None:
    rng = np.random.default_rng(8)
    face = fit_template(seen(head(rng) + rng.standard_normal((50, 478, 3)) * 0.02, rng))
    order = mirror_order(face)
    assert order.tolist() == partners().tolist()
    assert set(order[RIGID]) == set(RIGID), "a rigid point's partner is rigid too"


def test_the_shipped_face_has_a_left_and_a_right() -> None:
    """Pairs and middle as MediaPipe's mesh numbers them; a template that is turned scrambles every mirrored face."""
    order = mirror_order(LandmarkEncoder(BOX_FOLDER).template)
    assert sorted(order) == list(range(478))
    assert [order[right] for right, _ in (*PAIRS, *RIGID_PAIRS)] == [left for _, left in (*PAIRS, *RIGID_PAIRS)]
    assert [order[middle] for middle in MIDLINE] == list(MIDLINE)


def test_outlines_lie_where_the_landmarks_are() -> None:
    points = np.full((1, 478, 2), 0.5)
    corners = np.array([(0.0, 0.0), (0.5, 0.0), (0.5, 0.25), (0.0, 0.25)])
    points[0, :4] = corners
    covered = outlines(points, ((0, 1, 2, 3), (4, 5, 6)), (8, 8), samples=8).reshape(2, 8, 8)
    assert covered.sum((1, 2)) == pytest.approx([1, 1])
    inside = covered[0, :2, :4]
    assert inside.sum() > 0.85, "a quarter of the crop's height and half its width"
    assert np.ptp(inside) < 0.01
    assert covered[1, 4, 4] == pytest.approx(1), "an area without extent lies in one cell"


def test_an_area_outside_the_crop_lies_at_its_border() -> None:
    points = np.full((1, 478, 2), 1.7)
    covered = outlines(points, ((0, 1, 2),), (4, 4))
    assert covered.reshape(4, 4)[3, 3] == pytest.approx(1)


def test_turns_are_rotations() -> None:
    turn = random_turn(np.random.default_rng(9))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
