"""How near the masks come to the truth, on the demo and the cast: as the detector leaves them, weighed, and decided.

    python -m benchmarks.outlines [--people demo ada dayo] [--as-is]

    px          mean absolute difference of mask and truth, summed over the picture, per pixel of outline
    squared     the same of the squared difference: what it costs a picture
    IoU         of soft masks (sum of the smaller over sum of the larger); mean and worst frame

Films, frames and masks are made as far as they are not current (benchmarks/cast.py). Axes: F frames, H x W pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from rich.progress import track
from scipy.ndimage import binary_dilation

from benchmarks.cast import MEMBERS, Member, prepare
from model.fitting.clip_landmarks import track_clip
from model.fitting.landmarks import PoseDetector
from model.fitting.mask_checks import largest_part
from model.fitting.matting import box_around, decide_outline, learn_scene, weigh_colours
from model.video import Window
from tasks.artifacts import ClipInfo, frame_name, read_clip, read_frame
from tasks.settings import load_settings

KINDS = ("coarse", "weighed", "decided")


def main() -> None:
    arguments = read_arguments()
    settings = load_settings()
    print(f"{'':24s} {'px':>6s} {'squared':>8s} {'IoU':>7s} {'worst':>7s}")
    for name in arguments.people:
        member = MEMBERS[name]
        prepare(member, settings, as_is=arguments.as_is)
        clip = read_clip(member.paths)
        images = np.stack([read_frame(member.paths, frame) for frame in clip.frame_ids])
        truth = true_masks(member, clip)
        for kind, masks in zip(KINDS, masks_of(images, name), strict=True):
            px, squared, iou, worst = compare(masks, truth)
            print(f"{name + ', ' + kind:24s} {px:6.3f} {squared:8.3f} {iou:7.4f} {worst:7.4f}", flush=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", nargs="+", default=list(MEMBERS), choices=list(MEMBERS))
    parser.add_argument("--as-is", action="store_true", help="take films and frames that are there, though the code that made them has changed")
    return parser.parse_args()


def true_masks(member: Member, clip: ClipInfo) -> Float[np.ndarray, "F H W"]:
    """The film's true masks, cut like its frames."""
    x0, y0, side = map(int, clip.crop)
    window, folder = Window(x0, y0, side, clip.resolution), Path(member.film) / "truth" / "masks"
    masks = []
    for row in clip.source_frames:
        mask = cv2.imread(str(folder / frame_name(row)), cv2.IMREAD_GRAYSCALE)
        masks.append(window.cut(np.repeat(mask[..., None], 3, axis=2))[..., 0].astype(np.float32) / 255)
    return np.stack(masks)


def masks_of(images: np.ndarray, name: str) -> tuple[Float[np.ndarray, "F H W"], ...]:
    """Masks of each of KINDS, by BlazePose.

    Raises:
        SystemExit: the person is not found in every frame.
    """
    detector = PoseDetector()
    people = track_clip(images, detector=detector)
    if any(person is None for person in people):
        raise SystemExit(f"expected {name} in every one of {len(images)} frames, found {sum(person is not None for person in people)}")
    coarse = np.stack([
        largest_part(detector.segment(image, person), seed=person.mask)
        for image, person in track(list(zip(images, people, strict=True)), description=name, transient=True)
    ])  # fmt: skip
    background, colours = learn_scene(images, coarse)
    weighed, decided = np.zeros_like(coarse), np.zeros_like(coarse)
    for i, (image, mask) in enumerate(zip(images, coarse, strict=True)):
        box = box_around(mask)
        known = {"background": background[box], "colours": colours}
        weighed[i][box] = weigh_colours(image[box], mask[box], **known)
        decided[i][box] = decide_outline(image[box], mask[box], **known)
    return coarse, weighed, decided


def compare(masks: Float[np.ndarray, "F H W"], truth: Float[np.ndarray, "F H W"]) -> tuple[float, float, float, float]:
    """Mean of px, squared and IoU, and the worst IoU."""
    rows = []
    for mask, true in zip(masks, truth, strict=True):
        inside, difference = true > 0.5, mask - true
        length = (binary_dilation(inside) ^ inside).sum()
        rows.append([np.abs(difference).sum() / length, (difference**2).sum() / length, np.minimum(mask, true).sum() / np.maximum(mask, true).sum()])
    means = np.mean(rows, axis=0)
    return (*(float(mean) for mean in means), float(np.min(rows, axis=0)[2]))


if __name__ == "__main__":
    main()
