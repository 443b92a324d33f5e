"""How well bodies are fitted that differ in build, clothes, light and motion: one row a generated person, against the truth.

    python -m benchmarks.people                                    the fit of everybody
    python -m benchmarks.people --perfect-points --focal-wrong     also the optimiser's own floor, without and with the height, and a focal length 1.5 times too long
    python -m benchmarks.people --look                             also refined on what the person looks like; with --perfect-points these too, the height known
    python -m benchmarks.people --train                            also after joint refinement (stage 1 of the preset, without its limit of time), with the avatar's scores
    python -m benchmarks.people --people ada bela --as-is          two of them; what is there counts as current

What was made before and is current is not made again, so that a run which was broken off goes on. Everything is written to
benchmarks/reports/people.json, and docs/accuracy.md shows it. Errors are those of benchmarks/body_fit.py, over all 24 joints.

Axes: F fitted frames, J joints, B bones of the limbs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from benchmarks.body_fit import SEGMENTS, compare, fitted_joints, true_joints
from benchmarks.cast import MEMBERS, VARIANTS, Member, fit_variant, look_of, prepare, refine_on_look, true_bodies, true_height, true_K
from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from model.fitting.objective import fit_body_of
from model.fitting.outline import render_faces, shrink_masks
from model.fitting.score import body_height, silhouette_iou
from tasks.artifacts import ClipInfo, read_clip, read_mask, read_segmentation, read_track, write_json
from tasks.provenance import code_commit
from tasks.settings import Settings, load_settings
from tasks.truth import Truth

REPORT = Path("benchmarks/reports/people.json")
LIMBS = {"left arm": (16, 18, 20), "right arm": (17, 19, 21), "left leg": (1, 4, 7), "right leg": (2, 5, 8)}
SLOPE = 0.26  # sine of 15 degrees out of the picture's plane; a bone that slopes less has no side
TURNED = 90.0  # degrees of heading from which on a body faces the wrong way
LONGEST_WRONG_SIDE = 5  # frames
LOOKED_AT = ("fit", "perfect_points_height")  # variants that are also refined on the look, where that is asked for
LOOKS = tuple(look_of(name) for name in LOOKED_AT)
TARGETS = {  # of docs/accuracy.md; means over all people
    "fit": {"mpjpe": 60.0, "pa": 40.0}, "turntable": {"mpjpe": 40.0, "pa": 25.0}, "perfect_points": {"mpjpe": 20.0, "pa": 10.0},
    "refined": {"mpjpe": 40.0, "pa": 28.0}, "focal_wrong_worse": 5.0, "height_cm": 3.0, "iou_below_ceiling": 0.015,
}  # fmt: skip


def main() -> None:
    arguments = read_arguments()
    settings = load_settings()
    variants = ["fit"] + [name for name in VARIANTS if name != "fit" and getattr(arguments, asked_by(name))]
    report = {
        "command": "python -m benchmarks.people " + " ".join(sys.argv[1:]), "commit": code_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "torch": torch.__version__, "numpy": np.__version__, "people": {},
    }  # fmt: skip
    before = json.loads(REPORT.read_text())["people"] if REPORT.exists() else {}
    for name in arguments.people:
        member = MEMBERS[name]
        prepare(member, settings, as_is=arguments.as_is)
        row = {variant: measure(member, fit_variant(member, variant, settings, as_is=arguments.as_is), settings) for variant in variants}
        if arguments.look or arguments.train:
            looked = [name for name in LOOKED_AT if name in variants]
            row |= {look_of(name): measure_look(member, refine_on_look(member, settings, variant=name, as_is=arguments.as_is), settings) for name in looked}
        if arguments.train:
            row["refined"] = refine(member, settings)
        report["people"][name] = before.get(name, {}) | row
        print(line(name, report["people"][name]), flush=True)
        write_json(REPORT, report | {"people": before | report["people"]})
    print_means(report["people"])


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", nargs="+", choices=MEMBERS, default=list(MEMBERS))
    parser.add_argument("--perfect-points", action="store_true", help="landmarks of the true body instead of detected ones, focal length known; also with the height known")
    parser.add_argument("--focal-right", action="store_true", help="the true focal length, known")
    parser.add_argument("--focal-wrong", action="store_true", help="a guess of the focal length 1.5 times too long")
    parser.add_argument("--look", action="store_true", help="the fit refined on what the person looks like (the stage refine_fit)")
    parser.add_argument("--train", action="store_true", help="stage 1, and the poses after it")
    parser.add_argument("--as-is", action="store_true", help="remake nothing that is there, though its code has changed")
    return parser.parse_args()


def asked_by(variant: str) -> str:
    """The argument that asks for a variant, and the target that it is held to: a known height comes with perfect points."""
    return variant.removesuffix("_look").removesuffix("_height")


def measure(member: Member, folder: Path, settings: Settings) -> dict[str, object]:
    """All figures of one fit."""
    clip, truth = read_clip(member.paths), member.truth()
    track = read_track(folder / "track.npz", made_by="fit_smpl")
    record, spent = json.loads((folder / "fit.json").read_text()), json.loads((folder / "seconds.json").read_text())
    errors = compare(fitted_joints(track, settings.body.model), true_joints(truth, clip.source_frames))
    ceiling = naked_iou(member, clip, settings)
    return motion_figures(member, track, settings) | {
        "depth_mm": _mean(errors.depth), "distance_m": _mean(errors.distance, 2),
        "iou": record["iou_mean"], "iou_ceiling": _mean(np.nanmean(ceiling), 4),
        "looks_down_deg": round(record["camera_looks_down_deg"], 2), "true_looks_down_deg": round(true_tilt(truth), 2),
        "reprojection_share": record["reprojection_share_of_height"], "seconds_per_frame": round(spent["fit"] / spent["frames"], 3), "processor_seconds_per_frame": round(spent["processor"] / spent["frames"], 3),
    }  # fmt: skip


def motion_figures(member: Member, track: BodyTrack, settings: Settings) -> dict[str, object]:
    """How far a motion is from the true one: joints, heading, sides of depth, height; of a turn also by itself."""
    clip, truth = read_clip(member.paths), member.truth()
    joints, wanted = fitted_joints(track, settings.body.model), true_joints(truth, clip.source_frames)
    errors, sides, turned = compare(joints, wanted), wrong_sides(joints, wanted), heading_errors(track, truth, clip)
    height = body_height(fit_body_of(load_body_model(settings.body.model)), track.betas.double())
    per_frame, worst = errors.rooted.mean(1), int(errors.rooted.mean(1).argmax())
    row = {
        "frames": len(per_frame), "mpjpe": _mean(per_frame), "pa": _mean(errors.aligned), "worst_frame": worst, "worst_mpjpe": _mean(per_frame[worst]),
        "flipped_frames": int((turned > TURNED).sum()), "heading_worst_deg": _mean(turned.max()),
        "wrong_side_frames": {limb: longest_run(wrong) for limb, wrong in sides.items()},
        "wrong_side_share": _mean(np.mean(list(sides.values())), 3),
        "height_m": round(height, 3), "true_height_m": round(true_height(member), 3),
        "height_at_known_distance_m": round(known_distance_height(height, track, errors, true_K(truth, clip)), 3),
        "focal_share": round(float(track.K[0, 0]) / float(true_K(truth, clip)[0, 0]), 3),
        "joints": {name: [_mean(errors.rooted[:, j]), _mean(errors.aligned[:, j])] for name, j in JOINTS.items()},
    }  # fmt: skip
    if member.name == "demo":
        start, end = SEGMENTS["turn"]
        turn = (np.array(clip.times) >= start) & (np.array(clip.times) < end)
        row["turntable"] = {"mpjpe": _mean(per_frame[turn]), "pa": _mean(errors.aligned[turn])}
    if member.person.motion == "turntable":
        row["turntable"] = {"mpjpe": row["mpjpe"], "pa": row["pa"]}
    return row


JOINTS = {
    "head": 15, "left shoulder": 16, "right shoulder": 17, "left elbow": 18, "right elbow": 19, "left wrist": 20, "right wrist": 21,
    "left hand": 22, "right hand": 23, "left knee": 4, "right knee": 5, "left ankle": 7, "right ankle": 8, "left foot": 10, "right foot": 11,
}  # fmt: skip


def measure_look(member: Member, folder: Path, settings: Settings) -> dict[str, object]:
    """The motion after the stage refine_fit, and what that found."""
    record = json.loads((folder / "refined.json").read_text())
    found = motion_figures(member, read_track(folder / "track.npz", made_by="refine_fit"), settings)
    return found | {"points_off_px": record.get("points_off_px"), "iou": record.get("iou_mean"), "kept": record["kept"], "seconds": record.get("seconds")}


def refine(member: Member, settings: Settings) -> dict[str, object]:
    """Train stage 1 on the fit; errors of the joints after it, and how the avatar scores."""
    from benchmarks.quality import for_person, measure as measure_quality, untimed

    scores = measure_quality(untimed(for_person(settings, member)), exact=False)
    mpjpe, pa = scores["joints_refined_mm"]
    return {"mpjpe": mpjpe, "pa": pa, **{k: v for k, v in scores.items() if not k.startswith("joints")}}


# ------------------------------------------------------------------------------------------------------ single figures


def wrong_sides(joints: Float[np.ndarray, "F J 3"], truth: Float[np.ndarray, "F J 3"]) -> dict[str, Bool[np.ndarray, "F"]]:
    """Where a bone of a limb slopes towards the camera though the true one slopes away, or the other way, by SLOPE or more each."""

    def slopes(points: np.ndarray, tail: int, head: int) -> Float[np.ndarray, "F"]:
        bone, ray = points[:, head] - points[:, tail], points[:, tail]
        return (bone * ray).sum(1) / (np.linalg.norm(bone, axis=1) * np.linalg.norm(ray, axis=1))

    wrong = {}
    for limb, (a, b, c) in LIMBS.items():
        pairs = [(slopes(joints, *bone), slopes(truth, *bone)) for bone in ((a, b), (b, c))]
        wrong[limb] = np.any([(ours * true < 0) & (np.minimum(np.abs(ours), np.abs(true)) > SLOPE) for ours, true in pairs], axis=0)
    return wrong


def longest_run(flags: Bool[np.ndarray, "F"]) -> int:
    """The most flags in a row."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(int)))
    return int(max(edges[1::2] - edges[::2], default=0))


