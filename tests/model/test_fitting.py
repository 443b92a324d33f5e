"""Claims about the body fit, on a person whose motion is known exactly."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from model.fitting import fit, standing, starts, terms
from model.fitting.fit import Silhouettes, fit_clip, pose_state, refine_on_silhouettes, skin_surface
from model.fitting.objective import BodyFitProblem
from model.fitting.outline import CLOTHES_SLACK, HAIR_SLACK, find_outline, outline_slack, render_faces
from model.fitting.prior import JOINT_NAMES
from model.fitting.score import body_height, body_masks, score_fit
from model.fitting.solver import NormalEquations, minimise, solve_arrow
from tasks.fit_state import spreads_of
from tasks.settings import load_settings

PARAMS = Path(__file__).parents[2] / "params.yaml"

_spec = importlib.util.spec_from_file_location("fitting_scene", Path(__file__).with_name("fitting_scene.py"))
fitting_scene = sys.modules.setdefault("fitting_scene", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(fitting_scene)
make_scene, SPREADS = fitting_scene.make_scene, fitting_scene.SPREADS


@pytest.fixture(scope="module")
def scene() -> fitting_scene.Scene:
    return make_scene()


@pytest.fixture(scope="module")
def short() -> fitting_scene.Scene:
    return make_scene(8)


@pytest.fixture(scope="module")
def fitted(scene: fitting_scene.Scene) -> starts.FitState:
    return fit_clip(scene.body, scene.seen, None, SPREADS)


def with_gap(scene: fitting_scene.Scene, rows: slice) -> starts.Observations:
    """The scene without landmarks in some frames."""
    confidence, directions = scene.seen.confidence.clone(), scene.seen.directions.clone()
    confidence[rows] = directions[rows] = 0
    return replace(scene.seen, confidence=confidence, directions=directions)


def test_an_objective_that_is_no_number_is_refused() -> None:
    scene = make_scene(6)
    still = scene.seen.times.clone()
    still[3] = still[2]
    with pytest.raises(ValueError, match="at the start"):
        minimise(BodyFitProblem(scene.body, replace(scene.seen, times=still), SPREADS, only_motion=True), scene.truth, steps=1)


def test_exact_landmarks_give_the_pose_back_within_25_mm(scene: fitting_scene.Scene, fitted: starts.FitState) -> None:
    assert scene.error_mm(fitted).mean() < 25  # the pose prior and unknown offsets keep it from zero


def test_the_same_clip_gives_the_same_fit(short: fitting_scene.Scene) -> None:
    first, again = (fit_clip(short.body, short.seen, None, SPREADS) for _ in range(2))
    assert torch.equal(again.body_pose, first.body_pose) and torch.equal(again.transl, first.transl)


def test_a_known_height_sets_the_scale(short: fitting_scene.Scene) -> None:
    guessed, known = (fit_clip(short.body, short.seen, None, replace(SPREADS, height=height)) for height in (None, 1.85))
    assert body_height(short.body, guessed.betas) < 1.75
    assert body_height(short.body, known.betas) == pytest.approx(1.85, abs=0.03)
    taller = body_height(short.body, known.betas) / body_height(short.body, guessed.betas)
    assert float((known.transl[:, 2] / guessed.transl[:, 2]).mean()) == pytest.approx(taller, abs=0.02)  # and farther away


def test_an_arm_that_starts_mirrored_in_depth_is_put_right(scene: fitting_scene.Scene) -> None:
    body, truth = scene.body, scene.truth
    limb = starts.LIMBS[0]
    a, b, c = (scene.joints[:, j] for j in limb.joints)
    mirrored = starts.aim_limb(body, truth, limb, starts.mirror_in_depth(b - a, a), starts.mirror_in_depth(c - b, b))
    assert scene.error_mm(mirrored)[:, 20].mean() > 250
    held, _ = minimise(BodyFitProblem(body, scene.seen, SPREADS, only_motion=True), mirrored, steps=15)
    assert scene.error_mm(held)[:, 20].mean() > 100  # descent alone stays on the wrong side
    chosen, _ = starts.choose_limbs(body, scene.seen, SPREADS, mirrored)
    repaired, _ = minimise(BodyFitProblem(body, scene.seen, SPREADS, only_motion=True), chosen, steps=15)
    assert scene.error_mm(repaired)[:, 20].mean() < 50


def test_a_person_who_turns_her_back_is_not_flipped() -> None:
    scene = make_scene(turn=3.0)
    state = starts.choose_heading(scene.body, scene.seen, SPREADS, starts.upright_start(scene.body, scene.seen))
    assert ((state.root[:, :, 2] * scene.truth.root[:, :, 2]).sum(-1) > 0.7).all()


def test_landmarks_that_are_trusted_to_the_pixel_turn_nobody_away() -> None:
    scene = make_scene(turn=3.0)
    to_the_pixel = replace(spreads_of(load_settings(PARAMS).fit_smpl), landmark=0.0007, offset=0.001)
    state = fit_clip(scene.body, scene.seen, None, to_the_pixel)
    assert ((state.root[:, :, 2] * scene.truth.root[:, :, 2]).sum(-1) > 0.95).all()


def test_missing_landmarks_are_bridged(scene: fitting_scene.Scene) -> None:
    gap = slice(10, 13)
    state = fit_clip(scene.body, with_gap(scene, gap), None, SPREADS)
    assert scene.error_mm(state)[gap].mean() < 60
    score = score_fit(scene.body, with_gap(scene, gap), Silhouettes(masks_of(scene), np.ones(24)), SPREADS, state)
    assert (score.confidence[gap] <= 0.1).all() and score.confidence[:8].min() > 0.5
    assert set(score.reasons) >= {10, 11, 12}


def test_a_blow_that_is_over_in_a_quarter_of_a_second_is_followed_though_it_is_blurred(scene: fitting_scene.Scene) -> None:
    rows, right_arm = slice(10, 12), slice(14, 23, 2)
    pose, confidence = scene.truth.body_pose.clone(), scene.seen.confidence.clone()
    pose[rows, JOINT_NAMES.index("right_shoulder") - 1] = torch.tensor([0.0, 1.5, 0.1], dtype=pose.dtype)
    confidence[rows, right_arm] = 0.35
    truth = replace(scene.truth, body_pose=pose)
    seen = replace(fitting_scene.look(scene.body, truth, scene.seen.times), confidence=confidence)
    blow, wrist = fitting_scene.Scene(scene.body, truth, seen), JOINT_NAMES.index("right_wrist")
    way = 1000 * (blow.joints - scene.joints)[rows, wrist].norm(dim=-1)
    left = blow.error_mm(fit_clip(scene.body, seen, None, spreads_of(load_settings(PARAMS).fit_smpl)))[rows, wrist]
    assert way.min() > 300 and (left < way / 2).all()


def masks_of(scene: fitting_scene.Scene) -> np.ndarray:
    """Exact masks, 512 px."""
    vertices = skin_surface(scene.body.surface, pose_state(scene.body, scene.truth), scene.truth.betas)
    pixels, _ = terms.project(vertices, torch.tensor(scene.seen.focal_px), scene.seen.principal)
    faces = scene.body.faces.numpy()
    found = [render_faces(p, v[:, 2], faces, 512, 512)[0] >= 0 for p, v in zip(pixels.numpy(), vertices.numpy(), strict=True)]
    return np.stack(found).astype(np.uint8) * 255


def refine(scene: fitting_scene.Scene, silhouettes: Silhouettes, start: starts.FitState) -> starts.FitState:
    return refine_on_silhouettes(scene.body, scene.seen, silhouettes, SPREADS, start, lambda: None)


def test_flagged_masks_do_not_steer(short: fitting_scene.Scene) -> None:
    masks, trust = masks_of(short), np.ones(8)
    trust[3:5] = 0
    spoiled, empty = masks.copy(), masks.copy()
    spoiled[3:5, :, :300] = 255
    empty[3:5] = 0
    a, b = (refine(short, Silhouettes(m, trust), short.truth) for m in (spoiled, empty))
    torch.testing.assert_close(a.body_pose, b.body_pose)


def test_frames_in_portions_are_frames_all_at_once(short: fitting_scene.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    silhouettes, start = Silhouettes(masks_of(short), np.ones(8)), starts.upright_start(short.body, short.seen)
    found = []
    for portion in (100, 3):
        monkeypatch.setattr(starts, "SETTLED_AT_ONCE", portion)
        monkeypatch.setattr(fit, "SKINNED_AT_ONCE", portion)
        pulls = fit.pair_outlines(short.body, short.seen, silhouettes, short.truth, 20.0)
        found.append((starts.choose_heading(short.body, short.seen, SPREADS, start).body_pose, pulls.vertices, pulls.targets, pulls.weights))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole)


def test_exact_silhouettes_bring_a_shifted_body_back(short: fitting_scene.Scene) -> None:
    silhouettes = Silhouettes(masks_of(short), np.ones(8))
    shifted = replace(short.truth, transl=short.truth.transl + torch.tensor([0.03, 0.03, 0.0], dtype=torch.float64))
    blind = replace(short.seen, confidence=0.02 * short.seen.confidence)
    fitted = refine_on_silhouettes(short.body, blind, silhouettes, SPREADS, shifted, lambda: None)
    before, after, ideal = (score_fit(short.body, short.seen, silhouettes, SPREADS, s).iou.mean() for s in (shifted, fitted, short.truth))
    assert ideal > 0.97  # it loses at the border, compared at half the size
    assert before < 0.7 and after > ideal - 0.04  # the pull inwards is the stronger one, as for clothes


def test_a_last_look_follows_the_picture_closer_and_leaves_the_shape_alone(short: fitting_scene.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.stack([cv2.dilate(mask, np.ones((9, 9), np.uint8)) for mask in masks_of(short)])  # loose clothes
    noise = torch.randn(short.seen.points.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    seen, states = replace(short.seen, points=short.seen.points + 5 * noise), []
    for rounds in (0, 3):
        monkeypatch.setattr(fit, "LAST_ROUNDS", rounds)
        states.append(refine_on_silhouettes(short.body, seen, Silhouettes(masks, np.ones(8)), SPREADS, short.truth, lambda: None))
    before, after = (score_fit(short.body, seen, Silhouettes(masks, np.ones(8)), SPREADS, state) for state in states)
    assert all(torch.equal(getattr(states[1], name), getattr(states[0], name)) for name in ("betas", "offsets", "log_focal"))
    assert after.iou.mean() > before.iou.mean() + 0.002 and after.reprojection_px.mean() < 0.95 * before.reprojection_px.mean()


def test_a_focal_length_wrong_by_a_third_costs_less_than_8_mm(scene: fitting_scene.Scene, fitted: starts.FitState) -> None:
    wrong = replace(scene.seen, focal_px=scene.seen.focal_px * 1.3, focal_spread=0.03)
    state = fit_clip(scene.body, wrong, None, SPREADS)
    assert scene.error_mm(state).mean() < scene.error_mm(fitted).mean() + 8


def test_smoothness_does_not_depend_on_the_frame_rate() -> None:
    costs = []
    for fps in (12.0, 24.0):
        scene = make_scene(int(4 * fps), fps)
        model = NormalEquations.zero(len(scene.seen.times), 75, 0, torch.float64)
        terms.add_smoothness(model, scene.truth, scene.seen.times, torch.full((75,), 10.0, dtype=torch.float64), burst=100.0)
        costs.append(model.total / (len(scene.seen.times) - 2))
    assert costs[1] == pytest.approx(costs[0], rel=0.05)  # a finite difference of a curve


def test_a_foot_that_stands_is_told_from_one_that_steps_whatever_the_jitter() -> None:
    generator = torch.Generator().manual_seed(4)
    times = torch.arange(36, dtype=torch.float64) / 12
    points = 256 + 1.2 * torch.randn(36, 33, 2, generator=generator, dtype=torch.float64)  # px, of a figure of 400
    points[18:26, [30, 32]] += 15 * torch.arange(8, dtype=torch.float64)[:, None, None]
    points[26:, [30, 32]] += 15 * 7
    stillness = standing.foot_stillness(points, torch.ones(36, 33, dtype=torch.float64), times, 400.0, standing.STANDING)
    assert stillness[:, 0].min() > 0.4 and stillness[:, 0].mean() > 0.8
    assert stillness[18:25, 1].max() < 0.1


def test_standing_feet_hold_a_body_that_seems_to_drift_away() -> None:
    scene = make_scene(24, turn=0.0)
    still = replace(scene.truth.frames([0] * 24), transl=scene.truth.transl[:1].expand(24, -1).clone())
    drift = torch.zeros(24, 3, dtype=torch.float64)
    drift[:, 2] = torch.linspace(0, 0.15, 24)
    drifting = replace(still, transl=still.transl + drift)  # what an unknown shape makes of a turn or a crouch
    seen = fitting_scene.look(scene.body, drifting, scene.seen.times)
    feet = [27, 28, 29, 30, 31, 32]
    points = seen.points.clone()
    points[:, feet] = fitting_scene.look(scene.body, still, scene.seen.times).points[:, feet]
    seen = replace(seen, points=points)
    alone = replace(SPREADS, balance=100.0, balance_still=100.0, standing=100.0, floor=100.0)  # which hold a body too
    spans = []
    for contact in (100.0, 0.005):
        state, _ = minimise(BodyFitProblem(scene.body, seen, replace(alone, contact=contact), only_motion=True), drifting, steps=15)
        spans.append(float(state.transl[:, 2].max() - state.transl[:, 2].min()))
    assert spans[0] > 0.1 and spans[1] < 0.7 * spans[0]


def test_every_term_gives_the_gradient_of_its_cost(scene: fitting_scene.Scene) -> None:
    problem = BodyFitProblem(scene.body, scene.seen, SPREADS)
    generator = torch.Generator().manual_seed(2)
    draw = lambda *shape: 0.02 * torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    state = scene.truth.moved(draw(24, 75), draw(scene.truth.num_shared))
    model = problem.linearise(state)
    h = 1e-5
    for _ in range(4):
        own, shared = draw(24, 75), draw(scene.truth.num_shared)
        own[:, :3] = 0  # turns of the root: see the next claim
        slope = (problem.linearise(state.moved(h * own, h * shared)).total - problem.linearise(state.moved(-h * own, -h * shared)).total) / (2 * h)
        assert slope == pytest.approx(float((model.g * own).sum() + model.g_shared @ shared), rel=2e-4)


def test_the_root_turns_along_its_gradient_but_for_the_curvature_of_rotations(scene: fitting_scene.Scene) -> None:
    problem = BodyFitProblem(scene.body, scene.seen, SPREADS, smooth=False)
    generator = torch.Generator().manual_seed(3)
    state = scene.truth.moved(0.05 * torch.randn(24, 75, generator=generator, dtype=torch.float64), torch.zeros(scene.truth.num_shared, dtype=torch.float64))
    own, none = torch.zeros(24, 75, dtype=torch.float64), torch.zeros(scene.truth.num_shared, dtype=torch.float64)
    own[:, :3] = 1e-5
    slope = (problem.linearise(state.moved(own, none)).total - problem.linearise(state.moved(-own, none)).total) / 2
    assert slope == pytest.approx(float((problem.linearise(state).g * own).sum()), rel=2e-4)


def test_the_arrow_solver_agrees_with_a_dense_one() -> None:
    generator = torch.Generator().manual_seed(1)
    F, D, Q = 5, 4, 3
    model = NormalEquations.zero(F, D, Q, torch.float64)
    J = torch.randn(F, 12, D, generator=generator, dtype=torch.float64)
    model.add(torch.randn(F, 12, generator=generator, dtype=torch.float64), J, torch.ones(F, 12), torch.zeros(F),
              torch.randn(F, 12, Q, generator=generator, dtype=torch.float64))  # fmt: skip
    model.next_one[:-1], model.next_two[:-2] = 0.1, -0.05
    model.next_block[:-1] = 0.05 * torch.randn(F - 1, D, D, generator=generator, dtype=torch.float64)
    dense = torch.zeros(F * D + Q, F * D + Q, dtype=torch.float64)
    for f in range(F):
        rows = slice(f * D, f * D + D)
        dense[rows, rows] = model.H[f]
        dense[rows, F * D :], dense[F * D :, rows] = model.H_mixed[f], model.H_mixed[f].T
        for gap, coupling in ((1, model.next_one), (2, model.next_two)):
            if f + gap < F:
                for k in range(D):
                    dense[f * D + k, (f + gap) * D + k] = dense[(f + gap) * D + k, f * D + k] = coupling[f, k]
        if f + 1 < F:
            after = slice((f + 1) * D, (f + 2) * D)
            dense[after, rows] += model.next_block[f]
            dense[rows, after] += model.next_block[f].T
    dense[F * D :, F * D :] = model.H_shared
    expected = -torch.linalg.solve(dense, torch.cat([model.g.flatten(), model.g_shared]))
    own, shared = solve_arrow(model, 0.0)
    torch.testing.assert_close(torch.cat([own.flatten(), shared]), expected)


def test_the_cheapest_path_is_that_of_trying_all() -> None:
    costs = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    jumps = torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(1))
    paths = torch.cartesian_prod(*[torch.arange(3)] * 5)
    totals = costs[torch.arange(5), paths].sum(1) + jumps[torch.arange(4), paths[:, :-1], paths[:, 1:]].sum(1)
    assert torch.equal(starts.cheapest_path(costs, jumps), paths[totals.argmin()])


def test_hair_and_soles_do_not_pass_for_height() -> None:
    rest = torch.tensor([[0, -1.0, 0], [0, -0.95, 0], [0, 0.5, 0], [0, 0.6, 0]])  # sole, ankle, brow, crown; m
    assert outline_slack(rest).tolist() == [HAIR_SLACK, CLOTHES_SLACK, CLOTHES_SLACK, HAIR_SLACK]
    assert outline_slack(rest)[3] > outline_slack(rest, only_motion=True)[3] > CLOTHES_SLACK


def test_an_outline_points_out_of_the_mask_and_leaves_the_pictures_border_alone() -> None:
    mask = np.zeros((40, 40), bool)
    mask[10:40, 10:30] = True
    outline = find_outline(mask)
    assert (outline.rows < 39).all()
    centre = np.array([20.0, 30.0])
    assert (((outline.points - centre) * outline.normals).sum(1) > 0).all()


def test_the_body_mask_of_the_truth_is_the_mask(scene: fitting_scene.Scene) -> None:
    masks = masks_of(scene)
    ours = body_masks(scene.body, scene.seen, scene.truth, Silhouettes(masks, np.ones(24)))
    assert ours.shape == (24, 256, 256) and ours.any((1, 2)).all()


def test_a_camera_that_looks_down_is_found_to_look_down(scene: fitting_scene.Scene) -> None:
    # the same scene before a camera that nods: everything turns about the camera's own place
    angle = 0.12
    nod = torch.tensor([[1.0, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]], dtype=torch.float64)
    root = scene.body.skeleton.joints[0]
    truth = replace(scene.truth, root=nod @ scene.truth.root, transl=(scene.truth.transl + root) @ nod.T - root)
    seen = fitting_scene.look(scene.body, truth, scene.seen.times)
    state, _ = minimise(BodyFitProblem(scene.body, seen, SPREADS), truth, steps=20)
    up, _ = terms.up_direction(state.tilt)
    true_up = nod @ torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    assert torch.rad2deg(torch.acos((up @ true_up).clamp(max=1))) < 2.5
    torch.testing.assert_close(terms.level_axes(state.tilt) @ up, torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64))
