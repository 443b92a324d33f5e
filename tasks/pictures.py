"""Pictures that compare: error maps, and contact sheets whose rows have names; and how pictures are packed.

Axes: H x W pixels; images are uint8 RGB, masks uint8 with 255 = person.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

ERROR_CEILING = 0.25  # mean absolute difference over the channels (0..1) at the bright end of an error map
TILE = 256  # px
LABEL_WIDTH = 104  # px
INK = (40, 44, 50)
JPEG_QUALITY, WEBP_QUALITY = 78, 76
MARGIN = 0.08  # of the person's box, around it


@dataclass(frozen=True)
class SheetColumn:
    """Pictures of one thing, from top to bottom, and the mask that says where in them the person is."""

    title: str
    pictures: list[UInt8[np.ndarray, "H W 3"]]
    mask: UInt8[np.ndarray, "H W"]


def to_uint8(image: Float[np.ndarray, "*S"]) -> UInt8[np.ndarray, "*S"]:
    """Values 0..1 as bytes, rounded."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def on_white(image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
    """The person alone: the picture over white by its soft mask, 0..1."""
    share = (mask.astype(np.float32) / 255)[..., None]
    return image.astype(np.float32) / 255 * share + (1 - share)


def encode_jpeg(image: UInt8[np.ndarray, "H W 3"], *, max_side: int) -> bytes:
    """An RGB picture as JPEG, made smaller where its longer side exceeds `max_side` px."""
    image = _within(image, max_side)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done, "OpenCV writes JPEG on every platform"
    return data.tobytes()


def encode_webp(image: UInt8[np.ndarray, "H W 3"], *, max_side: int) -> bytes:
    """The same as WebP: half the bytes of a filmed picture, forty times the time."""
    done, data = cv2.imencode(".webp", cv2.cvtColor(_within(image, max_side), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    assert done, "OpenCV writes WebP on every platform"
    return data.tobytes()


def _within(image: UInt8[np.ndarray, "H W 3"], max_side: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture made smaller where its longer side exceeds `max_side` px."""
    factor = max_side / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def error_map(image: Float[np.ndarray, "H W 3"], target: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """How far each pixel is off, mean over the channels: black for 0, bright for ERROR_CEILING or more."""
    off = np.abs(image - target).mean(axis=2) / ERROR_CEILING
    return cv2.cvtColor(cv2.applyColorMap(to_uint8(off), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def person_square(mask: UInt8[np.ndarray, "H W"]) -> tuple[int, int, int]:
    """x0, y0 and side in px of the square around a mask, with a margin; it may reach over the border. Empty masks give all."""
    rows, columns = np.nonzero(mask > 127)
    if len(rows) == 0:
        side = max(mask.shape)
        return (mask.shape[1] - side) // 2, (mask.shape[0] - side) // 2, side
    side = round((1 + 2 * MARGIN) * max(np.ptp(rows) + 1, np.ptp(columns) + 1))
    return round((columns.min() + columns.max() + 1 - side) / 2), round((rows.min() + rows.max() + 1 - side) / 2), side


def cut_square(image: UInt8[np.ndarray, "H W 3"], square: tuple[int, int, int], size: int) -> UInt8[np.ndarray, "S S 3"]:
    """A square of a picture, `size` px a side; beyond the border the colour of the picture's corner goes on."""
    x0, y0, side = square
    height, width = image.shape[:2]
    pad = max(0, -x0, -y0, x0 + side - width, y0 + side - height)
    if pad:
        image = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=image[0, 0].tolist())
    window = image[y0 + pad : y0 + pad + side, x0 + pad : x0 + pad + side]
    return cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)


def contact_sheet(row_names: list[str], columns: list[SheetColumn]) -> UInt8[np.ndarray, "H W 3"]:
    """A table of pictures: one column for each frame or camera, one named row for each way of seeing it."""
    body = []
    for column in columns:
        square = person_square(column.mask)
        tiles = [cut_square(picture, square, TILE) for picture in column.pictures]
        body.append(np.concatenate([_label(column.title, TILE, 26), *tiles], axis=0))
    names = [np.full((26, LABEL_WIDTH, 3), 255, np.uint8), *(_label(name, LABEL_WIDTH, TILE) for name in row_names)]
    return np.concatenate([np.concatenate(names, axis=0), *body], axis=1)


def _label(text: str, width: int, height: int) -> UInt8[np.ndarray, "H W 3"]:
    """Dark text on white, vertically in the middle."""
    strip = np.full((height, width, 3), 255, np.uint8)
    cv2.putText(strip, text, (6, height // 2 + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
    return strip


def spread_evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` indices, evenly, first and last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))}) if count else []
