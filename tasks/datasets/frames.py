"""A dataset in the place of a video: its frames, split, camera and masks, cut as an ordinary clip's are.

Axes: F kept frames, H x W source pixels. Writes what extract_frames and segment_person write, from the folder instead of
from a detector.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from model.video import Window, sample_times, window_around
from tasks.artifacts import ClipInfo, Segmentation, SubjectPaths, frame_name, write_image, write_json
from tasks.datasets.folders import Dataset, dataset_kind, open_dataset
from tasks.errors import InputError
from tasks.progress import progress_bar
from tasks.settings import ExtractFramesSettings
from tasks.whole_files import replaced_folder

MIN_PIXELS = 16  # fewer person pixels than this are no mask


def dataset_at(video: str) -> Path | None:
    """The dataset's folder that subject.video names; None for a video.

    Raises:
        InputError: a folder that is no dataset's.
    """
    path = Path(video).expanduser()
    if not path.is_dir():
        return None
    if dataset_kind(path) is None:
        open_dataset(path)  # says what is missing
    return path


def extract_dataset(paths: SubjectPaths, folder: Path, settings: ExtractFramesSettings) -> ClipInfo:
    """Write the frames that the publications use, straightened and cut to one square around the person.

    Raises:
        InputError: see `open_dataset`; also too few frames that show the person.
    """
    dataset = open_dataset(folder)
    frames = choose_frames(dataset, settings)
    boxes, kept = find_boxes(dataset, frames)
    if len(kept) < settings.min_frames:
        raise InputError(f"only {len(kept)} of {len(frames)} frames of {folder} have a mask of the person, expected at least {settings.min_frames} (extract_frames.min_frames)")
    clip, window = describe_dataset(dataset, frames, kept, boxes, settings)
    with replaced_folder(paths.frames) as out, progress_bar("writing frames", len(kept)) as show:
        for frame_id, image in zip(clip.frame_ids, dataset.images(kept), strict=True):
            write_image(out / frame_name(frame_id), window.cut(image))
            show(frame_id + 1)
        write_json(out / "clip.json", vars(clip))
    return clip


def choose_frames(dataset: Dataset, settings: ExtractFramesSettings) -> list[int]:
    """All frames of the published split, or evenly spaced ones where nobody published any."""
    if dataset.split is not None:
        return sorted({*dataset.split.train, *dataset.split.test})
    return sample_times(dataset.times, num_frames=settings.num_frames, fps=settings.fps).tolist()


def find_boxes(dataset: Dataset, frames: list[int]) -> tuple[Float[np.ndarray, "F 4"], list[int]]:
    """The person's box in each frame whose mask shows it, and which frames those are."""
    boxes, kept = [], []
    with progress_bar("reading masks", len(frames)) as show:
        for done, (frame, mask) in enumerate(zip(frames, dataset.masks(frames), strict=True), start=1):
            rows, columns = np.flatnonzero((mask > 127).any(1)), np.flatnonzero((mask > 127).any(0))
            if len(rows) * len(columns) >= MIN_PIXELS:
                boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                kept.append(frame)
            show(done)
    return np.array(boxes, dtype=np.float64).reshape(-1, 4), kept


def describe_dataset(
    dataset: Dataset, frames: list[int], kept: list[int], boxes: Float[np.ndarray, "F 4"], settings: ExtractFramesSettings
) -> tuple[ClipInfo, Window]:
    """The clip's record, with the published split and the dataset it is of."""
    window = window_around(boxes, margin=settings.margin, resolution=settings.resolution)
    K = window.intrinsics(dataset.K)
    times = dataset.times[kept]
    span = float(times[-1] - times[0])
    split, ids = dataset.split, {frame: frame_id for frame_id, frame in enumerate(kept)}
    notes = [f"{dataset.kind}: {dataset.subject}", *dataset.notes]
    notes.append("no published split: every n-th frame is held out" if split is None else f"split: {split.source} ({len(split.train)} to train on, {len(split.test)} to score)")
    clip = ClipInfo(
        source=str(dataset.folder), source_width=dataset.width, source_height=dataset.height,
        source_fps=float(1 / np.median(np.diff(dataset.times))), source_frames=kept, times=times.tolist(),
        frame_ids=list(range(len(kept))), fps=(len(kept) - 1) / span, resolution=window.resolution,
        crop=[float(window.x0), float(window.y0), float(window.side)], focal_px=float(np.sqrt(K[0, 0] * K[1, 1])), focal_known=True,
        cx=float(K[0, 2]), cy=float(K[1, 2]), boxes=window.to_window(boxes.reshape(-1, 2, 2)).reshape(-1, 4).tolist(),
        dropped={str(frame): "no person in its mask" for frame in frames if frame not in ids}, notes=notes,
    )  # fmt: skip
    record = {
        "kind": dataset.kind, "subject": dataset.subject, "digest": dataset.digest,
        "train": None if split is None else [ids[frame] for frame in split.train if frame in ids],
        "heldout": None if split is None else [ids[frame] for frame in split.test if frame in ids],
    }  # fmt: skip
    return replace(clip, dataset=record), window


def segment_dataset(paths: SubjectPaths, clip: ClipInfo) -> Segmentation:
    """Write the dataset's own masks, straightened and cut as the frames were."""
    dataset = open_dataset(Path(clip.source))
    x0, y0, side = clip.crop
    window = Window(int(x0), int(y0), int(side), clip.resolution)
    segmentation = Segmentation("dataset", clip.dataset["kind"], {})
    with replaced_folder(paths.masks) as out, progress_bar("writing masks", len(clip.frame_ids)) as show:
        for frame_id, mask in zip(clip.frame_ids, dataset.masks(clip.source_frames), strict=True):
            write_image(out / frame_name(frame_id), cut_mask(mask, window))
            show(frame_id + 1)
        write_json(out / "segmentation.json", vars(segmentation))
    return segmentation


def cut_mask(mask: UInt8[np.ndarray, "H W"], window: Window) -> UInt8[np.ndarray, "R R"]:
    """The window of a mask; nobody stands beyond the picture."""
    inside = np.pad(mask, 1)  # so that the repeated border is empty
    shifted = Window(window.x0 + 1, window.y0 + 1, window.side, window.resolution)
    return shifted.cut(inside)


def dataset_track(clip: ClipInfo) -> Path | None:
    """The body track that a dataset brings with it; None for a video, or where there is none."""
    return open_dataset(Path(clip.source)).track if clip.dataset is not None else None
