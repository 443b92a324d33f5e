"""Bundle adjustment: its equations are the derivatives of its cost, its step is the exact one, and tracks mend a motion."""

from dataclasses import replace

import pytest
import torch
from tests.model.fitting_scene import SPREADS, Scene, make_scene

from model.fitting.bundle import BundleProblem, BundleState, SurfaceTracks, adjust, solve_bundle
from model.fitting.fit import pose_state
from model.fitting.kinematics import SurfacePoints, place, points_of_vertices
from model.fitting.objective import BodyFitProblem
from model.fitting.observations import FitState
from model.fitting.terms import project

FRAMES, POINTS = 8, 60


def surface_of(scene: Scene, count: int = POINTS) -> SurfacePoints:
    rows = torch.linspace(0, len(scene.body.surface.vertices) - 1, count).long()
    surface = scene.body.surface
    return SurfacePoints(surface.vertices[rows], surface.vertices_by_beta[rows], surface.lbs_weights[rows])


def track(scene: Scene, surface: SurfacePoints, *, spread_px: float = 0.7) -> SurfaceTracks:
    """Every point seen in every frame, exactly where it is."""
    blended = points_of_vertices(surface.vertices, surface.vertices_by_beta, surface.lbs_weights)
    x = place(blended, pose_state(scene.body, scene.truth), scene.truth.betas)
    pixels, _ = project(x, torch.tensor(scene.seen.focal_px, dtype=x.dtype), scene.seen.principal)
    frames, count = x.shape[:2]
    sharpness = (torch.eye(2, dtype=x.dtype) / spread_px).expand(frames, count, 2, 2).clone()
    sharpness[..., 0, 1] = 0.1 / spread_px
    return SurfaceTracks(torch.arange(count).expand(frames, count).clone(), pixels, sharpness)


def disturbed(state: FitState, seed: int = 0, *, angle: float = 0.1, place_m: float = 0.04) -> FitState:
    generator = torch.Generator().manual_seed(seed)
    noise = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    frames = len(state.transl)
    steady = angle * noise(1, *state.body_pose.shape[1:]).expand(frames, -1, -1)  # wrong in the same way in every frame
    own = torch.cat([0.05 * noise(frames, 3), place_m * noise(frames, 3), steady.flatten(1)], 1)
    return state.moved(own, torch.zeros(state.num_shared, dtype=torch.float64))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(FRAMES, fps=6.0)


def make_problem(scene: Scene, *, shift_spread: float = 0.03, mislaid: float = 0.0) -> BundleProblem:
    surface = surface_of(scene)
    tracks = track(scene, surface)
    if mislaid:
        generator = torch.Generator().manual_seed(3)
        wrong = mislaid * torch.randn(surface.vertices.shape, generator=generator, dtype=torch.float64)
        surface = replace(surface, vertices=surface.vertices + wrong)
    return BundleProblem(BodyFitProblem(scene.body, scene.seen, SPREADS), surface, tracks, shift_spread=shift_spread)


def test_gradients_are_those_of_the_cost(scene):
    problem = make_problem(scene)
    state = BundleState(disturbed(scene.truth), 0.01 * torch.ones(POINTS, 3, dtype=torch.float64))
    equations = problem.linearise(state)
    generator = torch.Generator().manual_seed(1)
    draw = lambda like: torch.randn(like.shape, generator=generator, dtype=torch.float64)  # noqa: E731
    own, shared, shifts = draw(equations.frames.g), draw(equations.frames.g_shared), draw(state.shifts)
    own[:, :3] = 0  # turns of the root: see test_fitting.py
    slope = (equations.frames.g * own).sum() + (equations.frames.g_shared * shared).sum() + (equations.g_shifts * shifts).sum()

    def cost(t: float) -> float:
        moved = BundleState(problem.problem.step(state.body, t * own, t * shared), state.shifts + t * shifts)
        return problem.linearise(moved).frames.total

    h = 1e-6
    numeric = (cost(h) - cost(-h)) / (2 * h)
    assert numeric == pytest.approx(float(slope), rel=1e-6)  # a central difference over 1e-6 in double precision


def test_the_step_solves_the_whole_system(scene):
    problem = make_problem(scene)
    equations = problem.linearise(BundleState(disturbed(scene.truth), torch.zeros(POINTS, 3, dtype=torch.float64)))
    own, shared, shifts = solve_bundle(equations, damping=1e-2)
    frames = equations.frames
    # multiply the step by the damped matrix, block by block, without the code that solves
    F, D = frames.g.shape
    A = torch.zeros(F, D, F, D, dtype=torch.float64)
    for f in range(F):
        A[f, :, f] = frames.H[f] + 1e-2 * torch.diag(frames.H[f].diagonal())
        if f + 1 < F:
            A[f + 1, :, f] = torch.diag(frames.next_one[f]) + frames.next_block[f]
            A[f, :, f + 1] = A[f + 1, :, f].T
        if f + 2 < F:
            A[f + 2, :, f] = A[f, :, f + 2] = torch.diag(frames.next_two[f])
    back = equations.to_body(shifts)
    left = torch.einsum("fdge,ge->fd", A, own) + frames.H_mixed @ shared + back[0] + frames.g
    scale = frames.g.abs().max()
    assert left.abs().max() < 0.02 * scale  # conjugate gradients stop at a hundredth of the residual's size
    V = equations.V + 1e-2 * torch.diag_embed(equations.V.diagonal(dim1=1, dim2=2))
    of_points = (V @ shifts[..., None]).squeeze(-1) + equations.to_points(own, shared) + equations.g_shifts
    assert of_points.abs().max() < 1e-8 * equations.g_shifts.abs().max()


def test_tracks_mend_a_motion_even_where_their_points_are_mislaid(scene):
    start = disturbed(scene.truth, angle=0.08, place_m=0.02)
    problem = make_problem(scene, mislaid=0.01)
    found = adjust(problem, BundleState(start, torch.zeros(POINTS, 3, dtype=torch.float64)), steps=8)
    before, after = scene.error_mm(start).mean(), scene.error_mm(found.body).mean()
    assert after < 0.5 * before, (before, after)


def test_a_state_without_tracks_is_only_what_the_other_terms_make_of_it(scene):
    problem = make_problem(scene)
    none = replace(problem.tracks, sharpness=torch.zeros_like(problem.tracks.sharpness))
    silent = BundleProblem(problem.problem, problem.surface, none, shift_spread=0.03)
    equations = silent.linearise(BundleState(scene.truth, torch.zeros(POINTS, 3, dtype=torch.float64)))
    alone = problem.problem.linearise(scene.truth)
    assert equations.frames.total == pytest.approx(alone.total)
    assert torch.allclose(equations.frames.H, alone.H)
    assert torch.equal(equations.g_shifts, torch.zeros(POINTS, 3, dtype=torch.float64))


def test_restricted_tracks_name_the_same_points(scene):
    tracks = track(scene, surface_of(scene))
    few = replace(tracks, points=tracks.points[:, ::7] + 0, targets=tracks.targets[:, ::7], sharpness=tracks.sharpness[:, ::7])
    points, within = few.restricted()
    assert torch.equal(points[within.points], few.points)
    assert len(points) == len(range(0, POINTS, 7))
