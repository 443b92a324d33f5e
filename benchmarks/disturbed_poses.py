"""What joint refinement makes of poses that are known to be wrong: the true motion, disturbed, trained on, and compared with the truth.

    python -m benchmarks.disturbed_poses --jobs 2 --out benchmarks/reports/disturbed_poses.json
    python -m benchmarks.disturbed_poses --seeds 4 --steps 600 --every 2                          a quicker look

Every joint is turned by DEGREES and the body moved by SHIFT_M (root mean squares over the clip) in random directions that change
about every WANDER seconds, as the errors of a fit do: noise of single frames would be too easy. The truth is the motion before
it was disturbed, on the same body, so that a perfect recovery is zero. Frames that score the avatar are left out.

Axes: F frames, J joints. Errors are mm after the roots are laid on each other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from benchmarks.cast import MEMBERS, fit_variant, prepare
from benchmarks.quality import exact_track, for_person, train_avatar, untimed
from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from tasks.artifacts import read_clip, read_segmentation, read_track, split_frames, write_json
from tasks.provenance import code_commit
from tasks.scoring import track_joints
from tasks.settings import load_settings

DEGREES, SHIFT_M = 5.0, 0.03  # root mean squares over the clip
WANDER = 0.5  # s between the knots of the disturbance
WANTED = 0.6  # share of the disturbance that is to be undone, in the mean over the seeds


def main() -> None:
    arguments = read_arguments()
    member = MEMBERS[arguments.person]
    settings = untimed(for_person(load_settings(), member), arguments.steps)
    prepare(member, settings, as_is=arguments.as_is)
    fit_variant(member, "fit", settings, as_is=arguments.as_is)
    report = {
        "command": "python -m benchmarks.disturbed_poses " + " ".join(sys.argv[1:]), "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": code_commit(), "person": member.name, "steps": settings.chosen.train_stage1.training.steps, "every": arguments.every,
        "degrees": DEGREES, "shift_m": SHIFT_M, "seeds": [],
    }  # fmt: skip
    threads = max(1, torch.get_num_threads() // arguments.jobs)
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as workers:
        for row in workers.map(partial(recover, member.name, steps=arguments.steps, every=arguments.every), range(arguments.seeds)):
            report["seeds"].append(row)
            print(json.dumps(row), flush=True)
            if arguments.out:
                write_json(arguments.out, report)
    recovered = [row["recovered"] for row in report["seeds"]]
    worse, frames = (sum(row[k] for row in report["seeds"]) for k in ("worse", "frames"))
    print(f"recovered {np.mean(recovered):.0%} (least {min(recovered):.0%}), target {WANTED:.0%}; {worse} of {frames} frames end worse, target none")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--person", choices=MEMBERS, default="demo")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=None, help="training steps; default: the preset's")
    parser.add_argument("--every", type=int, default=1, help="train on every n-th of the training frames")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time; they share the threads")
    parser.add_argument("--as-is", action="store_true", help="remake nothing that is there, though its code has changed")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


def recover(person: str, seed: int, *, steps: int | None, every: int) -> dict[str, float | int]:
    """Disturb, refine, compare."""
    member = MEMBERS[person]
    settings, paths, truth = untimed(for_person(load_settings(), member), steps), member.paths, member.truth()
    clip, body = read_clip(paths), load_body_model(settings.body.model, uv_path=settings.body.uv)
    exact = exact_track(read_track(paths.fit / "track.npz", made_by="fit_smpl"), clip, truth, body)
    start = disturb(exact, np.asarray(clip.times), seed)
    train = split_frames(clip, read_segmentation(paths), heldout_every=settings.split.heldout_every).train[::every]
    refined = train_avatar(settings, paths, start, train, body).refined
    rows = [exact.frame_ids.tolist().index(frame) for frame in train]
    return compare_recovery(*(track_joints(track, body)[rows] for track in (exact, start, refined)))


def disturb(track: BodyTrack, times: Float[np.ndarray, "F"], seed: int) -> BodyTrack:
    """The track with every joint turned by DEGREES and moved by SHIFT_M in random directions that wander."""
    rng = np.random.default_rng([seed, 31])
    frames, joints = track.body_pose.shape[:2]
    knots = np.arange(times[0] - WANDER, times[-1] + 2 * WANDER, WANDER)
    noise = CubicSpline(knots, rng.normal(size=(len(knots), joints + 2, 3)))(times)
    noise /= np.sqrt((noise**2).sum(-1).mean(0))[None, :, None]  # root mean square of one for each joint
    turns, shift = Rotation.from_rotvec(np.deg2rad(DEGREES) * noise[:, :-1].reshape(-1, 3)), SHIFT_M * noise[:, -1]
    pose = torch.cat([track.global_orient[:, None], track.body_pose], 1).numpy()
    turned = (Rotation.from_rotvec(pose.reshape(-1, 3)) * turns).as_rotvec().reshape(frames, joints + 1, 3)
    moved = [torch.from_numpy(part).float() for part in (turned[:, 0], turned[:, 1:], track.transl.numpy() + shift)]
    return replace(track, global_orient=moved[0], body_pose=moved[1], transl=moved[2])


def compare_recovery(
    truth: Float[np.ndarray, "F J 3"], start: Float[np.ndarray, "F J 3"], end: Float[np.ndarray, "F J 3"]
) -> dict[str, float | int]:
    """How much of the disturbance is gone, and in how many frames it has grown."""

    def errors(joints: np.ndarray) -> Float[np.ndarray, "F"]:
        return 1000 * np.linalg.norm((joints - joints[:, :1]) - (truth - truth[:, :1]), axis=-1).mean(1)

    before, after = errors(start), errors(end)
    return {
        "before_mm": round(float(before.mean()), 2), "after_mm": round(float(after.mean()), 2),
        "recovered": round(1 - float(after.mean() / before.mean()), 4), "worse": int((after > before).sum()), "frames": len(before),
    }  # fmt: skip


if __name__ == "__main__":
    main()
