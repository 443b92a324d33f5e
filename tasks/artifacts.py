"""Where the pipeline's bytes are, and in what format: every file that one stage writes and another reads.

Axes: F frames, H x W pixels. Everything is written beside its place and renamed (whole_files.py), so a reader sees the old artifact or the
new one, never half of it. Arrays are npz or safetensors, records are json, pictures are png; loading is data-only.

    work/<subject>/frames/      NNNNNN.png, clip.json               extract_frames
                   masks/       NNNNNN.png, segmentation.json, landmarks.npz   segment_person
                   fit/         track.npz, fit.json, state.npz      fit_smpl
                   fit_refined/ track.npz, refined.json             refine_fit
                   uv/          atlas.npz                           bake_uv_maps
                   stage1/      avatar.safetensors, track.npz, history.json    train_stage1
                   pose_maps/   pose_maps.npz                       bake_pose_maps
                   stage2/      avatar.safetensors, history.json    train_stage2
                   checkpoints/ unfinished training, no stage's output
                   seconds/     how long each stage took
    results/<subject>/          metrics.json, report.html, pictures/         evaluate
                                avatar.html                      build_page
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))  # a small png must not unpack to gigabytes

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from model.body.track import BodyTrack
from model.damaged_files import DAMAGED_NPZ
from model.fitting.clip_landmarks import ClipLandmarks
from tasks.errors import InputError
from tasks.whole_files import replaced_file


@dataclass(frozen=True)
class SubjectPaths:
    """The folders of one subject."""

    work: Path
    results: Path

    @property
    def frames(self) -> Path:
        return self.work / "frames"

    @property
    def masks(self) -> Path:
        return self.work / "masks"

    @property
    def fit(self) -> Path:
        return self.work / "fit"

    @property
    def fit_refined(self) -> Path:
        return self.work / "fit_refined"

    @property
    def uv(self) -> Path:
        return self.work / "uv"

    @property
    def stage1(self) -> Path:
        return self.work / "stage1"

    @property
    def pose_maps(self) -> Path:
        return self.work / "pose_maps"

    @property
    def stage2(self) -> Path:
        return self.work / "stage2"

    @property
    def checkpoints(self) -> Path:
        return self.work / "checkpoints"

    @property
    def seconds(self) -> Path:
        return self.work / "seconds"


def subject_paths(name: str) -> SubjectPaths:
    """The folders of the subject called `name`, relative to the project's root."""
    return SubjectPaths(work=Path("work") / name, results=Path("results") / name)


# ------------------------------------------------------------------------------------------------ records and arrays


def write_json(path: Path, record: object) -> None:
    """Write a record, whole or not at all. Numbers must be finite or None."""
    with replaced_file(path) as scratch:
        scratch.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, made_by: str) -> dict:
    """Read a record that the stage `made_by` wrote."""
    return json.loads(require(path, made_by=made_by).read_text(encoding="utf-8"))


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays, whole or not at all."""
    with replaced_file(path) as scratch:
        np.savez_compressed(scratch, **arrays)


def read_npz(path: Path, *, made_by: str) -> dict[str, np.ndarray]:
    """Read named arrays that the stage `made_by` wrote."""
    try:
        with np.load(require(path, made_by=made_by), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except DAMAGED_NPZ as error:
        raise InputError(f"expected whole arrays in {path}, it does not open ({error}); run: dvc repro -sf {made_by}") from error


def require(path: Path, *, made_by: str) -> Path:
    """The path itself, when it is there.

    Raises:
        InputError: it is not; the message names the stage to run.
    """
    if not path.exists():
        raise InputError(f"expected {path}, found nothing; run: dvc repro {made_by}")
    return path


@contextlib.contextmanager
def timed(paths: SubjectPaths, stage: str) -> Iterator[None]:
    """Record how many seconds a stage took, beside the pipeline's outputs (a time is no input of any stage)."""
    start = time.perf_counter()
    yield
    write_json(paths.seconds / f"{stage}.json", {"seconds": round(time.perf_counter() - start, 2)})