def heading_errors(track: BodyTrack, truth: Truth, clip: ClipInfo) -> Float[np.ndarray, "F"]:
    """By how much the fitted pelvis faces another way than the true one, seen from above, degrees."""
    to_camera = truth.clip_w2c[:3, :3]
    true = to_camera @ Rotation.from_rotvec(truth.clip.global_orient[clip.source_frames]).as_matrix()
    ours = track.w2c[:3, :3].double().numpy() @ Rotation.from_rotvec(track.global_orient.numpy()).as_matrix()
    up = to_camera[:, 1]
    level = [left - np.outer(left @ up, up) for left in (ours[:, :, 0], true[:, :, 0])]
    ours, true = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in level)
    return np.degrees(np.arccos(np.clip((ours * true).sum(1), -1, 1)))


def naked_iou(member: Member, clip: ClipInfo, settings: Settings) -> Float[np.ndarray, "F"]:
    """IoU of the naked true body with the masks that the fit has used: what clothes and masks leave to a perfect fit; NaN where flagged."""
    masks = np.stack([read_mask(member.paths, frame) for frame in clip.frame_ids])
    small, scale = shrink_masks(masks)
    K, faces = true_K(member.truth(), clip), load_body_model(settings.body.model).faces.numpy()
    drawn = []
    for vertices in true_bodies(member, clip):
        pixels = vertices @ K.T
        drawn.append(render_faces((pixels[:, :2] / pixels[:, 2:] * scale).astype(float), vertices[:, 2].astype(float), faces, *small.shape[1:])[0] >= 0)
    iou = silhouette_iou(np.stack(drawn), small)
    flagged = read_segmentation(member.paths).flagged
    iou[[str(frame) in flagged for frame in clip.frame_ids]] = np.nan
    return iou


