"""A film of a fit: each frame with the body's and the mask's outline, bones and landmarks, the body from its side beside it,
and below how far each frame is trusted.

Axes: F frames, H x W pixels, V vertices, J joints. Colours are RGB bytes. Camera axes, metres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from model.fitting.picture import OUTLINE, draw_overlay, draw_side_view

SIDE = 512  # px, height of the pictures in the film
STRIP = 44  # px, height of the strip along the time axis
ROOM = 1.45  # of the largest box around the joints, that is shown of each frame
STEADY = 0.25  # s over which the shown part follows the person
SIDE_SPAN = 2.3  # m that the side view spans from top to bottom; half as much from left to right
MASK, SURE, UNSURE = (90, 230, 90), (255, 255, 255), (235, 60, 200)
GOOD, DOUBTED, PAPER, INK = (96, 176, 108), (222, 84, 60), (246, 246, 244), (40, 40, 44)
MIN_DRAWN = 0.02  # landmarks of lower confidence are not drawn


@dataclass(frozen=True)
class FitScenes:
    """What a film shows, one entry a frame.

    Attributes:
        surface: the fitted body's vertices [V, 3] in one frame; asked for frame by frame, all would fill the memory.
        joints: of the fitted body. faces, parents: how vertices and joints belong together.
        focal_px, principal: the camera that the pictures are of. level: rotation from its axes to level ones.
        points, certainty: detected landmarks and how far they are trusted, 0..1.
        joint_confidence: of each joint, 0..1. confidence: of each frame. reasons: of each frame that is doubted.
        times: s. captions: a few figures for each frame.
    """

    images: UInt8[np.ndarray, "F H W 3"]
    masks: UInt8[np.ndarray, "F H W"]
    surface: Callable[[int], Float[np.ndarray, "V 3"]]
    joints: Float[np.ndarray, "F J 3"]
    faces: Int[np.ndarray, "T 3"]
    parents: Int[np.ndarray, "J"]
    focal_px: float
    principal: tuple[float, float]
    level: Float[np.ndarray, "3 3"]
    points: Float[np.ndarray, "F 33 2"]
    certainty: Float[np.ndarray, "F 33"]
    joint_confidence: Float[np.ndarray, "F J"]
    confidence: Float[np.ndarray, "F"]
    reasons: dict[int, str]
    times: Float[np.ndarray, "F"]
    captions: list[str]

    def project(self, points: Float[np.ndarray, "*B 3"]) -> Float[np.ndarray, "*B 2"]:
        """Where camera points lie in the frames, px."""
        return self.focal_px * points[..., :2] / np.maximum(points[..., 2:], 1e-3) + np.array(self.principal)

    def window(self, frame: int) -> tuple[int, int, int]:
        """The square of a frame that is shown: x0, y0 and side, px. It has one size and follows the person gently."""
        return tuple(self._windows[frame])

    @cached_property
    def _windows(self) -> Int[np.ndarray, "F 3"]:
        joints = self.project(self.joints)
        low, high = joints.min(1), joints.max(1)
        height, width = self.images.shape[1:3]
        side = int(np.clip(np.ceil(ROOM * (high - low).max()), 16, min(height, width)))
        near = np.exp(-(((self.times[:, None] - self.times) / STEADY) ** 2))
        middle = near @ ((low + high) / 2) / near.sum(1, keepdims=True)
        corner = np.clip(np.rint(middle - side / 2), 0, [width - side, height - side]).astype(int)
        return np.concatenate([corner, np.full((len(corner), 1), side)], 1)


def film(scenes: FitScenes) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The film's pictures, in order: SIDE + STRIP px high, one and a half times as wide as a frame."""
    for frame in range(len(scenes.images)):
        pictures = draw_pair(scenes, frame)
        yield np.concatenate([pictures, draw_strip(scenes, frame, pictures.shape[1])])


