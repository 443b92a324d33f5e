"""A motion that was fitted wrongly comes nearer to the truth by what the person looks like."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.avatar import Attributes, Avatar, AvatarOptions
from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from model.fitting.appearance import Clip, OverRounds, RefineOptions, Round, as_track, refine_on_appearance, reshape, tracked_surface, turn_sides
from model.fitting.carried_tracks import CarryOptions
from model.fitting.fit import Silhouettes, pair_outlines, pose_state
from model.fitting.held_out import heldout_psnr
from model.fitting.objective import BodyFitProblem
from model.fitting.observations import FitState
from model.fitting.rotations import unit
from model.fitting.score import body_height
from model.fitting.sides import Pictures, bring_back, choose_sides, mirrored_ways, settled_ways
from model.fitting.solver import minimise
from model.fitting.starts import LIMBS
from model.pose import track_pose
from model.render import rasterize as interface
from model.training_frames import TrainingFrames
from model.uv.atlas import bake_atlas, body_surface
from tests.conftest import NETWORK, RATES, TRAINING
from tests.model.cuda_packages import FAKE_PACKAGES
from tests.model.fitting_scene import CENTRE, FOCAL, SPREADS, Scene, make_scene
from tests.model.second_device import second_device

SIZE = 256  # px; the scene's camera speaks of 512
OPTIONS = RefineOptions(
    rounds=3, first_steps=80, steps=30, later_rate=0.5, points=600, tracks=200, strength=OverRounds(200.0, 300.0),
    point_spread=OverRounds(0.03, 0.02), side_rounds=[1], shape_turn=0.0, adjust_steps=3,
    carried=CarryOptions(every=3, reach=3, far=0, turned=60.0, places=0, tracks=0, window=9, agree=0.1, strength=300.0, point_spread=0.03, rounds=1, steps=0),
)  # fmt: skip


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Landmarks are left out but for a faint trace: what mends the motion is the look."""
    scene = make_scene(12, fps=6.0, turn=1.5)
    half = dataclasses.replace(
        scene.seen, points=scene.seen.points / 2, confidence=0.02 * scene.seen.confidence, height_px=scene.seen.height_px / 2,
        focal_px=FOCAL / 2, principal=(CENTRE[0] / 2, CENTRE[1] / 2),
    )  # fmt: skip
    return dataclasses.replace(scene, seen=half)


@pytest.fixture(scope="module")
def model():
    return load_body_model("open")


def blank_track(scene: Scene, model) -> BodyTrack:
    count = len(scene.seen.times)
    K = torch.tensor([[FOCAL / 2, 0, CENTRE[0] / 2], [0, FOCAL / 2, CENTRE[1] / 2], [0, 0, 1]])
    zero = torch.zeros(count, 3)
    return BodyTrack(
        torch.zeros(model.num_betas), zero, torch.zeros(count, model.num_joints - 1, 3), zero, K, torch.eye(4), SIZE, SIZE,
        torch.arange(count), torch.ones(count), 6.0, model.name,
    )  # fmt: skip


def new_avatar(model, betas: torch.Tensor) -> Avatar:
    torch.manual_seed(0)
    atlas = bake_atlas(body_surface(model, betas.float()), resolution=72, map_resolution=32, density=None)
    return Avatar(atlas, AvatarOptions(NETWORK, "none", None, 0.2), body=model.name, betas=betas.float())


@pytest.fixture(scope="module")
def painted(scene: Scene, model) -> tuple[Avatar, Attributes]:
    """A person in blotches."""
    avatar = new_avatar(model, scene.truth.betas)
    x, y, z = (45 * avatar.atlas_points_rest).T
    blotches = 0.5 + 0.2 * torch.sin(x + 1.3 * y) + 0.2 * torch.sin(1.7 * z - 0.9 * y + 1.0) + 0.1 * torch.sin(2.3 * y)
    paint = torch.stack([blotches, 0.8 * blotches, 1 - blotches], -1).clamp(0, 1)
    return avatar, Attributes(torch.zeros_like(avatar.atlas_points_rest), paint, 0.7 * avatar.atlas_spacing)


@pytest.fixture(scope="module")
def clip(scene: Scene, model, painted: tuple[Avatar, Attributes]) -> Clip:
    """The true motion, filmed."""
    track = as_track(blank_track(scene, model), scene.seen, scene.truth)
    avatar, look = painted
    images, masks = [], []
    for row in range(track.num_frames):
        with torch.no_grad():
            drawn = avatar.render(track_pose(track, row), track.camera, torch.zeros(3), backend="cpu", attributes=look)
        images.append((drawn.image.clamp(0, 1) * 255).byte().numpy())
        masks.append((drawn.alpha.clamp(0, 1) * 255).byte().numpy())
    frames = TrainingFrames(torch.arange(track.num_frames), np.stack(images), np.stack(masks))
    silhouettes = Silhouettes(np.stack(masks), np.ones(track.num_frames))
    return Clip(scene.body, model, scene.seen, silhouettes, frames, track)


