"""The report's coverage of the body: the avatar's surface coloured by how many frames saw it, and a table by part.

Axes: V vertices, T triangles, H x W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from model.body.body_model import BodyModel
from model.coverage import share_seen
from model.fitting.outline import render_faces
from tasks.pictures import encode_jpeg
from tasks.report_filming import Seen
from tasks.report_sections import CoverageRow, ReportCoverage

OFTEN = 5  # frames from which on a part counts as seen often
NEVER = (214, 84, 52)  # RGB, outside of the map: never seen
STEPS = 9  # colours that the legend names
PICTURE_SIDE, PICTURE_METRES = 420, 2.1  # px and m that a picture spans
SMOOTH = 2  # samples along each side of a pixel
ARMS_DOWN, LEGS_APART = 0.75, 0.14  # rad, from the rest pose, so that armpits and inner legs show
VIEWS = (  # name, and where in the body's axes (x left, y up, z ahead) the viewer stands
    ("front", (0, 0, 1)), ("its left", (1, 0, 0)), ("back", (0, 0, -1)), ("its right", (-1, 0, 0)),
    ("from above", (0, 1, 0)), ("from below", (0, -1, 0)),
)  # fmt: skip


def report_coverage(seen: Seen, body: BodyModel, betas: Float[torch.Tensor, "S"], *, num_frames: int) -> ReportCoverage:
    """Draw the body from all sides and fill the table."""
    vertices = standing(body, betas)
    colors = coverage_colors(seen.vertex_frames[body.faces.numpy()], num_frames)
    pictures = [(name, draw_body(vertices, body.faces.numpy(), colors, np.array(towards, float))) for name, towards in VIEWS]
    legend = _viridis(np.linspace(0, 1, STEPS))
    return ReportCoverage(
        num_frames=num_frames,
        often_frames=OFTEN,
        total=share_seen(seen.vertex_frames, seen.area, np.ones(len(seen.area), bool)),
        pictures=[(name, encode_jpeg(picture, max_side=PICTURE_SIDE)) for name, picture in pictures],
        rows=coverage_rows(seen),
        colors=[_hex(color) for color in legend],
        never=_hex(NEVER),
    )


def coverage_rows(seen: Seen) -> list[CoverageRow]:
    """The table: one row for each part that the body has."""
    rows = []
    for part in seen.parts:
        counted = part.vertices & (seen.area > 0)
        if not counted.any():
            continue
        share = lambda vertices: share_seen(seen.vertex_frames, seen.area, vertices)  # noqa: E731
        left, right = (None, None) if part.sides is None else (share(side) for side in part.sides)
        often = share_seen(seen.vertex_frames, seen.area, part.vertices, at_least=OFTEN)
        rows.append(CoverageRow(part.name, share(part.vertices), often, int(np.median(seen.vertex_frames[counted])), left, right))
    return rows


def standing(body: BodyModel, betas: Float[torch.Tensor, "S"]) -> Float[np.ndarray, "V 3"]:
    """The body upright at the origin, arms half lowered and legs a little apart, y up, facing +z."""
    pose = torch.zeros(body.num_joints - 1, 3, dtype=body.dtype)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose[body.joint_names.index(f"{side}_shoulder") - 1, 2] = -sign * ARMS_DOWN
        pose[body.joint_names.index(f"{side}_hip") - 1, 2] = sign * LEGS_APART
    still = torch.zeros(3, dtype=body.dtype)
    with torch.no_grad():
        vertices = body.pose(betas.to(body.dtype), still, pose, still).vertices.numpy()
    return vertices - (vertices.min(0) + vertices.max(0)) / 2


def coverage_colors(corner_frames: Int[np.ndarray, "T 3"], num_frames: int) -> Float[np.ndarray, "T 3"]:
    """A colour 0..255 for each triangle: viridis over the logarithm of its corners' mean count; NEVER where most saw nothing."""
    level = np.log(np.maximum(corner_frames.mean(1), 1)) / np.log(max(num_frames, 2))
    colors = _viridis(np.clip(level, 0, 1)).astype(np.float64)
    colors[(corner_frames == 0).sum(1) >= 2] = NEVER
    return colors


def draw_body(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "T 3"], colors: Float[np.ndarray, "T 3"], towards: Float[np.ndarray, "3"]
) -> UInt8[np.ndarray, "H W 3"]:
    """The body without perspective, on white, seen from where `towards` points; lightly shaded so that its form shows.

    The picture is as wide as the body needs.
    """
    up = np.array([0.0, 1.0, 0.0]) if abs(towards[1]) < 0.5 else np.array([0.0, 0.0, -towards[1]])
    right = np.cross(up, towards)
    points = vertices @ np.stack([right, -up, -towards]).T
    scale = SMOOTH * PICTURE_SIDE / PICTURE_METRES
    low, high = points[:, :2].min(0) - 0.05, points[:, :2].max(0) + 0.05
    width, height = np.ceil((high - low) * scale / SMOOTH).astype(int) * SMOOTH
    owner, _ = render_faces((points[:, :2] - low) * scale, points[:, 2] + 10.0, faces, int(height), int(width))
    A, B, C = (points[faces[:, k]] for k in range(3))
    normals = np.cross(B - A, C - A)
    shade = 0.72 + 0.28 * np.abs(normals[:, 2]) / np.linalg.norm(normals, axis=1).clip(1e-12)
    picture = np.full((height, width, 3), 255.0)
    picture[owner >= 0] = (colors * shade[:, None])[owner[owner >= 0]]
    return cv2.resize(np.round(picture).astype(np.uint8), (int(width) // SMOOTH, int(height) // SMOOTH), interpolation=cv2.INTER_AREA)


def _viridis(level: Float[np.ndarray, "N"]) -> UInt8[np.ndarray, "N 3"]:
    """Colours of levels 0..1; equal steps look equally large, in grey and to the colour-blind too."""
    steps = np.round(level * 255).astype(np.uint8)[:, None]
    return cv2.applyColorMap(steps, cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]


def _hex(color: tuple[int, int, int] | UInt8[np.ndarray, "3"]) -> str:
    return "#" + "".join(f"{int(value):02x}" for value in color)
