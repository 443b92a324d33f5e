"""How far BlazePose's landmarks are off, by where the person faces and by the visibility that it reports: the tables of
model/fitting/confidence.py.

    python -m benchmarks.landmark_confidence [--seeds 0 1 2] [--every 3]

Axes: F filmed rows of all people, L = 33 landmarks. Each seed is another generated person; every n-th row of its clip is
filmed. Errors are shares of the person's height in the picture, after each landmark's constant offset from the body (three
numbers, turning with the pelvis) is taken out, since the fit solves for that. `hidden` is the share of true landmarks that lie
more than HIDDEN behind the nearest surface.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from demo.cameras import clip_view
from demo.filming import Sensor, shadowed_backdrop
from demo.motion import clip_motion
from demo.people import make_light, make_person
from demo.scenery import film_backdrop
from demo.skeleton import joint_transforms
from demo.studio import light_moment, photograph
from demo.subject import build_subject, hem_swing, shape_body
from model.body.body_model import load_body_model
from model.fitting.clip_landmarks import stack_landmarks, track_clip
from model.fitting.confidence import facing
from model.fitting.landmarks import PoseDetector
from model.fitting.outline import render_faces

WIDTH, HEIGHT, FPS, ROWS, TEXTURE = 1280, 720, 25, 250, 1024
HIDDEN = 0.1  # m
ROBUST = 0.01  # of the height; residual from which on a frame says less about a landmark's constant offset
GROUPS = {"face": range(11), "trunk": (11, 12, 23, 24), "arms": range(13, 23), "legs": (25, 26, 27, 28), "feet": range(29, 33)}
YAW_EDGES = (0, 40, 75, 105, 140, 181)  # degrees
VISIBILITY_EDGES = (0, 0.15, 0.5, 0.75, 0.9, 0.96, 0.99, 1.01)


@dataclass(frozen=True)
class Measured:
    """What one person's landmarks are off by, and what was said of them.

    Attributes:
        errors: share of the height. yaw: truth, degrees from facing the camera. yaw_error: of facing(), degrees.
        depth_behind: m behind the nearest surface.
    """

    errors: Float[np.ndarray, "F L"]
    visibility: Float[np.ndarray, "F L"]
    yaw: Float[np.ndarray, "F"]
    yaw_error: Float[np.ndarray, "F"]
    depth_behind: Float[np.ndarray, "F L"]


def measure_person(seed: int, every: int) -> Measured:
    """Film a person, detect it, compare with the truth."""
    person, light, view = make_person(seed), make_light(seed), clip_view(WIDTH, HEIGHT)
    subject, model = build_subject(person, TEXTURE), load_body_model("open")
    body, skeleton = shape_body(person)
    motion = clip_motion(subject.skeleton, ROWS, seed)
    backdrop, sensor, swing = film_backdrop(view, light, seed), Sensor(WIDTH, HEIGHT, seed), hem_swing(motion, FPS)
    rows = np.arange(0, ROWS, every)
    images, truth, behind = [], [], []
    homogeneous = np.concatenate([body.vertices, np.ones((len(body.vertices), 1))], 1)
    for row in rows:
        surface = subject.pose(motion, int(row), swing)
        moment = light_moment(subject, surface, light)
        color, alpha = photograph(subject, moment, light, view)
        ground = shadowed_backdrop(backdrop, moment.lit.shadow, light, moment.sky, moment.directions, moment.centre)
        images.append(sensor.expose(color + (1 - alpha)[..., None] * ground))
        one = slice(row, row + 1)
        transforms, _ = joint_transforms(skeleton, motion.global_orient[one], motion.body_pose[one], motion.transl[one])
        naked = np.einsum("vj,jab,vb->va", body.weights, transforms[0][:, :3], homogeneous)
        marks = model.landmarks(torch.from_numpy(naked).float(), torch.from_numpy(motion.joints[row]).float()).numpy()
        to_camera = lambda x: x @ view.w2c[:3, :3].T + view.w2c[:3, 3]  # noqa: E731
        truth.append(to_camera(marks))
        behind.append(_depth_behind(truth[-1], to_camera(surface), subject.skin.faces, view.K))
    found, truth = stack_landmarks(track_clip(images, detector=PoseDetector(), with_mask=False)), np.stack(truth)
    seen = found.visibility.any(1)
    pixels = _project(truth, view.K)
    height = np.ptp(pixels[..., 1], axis=1)
    turned = view.w2c[:3, :3] @ Rotation.from_rotvec(motion.global_orient[rows]).as_matrix()
    errors = without_offsets((found.points - pixels) / height[:, None, None], turned)
    across = truth[:, 11] - truth[:, 12] + truth[:, 23] - truth[:, 24]
    yaw = np.degrees(np.arctan2(across[:, 2], across[:, 0]))
    off = (np.degrees(facing(found.points_world, seen)) - yaw + 180) % 360 - 180
    return Measured(errors[seen], found.visibility[seen], np.abs(yaw[seen]), np.abs(off[seen]), np.stack(behind)[seen])


def without_offsets(residuals: Float[np.ndarray, "F L 2"], turned: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, "F L"]:
    """Length of residuals after the offset that explains most of each landmark's is taken out, robustly."""
    errors = np.zeros(residuals.shape[:2])
    flat = turned[:, :2]
    for landmark in range(residuals.shape[1]):
        weight = np.ones(len(flat))
        for _ in range(8):
            normal = np.einsum("f,fab,fac->bc", weight, flat, flat) + 1e-3 * np.eye(3)
            offset = np.linalg.solve(normal, np.einsum("f,fab,fa->b", weight, flat, residuals[:, landmark]))
            errors[:, landmark] = np.linalg.norm(residuals[:, landmark] - flat @ offset, axis=1)
            weight = 1 / (1 + (errors[:, landmark] / ROBUST) ** 2)
    return errors


