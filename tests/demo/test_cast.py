"""The cast: five people unlike each other, and routines that do what their names say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from demo.cameras import clip_view
from demo.garments import cut_skirt, make_shoe
from demo.mesh_renderer import vertex_normals
from demo.motion import Motion
from demo.people import CAST, FIRST, make_light, make_person
from demo.routines import ROUTINES, person_motion
from demo.shells import Shell
from demo.skeleton import ELBOW, SHOULDER, WRIST
from demo.subject import Subject, naked_body, shape_body

FRAMES = 80
OTHERS = [person.seed for person in CAST[1:]]
BELA = next(person for person in CAST if not person.cut.trousers)


@pytest.fixture(scope="session")
def routines(subject: Subject) -> dict[str, Motion]:
    """Every routine but the demo's, done by the demo's skeleton."""
    return {make_person(seed).motion: person_motion(seed, subject.skeleton, FRAMES) for seed in OTHERS}


@pytest.fixture(scope="session")
def naked() -> Shell:
    return shape_body(BELA)[0]


def ahead(motion: Motion) -> np.ndarray:
    return Rotation.from_rotvec(motion.global_orient).as_matrix()[:, :, 2]


def headings(motion: Motion) -> np.ndarray:
    return np.rad2deg(np.unwrap(np.arctan2(ahead(motion)[:, 0], ahead(motion)[:, 2])))


def forearms(motion: Motion) -> np.ndarray:
    """How far each wrist reaches in front of its shoulder, metres: [F, 2]."""
    reach = motion.joints[:, list(WRIST)] - motion.joints[:, list(SHOULDER)]
    return np.einsum("fsa,fa->fs", reach, ahead(motion))


def test_the_cast_differs_in_build_clothes_light_and_motion() -> None:
    assert CAST[0] is FIRST and [person.seed for person in CAST] == list(range(6))
    assert len({person.name for person in CAST}) == len({person.motion for person in CAST}) == 6
    gender = [person.betas[3] for person in CAST]
    assert min(gender) < -0.5 and max(gender) > 0.5
    assert np.ptp([person.betas[0] for person in CAST]) > 2 and np.ptp([person.betas[1] for person in CAST]) > 2
    assert {person.cut.pattern for person in CAST} == {"check", "stripes", "plain"}
    assert sum(person.cut.skirt is not None for person in CAST) == 2
    light = [float((make_light(person.seed).key + make_light(person.seed).ambient).sum()) for person in CAST]
    assert max(light) > 2.5 * min(light)


def test_everybody_has_a_routine() -> None:
    assert {person.motion for person in CAST} == set(ROUTINES)
    assert make_person(17).motion in ROUTINES


def test_routines_are_smooth_and_stand_on_a_foot(routines: dict[str, Motion]) -> None:
    for name, motion in routines.items():
        acceleration = np.diff(motion.joints, n=2, axis=0) * (FRAMES / 8) ** 2
        assert np.linalg.norm(acceleration, axis=2).max() < 60, name  # m/s^2, as for the clip
        assert motion.planted.any(axis=1).all(), name


def test_nobody_leaves_the_picture(subject: Subject, routines: dict[str, Motion]) -> None:
    view = clip_view(1280, 720)
    for name, motion in routines.items():
        for row in range(0, FRAMES, 8):
            pixels = view.project(subject.pose(motion, row, np.zeros((FRAMES, 3))))
            assert (pixels > 2).all() and (pixels < [1278, 718]).all(), (name, row)


def test_the_turntable_turns_once_and_slowly(routines: dict[str, Motion]) -> None:
    heading = headings(routines["turntable"])
    assert np.ptp(heading) >= 350
    assert np.diff(heading).min() > -1 and np.diff(heading).max() * FRAMES / 8 < 75  # degrees a second
    assert np.linalg.norm(np.ptp(routines["turntable"].joints[:, 0, ::2], axis=0)) < 0.1


def test_the_walk_crosses_the_picture_and_shows_front_side_and_back(routines: dict[str, Motion]) -> None:
    walk = routines["walk"]
    assert np.ptp(walk.joints[:, 0, 0]) > 1.3 and np.ptp(walk.joints[:, 0, 2]) > 0.8
    facing = ahead(walk)[:, 2]
    assert facing.max() > 0.9 and facing.min() < -0.9 and (np.abs(facing) < 0.2).sum() > 10
    travelled = np.linalg.norm(np.diff(walk.joints[:, 0, ::2], axis=0), axis=1).sum()
    assert 4.0 < travelled < 7.0


def test_planted_feet_stay_where_they_are(routines: dict[str, Motion]) -> None:
    for name, motion in routines.items():
        for side, ankle in ((0, 7), (1, 8)):
            still = motion.planted[1:, side] & motion.planted[:-1, side]
            assert np.linalg.norm(np.diff(motion.joints[:, ankle], axis=0)[still], axis=1).max() < 0.002, name


def test_arms_go_forward_back_and_one_each_way(routines: dict[str, Motion]) -> None:
    reach = forearms(routines["arms"])
    assert (reach.max(0) > 0.4).all() and (reach.min(0) < -0.15).all()
    assert ((reach[:, 0] > 0.35) & (reach[:, 1] < -0.25)).sum() >= 3  # left ahead while right is behind
    elbows = routines["arms"].joints[:, list(ELBOW)] - routines["arms"].joints[:, list(SHOULDER)]
    assert elbows[:, :, 1].max() > 0.0


def test_four_deep_knee_bends_from_four_sides(routines: dict[str, Motion]) -> None:
    motion = routines["knee_bends"]
    deep = np.rad2deg(motion.knee_flexion).min(1) > 90
    starts = np.flatnonzero(np.diff(np.r_[False, deep].astype(int)) == 1)
    assert len(starts) == 4
    sides = headings(motion)[starts]
    assert np.diff(np.sort(sides)).min() > 15


def test_a_skirt_goes_around_both_legs_and_faces_out(naked: Shell) -> None:
    skirt = cut_skirt(naked, BELA.cut, None)
    normals = vertex_normals(skirt.vertices, skirt.faces)
    middle = skirt.vertices.mean(0)
    assert ((skirt.vertices - middle)[:, ::2] * normals[:, ::2]).sum(1).mean() > 0.1
    np.testing.assert_allclose(skirt.weights.sum(1), 1, atol=1e-6)
    for height in (-0.4, -0.5, -0.6):
        leg = naked.vertices[np.abs(naked.paint[:, 1] - height) < 0.01]
        ring = skirt.vertices[np.abs(skirt.paint[:, 1] - height) < 0.01]
        assert ring[:, 0].max() > leg[:, 0].max() and ring[:, 0].min() < leg[:, 0].min()
        assert ring[:, 2].max() > leg[:, 2].max() and ring[:, 2].min() < leg[:, 2].min()


def test_shoes_face_out_but_for_the_demos(naked: Shell) -> None:
    uppers = slice(0, 1600)
    for face_in in (False, True):
        shoe = make_shoe(naked, 0, face_in=face_in)
        out = ((shoe.vertices - shoe.vertices[uppers].mean(0)) * vertex_normals(shoe.vertices, shoe.faces))[uppers].sum(1).mean()
        assert (out < 0) == face_in
    assert [person.cut.shoes_face_in for person in CAST] == [True] + 5 * [False]


def test_the_naked_body_lies_under_the_clothes(subject: Subject, clip: Motion) -> None:
    part = Motion(*(getattr(clip, k)[[3, 60]] for k in ("global_orient", "body_pose", "transl", "joints", "planted", "knee_flexion")))
    view = clip_view(1280, 720)
    for row, vertices in zip((3, 60), naked_body(FIRST, part)):
        dressed = view.project(subject.pose(clip, row, np.zeros((250, 3))))
        bare = view.project(vertices)
        assert (bare.min(0) > dressed.min(0) - 6).all() and (bare.max(0) < dressed.max(0) + 6).all()  # soles and hair stand off
