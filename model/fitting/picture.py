"""A picture of a fit: the body's outline and bones over the frames, and the body seen from its side, where a lean shows.

Axes: H x W pixels, V vertices, J joints. Colours are RGB bytes.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from model.fitting.outline import render_faces

OUTLINE, BONE, GROUND = (255, 64, 32), (40, 220, 255), (150, 150, 150)
DOUBTFUL_BONE = (235, 60, 200)


def draw_overlay(
    image: UInt8[np.ndarray, "H W 3"], vertices_px: Float[np.ndarray, "V 2"], depths: Float[np.ndarray, "V"],
    faces: Int[np.ndarray, "T 3"], joints_px: Float[np.ndarray, "J 2"], parents: Int[np.ndarray, "J"],
    sure: Float[np.ndarray, "J"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:  # fmt: skip
    """The body's outline and bones over a frame; a bone is tinted by how little its end is known (`sure` 0..1, None: all are)."""
    owner, _ = render_faces(vertices_px, depths, faces, *image.shape[:2])
    picture = np.ascontiguousarray(image)
    contours, _ = cv2.findContours((owner >= 0).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, OUTLINE, 1, cv2.LINE_AA)
    points = np.clip(np.rint(joints_px), -10_000, 10_000).astype(int)
    for child, parent in enumerate(parents):
        if parent >= 0:
            share = 1.0 if sure is None else float(sure[child])
            color = tuple(int(round(share * a + (1 - share) * b)) for a, b in zip(BONE, DOUBTFUL_BONE, strict=True))
            cv2.line(picture, tuple(map(int, points[parent])), tuple(map(int, points[child])), color, 1, cv2.LINE_AA)
    return picture


def draw_side_view(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "T 3"], centre: Float[np.ndarray, "3"], size: int, metres: float = 2.3
) -> UInt8[np.ndarray, "size size 3"]:
    """The body as seen from the camera's right, shaded, without perspective: the camera would be at the left border.

    Args:
        centre: what the picture is centred on, camera axes, m. metres: what the picture spans.
    """
    local = vertices - centre
    scale = size / metres
    pixels = np.stack([local[:, 2] * scale + size / 2, local[:, 1] * scale + size / 2], 1)
    owner, _ = render_faces(pixels, 10.0 - local[:, 0], faces, size, size)
    shown, place = np.unique(owner[owner >= 0], return_inverse=True)
    corners = vertices[faces[shown]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    shade = 70 + 150 * np.abs(normals @ np.array([0.8, -0.45, -0.4]))
    picture = np.full((size, size, 3), 245, np.uint8)
    picture[owner >= 0] = np.clip(shade, 0, 255).astype(np.uint8)[place, None]
    cv2.line(picture, (size // 2, 0), (size // 2, size - 1), GROUND, 1)  # the plumb line
    return picture


def contact_sheet(tiles: list[UInt8[np.ndarray, "H W 3"]], columns: int) -> UInt8[np.ndarray, "H W 3"]:
    """Tiles of one size in rows; the last row is filled with white."""
    blank = np.full_like(tiles[0], 255)
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    return np.concatenate([np.concatenate(row + [blank] * (columns - len(row)), 1) for row in rows])
