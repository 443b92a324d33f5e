"""The person: what the fitter cannot know of them, and that they hold together in every pose."""

from __future__ import annotations

import numpy as np
import torch

from demo.cameras import cameras_around, clip_view
from demo.garments import above_hairline
from demo.mesh_renderer import View, visible_faces
from demo.motion import Motion
from demo.people import FIRST, make_light, make_person
from demo.studio import light_moment, photograph
from demo.subject import HAIR, SHIRT, SHOES, SKIN, TROUSERS, Subject, build_subject, fold_strength, hem_swing
from model.body.bone_lengths import BONE_LENGTHS
from model.body.body_model import load_body_model

ROWS = (3, 40, 124, 155, 196, 225)  # standing, turning, arms forward and across, crouching, bending


def test_bones_lie_outside_of_the_shapes_that_the_open_body_was_baked_with(subject: Subject) -> None:
    model = load_body_model("open")
    own = subject.skeleton.joints - subject.skeleton.joints[0]
    mean = (model.j_template - model.j_template[0]).double()
    baked = model.j_shapedirs[..., : model.num_betas - len(BONE_LENGTHS)]
    span = (baked - baked[:1]).double().flatten(0, 1)
    residual = torch.tensor(own).reshape(-1) - mean.reshape(-1)
    best = torch.linalg.lstsq(span, residual[:, None]).solution
    left = (residual[:, None] - span @ best).reshape(-1, 3).norm(dim=1)
    assert left.max() > 0.005 and left.max() < 0.08


def test_every_part_is_there_and_clothes_stand_off(subject: Subject) -> None:
    assert set(subject.part) == {SKIN, SHIRT, TROUSERS, HAIR, SHOES}
    np.testing.assert_allclose(subject.weight.sum(axis=1), 1, atol=1e-5)
    assert 1.5 < subject.height < 2.0
    hips = np.abs(subject.rest[:, 1] + 0.24) < 0.02
    shirt, trousers = (np.abs(subject.rest[hips & (subject.part == part)][:, 0]).max() for part in (SHIRT, TROUSERS))
    assert shirt > trousers + 0.003


def test_folds_come_with_the_joints(clip: Motion) -> None:
    standing, crouching = fold_strength(clip.body_pose[3]), fold_strength(clip.body_pose[196])
    assert (crouching[-4:] > 0.6).all() and (standing[-4:] < 0.2).all()
    assert fold_strength(clip.body_pose[225])[2] > standing[2] + 0.3


def test_joints_project_into_the_person(subject: Subject, clip: Motion) -> None:
    view = clip_view(320, 180)
    swing, light = hem_swing(clip, 25), make_light(0)
    inner = [0, 1, 2, 3, 4, 5, 6, 9, 12, 15, 16, 17, 18, 19]
    for row in ROWS:
        _, alpha = photograph(subject, light_moment(subject, subject.pose(clip, row, swing), light), light, view, samples=1)
        columns, rows = np.floor(view.project(clip.joints[row, inner])).astype(int).T
        assert (alpha[rows, columns] > 0).mean() > 0.99


def test_the_person_stays_in_every_picture(subject: Subject, clip: Motion, second: Motion) -> None:
    views = {"clip": clip_view(1280, 720), **cameras_around(6, 512)}
    for row in (*ROWS, 171, 175, 180, 189, 246):  # the highest and the widest ones too
        vertices = subject.pose(clip, row, np.zeros((250, 3)))
        for view in views.values():
            pixels = view.project(vertices)
            assert (pixels > 2).all() and (pixels < [view.width - 2, view.height - 2]).all()


def test_the_person_is_560_to_640_pixels_tall_in_the_clip(subject: Subject, clip: Motion) -> None:
    pixels = clip_view(1280, 720).project(subject.pose(clip, 0, np.zeros((250, 3))))
    assert 560 < np.ptp(pixels[:, 1]) < 640


def test_cameras_see_all_sides_and_from_above_and_below() -> None:
    eyes = np.array([view.position for view in cameras_around(6, 512).values()])
    assert eyes[:, 1].max() > 2.5 and eyes[:, 1].min() < 0.6
    assert eyes[:, 2].min() < -3 and eyes[:, 0].max() > 3 and eyes[:, 0].min() < -3
    assert len(cameras_around(9, 512)) == 9


def test_a_turned_person_changes_shade(subject: Subject, clip: Motion) -> None:
    """The same leg of the trousers, seen by a camera that turns with the person."""
    light, swing = make_light(0), np.zeros((250, 3))

    def brightness(row: int) -> float:
        c, s = np.cos(clip_heading(clip, row)), np.sin(clip_heading(clip, row))
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        front = clip_view(320, 180)
        w2c = front.w2c.copy()
        w2c[:3, :3] = front.w2c[:3, :3] @ turn.T
        view = View(front.K, w2c, 320, 180)
        moment = light_moment(subject, subject.pose(clip, row, swing), light)
        seen = visible_faces(moment.lit.vertices, subject.skin, view, 1)
        color, _ = photograph(subject, moment, light, view, samples=1)
        legs = (seen.face >= 0) & (subject.skin.material[np.maximum(seen.face, 0)] == TROUSERS)
        return float(color[legs].mean())

    lit, dark = brightness(3), brightness(60)
    assert abs(lit - dark) > 0.2 * max(lit, dark)


def clip_heading(motion: Motion, row: int) -> float:
    angle = np.linalg.norm(motion.global_orient[row])
    return float(np.sign(motion.global_orient[row, 1]) * angle)


def test_a_seed_repeats_its_person(subject: Subject) -> None:
    again = build_subject(make_person(0), texture_size=128)
    np.testing.assert_array_equal(again.rest, subject.rest)
    np.testing.assert_array_equal(again.skin.textures, subject.skin.textures)


def test_other_seeds_are_other_people() -> None:
    people = [make_person(seed) for seed in range(6)]
    assert people[0] is FIRST and make_person(3) == make_person(3)
    assert len({person.betas for person in people}) == 6
    assert len({person.palette.shirt for person in people}) == 6
    lights = [tuple(make_light(seed).to_key) for seed in range(4)]
    assert len(set(lights)) == 4
    for seed in range(4):
        assert np.linalg.norm(make_light(seed).to_key) == np.float32(1) or abs(np.linalg.norm(make_light(seed).to_key) - 1) < 1e-6


def test_the_hairline_has_a_bare_forehead_and_a_covered_crown() -> None:
    forehead, crown, cheek, nape = np.array([[[0, 0.44, 0.185]], [[0, 0.50, 0.08]], [[0.06, 0.36, 0.13]], [[0, 0.34, 0.0]]])
    assert above_hairline(forehead)[0] < 0 < above_hairline(crown)[0]
    assert above_hairline(cheek)[0] < 0 < above_hairline(nape)[0]
