"""How the clip was filmed, in numbers: one pass over frames and masks, for the report's coverage, doubts and suggestions.

Axes: F frames, V vertices, H x W pixels. Pixels are the source video's where a name says so, else the written frames'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from model.coverage import BodyPart, body_parts, facing_camera, look_at_body, outer_area, share_seen, turned_by
from tasks.artifacts import ClipInfo, SubjectPaths, read_frame, read_mask
from tasks.measurement import Inputs
from tasks.picture_borders import cut_edges
from tasks.progress import progress_bar

CUT_WIDTH = 0.02  # of a frame's width; what touches the video's border over less is a stray pixel
NEAR, FAR = 1, 4  # px, whose ratio is that of differences in a picture without any fine detail
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows and columns of a step
BLURRED, AROUND = 0.4, 1.0  # of the finest detail within so many seconds
MOVED = re.compile(r"up to (\d+) px \(([\d.]+)% of the width\)")  # in a note of extract_frames


@dataclass(frozen=True)
class Seen:
    """What the pass over the clip finds.

    Attributes:
        vertex_frames: how many training frames saw each vertex of the body.
        area: what each vertex stands for, m^2.
        parts: of the body.
        iou: of the body's outline with the mask, each frame of the track.
        filming: the rest, which suggestions are made of.
    """

    vertex_frames: Int[np.ndarray, "V"]
    area: Float[np.ndarray, "V"]
    parts: list[BodyPart]
    iou: Float[np.ndarray, "F"]
    filming: Filming


@dataclass(frozen=True)
class Filming:
    """How a clip was filmed.

    Attributes:
        source_width, source_height: of the upright video, px. person_px: median height of the person in it.
        seconds: from the first to the last frame. frames: how many are used. dropped: how many showed nobody.
        turned_deg: how much of a full turn the person shows the camera, by the fitted body.
        seen: part of the body -> share of its surface that training frames saw, 0..1.
        sides: the same of the left and the right one, for parts that come in pairs.
        cut: edge of the video ("bottom", "top", "left", "right") -> frames in which it cuts the person off.
        sharpness: median over the frames, see `fine_detail`. blurred: frames far below it.
        brightness: of the bright parts of the picture (95th percentile), 0..1, median over the frames.
        burnt: share of the person's pixels that are white, median. exposure_drift: how far the background's brightness strays.
        evened: how far its light strayed before the frames were evened out, as a share of what it mostly was; 0 where they were not.
        outline_contrast: colour distance across the person's outline, CIELAB, median over the frames.
        camera_px: how far the background moved in the video, and camera_share of its width; 0 where it stood still.
        others: the most other people seen at once. flagged: frames whose mask is not trusted. doubted: whose pose is not.
    """

    source_width: int
    source_height: int
    person_px: float
    seconds: float
    frames: int
    dropped: int
    turned_deg: float
    seen: Mapping[str, float]
    sides: Mapping[str, tuple[float, float]]
    cut: Mapping[str, int]
    sharpness: float
    blurred: int
    brightness: float
    burnt: float
    exposure_drift: float
    evened: float
    outline_contrast: float
    camera_px: float
    camera_share: float
    others: int
    flagged: int
    doubted: int


def look_at_clip(paths: SubjectPaths, inputs: Inputs, *, doubted: int) -> Seen:
    """One pass over all frames of the refined track; `doubted` of them are not trusted by the fit."""
    track, body, clip = inputs.refined, inputs.body, inputs.clip
    trained, frame_ids = set(inputs.split.train), track.frame_ids.tolist()
    vertex_frames, ious, pictures = np.zeros(body.num_vertices, int), [], []
    cut = dict.fromkeys(("bottom", "top", "left", "right"), 0)
    with progress_bar("which parts the camera saw", len(frame_ids)) as show:
        for row, frame_id in enumerate(frame_ids):
            image, mask = read_frame(paths, frame_id), read_mask(paths, frame_id)
            view = look_at_body(body, track, row, mask)
            ious.append(view.iou)
            if frame_id in trained:
                vertex_frames += view.seen
            for edge in cut_edges(mask > 127, clip, row, least=CUT_WIDTH * mask.shape[1]):
                cut[edge] += 1
            pictures.append(measure_picture(image, mask))
            show(row + 1)
    parts, area = body_parts(body, track.betas), outer_area(body, track.betas)
    sharpness, bright, burnt, background, contrast = np.array(pictures).T
    boxes, pixel = np.array(clip.boxes), clip.crop[2] / clip.resolution
    camera_px, camera_share = camera_moved(clip.notes)
    filming = Filming(
        source_width=clip.source_width,
        source_height=clip.source_height,
        person_px=float(np.median(boxes[:, 3] - boxes[:, 1])) * pixel,
        seconds=clip.times[-1] - clip.times[0],
        frames=len(frame_ids),
        dropped=len(clip.dropped),
        turned_deg=float(np.degrees(turned_by(facing_camera(track)))),
        seen={part.name: share_seen(vertex_frames, area, part.vertices) for part in parts},
        sides={part.name: tuple(share_seen(vertex_frames, area, side) for side in part.sides) for part in parts if part.sides},
        cut=cut,
        sharpness=_middle(sharpness),
        blurred=count_blurred(sharpness, np.asarray(clip.times)),
        brightness=_middle(bright),
        burnt=_middle(burnt),
        exposure_drift=float(np.ptp(np.nanpercentile(background, [5, 95]))) if np.isfinite(background).any() else 0.0,
        evened=0.0 if clip.exposure is None else float(np.ptp(np.percentile(np.mean(clip.exposure, axis=1), [5, 95]))),
        outline_contrast=_middle(contrast),
        camera_px=camera_px,
        camera_share=camera_share,
        others=clip.people - 1,
        flagged=len(inputs.segmentation.flagged),
        doubted=doubted,
    )
    return Seen(vertex_frames, area, parts, np.array(ious), filming)


def measure_picture(image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"]) -> tuple[float, float, float, float, float]:
    """Fine detail of the person, bright end of the picture, burnt share, brightness behind the person, contrast of the outline.

    NaN where a frame has no person, or nothing else.
    """
    person, behind = mask > 127, mask < 64
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    burnt = float((image.min(2) >= 250)[person].mean()) if person.any() else np.nan
    background = float(np.median(grey[behind]) / 255) if behind.any() else np.nan
    return fine_detail(grey, person), float(np.percentile(grey, 95) / 255), burnt, background, outline_contrast(image, person)


def fine_detail(grey: UInt8[np.ndarray, "H W"], person: np.ndarray) -> float:
    """How much finer than a smooth ramp the person's detail is, in the direction that shows least of it (motion blurs one).

    With d_k the differences of pixels k apart, which grow with k where all is smooth and not at all where all is detail:

        s = (FAR r - 1) / (FAR - 1),   r = min over directions of std(d_NEAR) / std(d_FAR)

    About 0.1 to 0.3 for a sharp picture, below 0.05 for a blurred one, whatever contrast and light are; NaN without a person.
    """
    inner = cv2.erode(person.astype(np.uint8), np.ones((2 * FAR + 1,) * 2, np.uint8)) > 0
    if inner.sum() < 100:
        return np.nan
    picture = grey.astype(np.float32)

    def spread(step: tuple[int, int], distance: int) -> float:
        moved = np.roll(picture, (-distance * step[0], -distance * step[1]), (0, 1))
        return float((moved - picture)[inner].std())

    least = min(spread(step, NEAR) / max(spread(step, FAR), 1e-3) for step in DIRECTIONS)
    return (FAR * least - NEAR) / (FAR - NEAR)


def outline_contrast(image: UInt8[np.ndarray, "H W 3"], person: np.ndarray) -> float:
    """Median distance of colours just inside from those just outside the outline, CIELAB; NaN without an outline."""
    inside, reach = person.astype(np.uint8), max(2, round(0.012 * person.shape[1]))
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    gx, gy = cv2.Sobel(distance, cv2.CV_32F, 1, 0), cv2.Sobel(distance, cv2.CV_32F, 0, 1)
    rows, columns = np.nonzero((distance >= 1) & (distance < 2) & person)
    if len(rows) < 20:
        return np.nan
    step = np.stack([gy[rows, columns], gx[rows, columns]], 1)
    step *= reach / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-6)
    lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    places = np.stack([rows, columns], 1)
    limit = np.array(person.shape) - 1
    a, b = (np.clip(np.rint(places + sign * step), 0, limit).astype(int) for sign in (1, -1.5))
    return float(np.median(np.linalg.norm(lab[a[:, 0], a[:, 1]] - lab[b[:, 0], b[:, 1]], axis=1)))


def count_blurred(sharpness: Float[np.ndarray, "F"], times: Float[np.ndarray, "F"]) -> int:
    """Frames that are much less sharp than others shortly before or after: what motion does, and not what a back view does."""
    near = np.abs(times[:, None] - times) <= AROUND
    best = np.nanmax(np.where(near, sharpness, 0.0), axis=1)
    return int((sharpness < BLURRED * best).sum())


def camera_moved(notes: list[str]) -> tuple[float, float]:
    """How far the background moved by the notes of extract_frames: px of the video and share of its width; 0 for not at all."""
    for note in notes:
        if found := MOVED.search(note):
            return float(found[1]), float(found[2]) / 100
    return 0.0, 0.0


def _middle(values: Float[np.ndarray, "F"]) -> float:
    """The median of what is known; NaN where nothing is."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")