def print_tables(people: list[Measured]) -> None:
    """Typical error (median), and how it grows against the best cell of its row."""
    gather = lambda name: np.concatenate([getattr(person, name) for person in people])  # noqa: E731
    errors, visibility, yaw, behind = (gather(name) for name in ("errors", "visibility", "yaw", "depth_behind"))
    print(f"facing() is off by {np.median(gather('yaw_error')):.1f} degrees, at most {gather('yaw_error').max():.0f}")
    print("by facing, degrees: median error in % of the height (mean visibility, share hidden)")
    for name, landmarks in GROUPS.items():
        cells = []
        for low, high in zip(YAW_EDGES, YAW_EDGES[1:]):
            part = np.ix_((yaw >= low) & (yaw < high), list(landmarks))
            said = f"{100 * np.median(errors[part]):.2f} ({visibility[part].mean():.2f} {(behind[part] > HIDDEN).mean():.2f})"
            cells.append(said if errors[part].size else "-")
        print(f"  {name:8s}" + "  ".join(f"{low}-{high}: {cell}" for low, high, cell in zip(YAW_EDGES, YAW_EDGES[1:], cells)))
    print("by reported visibility: median error in % of the height (number)")
    for name, landmarks in GROUPS.items():
        e, v = errors[:, list(landmarks)].ravel(), visibility[:, list(landmarks)].ravel()
        cells = [(low, e[(v >= low) & (v < high)]) for low, high in zip(VISIBILITY_EDGES, VISIBILITY_EDGES[1:])]
        print(f"  {name:8s}" + "  ".join(f"{low:g}-: {100 * np.median(x):.2f} ({len(x)})" for low, x in cells if len(x)))


def _project(points: Float[np.ndarray, "*B 3"], K: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "*B 2"]:
    pixels = points @ K.T
    return pixels[..., :2] / pixels[..., 2:]


def _depth_behind(marks: np.ndarray, surface: np.ndarray, faces: np.ndarray, K: np.ndarray) -> Float[np.ndarray, "L"]:
    """How far each landmark lies behind what the camera sees there, m."""
    _, nearest = render_faces(_project(surface, K).astype(float), surface[:, 2].astype(float), faces, HEIGHT, WIDTH)
    x, y = np.clip(_project(marks, K).astype(int), 0, [WIDTH - 1, HEIGHT - 1]).T
    return marks[:, 2] - nearest[y, x]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=3, help="film every n-th row")
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    people = [measure_person(seed, arguments.every) for seed in arguments.seeds]
    print(f"{platform.machine()}, commit {commit}, {len(people)} people, {sum(len(p.yaw) for p in people)} frames")
    print_tables(people)


if __name__ == "__main__":
    main()
