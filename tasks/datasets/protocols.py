"""The published ways to score an avatar on a dataset, so that figures can stand beside others'.

Axes: H x W pixels of the dataset's own picture. Frames are the published test frames. The picture is rendered anew at the
protocol's own size by the trained avatar, whatever size it was trained at, and compared with the folder's picture, straightened.

    native_white   native size, mask cut at one half, on white            GaussianAvatar (scene/dataset_mono.py)
    540_black      half size (540 px), mask by nearest pixel, on black    3DGS-Avatar (dataset/people_snapshot.py)
    540_white      half size (540 px), soft mask, on white                InstantAvatar (datasets/peoplesnapshot.py)

NeuMan's scenes are scored at their native size on white only. LPIPS is given as those codes compute it: pictures of 0..1 go into
a network that expects -1..1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from model.body.track import BodyTrack
from model.camera import Camera
from model.lpips import Lpips
from model.pose import track_pose
from tasks.artifacts import ClipInfo
from tasks.datasets.folders import Dataset, open_dataset
from tasks.measurement import Inputs
from tasks.progress import progress_bar
from tasks.scoring import Seen, Viewer, mean_scores, score_picture

PROTOCOLS = {"people_snapshot": ("native_white", "540_black", "540_white"), "neuman": ("native_white",)}
POSES = ("stored", "refitted")
HALF = 2  # People-Snapshot's 1080 px become the publications' 540


@dataclass(frozen=True)
class Target:
    """What a protocol compares with: the picture on its background and the share of person in each pixel."""

    image: Float[np.ndarray, "h w 3"]
    mask: Float[np.ndarray, "h w"]


def target_of(protocol: str, image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"]) -> Target:
    """One picture of the dataset as a protocol wants it."""
    if protocol == "native_white":
        inside = (mask > 127).astype(np.float32)
        return Target(image / np.float32(255) * inside[..., None] + (1 - inside[..., None]), inside)
    size = (image.shape[1] // HALF, image.shape[0] // HALF)
    small = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    if protocol == "540_black":
        inside = (cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0).astype(np.float32)
        return Target(small * inside[..., None], inside)
    assert protocol == "540_white", protocol
    share = cv2.resize(mask.astype(np.float32) / 255, size, interpolation=cv2.INTER_LINEAR)
    return Target(small * share[..., None] + (1 - share[..., None]), share)


def camera_of(protocol: str, track: BodyTrack, clip: ClipInfo) -> Camera:
    """The track's camera in the dataset's own picture, at the protocol's size."""
    x0, y0, side = clip.crop
    scale = side / clip.resolution
    back = torch.tensor([[scale, 0, x0], [0, scale, y0], [0, 0, 1.0]])
    native = Camera(back @ track.K, track.w2c, clip.source_width, clip.source_height)
    return native if protocol == "native_white" else native.resize(clip.source_width // HALF, clip.source_height // HALF)


def on_background(seen: Seen, protocol: str) -> Seen:
    """A picture on white, or the same on black: what is not covered shows the background."""
    if protocol != "540_black":
        return seen
    return Seen(np.clip(seen.image - (1 - seen.alpha[..., None]), 0, 1), seen.alpha)


def measure_protocols(inputs: Inputs, *, backend: str) -> dict | None:
    """Score the held-out frames of a dataset by its published protocols; None for anything but a dataset.

    Returns:
        protocol -> stage -> "stored" or "refitted" poses -> means of the figures; and how it was done.
    """
    clip = inputs.clip
    if clip.dataset is None or not inputs.split.heldout:
        return None
    dataset = open_dataset(Path(clip.source))
    protocols = PROTOCOLS[dataset.kind]
    viewers = {stage: Viewer(avatar, backend=backend) for stage, avatar in inputs.avatars.items()}
    rows: dict[str, dict[str, dict[str, list]]] = {p: {s: {k: [] for k in POSES} for s in viewers} for p in protocols}
    row_of = {frame: row for row, frame in enumerate(inputs.refined.frame_ids.tolist())}
    with progress_bar("the dataset's protocols", len(inputs.split.heldout)) as show:
        for done, (frame_id, image, mask) in enumerate(_pictures(dataset, clip, inputs.split.heldout), start=1):
            for protocol in protocols:
                target = target_of(protocol, image, mask)
                for poses, track in (("stored", inputs.refined), ("refitted", inputs.refitted)):
                    pose, camera = track_pose(track, row_of[frame_id]), camera_of(protocol, track, clip)
                    for stage, viewer in viewers.items():
                        seen = on_background(viewer.see(pose, camera), protocol)
                        rows[protocol][stage][poses].append(_score(seen, target, inputs.lpips))
            show(done)
    means = {p: {s: {k: mean_scores(rows[p][s][k]) for k in POSES} for s in viewers} for p in protocols}
    return means | {
        "dataset": {"kind": dataset.kind, "subject": dataset.subject, "frames": len(inputs.split.heldout)},
        "split": "every n-th frame, none is published" if clip.dataset["heldout"] is None else dataset.split.source,
        "poses": "stored: as refined with the training frames; refitted: fitted to the scored picture with the avatar kept as it is, as InstantAvatar does",
        "lpips": "as the publications' codes compute it: AlexNet on values 0..1 that are not scaled to -1..1",
        "body": inputs.refined.body,
    }


def _pictures(dataset: Dataset, clip: ClipInfo, frame_ids: list[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The folder's own pictures and masks of some frames."""
    source = dict(zip(clip.frame_ids, clip.source_frames, strict=True))
    ordered = sorted(frame_ids, key=source.get)
    frames = [source[frame_id] for frame_id in ordered]
    yield from zip(ordered, dataset.images(frames), dataset.masks(frames), strict=True)


def _score(seen: Seen, target: Target, lpips: Lpips | None) -> dict[str, float | None]:
    """The figures of one picture, LPIPS in the publications' way."""
    figures = score_picture(seen, target.image, target.mask, None)
    if lpips is not None:
        image, wanted = (torch.from_numpy(np.ascontiguousarray((picture + 1) / 2)).float() for picture in (seen.image, target.image))
        figures["lpips"] = float(lpips(image, wanted))  # which scales 0..1 to -1..1, so that (x + 1) / 2 arrives as x
    return figures


def protocol_lines(measured: dict) -> list[str]:
    """A few lines for whoever waits at the terminal."""
    lines = []
    for protocol in (name for name in measured if name in {p for names in PROTOCOLS.values() for p in names}):
        for stage, by_pose in measured[protocol].items():
            for poses, row in by_pose.items():
                lpips = "" if row["lpips"] is None else f", LPIPS {row['lpips']:.4f}"
                lines.append(f"{protocol}, {stage}, poses {poses}: PSNR {row['psnr']:.2f} dB, SSIM {row['ssim']:.4f}{lpips}")
    return lines
