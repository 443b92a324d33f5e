"""Stage: from frames to soft masks of the person, with doubtful ones flagged.

Axes: F frames, H x W pixels. Reads frames/; writes masks/NNNNNN.png (255 = person), masks/segmentation.json, and the person's
landmarks in every frame, which the fit goes on with, masks/landmarks.npz. Where others are in the picture, their pixels are
taken out of the masks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from model.fitting.clip_landmarks import stack_landmarks, track_clip
from model.fitting.landmarks import MissingDetectorError, PoseDetector, PoseLandmarks
from model.fitting.mask_checks import find_implausible, largest_part
from model.fitting.matting import box_around, decide_outline, learn_scene
from model.fitting.scene import ShownPixels, everything
from model.fitting.subject import territory
from tasks.artifacts import (
    ClipInfo,
    Segmentation,
    SubjectPaths,
    frame_name,
    read_clip,
    read_frame,
    subject_paths,
    timed,
    write_image,
    write_json,
    write_landmarks,
)
from tasks.datasets.frames import segment_dataset
from tasks.errors import InputError, run_stage
from tasks.picture_borders import shown_pixels
from tasks.progress import progress_bar
from tasks.settings import SegmentPersonSettings, load_settings
from tasks.whole_files import replaced_folder

MAX_COVERED = 0.05  # of the person's limbs, that others may hide; with more the mask lacks a part

Segmenter = Callable[[UInt8[np.ndarray, "H W 3"], PoseLandmarks], Float[np.ndarray, "H W"]]


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    with timed(paths, "segment_person"):
        clip = read_clip(paths)
        if clip.dataset is not None:
            return report(segment_dataset(paths, clip), len(clip.frame_ids))
        images = np.stack([read_frame(paths, frame_id) for frame_id in clip.frame_ids])
        found = segment_clip(images, settings.segment_person, guides=clip.boxes, crowded=clip.people > 1, shown=partial(shown_pixels, clip))
        masks, segmentation = judge_masks(found, clip, settings.segment_person)
        write_masks(paths, masks, found.people, clip, segmentation)
    report(segmentation, len(masks))


@dataclass(frozen=True)
class Segmented:
    """A clip's masks before they are judged.

    Attributes:
        masks: share of person in each pixel.
        people: the person's landmarks; None where it is not found.
        covered: rows in which other people hide the person, and how they do.
        method: how it was done; nothing is flagged yet.
    """

    masks: Float[np.ndarray, "F H W"]
    people: list[PoseLandmarks | None]
    covered: dict[int, str]
    method: Segmentation

    @property
    def boxes(self) -> Float[np.ndarray, "F 4"]:
        """Where the landmarks are; NaN where there are none."""
        return np.array([p.box if p is not None else [np.nan] * 4 for p in self.people])


def segment_clip(
    images: UInt8[np.ndarray, "F H W 3"], settings: SegmentPersonSettings, *,
    guides: list[list[float]] | None = None, crowded: bool = False, shown: ShownPixels = everything,
) -> Segmented:  # fmt: skip
    """Soft masks of the person and its landmarks.

    Args:
        guides: the box of the person in each frame, px; None: the largest, most central person is followed.
        crowded: whether to look for others, and to take their pixels out.
        shown: which pixels of a frame show the video's picture.

    Raises:
        InputError: neither method can run.
    """
    try:
        detector = PoseDetector()
    except MissingDetectorError as error:
        raise InputError(str(error)) from error
    segmenter, method = choose_segmenter(detector, settings)
    with progress_bar("finding the person", len(images)) as show:
        people = track_clip(images, detector=detector, guides=guides, progress=show)
    coarse, covered, theirs = np.zeros(images.shape[:3], np.float32), {}, {}
    others: list[PoseLandmarks] = []
    with progress_bar(f"masks by {method.model}", len(images)) as show:
        for i, (image, person) in enumerate(zip(images, people, strict=True)):
            if person is not None:
                mask, seed = segmenter(image, person), person.mask
                if crowded:
                    others = detector.others(image, person, others)
                    own, hidden = territory(person.points, [p.points for p in others], *image.shape[:2])
                    mask, seed, theirs[i] = mask * own, seed * own, ~own
                    if hidden > MAX_COVERED:
                        covered[i] = f"another person hides {hidden:.0%} of this one"
                coarse[i] = largest_part(mask, seed=seed)
                people[i] = replace(person, mask=None)  # a minute of them is most of a gigabyte
            show(i + 1)
    masks = finish_masks(images, coarse, shown=shown)
    for i, taken in theirs.items():  # other people are no background either
        masks[i][taken] = 0
    return Segmented(masks, people, with_neighbours(covered, len(images)), method)


def with_neighbours(covered: dict[int, str], count: int) -> dict[int, str]:
    """Add the frames beside those in which others hide the person: there they touch, and the masks run into each other."""
    beside = {j: "another person hides this one in the frame beside" for i in covered for j in (i - 1, i + 1) if 0 <= j < count}
    return beside | covered


def finish_masks(
    images: UInt8[np.ndarray, "F H W 3"], coarse: Float[np.ndarray, "F H W"], *, shown: ShownPixels = everything
) -> Float[np.ndarray, "F H W"]:
    """Decide where the person ends, in the place of the coarse masks: a minute of video has no room for them twice."""
    background, colours = learn_scene(images, coarse, shown=shown)
    with progress_bar("outlines", len(images)) as show:
        for i, (image, mask) in enumerate(zip(images, coarse, strict=True)):
            box = box_around(mask)
            fine = decide_outline(image[box], mask[box], background=background.where(shown(i))[box], colours=colours)
            mask[:] = 0
            mask[box] = fine
            show(i + 1)
    return coarse


def judge_masks(
    found: Segmented, clip: ClipInfo, settings: SegmentPersonSettings
) -> tuple[Float[np.ndarray, "F H W"], Segmentation]:
    """Cut the masks at the source picture's border and flag those that cannot be trusted.

    Raises:
        InputError: more of them are flagged than settings.max_flagged_share.
    """
    masks, method = found.masks, found.method
    for row, mask in enumerate(masks):
        mask *= shown_pixels(clip, row)
    boxes = np.where(np.isnan(found.boxes), np.array(clip.boxes), found.boxes)
    doubts = find_implausible(masks, boxes, shown=partial(shown_pixels, clip)) | found.covered
    flagged = {str(clip.frame_ids[i]): doubts[i] for i in sorted(doubts)}
    if len(flagged) > settings.max_flagged_share * len(masks):
        frame, reason = next(iter(flagged.items()))
        raise InputError(
            f"{len(flagged)} of {len(masks)} masks by {method.model} cannot be trusted, expected at most "
            f"{settings.max_flagged_share:.0%}; the first, frame {frame}: {reason}; use a clip that shows the whole person, "
            f"try another segment_person.method, or raise segment_person.max_flagged_share in params.yaml"
        )
    return masks, Segmentation(method.method, method.model, flagged)


def write_masks(
    paths: SubjectPaths, masks: Float[np.ndarray, "F H W"], people: list[PoseLandmarks | None], clip: ClipInfo, segmentation: Segmentation
) -> None:
    """Write masks, landmarks and their record, all or nothing."""
    with replaced_folder(paths.masks) as folder:
        for frame_id, mask in zip(clip.frame_ids, masks, strict=True):
            write_image(folder / frame_name(frame_id), np.rint(mask * 255).astype(np.uint8))
        write_landmarks(folder / "landmarks.npz", stack_landmarks(people))
        write_json(folder / "segmentation.json", vars(segmentation))


def report(segmentation: Segmentation, num_frames: int) -> None:
    """Say which masks are doubtful."""
    for frame_id, reason in segmentation.flagged.items():
        print(f"frame {frame_id} will not be trained on: its mask {reason}")
    print(f"{num_frames - len(segmentation.flagged)} of {num_frames} masks are usable")


# ------------------------------------------------------------------------------------------------- which segmentation


def choose_segmenter(detector: PoseDetector, settings: SegmentPersonSettings) -> tuple[Segmenter, Segmentation]:
    """rembg where its weights are at hand and it is wanted, else BlazePose's own segmentation; says which and why.

    Raises:
        InputError: rembg is asked for and its weights are not there.
    """
    weights = find_rembg_weights(settings)
    if settings.method == "rembg" and weights is None:
        raise InputError(
            f"segment_person.method is rembg: expected {settings.rembg_model}.onnx in {rembg_home(settings)}, found none; "
            f"put the weights there (nothing is downloaded), set segment_person.rembg_home, or use method: landmarks"
        )
    if settings.method != "landmarks" and weights is not None:
        print(f"segmentation: rembg with {settings.rembg_model} ({weights})")
        return rembg_segmenter(settings), Segmentation("rembg", settings.rembg_model, {})
    why = "as asked" if settings.method == "landmarks" else f"{settings.rembg_model}.onnx is not in {rembg_home(settings)}"
    print(f"segmentation: landmarks (BlazePose), {why}")
    return detector.segment, Segmentation("landmarks", "pose_landmark_full", {})


def rembg_home(settings: SegmentPersonSettings) -> Path:
    """The folder in which rembg looks for weights."""
    return Path(settings.rembg_home or os.environ.get("U2NET_HOME") or Path.home() / ".u2net").expanduser()


def find_rembg_weights(settings: SegmentPersonSettings) -> Path | None:
    """The weights that rembg would load, looked up as it does, without importing it."""
    home, name = rembg_home(settings), settings.rembg_model
    places = (home / "models" / name / f"{name}.onnx", home / f"{name}.onnx")
    return next((path for path in places if path.is_file()), None)


def rembg_segmenter(settings: SegmentPersonSettings) -> Segmenter:
    """Run rembg's network of the chosen name.

    rembg stretches each prediction to the full range 0..1, so an empty frame can come back as a false mask, and a constant
    one as NaN: the first is caught by the checks that follow, the second counts as empty.
    """
    os.environ["U2NET_HOME"] = str(rembg_home(settings))
    print("loading rembg (its first import compiles for a minute or two)")
    from PIL import Image
    from rembg import new_session

    try:
        session = new_session(settings.rembg_model, providers=["CPUExecutionProvider"])
    except ValueError as error:
        raise InputError(f"segment_person.rembg_model: rembg knows no model called {settings.rembg_model!r} ({error}); u2net_human_seg is made for people") from error

    def segment(image: UInt8[np.ndarray, "H W 3"], person: PoseLandmarks) -> Float[np.ndarray, "H W"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            mask = np.asarray(session.predict(Image.fromarray(image))[0], dtype=np.float32) / 255
        mask = cv2.resize(np.nan_to_num(mask), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return mask

    return segment


if __name__ == "__main__":
    run_stage(main)
