"""How near the fitted body is to the truth of the generated clip: joints, depth, height, silhouette.

    python -m benchmarks.body_fit [--subject demo] [--track work/demo/fit/track.npz]

Axes: F fitted frames, J = 24 joints. MPJPE is taken after the roots are laid on each other, PA-MPJPE after the similarity
transform that is best in each frame; both in mm over all 24 joints. The generated person's joints are its own, placed a
little otherwise than the body model's, so that not even a perfect fit reaches zero. Left and right hand are the knuckles,
which no landmark places.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from benchmarks.penetration import TOUCH, depths_inside
from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from model.fitting.prior import JOINT_NAMES
from model.metrics import fit_similarity
from tasks.artifacts import read_clip, read_track, subject_paths
from tasks.truth import Truth, read_truth

SEGMENTS = {"turn": (0.0, 4.5), "arms": (4.5, 7.1), "crouch": (7.1, 8.5), "bend": (8.5, 10.0)}  # s of demo/motion.py


@dataclass(frozen=True)
class JointErrors:
    """Errors of every joint in every frame, mm.

    Attributes:
        rooted: after laying roots on each other. aligned: after the best similarity transform of each frame.
        depth: fitted minus true distance of the root from the camera. distance: the true one, m.
    """

    rooted: Float[np.ndarray, "F J"]
    aligned: Float[np.ndarray, "F J"]
    depth: Float[np.ndarray, "F"]
    distance: Float[np.ndarray, "F"]


def true_joints(truth: Truth, source_frames: list[int]) -> Float[np.ndarray, "F J 3"]:
    """The generated person's joints in the clip's camera, m."""
    joints = truth.clip.joints[source_frames]
    return joints @ truth.clip_w2c[:3, :3].T + truth.clip_w2c[:3, 3]


def compare(joints: Float[np.ndarray, "F J 3"], truth: Float[np.ndarray, "F J 3"]) -> JointErrors:
    """All errors of fitted joints, both in camera axes, m."""
    rooted = (joints - joints[:, :1]) - (truth - truth[:, :1])
    aligned = []
    for ours, theirs in zip(torch.from_numpy(joints), torch.from_numpy(truth), strict=True):
        aligned.append((fit_similarity(ours, theirs)(ours) - theirs).norm(dim=-1).numpy())
    return JointErrors(
        1000 * np.linalg.norm(rooted, axis=-1), 1000 * np.stack(aligned), 1000 * (joints[:, 0, 2] - truth[:, 0, 2]), truth[:, 0, 2]
    )


def fitted_joints(track: BodyTrack, body: str) -> Float[np.ndarray, "F J 3"]:
    """The track's joints in camera axes, m."""
    model = load_body_model(body, dtype=torch.float64)
    posed = model.pose(track.betas.double(), track.global_orient.double(), track.body_pose.double(), track.transl.double())
    return track.camera.to(dtype=torch.float64).to_camera(posed.joints[:, :24]).numpy()


def print_table(errors: JointErrors, seconds: Float[np.ndarray, "F"]) -> None:
    """Totals, segments of the clip, joints."""
    print(f"{'':16s}{'MPJPE':>8s}{'PA':>8s}{'worst':>8s}{'depth':>8s}   mm")
    for name, (start, end) in {"all": (-np.inf, np.inf), **SEGMENTS}.items():
        rows = (seconds >= start) & (seconds < end)
        if rows.any():
            per_frame = errors.rooted[rows].mean(1)
            print(f"{name:16s}{per_frame.mean():8.1f}{errors.aligned[rows].mean():8.1f}{per_frame.max():8.1f}{errors.depth[rows].mean():8.0f}")
    for j, name in enumerate(JOINT_NAMES):
        print(f"{name:16s}{errors.rooted[:, j].mean():8.1f}{errors.aligned[:, j].mean():8.1f}")
    print(f"depth error {errors.depth.mean() / errors.distance.mean() / 10:.1f} % of {errors.distance.mean():.2f} m")


def print_penetration(depths: Float[np.ndarray, "F"]) -> None:
    """In how many frames an arm passes through trunk or thighs, and how deep."""
    through = depths > TOUCH
    deep = f", {1000 * depths[through].mean():.0f} mm deep in their mean, {1000 * depths.max():.0f} mm at most" if through.any() else ""
    print(f"arms inside trunk or thighs by more than {1000 * TOUCH:.0f} mm in {through.mean():.1%} of the frames{deep}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subject", default="demo")
    parser.add_argument("--truth", type=Path, default=Path("data/demo/truth"))
    parser.add_argument("--track", type=Path, help="a body track; default: the fitted one of the subject")
    parser.add_argument("--body", default="open", help="the body model that the track was fitted with")
    arguments = parser.parse_args()
    paths = subject_paths(arguments.subject)
    clip, truth = read_clip(paths), read_truth(arguments.truth)
    if truth is None:
        parser.error(f"no truth under {arguments.truth}; run: dvc repro make_demo")
    track = read_track(arguments.track or paths.fit / "track.npz", made_by="fit_smpl")
    rows = [clip.source_frames[clip.frame_ids.index(int(f))] for f in track.frame_ids]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{platform.machine()}, torch {torch.__version__}, commit {commit}, {len(rows)} frames")
    print_table(compare(fitted_joints(track, arguments.body), true_joints(truth, rows)), np.asarray(clip.times))
    print_penetration(depths_inside(load_body_model(arguments.body), track))
    record = paths.fit / "fit.json"
    if arguments.track is None and record.exists():
        kept = ("reprojection_px", "reprojection_share_of_height", "iou_mean", "iou_worst", "focal_px", "height_m", "acceleration_m_s2")
        print({k: v for k, v in json.loads(record.read_text()).items() if k in kept})


if __name__ == "__main__":
    main()
