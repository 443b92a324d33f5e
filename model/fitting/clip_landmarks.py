"""One person's landmarks through a clip: who the subject is, and where it is in each frame.

Axes: F frames, H x W pixels of a frame, 33 landmarks named by BLAZEPOSE_NAMES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from model.fitting import subject
from model.fitting.blazepose_decode import NUM_BODY
from model.fitting.landmarks import GUIDED_OVERLAP, PoseDetector, PoseLandmarks, box_overlap, prominence

NUM_LOOKS = 9  # frames of a clip that are searched for its subject


@dataclass(frozen=True)
class ClipLandmarks:
    """One person's landmarks through a clip, as arrays; zeros where it is not found.

    Attributes:
        points: px. visibility: as the detector reports it, 0..1. points_world: metres; see PoseLandmarks.
    """

    points: Float[np.ndarray, "F 33 2"]
    visibility: Float[np.ndarray, "F 33"]
    points_world: Float[np.ndarray, "F 33 3"]


def stack_landmarks(people: Sequence[PoseLandmarks | None]) -> ClipLandmarks:
    """Gather what was detected frame by frame."""
    count = NUM_BODY
    none = np.zeros((count, 2)), np.zeros(count), np.zeros((count, 3))
    rows = [none if p is None else (p.points, p.confidence, p.points_world) for p in people]
    return ClipLandmarks(*(np.stack(column) for column in zip(*rows, strict=True)))


class NobodyThereError(ValueError):
    """No person is where the subject was said to be.

    Attributes:
        frame, box: the person who comes nearest to that place: row of the frame and x0, y0, x1, y1, px.
    """

    def __init__(self, frame: int, box: tuple[float, float, float, float]) -> None:
        super().__init__(f"nobody is there; the nearest person fills {box} in frame {frame}")
        self.frame, self.box = frame, box


def track_clip(
    images: Iterable[UInt8[np.ndarray, "H W 3"]],
    *,
    detector: PoseDetector | None = None,
    with_mask: bool = True,
    subject_box: tuple[float, float, float, float] | None = None,
    guides: Sequence[tuple[float, float, float, float]] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[PoseLandmarks | None]:
    """Follow one person through a clip: the one who looks largest and most central, or who is in `subject_box`.

    Where a handful of frames shows one person, it is followed from its best frame to the end and from there back to the
    start. Where they show more, everybody is found in every frame and the subject's way is decided over the whole clip
    (see subject.py), so that somebody who walks past is not taken for it.

    Args:
        images: the frames, in order. A sequence may load them when asked: each is read once, and a few once more.
        detector: a detector to use again; None makes one.
        with_mask: whether to keep a mask for each frame (4 bytes a pixel).
        subject_box: x0, y0, x1, y1, px, around the subject in the first frame that shows anybody there.
        guides: where the subject is in each frame (x0, y0, x1, y1, px), when that is known already.
        progress: called with the number of frames done.

    Returns:
        One answer a frame; None where the person is not found.

    Raises:
        NobodyThereError: no frame shows a person in `subject_box`.
    """
    detector = detector or PoseDetector()
    images = images if isinstance(images, Sequence) else list(images)
    if not len(images):
        return []
    if guides is not None:
        return _follow_guides(images, guides, detector, with_mask, progress)
    looks = {i: detector.everybody(images[i]) for i in sorted(set(np.linspace(0, len(images) - 1, NUM_LOOKS).round().astype(int).tolist()))}
    if subject_box is not None or max(len(people) for people in looks.values()) > 1:
        return _follow_among_others(images, subject_box, detector, with_mask, progress)
    start = max(looks, key=lambda i: (max((prominence(p.roi, images[i].shape) for p in looks[i]), default=0.0), -i))
    followed: list[PoseLandmarks | None] = [None] * len(images)
    last, done = None, 0
    for order in (range(start, len(images)), range(start - 1, -1, -1)):
        last = followed[start]
        for i in order:
            followed[i] = detector.track(images[i], last, with_mask=with_mask)
            last = followed[i] or last
            done += 1
            progress(done)
    return followed


def _follow_guides(
    images: Sequence[UInt8[np.ndarray, "H W 3"]], guides: Sequence[tuple[float, float, float, float]], detector: PoseDetector,
    with_mask: bool, progress: Callable[[int], None],
) -> list[PoseLandmarks | None]:  # fmt: skip
    """The person in the box of each frame."""
    followed: list[PoseLandmarks | None] = []
    last = None
    for image, box in zip(images, guides, strict=True):
        followed.append(detector.at(image, box, last, with_mask=with_mask))
        last = followed[-1] or last
        progress(len(followed))
    return followed


def _follow_among_others(
    images: Sequence[UInt8[np.ndarray, "H W 3"]], box: tuple[float, float, float, float] | None, detector: PoseDetector,
    with_mask: bool, progress: Callable[[int], None],
) -> list[PoseLandmarks | None]:  # fmt: skip
    """The subject among everybody who is seen in any frame."""
    crowd: list[list[PoseLandmarks]] = []
    sightings = []
    for image in images:
        crowd.append(detector.everybody(image, crowd[-1] if crowd else ()))
        sightings.append(_sightings(image, crowd[-1]))
        progress(len(crowd))
    if not any(crowd):
        return [None] * len(images)
    if box is None:
        chain = subject.choose_subject(sightings, _everyone_once(crowd))
    else:
        chain = subject.follow(sightings, _person_in(crowd, box))
    people = [None if n is None else crowd[i][n] for i, n in enumerate(chain)]
    return [p and replace(detector.look_again(image, p, with_mask=with_mask), others=len(c) - 1) for image, p, c in zip(images, people, crowd, strict=True)]


def _everyone_once(crowd: list[list[PoseLandmarks]]) -> list[tuple[int, int]]:
    """Everybody of the frame in which most people are seen: whoever matters in the clip is most likely there."""
    fullest = max(range(len(crowd)), key=lambda i: (len(crowd[i]), -abs(i - len(crowd) // 2)))
    return [(fullest, n) for n in range(len(crowd[fullest]))]


def _person_in(crowd: list[list[PoseLandmarks]], box: tuple[float, float, float, float]) -> tuple[int, int]:
    """Frame and number of the first person who fills a box.

    Raises:
        NobodyThereError: there is none.
    """
    for i, people in enumerate(crowd):
        overlaps = [box_overlap(person.box, box) for person in people]
        if overlaps and max(overlaps) >= GUIDED_OVERLAP:
            return i, int(np.argmax(overlaps))
    nearest = max(((box_overlap(p.box, box), i, p.box) for i, people in enumerate(crowd) for p in people), key=lambda hit: hit[:2])
    raise NobodyThereError(nearest[1], nearest[2])


def _sightings(image: UInt8[np.ndarray, "H W 3"], people: list[PoseLandmarks]) -> subject.Sightings:
    """What tells the people of a frame from each other."""
    squares = np.array([[*p.roi.centre, p.roi.size] for p in people]).reshape(-1, 3)
    colours = [subject.clothes_colours(image, p.points) for p in people]
    return subject.Sightings(squares, np.stack(colours) if people else np.zeros((0, 0)), np.array([prominence(p.roi, image.shape) for p in people]))