def read_seconds(paths: SubjectPaths) -> dict[str, float]:
    """Seconds of each stage that has run."""
    return {path.stem: json.loads(path.read_text())["seconds"] for path in sorted(paths.seconds.glob("*.json"))}


# ------------------------------------------------------------------------------------------------------- pictures


def frame_name(frame_id: int) -> str:
    """The file name of one frame, the same under frames/ and masks/."""
    return f"{frame_id:06d}.png"


def write_image(path: Path, image: UInt8[np.ndarray, "H W C"] | UInt8[np.ndarray, "H W"]) -> None:
    """Write an RGB, RGBA or grey picture as png."""
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, order[image.shape[2]])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1])  # imwrite calls a file whole that a full disk has cut


def read_image(path: Path) -> np.ndarray:
    """Read a png as it is: [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA, uint8."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"expected a picture at {path}, found none that opens; run: dvc repro extract_frames segment_person")
    order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, order[pixels.shape[2]])


# ----------------------------------------------------------------------------------------------- the clip's records


@dataclass(frozen=True)
class ClipInfo:
    """What extract_frames knows of the clip; frames/clip.json.

    Attributes:
        source: the video's path as it was given.
        source_width, source_height: upright picture size, px.
        source_fps: claimed frames per second.
        source_frames: index in the video of each kept frame, in order.
        times: time of each kept frame, s.
        frame_ids: number of each kept frame: frames/NNNNNN.png.
        fps: kept frames per second.
        resolution: side of the square crop as written, px.
        crop: x0, y0 and side of the crop in the upright source picture, px (may reach over the border).
        focal_px: focal length in px of the written crop.
        focal_known: whether it was given (by the user or the file) rather than guessed.
        focal_from_file: whether a telephone's word is what is known of it: whole millimetres, counted across the picture or its diagonal.
        cx, cy: principal point in px of the written crop.
        boxes: x0, y0, x1, y1 of the person in each kept frame, px of the written crop.
        dropped: source frame index -> why it was left out.
        notes: what a user should know of the clip (short reads, camera motion, ...).
        people: the most people that were seen at once.
        dataset: of a published dataset's folder: kind, subject, digest, and the frame ids of its split (train, heldout; None where
            none is published); None for a video.
        to_filmed: for each kept frame the homography [3, 3] from the picture that `crop` speaks of, steadied where the camera shook or
            turned, to the video's own, px, made straight where its lens bends; None where there is no video (a dataset).
        straightened: whether a bent lens's pictures were made straight.
        turned: degrees by which the camera turned on the spot; 0 where it did not.
        focal_error: how far the focal length may be off where that turn told it, as a share; 0 where it did not.
        exposure: for each kept frame the factor on each channel's linear light, relative to the clip's median, that was taken out of
            it; None where the frames are as they were filmed.
    """

    source: str
    source_width: int
    source_height: int
    source_fps: float
    source_frames: list[int]
    times: list[float]
    frame_ids: list[int]
    fps: float
    resolution: int
    crop: list[float]
    focal_px: float
    focal_known: bool
    cx: float
    cy: float
    boxes: list[list[float]]
    dropped: dict[str, str]
    notes: list[str]
    people: int = 1
    dataset: dict | None = None
    to_filmed: list[list[list[float]]] | None = None
    focal_from_file: bool = False
    exposure: list[list[float]] | None = None
    straightened: bool = False
    turned: float = 0.0
    focal_error: float = 0.0

    @property
    def K(self) -> Float[np.ndarray, "3 3"]:
        return np.array([[self.focal_px, 0, self.cx], [0, self.focal_px, self.cy], [0, 0, 1]])


def read_clip(paths: SubjectPaths) -> ClipInfo:
    """What extract_frames knows of the clip.

    Raises:
        InputError: it is missing, or of an earlier version.
    """
    clip = ClipInfo(**read_json(paths.frames / "clip.json", made_by="extract_frames"))
    if clip.to_filmed is not None and len(clip.to_filmed[0]) != 3:
        raise InputError(f"{paths.frames / 'clip.json'} was written by an earlier version; run: dvc repro extract_frames (or delete {paths.frames})")
    return clip


def read_frame(paths: SubjectPaths, frame_id: int) -> UInt8[np.ndarray, "H W 3"]:
    """One kept frame, RGB."""
    return read_image(require(paths.frames / frame_name(frame_id), made_by="extract_frames"))


@dataclass(frozen=True)
class Segmentation:
    """How the masks were made; masks/segmentation.json.

    Attributes:
        method: "rembg" or "landmarks", and `model` the network's name.
        flagged: frame id (as text) -> why its mask must not be trusted; such frames are not trained on.
    """

    method: str
    model: str
    flagged: dict[str, str]


def read_segmentation(paths: SubjectPaths) -> Segmentation:
    """How the masks were made."""
    return Segmentation(**read_json(paths.masks / "segmentation.json", made_by="segment_person"))


def read_mask(paths: SubjectPaths, frame_id: int) -> UInt8[np.ndarray, "H W"]:
    """The soft mask of one frame, 255 = person."""
    return read_image(require(paths.masks / frame_name(frame_id), made_by="segment_person"))


def write_landmarks(path: Path, landmarks: ClipLandmarks) -> None:
    """Write the person's landmarks as npz."""
    write_npz(path, **vars(landmarks))