def draw_pair(scenes: FitScenes, frame: int) -> UInt8[np.ndarray, "SIDE w 3"]:
    """One frame with everything that lies over it, and the body from its side, upright as gravity has it.

    The side view moves with the pelvis along the camera's axis and not up and down, so that a crouch is seen as one.
    """
    vertices, joints = scenes.surface(frame), scenes.joints @ scenes.level.T
    middle = float(np.median((joints[..., 1].min(1) + joints[..., 1].max(1)) / 2))
    centre = np.array([joints[frame, 0, 0], middle, joints[frame, 0, 2]])
    side = draw_side_view(vertices @ scenes.level.T, scenes.faces, centre, SIDE, SIDE_SPAN)[:, SIDE // 4 : SIDE // 4 + SIDE // 2]
    return np.concatenate([draw_scene(scenes, frame, vertices), side], 1)


def draw_scene(scenes: FitScenes, frame: int, vertices: Float[np.ndarray, "V 3"]) -> UInt8[np.ndarray, "SIDE SIDE 3"]:
    """The part of one frame that holds the person, with everything that lies over it, resampled to SIDE."""
    x0, y0, side = scenes.window(frame)
    scale = SIDE / side
    to_px = lambda points: (scenes.project(points) - np.array([x0, y0])) * scale  # noqa: E731
    part = (slice(y0, y0 + side), slice(x0, x0 + side))
    picture = cv2.resize(scenes.images[frame][part], (SIDE, SIDE), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    mask = cv2.resize(scenes.masks[frame][part], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    contours, _ = cv2.findContours((mask > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, MASK, 1, cv2.LINE_AA)
    joints = scenes.joints[frame]
    picture = draw_overlay(picture, to_px(vertices), vertices[:, 2], scenes.faces, to_px(joints), scenes.parents, scenes.joint_confidence[frame])
    for point, sure in zip((scenes.points[frame] - np.array([x0, y0])) * scale, scenes.certainty[frame], strict=True):
        if sure > MIN_DRAWN and (np.abs(point) < 4 * SIDE).all():
            color = tuple(int(round(sure * a + (1 - sure) * b)) for a, b in zip(SURE, UNSURE, strict=True))
            cv2.circle(picture, tuple(int(round(v)) for v in point), 2, color, -1, cv2.LINE_AA)
    _write(picture, f"{frame}  {scenes.times[frame] - scenes.times[0]:.2f} s  {scenes.captions[frame]}", (8, 16))
    _legend(picture)
    return picture


def draw_strip(scenes: FitScenes, frame: int, width: int) -> UInt8[np.ndarray, "STRIP width 3"]:
    """Confidence over the clip, doubted frames in red, the present frame marked, and why it is doubted."""
    strip = np.full((STRIP, width, 3), PAPER, np.uint8)
    count, base, top = len(scenes.confidence), STRIP - 4, 20
    edges = np.rint(np.linspace(0, width, count + 1)).astype(int)
    for i in range(count):
        high = int(round((base - top) * float(np.clip(scenes.confidence[i], 0.04, 1))))
        strip[base - high : base, edges[i] : max(edges[i + 1], edges[i] + 1)] = DOUBTED if i in scenes.reasons else GOOD
    at = (edges[frame] + edges[frame + 1]) // 2
    cv2.line(strip, (at, top - 3), (at, STRIP - 1), INK, 2)
    said = f"confidence {scenes.confidence[frame]:.2f}" + (f": {scenes.reasons[frame]}" if frame in scenes.reasons else "")
    cv2.putText(strip, said[: width // 7], (6, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)
    return strip


def _legend(picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Which outline is which."""
    for row, (word, color) in enumerate((("body", OUTLINE), ("mask", MASK))):
        _write(picture, word, (8, picture.shape[0] - 10 - 16 * row), color)


def _write(picture: UInt8[np.ndarray, "H W 3"], text: str, place: tuple[int, int], color: tuple[int, int, int] = SURE) -> None:
    """Text that can be read on any ground."""
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