def fitted_wrongly(truth: FitState) -> FitState:
    """Every joint is turned too far by some 0.08 rad, the same in all frames, so that smoothness sees nothing wrong."""
    generator = torch.Generator().manual_seed(5)
    turns = 0.08 * torch.randn(truth.body_pose[0].numel(), generator=generator, dtype=torch.float64)
    own = torch.cat([torch.zeros(6, dtype=torch.float64), turns]).expand(len(truth.transl), -1)
    return truth.moved(own, torch.zeros(truth.num_shared, dtype=torch.float64))


def refine(clip: Clip, scene: Scene, state: FitState, model, **changes) -> FitState:
    training = dataclasses.replace(TRAINING, rates=dataclasses.replace(RATES, networks=1e-2, features=2e-2, texel_colors=3e-2))
    avatar = new_avatar(model, state.betas)
    return refine_on_appearance(clip, avatar, state, SPREADS, training, OPTIONS, backend="cpu", seed=0, **changes)


def sides_chosen(
    clip: Clip, scene: Scene, painted: tuple[Avatar, Attributes], state: FitState, adjusted: FitState, *, rows: list[int]
) -> tuple[FitState, int, FitState]:
    """The sides that the frames of some rows choose, in how many frames, and the motion that was to be adjusted."""
    avatar, look = painted
    frames = TrainingFrames(clip.frames.rows[rows], clip.frames.images[rows], clip.frames.masks[rows])
    pictures = Pictures(frames, as_track(clip.track, scene.seen, state), avatar, look, "cpu")
    asked: list[FitState] = []

    def adjust(motion: FitState) -> FitState:
        asked.append(motion)
        return adjusted

    return *choose_sides(scene.body, scene.seen, SPREADS, state, pictures, adjust, lambda motion: pictures), asked[0]


def test_a_forearm_on_the_wrong_side_is_put_right_by_its_drawing_also_where_there_is_no_frame(clip: Clip, scene: Scene, painted) -> None:
    elbow, wrong = LIMBS[0].joints[1] - 1, [4, 5, 6, 7]
    mirrored = scene.truth.body_pose.clone()
    mirrored[wrong] = mirrored_ways(scene.body, scene.truth, LIMBS[0])[1][wrong]
    start = dataclasses.replace(scene.truth, body_pose=mirrored)
    chosen, changed, other = sides_chosen(clip, scene, painted, start, scene.truth, rows=[k for k in range(12) if k != 5])
    before, offered, after = (scene.error_mm(state)[wrong, 20] for state in (start, other, chosen))
    assert before.min() > 90 and (offered < 0.6 * before).all() and after.max() < 1, (before, offered, after)
    assert changed == len(wrong)
    assert torch.equal(chosen.body_pose[:4, elbow], scene.truth.body_pose[:4, elbow])


def test_each_of_two_motions_is_drawn_by_the_look_that_has_learned_on_it(clip: Clip, scene: Scene, painted) -> None:
    avatar, look = painted
    spoilt = dataclasses.replace(look, albedo=1 - look.albedo)
    mirrored = scene.truth.body_pose.clone()
    mirrored[4:8] = mirrored_ways(scene.body, scene.truth, LIMBS[0])[1][4:8]
    start = dataclasses.replace(scene.truth, body_pose=mirrored)

    def chosen(look_of_wrong: Attributes, look_of_right: Attributes) -> int:
        def learn_on(motion: FitState) -> Pictures:
            learned = look_of_right if motion is scene.truth else look_of_wrong
            return Pictures(clip.frames, as_track(clip.track, scene.seen, start), avatar, learned, "cpu")

        return choose_sides(scene.body, scene.seen, SPREADS, start, learn_on(start), lambda _: scene.truth, learn_on)[1]

    assert chosen(look_of_wrong=spoilt, look_of_right=look) == 4
    assert chosen(look_of_wrong=look, look_of_right=spoilt) == 0