def read_landmarks(paths: SubjectPaths) -> ClipLandmarks | None:
    """The person's landmarks, or None for masks that come from elsewhere and have none."""
    path = paths.masks / "landmarks.npz"
    return ClipLandmarks(**read_npz(path, made_by="segment_person")) if path.exists() else None


@dataclass(frozen=True)
class FrameSplit:
    """Which frames train the avatar and which score it."""

    train: list[int]
    heldout: list[int]


def split_frames(clip: ClipInfo, segmentation: Segmentation, *, heldout_every: int) -> FrameSplit:
    """Keep every n-th frame from training, starting in the middle of the first n; leave out frames with flagged masks.

    A dataset whose split is published keeps that one.
    """
    if clip.dataset is not None and clip.dataset["heldout"] is not None:
        usable = {f for f in clip.frame_ids if str(f) not in segmentation.flagged}
        return FrameSplit(*([f for f in clip.dataset[part] if f in usable] for part in ("train", "heldout")))
    numbered = [(i, f) for i, f in enumerate(clip.frame_ids) if str(f) not in segmentation.flagged]
    heldout = [f for i, f in numbered if i % heldout_every == heldout_every // 2]
    train = [f for i, f in numbered if i % heldout_every != heldout_every // 2]
    return FrameSplit(train=train, heldout=heldout)


# ------------------------------------------------------------------------------------------------------ body tracks


def write_track(path: Path, track: BodyTrack) -> None:
    """Write a body track as npz, in the names of BodyTrack; what is not known of it is left out."""
    values = {field.name: getattr(track, field.name) for field in dataclasses.fields(track)}
    values = {name: value for name, value in values.items() if value is not None}
    write_npz(path, **{k: v.detach().cpu().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for k, v in values.items()})


def read_track(path: Path, *, made_by: str) -> BodyTrack:
    """Read a body track; floating point arrays come as float32."""
    arrays = read_npz(path, made_by=made_by)

    def tensor(name: str) -> torch.Tensor:
        value = torch.from_numpy(arrays[name])
        return value.float() if value.is_floating_point() else value.long()

    names = ("betas", "global_orient", "body_pose", "transl", "K", "w2c", "frame_ids", "confidence")
    known = [name for name in ("joint_spread", "expression", "times") if name in arrays]  # not in every file
    return BodyTrack(
        **{name: tensor(name) for name in (*names, *known)},
        width=int(arrays["width"]),
        height=int(arrays["height"]),
        fps=float(arrays["fps"]),
        body=str(arrays["body"]),
    )
