"""What the bundle adjustment of refine_fit reaches where points are followed without an error: how much better tracking would bring.

    python -m benchmarks.true_tracks [--reach 8] [--noise 0.2] [--parts shirt skin]

The demo's clothed person is posed again in every frame, folds and swinging hem included, and visible places of its surface are the
tracks: from each anchor frame as many frames forward and back as --reach says. Each round attaches them to the body as it stands
and adjusts motion, shape, focal length and the places themselves, as refine_fit does. Needs the demo's film and fit
(`dvc repro fit_smpl`). What is left is the adjustment's own error, and that of cloth which does not follow the bones.

Axes: F frames, V vertices of the clothed person, P tracks of a frame. Pixels are those of the cut-out pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from benchmarks.body_fit import compare, fitted_joints, true_joints
from benchmarks.cast import true_K
from demo.mesh_renderer import View, vertex_normals, visible_faces
from demo.subject import hem_swing
from model.fitting.appearance import OUTLINE_RADIUS, Clip, as_track
from model.fitting.bundle import BundleProblem, BundleState, SurfaceTracks, adjust
from model.fitting.fit import pair_outlines, pose_state, skin_surface
from model.fitting.kinematics import SurfacePoints
from model.fitting.objective import BodyFitProblem
from model.fitting.observations import FitState
from tasks.artifacts import ClipInfo, read_clip, read_track, subject_paths
from tasks.fit_state import refine_spreads
from tasks.make_demo import DEMO, prepare
from tasks.refine_fit import read_inputs
from tasks.settings import Settings, load_settings
from tasks.truth import Truth, read_truth

PARTS = ("skin", "shirt", "trousers", "hair", "shoes")
ANCHOR_EVERY, POINTS_OF_ANCHOR, MAX_TRACKS = 3, 150, 700
SIGMA, STEPS = 0.3, 6  # px of a track; Gauss-Newton steps of a round
ON_BODY_PX = 8.0  # a track further than this from the body's vertices is left out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reach", type=int, default=8, help="frames that a point is followed, forward and back")
    parser.add_argument("--noise", type=float, default=0.0, help="px that each step adds, as a random walk")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is followed")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    settings = load_settings()
    paths = subject_paths("demo")
    fitted = read_track(paths.fit / "track.npz", made_by="fit_smpl")
    truth, info = read_truth(DEMO / "truth"), read_clip(paths)
    clip, state = read_inputs(paths, fitted, settings)
    pixels, visible = film_surface(settings, truth, info, arguments.parts)
    joints = true_joints(truth, info.source_frames)
    rows = sorted(clip.frames.rows.tolist())
    followed = follow(pixels, visible, rows, reach=arguments.reach, noise=arguments.noise)
    for number in range(arguments.rounds + 1):
        errors = compare(fitted_joints(as_track(fitted, clip.seen, state), "open"), joints)
        focal = float(clip.seen.focal_px * state.log_focal.exp())
        print(f"after {number} rounds: MPJPE {errors.rooted.mean():.1f} mm, PA-MPJPE {errors.aligned.mean():.1f} mm, focal length {focal:.0f} px", flush=True)
        if number < arguments.rounds:
            state = adjust_once(clip, state, followed, settings)


def film_surface(
    settings: Settings, truth: Truth, info: ClipInfo, parts: Sequence[str]
) -> tuple[Float[np.ndarray, "F V 2"], Bool[np.ndarray, "F V"]]:
    """Where every vertex of the clothed person is in each frame, and whether it is seen and of a wanted part."""
    shoot = prepare(settings.make_demo)
    subject, swing = shoot.subject, hem_swing(shoot.clip, settings.make_demo.fps)
    K = true_K(truth, info)
    view = View(K, truth.clip_w2c, info.resolution, info.resolution)
    wanted = np.isin(subject.part, [PARTS.index(part) for part in parts])
    pixels, visible = [], []
    for row in info.source_frames:
        vertices = subject.pose(shoot.clip, row, swing).astype(np.float64)
        drawn = visible_faces(vertices, subject.skin, view, 1).face
        seen = np.zeros(len(vertices), bool)
        seen[subject.skin.faces[np.unique(drawn[drawn >= 0])]] = True
        pixels.append(view.project(vertices))
        visible.append(seen & wanted)
    return np.stack(pixels), np.stack(visible)


def follow(
    pixels: Float[np.ndarray, "F V 2"], visible: Bool[np.ndarray, "F V"], rows: list[int], *, reach: int, noise: float
) -> list[tuple[int, Float[np.ndarray, "n 2"], dict[int, tuple[np.ndarray, np.ndarray]]]]:
    """For each anchor frame: its row, where its points are there, and where (and whether) they are seen in each frame around."""
    generator, found = np.random.default_rng(0), []
    for anchor in range(0, len(rows), ANCHOR_EVERY):
        candidates = np.flatnonzero(visible[rows[anchor]])
        chosen = generator.permutation(candidates)[:POINTS_OF_ANCHOR]
        around = {rows[anchor]: (pixels[rows[anchor], chosen], np.ones(len(chosen), bool))}
        for direction in (1, -1):
            still, drift = np.ones(len(chosen), bool), np.zeros((len(chosen), 2))
            for step in range(1, reach + 1):
                at = anchor + direction * step
                if not 0 <= at < len(rows):
                    break
                still = still & visible[rows[at], chosen]
                drift = drift + noise * generator.normal(size=drift.shape)
                around[rows[at]] = (pixels[rows[at], chosen] + drift, still)
        found.append((rows[anchor], around[rows[anchor]][0], around))
    return found


def adjust_once(clip: Clip, state: FitState, followed: list, settings: Settings) -> FitState:
    """Attach the tracks to the body as it is, and adjust."""
    options = settings.refine_fit.options
    surface, tracks = attach(clip, state, followed, options.strength.last)
    pulls = pair_outlines(clip.body, clip.seen, clip.silhouettes, state, OUTLINE_RADIUS * clip.seen.height_px)
    problem = BodyFitProblem(clip.body, clip.seen, refine_spreads(settings), pulls=pulls)
    start = BundleState(state, torch.zeros_like(surface.vertices))
    return adjust(BundleProblem(problem, surface, tracks, shift_spread=options.point_spread.first), start, steps=STEPS).body


def attach(clip: Clip, state: FitState, followed: list, strength: float) -> tuple[SurfacePoints, SurfaceTracks]:
    """Each anchor's points at the depth of the body's vertex in front of which they are seen, moving as that vertex does."""
    body, posed, principal = clip.body, pose_state(clip.body, state), np.array(clip.seen.principal)
    focal, faces = float(clip.seen.focal_px * state.log_focal.exp()), clip.body.faces.numpy().astype(np.int32)
    bodies = skin_surface(body.surface, posed, state.betas).numpy()
    rest, weights, by_beta, count = [], [], [], 0
    of_frame: dict[int, list[tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n 2"]]]] = {row: [] for row in range(len(bodies))}
    for row, places, around in followed:
        vertices = bodies[row]
        facing = np.flatnonzero((vertex_normals(vertices.astype(np.float32), faces) * vertices).sum(1) < 0)
        distance, near = cKDTree(vertices[facing, :2] / vertices[facing, 2:] * focal + principal).query(places, k=6)
        depth = np.where(distance < ON_BODY_PX, vertices[facing][near][..., 2], np.inf)
        vertex = facing[near[np.arange(len(places)), depth.argmin(1)]]
        on_body, z = np.isfinite(depth.min(1)), vertices[vertex, 2:]
        share = body.surface.lbs_weights[vertex]
        R = (share @ posed.R[row].flatten(1)).unflatten(-1, (3, 3))
        place = torch.from_numpy(np.concatenate([(places - principal) / focal * z, z], 1)) - share @ posed.b[row]
        rest.append(torch.linalg.solve(R, place) - body.surface.vertices_by_beta[vertex] @ state.betas)
        weights.append(share)
        by_beta.append(body.surface.vertices_by_beta[vertex])
        for at, (targets, seen) in around.items():
            kept = np.flatnonzero(seen & on_body)
            of_frame[at].append((count + kept, targets[kept]))
        count += len(places)
    return SurfacePoints(torch.cat(rest), torch.cat(by_beta), torch.cat(weights)), pack(of_frame, strength)


def pack(of_frame: dict[int, list[tuple[np.ndarray, np.ndarray]]], strength: float) -> SurfaceTracks:
    """The tracks of all frames side by side, at most MAX_TRACKS in each; those of a frame count as `strength` independent ones."""
    generator, F = np.random.default_rng(0), len(of_frame)
    points, targets, sharpness = np.zeros((F, MAX_TRACKS), np.int64), np.zeros((F, MAX_TRACKS, 2)), np.zeros((F, MAX_TRACKS, 2, 2))
    for row, parts in of_frame.items():
        if not parts:
            continue
        number, place = (np.concatenate(values) for values in zip(*parts, strict=True))
        kept = generator.permutation(len(number))[:MAX_TRACKS]
        points[row, : len(kept)], targets[row, : len(kept)] = number[kept], place[kept]
        sharpness[row, : len(kept)] = np.eye(2) / SIGMA * min(1, strength / max(len(kept), 1)) ** 0.5
    return SurfaceTracks(*(torch.from_numpy(a) for a in (points, targets, sharpness)))


if __name__ == "__main__":
    main()
