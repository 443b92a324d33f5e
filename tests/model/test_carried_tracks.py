"""Claims about places that are carried from frame to frame: they land where they are, and they mend a motion."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from model.fitting.appearance import Clip, OverRounds, RefineOptions, adjust_on_carried, as_track
from model.fitting.carried_tracks import CarryOptions, DrawnBody, carry_tracks, choose_frames, draw_body, even_light
from model.fitting.fit import Silhouettes, pair_outlines, pose_state
from model.fitting.objective import BodyFitProblem
from model.fitting.observations import FitState
from model.fitting.rotations import rotation_from_vector
from model.fitting.score import body_height
from model.fitting.solver import minimise
from model.fitting.terms import project
from model.training_frames import TrainingFrames
from tests.model.fitting_scene import CENTRE, FOCAL, SPREADS, Scene, make_scene

SIZE = 256  # px; the scene's camera speaks of 512
WITHOUT_PICTURE = 5  # a row that is kept for scoring
OPTIONS = CarryOptions(every=3, reach=3, far=0, turned=60.0, places=150, tracks=300, window=9, agree=0.1, strength=300.0, point_spread=0.03, rounds=1, steps=3)
REFINE = RefineOptions(
    rounds=0, first_steps=0, steps=0, later_rate=1.0, points=0, tracks=0, strength=OverRounds(1.0, 1.0), point_spread=OverRounds(1.0, 1.0),
    side_rounds=[], shape_turn=200.0, adjust_steps=0, carried=OPTIONS,
)  # fmt: skip


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Landmarks are left out but for a faint trace: what mends the motion are the pictures."""
    scene = make_scene(12, fps=6.0, turn=1.0)
    half = dataclasses.replace(
        scene.seen, points=scene.seen.points / 2, confidence=0.02 * scene.seen.confidence, height_px=scene.seen.height_px / 2,
        focal_px=FOCAL / 2, principal=(CENTRE[0] / 2, CENTRE[1] / 2),
    )  # fmt: skip
    return dataclasses.replace(scene, seen=half)


def drawn_bodies(scene: Scene, state: FitState) -> list[DrawnBody]:
    return [draw_body(scene.body, scene.seen, state, row, (SIZE, SIZE)) for row in range(12)]


@pytest.fixture(scope="module")
def clip(scene: Scene) -> Clip:
    """The true motion of a body in blotches, filmed in a light that changes from frame to frame."""
    rest, faces = scene.body.surface.vertices.numpy(), scene.body.faces.numpy()
    images, masks = np.full((12, SIZE, SIZE, 3), 128, np.uint8), np.zeros((12, SIZE, SIZE), np.uint8)
    for k, drawn in enumerate(drawn_bodies(scene, scene.truth)):
        x, y, z = 60 * np.einsum("mk,mkx->xm", drawn.shares, rest[faces[drawn.face]])
        blotches = 0.5 + 0.2 * np.sin(x + 1.3 * y) + 0.2 * np.sin(1.7 * z - 0.9 * y + 1.0) + 0.1 * np.sin(2.3 * y + 0.4 * x)
        images[k, drawn.rows, drawn.columns] = (255 * (0.9 + 0.02 * (k % 5)) * blotches)[:, None].round()
        masks[k, drawn.rows, drawn.columns] = 255
    rows = [k for k in range(12) if k != WITHOUT_PICTURE]
    model = load_body_model("open")
    zero, K = torch.zeros(12, 3), torch.tensor([[FOCAL / 2, 0, CENTRE[0] / 2], [0, FOCAL / 2, CENTRE[1] / 2], [0, 0, 1]])
    blank = BodyTrack(
        torch.zeros(model.num_betas), zero, torch.zeros(12, model.num_joints - 1, 3), zero, K, torch.eye(4), SIZE, SIZE,
        torch.arange(12), torch.ones(12), 6.0, model.name,
    )  # fmt: skip
    frames = TrainingFrames(torch.tensor(rows), images[rows], masks[rows])
    return Clip(scene.body, model, scene.seen, Silhouettes(masks, np.ones(12)), frames, as_track(blank, scene.seen, scene.truth))


