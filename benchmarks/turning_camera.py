"""What a camera that turns on the spot costs the fit: a film of the cast as it is, and as a camera with a narrower picture that follows the person sees it.

    python -m benchmarks.turning_camera [--people bela caspar] [--out benchmarks/reports/turning_camera.json]

A camera that only turns sees what a wider one sees that stands still, by a homography: so the film is decoded, each frame turned (towards the person, who
is followed late and unsteadily, as by hand), cut narrower and encoded again. Frames, masks and fit are made of both, the focal length unknown to either.

    focal       focal length over the true one: as the turn tells it, and as fitted
    px          how far the still picture's points lie from where one rotation of the film's own camera has them, root mean square, px of the film
    masks       see benchmarks/outlines.py: px off along the outline, in all frames
    MPJPE, PA   of fit_smpl's joints, mm; of the turning camera in the axes of the film's own

Axes: F frames, H x W pixels, J joints.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from benchmarks.body_fit import compare, fitted_joints, true_joints
from benchmarks.cast import MEMBERS, Member, fit_variant, prepare
from benchmarks.outlines import compare as compare_masks
from demo.filming import write_clip
from model.camera_motion import carry, of_coordinates, of_indices, steady_frame
from model.video import Window
from tasks.artifacts import ClipInfo, frame_name, read_clip, read_mask, read_track, write_json
from tasks.provenance import code_commit
from tasks.settings import Settings, load_settings
from tasks.truth import Truth
from tasks.video_file import frames_of, open_video

WIDTH = 0.6  # of the film's picture, that the turning camera's is wide
LATE = 0.6  # s, standard deviation of the window over which it follows the person
SWAY = (2.5, 0.4, 0.4), (5.0, 3.1, 4.3)  # degrees that the hand adds to pan, nod and lean; s of one sway


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", nargs="+", choices=MEMBERS, default=["bela", "caspar"])
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    settings = load_settings()
    report: dict[str, object] = {
        "command": "python -m benchmarks.turning_camera " + " ".join(sys.argv[1:]), "commit": code_commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "people": {},
    }  # fmt: skip
    for name in arguments.people:
        member = MEMBERS[name]
        prepare(member, settings, as_is=True)
        rows = {"still": measure(member, settings, None), "turning": measure(Turned(member.person), settings, turned_by(member))}
        report["people"][name] = rows
        for way, row in rows.items():
            print(f"{name}, {way}: " + ", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        if arguments.out:
            write_json(arguments.out, report)


@dataclass(frozen=True)
class Turned(Member):
    """A member of the cast, filmed by a camera that turns."""

    @property
    def subject(self) -> str:
        return f"turned-{self.name}"

    @property
    def film(self) -> Path:
        return Path("data/turned") / self.name


def turned_by(member: Member) -> Float[np.ndarray, "F 3 3"]:
    """From directions of the film's camera to those of the one that turns, in each frame of the film."""
    truth, video = member.truth(), open_video(str(member.film / "clip.mp4"))
    place = true_joints(truth, list(range(len(video.times)))).mean(axis=1)
    towards = -np.rad2deg(np.arctan2(place[:, 0], place[:, 2]))
    sway = [size * np.sin(2 * np.pi * video.times / period) for size, period in zip(*SWAY, strict=True)]
    pan = gaussian_filter1d(towards, LATE * video.fps, mode="nearest") + sway[0]
    return Rotation.from_euler("yxz", np.stack([pan, *sway[1:]], axis=1), degrees=True).as_matrix()


def turned_film(member: Member, rotations: Float[np.ndarray, "F 3 3"], width: int) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The film as the turning camera sees it."""
    video = open_video(str(member.film / "clip.mp4"))
    for frame, homography in zip(frames_of(video.path, np.arange(len(rotations))), film_to_turned(member.truth(), rotations, video.width, width), strict=True):
        yield steady_frame(frame, np.linalg.inv(homography), (width, video.height))


def film_to_turned(truth: Truth, rotations: Float[np.ndarray, "F 3 3"], film_width: int, width: int) -> Float[np.ndarray, "F 3 3"]:
    """Homographies from the film's pixel indices to those of the narrower picture."""
    K = truth.clip_K.copy()
    K[:2, 2] -= 0.5
    narrow = K.copy()
    narrow[0, 2] -= (film_width - width) / 2
    return narrow @ rotations @ np.linalg.inv(K)


