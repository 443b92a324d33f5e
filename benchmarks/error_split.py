"""Where the squared error of a finished avatar lies: by region, by part of the body, by frame, and what would take it away.

    python -m benchmarks.error_split --subject taiji
    python -m benchmarks.error_split --subject demo --train-every 2 --out benchmarks/reports/error_split.json

Frames are scored as `evaluate` scores them: the person on white by its soft mask, held-out poses refitted with stage 1. Training frames
stand beside them in the poses that training left: an error as high there is one that training did not get rid of, not one of new poses.
Regions follow the mask's edge: a band of BAND_PX to either side, what lies outside, and what lies inside, there with slow and fast
changes of the error apart. Every pixel of the person belongs to the part of the body whose Gaussians cover it, or the nearest.

Axes: H x W pixels, J joints, N points. Pictures are 0..1.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt

from model.avatar import Avatar
from model.avatar_file import load_avatar
from model.body.track import BodyTrack
from model.fitting.prior import JOINT_NAMES
from model.gaussians import Gaussians
from model.pose import BodyPose, track_pose
from model.refitting import refine_poses
from model.render.rasterize import rasterize
from model.training_frames import TrainingFrames
from tasks.artifacts import read_clip, read_segmentation, read_track, split_frames, subject_paths, write_json
from tasks.pictures import on_white
from tasks.scoring import PSNR_CAP, Viewer
from tasks.settings import load_settings
from tasks.training_run import load_training_frames

BAND_PX = 3.0  # to either side of the mask's edge
SLOW_PX = 4.0  # standard deviation of the Gaussian that parts slow changes of the error from fast ones
COVERED = 0.25  # coverage from which a pixel counts as drawn
STAGES = ("stage1", "stage2")
PARTS: dict[str, tuple[str, ...]] = {  # words in the names of the joints that move them; the first that fits
    "head": ("head", "neck"),
    "hands": ("wrist", "hand"),
    "arms": ("collar", "shoulder", "elbow"),
    "feet": ("ankle", "foot"),
    "legs": ("hip", "knee"),
    "trunk": ("",),
}


@dataclass(frozen=True)
class FrameError:
    """One picture's squared error; all shares are summed over their pixels and divided by the whole picture's count.

    Attributes:
        total: of the whole picture: its mean squared error.
        regions, parts: shares of it by name; the band's and the inside's pixels are those of the parts.
        lit: what is left after the best factor on each colour channel of the person's inside.
        sharpness: how strong fast changes are in the render against the frame, inside: 1 where both are equally sharp.
    """

    total: float
    regions: dict[str, float]
    parts: dict[str, float]
    lit: float
    sharpness: float


def main() -> None:
    arguments = read_arguments()
    sets = measure(arguments.subject, every=arguments.train_every, refit_steps=arguments.refit_steps)
    print_report(sets, worst=arguments.worst)
    if arguments.out:
        write_json(arguments.out, {name: {f: vars(e) for f, e in errors.items()} for name, errors in sets.items()})


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", default=None, help="a finished one; default: the subject of params.yaml")
    parser.add_argument("--refit-steps", type=int, default=None, help="of each held-out frame's pose; default: as in params.yaml")
    parser.add_argument("--train-every", type=int, default=4, help="every n-th training frame is looked at")
    parser.add_argument("--worst", type=int, default=5, help="frames that are named")
    parser.add_argument("--out", type=Path, default=None)
    return parser.parse_args()


def measure(subject: str | None, *, every: int, refit_steps: int | None) -> dict[str, dict[str, FrameError]]:
    """Both stages on held-out and on training frames, each frame by its number."""
    settings = load_settings()
    paths, backend = subject_paths(subject or settings.subject.name), settings.render.backend
    split = split_frames(read_clip(paths), read_segmentation(paths), heldout_every=settings.split.heldout_every)
    track = read_track(paths.stage1 / "track.npz", made_by="train_stage1")
    avatars = {stage: load_avatar(getattr(paths, stage) / "avatar.safetensors") for stage in STAGES}
    heldout, train = (load_training_frames(paths, track, frames) for frames in (split.heldout, split.train[::every]))
    steps = settings.evaluate.refit_steps if refit_steps is None else refit_steps
    refitted = refine_poses(avatars["stage1"], track, heldout, steps=steps, backend=backend)
    kinds = {"held out": (heldout, refitted), "trained on": (train, track)}
    return {f"{stage}, {name}": errors_of(avatars[stage], t, frames, backend=backend) for name, (frames, t) in kinds.items() for stage in STAGES}


def errors_of(avatar: Avatar, track: BodyTrack, frames: TrainingFrames, *, backend: str) -> dict[str, FrameError]:
    """Every frame's error taken apart."""
    viewer, found = Viewer(avatar, backend=backend), {}
    for k, row in enumerate(frames.rows.tolist()):
        pose = track_pose(track, row)
        target, mask = on_white(frames.images[k], frames.masks[k]), frames.masks[k].astype(np.float32) / 255
        part = part_map(avatar, pose, track, backend=backend)
        found[str(int(track.frame_ids[row]))] = split_error(viewer.see(pose, track.camera).image, target, mask, part)
    return found


# ----------------------------------------------------------------------------------------------------- one picture