def test_looks_learn_on_both_motions_in_the_first_choice_of_sides_alone(clip: Clip, scene: Scene, model, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[bool] = []

    def turn(clip, avatar, attributes, state, *_, relearn, **__):
        learned.append(relearn)
        return state

    monkeypatch.setattr("model.fitting.appearance.turn_sides", turn)
    options = dataclasses.replace(OPTIONS, rounds=2, first_steps=2, steps=1, adjust_steps=1, side_rounds=[0, 1])
    refine_on_appearance(clip, new_avatar(model, scene.truth.betas), scene.truth, SPREADS, TRAINING, options, backend="cpu", seed=0)
    assert learned == [True, False]


def test_an_arm_that_was_lost_for_a_frame_is_brought_back(clip: Clip, scene: Scene, painted) -> None:
    avatar, look = painted
    lost = scene.truth.body_pose.clone()
    lost[6, LIMBS[0].joints[0] - 1, 2] += 2.0  # thrown up
    start = dataclasses.replace(scene.truth, body_pose=lost)
    chosen = turn_sides(clip, avatar, look, start, SPREADS, TRAINING, OPTIONS, strength=200.0, point_spread=0.03, relearn=True, seed=0, backend="cpu")
    assert scene.error_mm(start)[6, 20] > 400 and scene.error_mm(chosen)[6, 20] < 120


def test_limbs_on_the_right_side_stay(clip: Clip, scene: Scene, painted) -> None:
    mirrored = dataclasses.replace(scene.truth, body_pose=mirrored_ways(scene.body, scene.truth, LIMBS[0])[1])
    chosen, changed, _ = sides_chosen(clip, scene, painted, scene.truth, mirrored, rows=list(range(12)))
    assert changed == 0 and torch.equal(chosen.body_pose, scene.truth.body_pose)


@pytest.mark.parametrize("known", [True, False], ids=["as it was before", "mirrored"])
def test_an_arm_that_the_last_adjustments_swung_away_comes_back(clip: Clip, scene: Scene, painted, known: bool) -> None:
    avatar, look = painted
    lost, wrong = scene.truth.body_pose.clone(), [2, 3, 4]
    lost[wrong] = mirrored_ways(scene.body, scene.truth, LIMBS[0])[1][wrong]
    state = dataclasses.replace(scene.truth, body_pose=lost)
    pictures = Pictures(clip.frames, as_track(clip.track, scene.seen, state), avatar, look, "cpu")
    found, changed = bring_back(scene.body, scene.seen, SPREADS, state, scene.truth.body_pose if known else lost, pictures)
    off, was = scene.error_mm(found)[wrong, 20], scene.error_mm(state)[wrong, 20]
    assert changed == len(wrong) and (off < (1 if known else 0.6 * was)).all() and was.min() > 100, (off, was)
    right = [k for k in range(12) if k not in wrong]
    assert torch.equal(found.body_pose[right], scene.truth.body_pose[right])


def test_an_adjusted_arm_stays_where_no_picture_speaks_though_another_way_is_more_usual(clip: Clip, scene: Scene, painted) -> None:
    avatar, look = painted
    lost, wrong = scene.truth.body_pose.clone(), [2, 3, 4]
    lost[wrong] = mirrored_ways(scene.body, scene.truth, LIMBS[0])[1][wrong]
    state = dataclasses.replace(scene.truth, body_pose=lost)
    none = TrainingFrames(clip.frames.rows[:0], clip.frames.images[:0], clip.frames.masks[:0])
    pictures = Pictures(none, as_track(clip.track, scene.seen, state), avatar, look, "cpu")
    found, changed = bring_back(scene.body, scene.seen, SPREADS, state, lost, pictures)
    assert changed == 0 and torch.equal(found.body_pose, lost)


def test_an_adjusted_arm_stays_where_no_other_way_is_drawn_better(clip: Clip, scene: Scene, painted) -> None:
    avatar, look = painted
    pictures = Pictures(clip.frames, clip.track, avatar, look, "cpu")
    other = mirrored_ways(scene.body, scene.truth, LIMBS[0])[1]
    found, changed = bring_back(scene.body, scene.seen, SPREADS, scene.truth, other, pictures)
    assert changed == 0 and torch.equal(found.body_pose, scene.truth.body_pose)


def test_a_mirrored_arm_stays_on_its_side_while_it_settles_though_another_is_usual() -> None:
    scene, limb = make_scene(12, fps=6.0), LIMBS[0]
    ways = settled_ways(scene.body, scene.seen, dataclasses.replace(SPREADS, landmark=0.02, prior=0.6), scene.truth, limb)

    def slope_and_place(pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        joints = pose_state(scene.body, dataclasses.replace(scene.truth, body_pose=pose)).joints
        shoulder, elbow = joints[:, limb.joints[0]], joints[:, limb.joints[1]]
        return (unit(elbow - shoulder) * unit(shoulder)).sum(-1), FOCAL * elbow[:, :2] / elbow[:, 2:]

    (true, drawn), (mirrored, drawn_mirrored) = (slope_and_place(pose) for pose in (scene.truth.body_pose, ways[1]))
    assert (true < -0.15).all() and (mirrored > 0.05).all(), (true, mirrored)
    assert (drawn - drawn_mirrored).norm(dim=-1).max() < 0.03 * scene.seen.height_px


@pytest.mark.slow
def test_a_wrong_motion_is_mended_by_the_look(clip: Clip, scene: Scene, model) -> None:
    start = fitted_wrongly(scene.truth)
    rounds: list[Round] = []
    found = refine(clip, scene, start, model, on_round=rounds.append)
    pulls = pair_outlines(clip.body, clip.seen, clip.silhouettes, start, 10.0)
    blind, _ = minimise(BodyFitProblem(clip.body, clip.seen, SPREADS, pulls=pulls), start, steps=6)
    without, after = scene.error_mm(blind).mean(), scene.error_mm(found).mean()
    assert after < 0.85 * without, (without, after)
    assert [r.number for r in rounds] == [0, 1, 2]
    assert rounds[1].off_px < rounds[0].off_px


def test_a_height_that_one_camera_cannot_see_stays_as_fitted(clip: Clip, scene: Scene, model) -> None:
    rest, by_beta = scene.body.surface.vertices[:, 1], scene.body.surface.vertices_by_beta[:, 1]
    taller = by_beta[rest.argmax()] - by_beta[rest.argmin()]
    betas = 0.1 * taller / (taller**2).sum()  # 10 cm
    share = body_height(scene.body, betas) / body_height(scene.body, torch.zeros_like(betas))
    pelvis, to_pelvis = scene.body.skeleton.joints[0], scene.body.skeleton.joints_by_beta[0] @ betas
    tall = dataclasses.replace(scene.truth, betas=betas, transl=share * (scene.truth.transl + pelvis) - pelvis - to_pelvis)  # looks nearly the same
    known = dataclasses.replace(clip, track=as_track(clip.track, scene.seen, tall))
    options = dataclasses.replace(OPTIONS, rounds=1, first_steps=20, side_rounds=[], adjust_steps=5)
    found = refine_on_appearance(known, new_avatar(model, betas), tall, SPREADS, TRAINING, options, backend="cpu", seed=0)
    assert not torch.equal(found.betas, betas)  # its proportions were adjusted
    assert body_height(scene.body, found.betas) == pytest.approx(body_height(scene.body, betas), abs=0.003)


def test_the_true_motion_tells_more_of_frames_that_nobody_learned_from(clip: Clip, scene: Scene, model) -> None:
    every = clip.frames
    learned, kept = (TrainingFrames(every.rows[part], every.images[part], every.masks[part]) for part in (slice(0, None, 2), slice(1, None, 2)))
    half = dataclasses.replace(clip, frames=learned)
    training = dataclasses.replace(TRAINING, rates=dataclasses.replace(RATES, networks=1e-2, features=2e-2, texel_colors=3e-2))
    options = dataclasses.replace(OPTIONS, first_steps=30)

    def told(state: FitState) -> np.ndarray | None:
        track = as_track(clip.track, scene.seen, state)
        return heldout_psnr(half, kept, new_avatar(model, state.betas), track, training, options, backend="cpu", seed=0, stop_asked=lambda: False)

    motion = ("root", "transl", "body_pose")
    wrong = fitted_wrongly(scene.truth)
    right_where_kept = dataclasses.replace(wrong, **{name: getattr(wrong, name).index_copy(0, kept.rows, getattr(scene.truth, name)[kept.rows]) for name in motion})
    of_wrong = told(wrong)
    assert told(scene.truth).mean() > of_wrong.mean() + 0.5  # dB
    assert np.array_equal(told(right_where_kept), of_wrong)  # how closely kept frames themselves were fitted does not count


def test_a_value_goes_from_its_first_to_its_last_by_equal_factors() -> None:
    value = OverRounds(0.04, 0.01)
    assert [value.at(number, 3) for number in range(3)] == pytest.approx([0.04, 0.02, 0.01])
    assert value.at(0, 1) == 0.04


def test_going_on_after_a_round_equals_never_having_stopped(clip: Clip, scene: Scene, model) -> None:
    start = fitted_wrongly(scene.truth)
    training = TRAINING
    whole = new_avatar(model, start.betas)
    options = dataclasses.replace(OPTIONS, first_steps=3, steps=2, adjust_steps=1)

    def run(avatar: Avatar, state: FitState, **changes) -> FitState:
        return refine_on_appearance(clip, avatar, state, SPREADS, training, options, backend="cpu", seed=0, **changes)

    at_once = run(whole, start)
    parted, kept = new_avatar(model, start.betas), []
    run(parted, start, on_round=kept.append, stop_asked=lambda: bool(kept))
    assert len(kept) == 1
    twin = new_avatar(model, start.betas)
    twin.load_state_dict(parted.state_dict())
    later = run(twin, kept[0].state, first_round=1)
    assert torch.equal(later.body_pose, at_once.body_pose)
    assert torch.equal(later.betas, at_once.betas)


def test_shape_and_focal_length_stay_where_the_person_hardly_turns(clip: Clip, scene: Scene, model) -> None:
    start = fitted_wrongly(scene.truth)
    options = dataclasses.replace(OPTIONS, rounds=1, first_steps=3, adjust_steps=1, shape_turn=300.0)
    found = refine_on_appearance(clip, new_avatar(model, start.betas), start, SPREADS, TRAINING, options, backend="cpu", seed=0)
    assert torch.equal(found.betas, start.betas) and found.log_focal == start.log_focal
    assert not torch.equal(found.body_pose, start.body_pose)


def test_a_reshaped_avatar_lies_on_the_new_body(model) -> None:
    betas = 0.5 * torch.ones(model.num_betas)
    avatar = new_avatar(model, torch.zeros(model.num_betas))
    reshape(avatar, model, betas)
    vertices, joints = model.rest(betas)
    corners, shares = model.faces[avatar.atlas_face], avatar.atlas_barycentric
    wanted = (vertices[corners] * shares[..., None]).sum(1)
    assert torch.allclose(avatar.atlas_points_rest, wanted.float(), atol=1e-5)
    assert torch.allclose(avatar.atlas_joints_rest, joints.float(), atol=1e-5)
    assert torch.allclose(avatar.atlas_normals_rest.norm(dim=-1), torch.ones(avatar.atlas.num_points), atol=1e-5)


def test_the_tracked_surface_moves_as_the_avatar_does(clip: Clip, scene: Scene, model) -> None:
    avatar = new_avatar(model, scene.truth.betas)
    with torch.no_grad():
        attributes = avatar.attributes()
    rows = torch.arange(0, avatar.atlas.num_points, 50)
    surface = tracked_surface(model, avatar, attributes, scene.truth.betas, rows)
    posed = pose_state(scene.body, scene.truth)
    rest = surface.vertices + surface.vertices_by_beta @ scene.truth.betas
    R = torch.einsum("pk,fkxy->fpxy", surface.lbs_weights, posed.R)
    x = (R @ rest[..., None]).squeeze(-1) + torch.einsum("pk,fkx->fpx", surface.lbs_weights, posed.b)
    pose = track_pose(clip.track, 0)
    transforms = avatar.joint_transforms(pose)[avatar.atlas_skin_joints[rows], :3]
    blended = (transforms * avatar.atlas_skin_weights[rows, :, None, None]).sum(1)
    drawn = (blended[:, :, :3] @ (avatar.atlas_points_rest + attributes.offsets)[rows, :, None]).squeeze(-1) + blended[:, :, 3]
    assert torch.allclose(x[0].float(), drawn, atol=1e-4)


def test_the_look_may_lie_apart_from_the_cpu(clip: Clip, scene: Scene, model, monkeypatch: pytest.MonkeyPatch) -> None:
    """One round with sides chosen, and what judges it, on a device that refuses tensors of another, as a GPU does."""
    monkeypatch.setattr(interface, "choose_backend", lambda wanted, device: "cpu" if torch.device(device).type == "cpu" else "gsplat")
    monkeypatch.setattr(interface, "importlib", SimpleNamespace(import_module=FAKE_PACKAGES.__getitem__))
    monkeypatch.setattr(sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda parameter: None)  # it knows real devices only
    options = dataclasses.replace(OPTIONS, rounds=1, first_steps=2, side_rounds=[0])
    with second_device() as there:
        avatar = new_avatar(model, scene.truth.betas).to(there)
        found = refine_on_appearance(clip, avatar, scene.truth, SPREADS, TRAINING, options, backend="auto", seed=0)
        judged = heldout_psnr(
            clip, clip.frames, new_avatar(model, scene.truth.betas).to(there), as_track(clip.track, scene.seen, found), TRAINING, options,
            backend="auto", seed=0, stop_asked=lambda: False,
        )  # fmt: skip
    assert torch.isfinite(found.body_pose).all() and judged.mean() > 5