def measure(member: Member, settings: Settings, rotations: Float[np.ndarray, "F 3 3"] | None) -> dict[str, float]:
    """Take a film through the first stages and compare with the truth; with `rotations` it is one of a camera that turns."""
    original = MEMBERS[member.name]
    video = open_video(str(original.film / "clip.mp4"))
    width = 8 * round(WIDTH * video.width / 8)
    if rotations is not None:
        shutil.rmtree(member.film, ignore_errors=True)
        shutil.rmtree(member.paths.work, ignore_errors=True)
        member.film.mkdir(parents=True)
        (member.film / "truth").symlink_to((original.film / "truth").resolve())
        write_clip(member.film / "clip.mp4", turned_film(original, rotations, width), width=width, height=video.height, fps=round(video.fps), crf=settings.make_demo.crf)
        prepare(member, settings, as_is=True)
    fit_variant(member, "fit", settings, as_is=rotations is None)
    clip, truth = read_clip(member.paths), original.truth()
    to_film = np.tile(np.eye(3), (len(clip.frame_ids), 1, 1))  # from the steadied picture's px to the film's
    if rotations is not None:
        turned = of_coordinates(film_to_turned(truth, rotations, video.width, width))[clip.source_frames]
        to_film = np.linalg.inv(turned) @ np.array(clip.to_filmed)
    turn, off = one_rotation(to_film, truth.clip_K, clip)
    track = read_track(member.paths.fit / "track.npz", made_by="fit_smpl")
    errors = compare(fitted_joints(track, settings.body.model) @ turn.T, true_joints(truth, clip.source_frames))
    masks = np.stack([read_mask(member.paths, frame) for frame in clip.frame_ids]) / np.float32(255)
    scale = clip.crop[2] / clip.resolution / truth.clip_K[0, 0]
    row = {
        "frames": len(clip.frame_ids), "focal_fitted": round(float(track.K[0, 0]) * scale, 4), "masks": round(compare_masks(masks, true_masks(truth, clip, to_film))[0], 3),
        "mpjpe": round(float(errors.rooted.mean()), 1), "pa": round(float(errors.aligned.mean()), 1),
    }  # fmt: skip
    return row if rotations is None else row | {"turned_deg": round(clip.turned, 1), "focal_told": round(clip.focal_px * scale, 4), "px": round(off, 2)}


def one_rotation(to_film: Float[np.ndarray, "F 3 3"], K: Float[np.ndarray, "3 3"], clip: ClipInfo) -> tuple[Float[np.ndarray, "3 3"], float]:
    """The rotation from the steadied camera's axes to the film's camera's, and how far it misses points of the steadied picture, px of the film."""
    x0, y0, side = clip.crop
    to_picture = np.array([[side / clip.resolution, 0, x0], [0, side / clip.resolution, y0], [0, 0, 1]])
    grid = np.stack(np.meshgrid(*(np.linspace(corner + 0.2 * side, corner + 0.8 * side, 5) for corner in (x0, y0))), axis=-1).reshape(-1, 2)
    there = carry(to_film, np.broadcast_to(grid, (len(to_film), *grid.shape))).reshape(-1, 2)

    def rays(points: Float[np.ndarray, "N 2"], camera: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "N 3"]:
        directions = np.c_[points, np.ones(len(points))] @ np.linalg.inv(camera).T
        return directions / np.linalg.norm(directions, axis=1, keepdims=True)

    ours, theirs = rays(np.tile(grid, (len(to_film), 1)), to_picture @ clip.K), rays(there, K)
    turn = Rotation.align_vectors(theirs, ours)[0].as_matrix()
    predicted = ours @ turn.T @ K.T
    return turn, float(np.sqrt(((predicted[:, :2] / predicted[:, 2:] - there) ** 2).sum(axis=1).mean()))


def true_masks(truth: Truth, clip: ClipInfo, to_film: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, "F H W"]:
    """The film's true masks, laid and cut like the frames."""
    window, masks = Window(*map(int, clip.crop), clip.resolution), []
    for row, homography in zip(clip.source_frames, to_film, strict=True):
        mask = cv2.imread(str(truth.folder / "masks" / frame_name(row)), cv2.IMREAD_GRAYSCALE)
        masks.append(window.cut(np.repeat(mask[..., None], 3, axis=2), of_indices(homography))[..., 0])
    return np.stack(masks) / np.float32(255)


if __name__ == "__main__":
    main()