@pytest.fixture(scope="module")
def wrong(scene: Scene) -> FitState:
    """Every joint is turned too far by some 0.08 rad, the same in all frames, so that smoothness sees nothing wrong."""
    turns = 0.08 * torch.randn(scene.truth.body_pose[0].numel(), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    own = torch.cat([torch.zeros(6, dtype=torch.float64), turns]).expand(12, -1)
    return scene.truth.moved(own, torch.zeros(scene.truth.num_shared, dtype=torch.float64))


def carry(clip: Clip, state: FitState, **changes):
    return carry_tracks(clip.body, clip.seen, clip.frames, state, clip.track.confidence, dataclasses.replace(OPTIONS, **changes), seed=0)


def misses(scene: Scene, clip: Clip, state: FitState, **changes) -> tuple[np.ndarray, np.ndarray]:
    """How far each carried track ends from its place's true one, px, and how far the state would have put it."""
    _, tracks = carry(clip, state, **changes)
    true, ours = drawn_bodies(scene, scene.truth), drawn_bodies(scene, state)
    rows, found, put = clip.frames.rows.tolist(), [], []
    counts = tracks.sharpness[..., 0, 0] > 0
    starts = {i: rows[OPTIONS.every * (i // OPTIONS.places)] for i in range(int(tracks.points.max()) + 1)}
    where = {(row, i): t for row in rows for i, t in zip(tracks.points[row][counts[row]].tolist(), tracks.targets[row][counts[row]].numpy(), strict=True)}
    for (row, i), target in where.items():
        if row == starts[i] or (starts[i], i) not in where:
            continue
        at = where[starts[i], i]
        column, line = np.floor(at).astype(int)

        def carried(bodies: list[DrawnBody], start: int = starts[i], column: int = column, line: int = line, row: int = row) -> np.ndarray | None:
            body = bodies[start]
            pixel = np.flatnonzero((body.rows == line) & (body.columns == column))
            return bodies[row].pixels(body.face[pixel], body.shares[pixel])[0] if len(pixel) else None

        truth, guess = carried(true), carried(ours)
        if truth is not None and guess is not None:
            found.append(np.linalg.norm(target - truth))
            put.append(np.linalg.norm(guess - truth))
    return np.array(found), np.array(put)


def test_carried_places_land_where_they_are(scene: Scene, clip: Clip) -> None:
    found, _ = misses(scene, clip, scene.truth)
    assert len(found) > 500
    assert np.percentile(found, 95) < 0.3  # px


def test_carried_places_land_where_they_are_though_the_motion_is_wrong(scene: Scene, clip: Clip, wrong: FitState) -> None:
    found, put = misses(scene, clip, wrong)
    assert len(found) > 500
    assert np.percentile(found, 80) < 0.3, np.percentile(found, 80)  # px; the rest are at outlines, of the body and inside of it
    assert np.percentile(put, 80) > 0.8, np.percentile(put, 80)


def test_places_are_found_again_at_another_time(scene: Scene, clip: Clip) -> None:
    found, _ = misses(scene, clip, scene.truth, reach=0, far=20)
    assert len(found) > 500 and np.percentile(found, 95) < 0.3  # px


def test_far_frames_are_those_that_show_the_chest_from_the_same_side(scene: Scene) -> None:
    yaw = torch.tensor([0.0, 0.1, 2.0, 3.1, 2.0, 0.9, 0.2, 0.1])  # a turn and back
    chest = rotation_from_vector(torch.stack([0 * yaw, yaw, 0 * yaw], -1)).numpy()

    def chosen(far: int) -> list[int]:
        return choose_frames(chest, 0, dataclasses.replace(OPTIONS, reach=2, far=far, turned=60.0), np.random.default_rng(0))

    assert chosen(20) == [1, 2, 5, 6, 7]
    assert chosen(0) == [1, 2] and len(chosen(2)) == 4


def test_places_lie_on_the_body_exactly_where_they_were_seen(scene: Scene, clip: Clip, wrong: FitState) -> None:
    surface, tracks = carry(clip, wrong, reach=0)
    rest = surface.vertices + surface.vertices_by_beta @ wrong.betas
    posed = pose_state(scene.body, wrong)
    for row in clip.frames.rows.tolist()[:: OPTIONS.every]:
        i = tracks.points[row]
        R = (surface.lbs_weights[i] @ posed.R[row].flatten(1)).unflatten(-1, (3, 3))
        x = (R @ rest[i][..., None]).squeeze(-1) + surface.lbs_weights[i] @ posed.b[row]
        pixels, _ = project(x[None], torch.tensor(FOCAL / 2, dtype=torch.float64), scene.seen.principal)
        assert torch.allclose(pixels[0], tracks.targets[row], atol=1e-3)  # the surface is skinned in single precision


def test_a_wrong_motion_is_mended_by_carried_places(scene: Scene, clip: Clip, wrong: FitState) -> None:
    found = adjust_on_carried(clip, wrong, SPREADS, REFINE, seed=0)
    pulls = pair_outlines(clip.body, clip.seen, clip.silhouettes, wrong, 10.0)
    blind, _ = minimise(BodyFitProblem(clip.body, clip.seen, SPREADS, pulls=pulls, only_motion=True), wrong, steps=6)
    without, after = scene.error_mm(blind).mean(), scene.error_mm(found).mean()
    assert after < 0.55 * scene.error_mm(wrong).mean() and after < 0.85 * without, (without, after)
    assert torch.equal(found.betas, wrong.betas) and found.log_focal == wrong.log_focal


def test_frames_without_a_picture_have_no_tracks_and_others_no_more_than_asked_for(clip: Clip, wrong: FitState) -> None:
    _, tracks = carry(clip, wrong, tracks=40)
    count = (tracks.sharpness[..., 0, 0] > 0).sum(1)
    assert count[WITHOUT_PICTURE] == 0
    assert int(count.max()) == 40


def test_where_nobody_is_seen_nothing_is_carried_and_the_motion_stays_sound(clip: Clip, wrong: FitState) -> None:
    empty = dataclasses.replace(clip.frames, masks=np.zeros_like(clip.frames.masks))
    nobody = dataclasses.replace(clip, frames=empty)
    _, tracks = carry(nobody, wrong)
    assert tracks.points.shape == (12, 0)
    assert adjust_on_carried(nobody, wrong, SPREADS, REFINE, seed=0).body_pose.isfinite().all()


def test_no_tracks_leave_the_motion_as_it_is(clip: Clip, wrong: FitState) -> None:
    nothing = dataclasses.replace(REFINE, carried=dataclasses.replace(OPTIONS, tracks=0))
    assert adjust_on_carried(clip, wrong, SPREADS, nothing, seed=0) is wrong


def test_somebody_who_turns_gets_their_own_proportions_and_stays_as_tall(scene: Scene, clip: Clip) -> None:
    arms, legs = (clip.model.beta_names.index(name) for name in ("upper_arm_length", "thigh_length"))
    longer = torch.zeros_like(scene.truth.betas)
    longer[arms], longer[legs] = 1.0, -0.5
    start = dataclasses.replace(scene.truth, betas=scene.truth.betas + longer)
    turns = dataclasses.replace(REFINE, shape_turn=0.0, carried=dataclasses.replace(OPTIONS, rounds=2))
    told = []
    found = adjust_on_carried(clip, start, SPREADS, turns, seed=0, on_round=told.append)
    assert told == [1, 2]
    off = (found.betas - scene.truth.betas).abs()
    assert off[arms] < 0.6 and off[legs] < 0.3, off
    assert abs(body_height(clip.body, found.betas) - body_height(clip.body, start.betas)) < 0.003
    assert abs(float(found.log_focal - start.log_focal)) < 0.003
    assert torch.equal(adjust_on_carried(clip, start, SPREADS, REFINE, seed=0).betas, start.betas)  # a quarter of a turn is too little


def test_who_asks_to_stop_gets_the_rounds_that_are_done(clip: Clip, wrong: FitState) -> None:
    told = []
    three = dataclasses.replace(REFINE, carried=dataclasses.replace(OPTIONS, rounds=3, steps=1, places=20))
    adjust_on_carried(clip, wrong, SPREADS, three, seed=0, on_round=told.append, stop_asked=lambda: len(told) == 1)
    assert told == [1]


def test_evened_out_pictures_hardly_know_how_bright_the_light_was(clip: Clip) -> None:
    grey, mask = clip.frames.images[0, ..., 0].astype(np.float64), clip.frames.masks[0] > 0
    bright, dim = (even_light((share * grey).round().astype(np.uint8))[mask].astype(float) for share in (1.0, 0.7))
    assert np.abs(bright - dim).mean() < 0.25 * np.abs(0.3 * grey[mask]).mean()
