"""The page that is the avatar: what is put into tasks/page_template.html, and the page that comes out.

The template is built from viewer/ (see viewer/README.md) and committed, so that the pipeline needs no node. Content travels
as one JSON block; arrays in it are base64 of little-endian numbers.
"""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from model.avatar import BakedAvatar
from model.body.track import BodyTrack
from model.lamp_light import BIAS_M, CELL_M, GRID, MEAN_SHARE, STEEPEST, light_axes
from model.light import MIN_SHADE, SHEEN_POWER, parts
from model.motion.placement import Placement
from tasks.page_folds import PackedFolds
from tasks.page_motions import PageMotion
from tasks.page_splats import pack_splats

TEMPLATE = Path(__file__).with_name("page_template.html")
CONTENT_MARK, TITLE_MARK = "__CONTENT__", "__TITLE__"
SMALLEST_SIDE = 128  # px, below which a video frame shows nothing


@dataclass(frozen=True)
class PageVideo:
    """The training video's frames, one for each row of the clip's motion; `heldout` are rows that were not trained on."""

    type: str
    frame_ids: list[int]
    heldout: list[int]
    frames: list[bytes]


@dataclass(frozen=True)
class PageContent:
    """Everything that the page shows.

    Attributes:
        subject: the subject's name.
        notes: sentences for the foot of the panel.
        baked: the avatar.
        cull_margin: as the avatar's options have it.
        joint_names: in the skeleton's order.
        track: of the clip; its camera is the video's.
        placement: carries the page's axes (y up, floor at 0, the video's camera towards +z) into the track's world.
        height: of the standing person, metres.
        motions: the first is shown when the page opens.
        video: beside the motion that was filmed.
        folds: what the page adds to `baked` in each pose; None where nothing.
    """

    subject: str
    notes: str
    baked: BakedAvatar
    cull_margin: float | None
    joint_names: tuple[str, ...]
    track: BodyTrack
    placement: Placement
    height: float
    motions: list[PageMotion]
    video: PageVideo
    folds: PackedFolds | None = None


def encode_frames(frames: list[UInt8[np.ndarray, "H W 3"]], *, side: int, quality: int, max_bytes: int) -> list[bytes]:
    """Video frames as WebP, `side` px at most, and smaller where they would not fit into `max_bytes` together."""
    while True:
        encoded = [_encode_webp(frame, side, quality) for frame in frames]
        size = sum(map(len, encoded))
        if size <= max_bytes or side <= SMALLEST_SIDE:
            return encoded
        side = max(SMALLEST_SIDE, int(0.95 * side * (max_bytes / size) ** 0.5))


def _encode_webp(frame: UInt8[np.ndarray, "H W 3"], side: int, quality: int) -> bytes:
    factor = side / max(frame.shape[:2])
    if factor < 1:
        size = (max(1, round(frame.shape[1] * factor)), max(1, round(frame.shape[0] * factor)))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".webp", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert done, "OpenCV's wheels write WebP"
    return data.tobytes()


def build_page(content: PageContent) -> str:
    """The page as HTML text. Whatever a name or a note holds is shown as text, never read as markup."""
    text = json.dumps(plain_content(content), allow_nan=False, separators=(",", ":"))
    for sign, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):  # no way out of the script element
        text = text.replace(sign, escaped)
    head, tail = TEMPLATE.read_text(encoding="utf-8").split(CONTENT_MARK)
    return head.replace(TITLE_MARK, html.escape(f"{content.subject}: avatar")) + text + tail


def plain_content(content: PageContent) -> dict:
    """What JSON can hold, in the names that viewer/src reads."""
    packed, baked, camera = pack_splats(content.baked), content.baked, content.track.camera
    return {
        "subject": content.subject,
        "notes": content.notes,
        "splats": {
            "count": len(packed.places),
            "bounds": packed.bounds.tolist(),
            "log_scales": packed.log_scales.tolist(),
            **{name: _base64(getattr(packed, name)) for name in ("places", "surface", "albedo", "joints", "weights")},
        },
        "skeleton": {
            "names": list(content.joint_names),
            "parents": baked.parents.tolist(),
            "joints": baked.joints_rest.double().tolist(),
        },
        "light": _plain_light(baked.light, baked.lamp),
        "folds": None if content.folds is None else _plain_folds(content.folds),
        "cull_margin": content.cull_margin,
        "camera": {"K": camera.K.tolist(), "w2c": camera.w2c.tolist(), "width": camera.width, "height": camera.height},
        "stand": {
            "origin": content.placement.shift.tolist(),
            "up": content.placement.turn[:, 1].tolist(),
            "ahead": content.placement.turn[:, 2].tolist(),
            "height": content.height,
        },
        "motions": [_plain_motion(motion) for motion in content.motions],
        "video": {
            "type": content.video.type,
            "frame_ids": content.video.frame_ids,
            "heldout": content.video.heldout,
            "frames": [base64.b64encode(frame).decode("ascii") for frame in content.video.frames],
        },
    }


def _plain_light(light: Float[torch.Tensor, "B 3"], lamp: Float[torch.Tensor, "3"]) -> dict:
    harmonics, strength, sheen = (part.double().tolist() for part in parts(light))
    place = {"direction": lamp.double().tolist(), "axes": light_axes(lamp.double()).tolist(), "strength": strength}
    shadow = {"cell": CELL_M, "grid": GRID, "bias": BIAS_M, "steepest": STEEPEST, "mean": MEAN_SHARE}
    return {"harmonics": harmonics, "lamp": place | shadow, "sheen": sheen, "sheen_power": SHEEN_POWER, "least": MIN_SHADE}


def _plain_folds(folds: PackedFolds) -> dict:
    arrays = ("shapes", "units", "joints", "weights", "source", "places", "keys")
    plain = {name: getattr(folds, name) for name in ("side", "reach", "fade", "around", "most")}
    return plain | {name: _base64(getattr(folds, name)) for name in arrays}


def _plain_motion(motion: PageMotion) -> dict:
    pose = motion.pose
    turns = torch.cat([pose.global_orient[:, None], pose.body_pose], dim=1)
    return {
        "name": motion.name,
        "title": motion.title,
        "about": motion.about,
        "times": np.round(motion.times, 5).tolist(),
        "filmed": motion.filmed,
        "turns": _base64(turns.numpy().astype("<f4")),
        "places": _base64(pose.transl.numpy().astype("<f4")),
    }


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()).decode("ascii")