def known_distance_height(height: float, track: BodyTrack, errors, K: Float[np.ndarray, "3 3"]) -> float:
    """A fitted height, m, carried to the true distance and focal length: what it would be for somebody who has measured both."""
    fitted = errors.distance + errors.depth / 1000
    return float(height * np.mean(errors.distance / fitted) * float(track.K[0, 0]) / K[0, 0])


def true_tilt(truth: Truth) -> float:
    """How far the film's camera looks down, degrees."""
    return float(np.degrees(np.arcsin(np.clip(-truth.clip_w2c[2, 1], -1, 1))))


def _mean(values: np.ndarray, digits: int = 1) -> float:
    return round(float(np.mean(values)), digits)


# ------------------------------------------------------------------------------------------------------------ the table


def line(name: str, row: dict) -> str:
    """One person in one line."""
    fit = row["fit"]
    limb, frames = max(fit["wrong_side_frames"].items(), key=lambda item: item[1])
    parts = [
        f"{name:8s}{fit['frames']:4d} frames  MPJPE {fit['mpjpe']:5.1f}  PA {fit['pa']:5.1f}  worst frame {fit['worst_mpjpe']:5.0f}",
        f"depth {fit['depth_mm'] / fit['distance_m'] / 10:+.1f} %  height {100 * (fit['height_m'] - fit['true_height_m']):+.1f} cm"
        f" (at the known distance {100 * (fit['height_at_known_distance_m'] - fit['true_height_m']):+.1f})",
        f"IoU {fit['iou']:.3f} of {fit['iou_ceiling']:.3f}  flipped {fit['flipped_frames']}  wrong side {frames} ({limb})  {fit['processor_seconds_per_frame']:.2f} processor s/frame",
    ]  # fmt: skip
    others = (f"{k} {row[k]['mpjpe']:.1f} / {row[k]['pa']:.1f}" for k in (*VARIANTS, *LOOKS, "refined") if k != "fit" and k in row)
    return "  ".join([*parts, *others])


def print_means(people: dict[str, dict]) -> None:
    """Means over the people, beside their targets."""
    for name in (*VARIANTS, *LOOKS, "refined"):
        rows = [row[name] for row in people.values() if name in row]
        if rows:
            mpjpe, pa = (np.mean([row[k] for row in rows]) for k in ("mpjpe", "pa"))
            target = TARGETS.get(asked_by(name))
            print(f"{name:16s} mean of {len(rows)}: MPJPE {mpjpe:.1f}  PA {pa:.1f}" + (f"  target {target['mpjpe']:.0f} / {target['pa']:.0f}" if target else ""))
    for name in ("fit", "look"):
        turns = [row[name]["turntable"] for row in people.values() if "turntable" in row.get(name, {})]
        if turns:
            print(f"turntables, {name}  MPJPE {np.mean([t['mpjpe'] for t in turns]):.1f}  PA {np.mean([t['pa'] for t in turns]):.1f}  target 40 / 25")


if __name__ == "__main__":
    main()