def split_error(
    seen: Float[np.ndarray, "H W 3"], target: Float[np.ndarray, "H W 3"], mask: Float[np.ndarray, "H W"], part: Int[np.ndarray, "H W"]
) -> FrameError:
    """Take one picture's squared error apart; `part` holds places in PARTS."""
    inside, band = regions_of(mask)
    error = (seen - target).astype(np.float64)
    squared = error**2

    def share(values: np.ndarray) -> float:
        return float(values.sum()) / error.size

    slow = share(blur_within(error, inside)[inside] ** 2)
    regions = {"outside": share(squared[~inside & ~band]), "band": share(squared[band]), "inside, slow": slow}
    regions["inside, fast"] = share(squared[inside]) - slow
    parts = {name: share(squared[(inside | band) & (part == k)]) for k, name in enumerate(PARTS)}
    factor = (seen * target)[inside].sum(0) / (seen**2)[inside].sum(0).clip(1e-9)
    lit = share(squared) - share(squared[inside]) + share((seen[inside] * factor - target[inside]) ** 2)
    fast = [float(np.std((picture - blur_within(picture, inside))[inside])) if inside.any() else 1.0 for picture in (seen, target)]
    return FrameError(share(squared), regions, parts, lit, fast[0] / max(fast[1], 1e-9))


def regions_of(mask: Float[np.ndarray, "H W"]) -> tuple[Bool[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
    """The person without the band around its edge, and the band."""
    person = mask > 0.5
    if person.all() or not person.any():
        return person, np.zeros_like(person)
    band = np.where(person, distance_transform_edt(person), distance_transform_edt(~person)) <= BAND_PX
    return person & ~band, band


def blur_within(picture: Float[np.ndarray, "H W 3"], where: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
    """The Gaussian mean around each pixel of what lies within a region."""
    share = cv2.GaussianBlur(where.astype(np.float64), (0, 0), SLOW_PX)
    return cv2.GaussianBlur(picture.astype(np.float64) * where[..., None], (0, 0), SLOW_PX) / share.clip(1e-6)[..., None]


@torch.no_grad()
def part_map(avatar: Avatar, pose: BodyPose, track: BodyTrack, *, backend: str) -> Int[np.ndarray, "H W"]:
    """The place in PARTS of what covers each pixel: the avatar is drawn with its parts for colours, three at a time."""
    camera, attributes = track.camera, avatar.attributes(pose)
    numbered = dataclasses.replace(attributes, scales=torch.arange(len(attributes.scales), dtype=torch.float32))
    viewer = camera.eye
    drawn = avatar.gaussians(numbered, avatar.joint_transforms(pose), seen_from=viewer)
    kept = drawn.scales.long()  # points that face away are left out: their numbers travel as sizes
    part = torch.from_numpy(part_of_joint(len(avatar.parents)))[avatar.atlas_skin_joints[kept, 0]]
    scales, coded = attributes.scales[kept], torch.nn.functional.one_hot(part, len(PARTS)).float()
    covers = [
        rasterize(Gaussians(drawn.means, scales, colors.contiguous(), drawn.opacities), camera, torch.zeros(3), backend=backend).image
        for colors in coded.split(3, dim=1)
    ]
    cover = torch.cat(covers, dim=2).numpy()
    drawn_here = cover.sum(2) >= COVERED
    if not drawn_here.any():
        return np.full(drawn_here.shape, list(PARTS).index("trunk"))
    nearest = distance_transform_edt(~drawn_here, return_distances=False, return_indices=True)
    return cover.argmax(2)[tuple(nearest)]


def part_of_joint(num_joints: int) -> Int[np.ndarray, "J"]:
    """The place in PARTS of each joint; joints beyond the body's own (SMPL-X: jaw, eyes, fingers) count as trunk."""
    names = (*JOINT_NAMES, *[""] * num_joints)[:num_joints]
    return np.array([next(k for k, words in enumerate(PARTS.values()) if any(word in name for word in words)) for name in names])


# ------------------------------------------------------------------------------------------------------- the report


def mean_psnr(errors: Float[np.ndarray, "F"]) -> float:
    """The mean over frames of each frame's PSNR, dB."""
    return float(np.minimum(-10 * np.log10(errors.clip(1e-12)), PSNR_CAP).mean())


def print_report(sets: dict[str, dict[str, FrameError]], *, worst: int) -> None:
    """One block for each stage and kind of frames. "without" is the mean PSNR if an error were gone."""
    for name, errors in sets.items():
        total, lit = (np.array([getattr(e, key) for e in errors.values()]) for key in ("total", "lit"))
        sharpness = np.mean([e.sharpness for e in errors.values()])
        print(f"{name}: {mean_psnr(total):.2f} dB, {mean_psnr(lit):.2f} with the best factors on colour; sharpness {sharpness:.2f}")
        for kind in ("regions", "parts"):
            for key in getattr(next(iter(errors.values())), kind):
                share = np.array([getattr(e, kind)[key] for e in errors.values()])
                print(f"    {key:14s}{100 * share.sum() / total.sum():5.0f} %   without {mean_psnr(total - share):.2f} dB")
        order = sorted(errors, key=lambda frame: -errors[frame].total)[:worst]
        print("    worst frames: " + ", ".join(f"{frame} ({mean_psnr(np.array([errors[frame].total])):.1f} dB)" for frame in order))


if __name__ == "__main__":
    main()
