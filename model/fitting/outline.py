"""The silhouette as a term of the body fit: outline points of the body are pulled to the outline of the mask, both ways.

Axes: F frames, H x W pixels of the working size, V vertices, P pulls of a frame. A pull ties one vertex that lies on the
body's outline to one point of the mask's outline, across the outline only: as in iterated closest points, the pairs are found
anew every few steps. Where the mask reaches beyond the body (clothes) the pull is weaker than where the body leaves it, and far
weaker at crown and soles: everybody has hair or shoes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numba
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from model.fitting import terms
from model.fitting.kinematics import Posed, place_surface, surface_slopes
from model.fitting.observations import FitState, Observations
from model.fitting.solver import NormalEquations

if TYPE_CHECKING:
    from model.fitting.objective import FitBody

WORKING_SIZE = 256  # px, longer side at which outlines are compared
PULLS_EACH_WAY = 80  # outline points a frame, from the body to the mask and from the mask to the body
CLOTHES_SLACK = 2.5  # the mask may reach this much further beyond the body than the body beyond the mask
HAIR_SLACK, HAIR_SLACK_OF_MOTION = 25.0, 10.0  # the same at crown and soles, which would pass for height; less where the motion alone moves
CROWN, SOLES = 0.05, 0.02  # shares of the height, from the top and from the bottom of the body at rest
MIN_NORMAL_AGREEMENT = 0.5  # cosine between the outlines' normals; other pairs lie on opposite sides of a limb


@numba.njit(cache=True)
def render_faces(
    pixels: Float[np.ndarray, "V 2"], depths: Float[np.ndarray, "V"], faces: Int[np.ndarray, "T 3"], height: int, width: int
) -> tuple[Int[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """The nearest face in each pixel (-1 where none) and its depth, m (infinite where none); no face is culled."""
    owner = np.full((height, width), -1, np.int32)
    nearest = np.full((height, width), np.inf, np.float32)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if depths[a] <= 0.05 or depths[b] <= 0.05 or depths[c] <= 0.05:
            continue
        ax, ay, bx, by, cx, cy = pixels[a, 0], pixels[a, 1], pixels[b, 0], pixels[b, 1], pixels[c, 0], pixels[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        x0, x1 = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0), min(int(np.floor(max(ax, bx, cx) - 0.5)), width - 1)
        y0, y1 = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0), min(int(np.floor(max(ay, by, cy) - 0.5)), height - 1)
        for i in range(y0, y1 + 1):
            for j in range(x0, x1 + 1):
                px, py = j + 0.5, i + 0.5
                wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
                wc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
                if wb < 0 or wc < 0 or wb + wc > 1:
                    continue
                z = depths[a] + wb * (depths[b] - depths[a]) + wc * (depths[c] - depths[a])
                if z < nearest[i, j]:
                    nearest[i, j] = z
                    owner[i, j] = f
    return owner, nearest


@dataclass(frozen=True)
class Outline:
    """The border of a mask: where it is, which way is out.

    Attributes:
        points: px, pixel centres. normals: unit vectors out of the mask.
        rows, columns: the border's pixels.
    """

    points: Float[np.ndarray, "N 2"]
    normals: Float[np.ndarray, "N 2"]
    rows: Int[np.ndarray, "N"]
    columns: Int[np.ndarray, "N"]


def find_outline(mask: Bool[np.ndarray, "H W"]) -> Outline:
    """The border pixels of a mask; the picture's own border does not count."""
    inside = mask.astype(np.uint8)
    border = inside & ~cv2.erode(inside, np.ones((3, 3), np.uint8), borderValue=1)
    border[[0, -1]] = border[:, [0, -1]] = 0
    rows, columns = np.nonzero(border)
    smooth = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.5)
    out = -np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)], -1)[rows, columns]
    normals = out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
    return Outline(np.stack([columns + 0.5, rows + 0.5], 1).astype(np.float64), normals.astype(np.float64), rows, columns)


@dataclass(frozen=True)
class OutlinePulls:
    """Vertices of the body's outline and where on the mask's outline they belong, px of the picture.

    Attributes:
        vertices: which ones. targets: where to. normals: along which direction.
        weights: 0 where there is none.
    """

    vertices: Int[Tensor, "F P"]
    targets: Float[Tensor, "F P 2"]
    normals: Float[Tensor, "F P 2"]
    weights: Float[Tensor, "F P"]


def _match(tails: Outline, heads: Outline, picked: Int[np.ndarray, "K"], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """For each picked border pixel of `tails` the best one of `heads` (-1: none within the radius that faces the same way)."""
    offset = tails.points[picked, None] - heads.points[None]
    agreement = tails.normals[picked] @ heads.normals.T
    distance = np.hypot(offset[..., 0], offset[..., 1]) + np.where(agreement < MIN_NORMAL_AGREEMENT, np.inf, 0.0)
    best = distance.argmin(1)
    return np.where(distance[np.arange(len(picked)), best] < radius, best, -1), picked


def _pull_frame(
    pixels: Float[np.ndarray, "V 2"], depths: Float[np.ndarray, "V"], faces: Int[np.ndarray, "T 3"], goal: Outline,
    shape: tuple[int, int], radius: float,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Vertices, targets and normals of one frame, working pixels."""
    owner, _ = render_faces(pixels, depths, faces, *shape)
    mine = find_outline(owner >= 0)
    if not len(mine.points) or not len(goal.points):
        return np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros((0, 2))
    def pick(outline: Outline) -> np.ndarray:
        return np.linspace(0, len(outline.points) - 1, min(PULLS_EACH_WAY, len(outline.points))).astype(np.int64)

    to_goal, from_mine = _match(mine, goal, pick(mine), radius)
    to_mine, from_goal = _match(goal, mine, pick(goal), radius)
    mine_rows = np.concatenate([from_mine[to_goal >= 0], to_mine[to_mine >= 0]])
    goal_rows = np.concatenate([to_goal[to_goal >= 0], from_goal[to_mine >= 0]])
    corners = faces[owner[mine.rows[mine_rows], mine.columns[mine_rows]]]
    places = mine.points[mine_rows]
    nearest = np.linalg.norm(pixels[corners] - places[:, None], axis=-1).argmin(1)
    vertices = corners[np.arange(len(corners)), nearest]
    return vertices, goal.points[goal_rows] + pixels[vertices] - places, goal.normals[goal_rows]


def shrink_masks(masks: UInt8[np.ndarray, "F H W"]) -> tuple[Bool[np.ndarray, "F h w"], float]:
    """Masks at the working size, and working pixels per pixel."""
    scale = WORKING_SIZE / max(masks.shape[1:])
    size = (round(masks.shape[2] * scale), round(masks.shape[1] * scale))
    return np.stack([cv2.resize(m, size, interpolation=cv2.INTER_AREA) > 127 for m in masks]), scale


def find_pulls(
    pixels: Float[np.ndarray, "F V 2"], depths: Float[np.ndarray, "F V"], faces: Int[np.ndarray, "T 3"], goals: list[Outline],
    shape: tuple[int, int], scale: float, trust: Float[np.ndarray, "F"], radius_px: float,
) -> OutlinePulls:  # fmt: skip
    """Pair the body's outline with the mask's in every frame.

    Args:
        pixels, depths: the posed vertices, px of the picture and m.
        goals: outlines of the masks at the working size `shape`; `scale` working pixels make a pixel.
        trust: 0..1 of each mask.
        radius_px: how far pairs may lie apart.
    """
    F, P = len(goals), 2 * PULLS_EACH_WAY
    rows, targets, normals, weights = np.zeros((F, P), np.int64), np.zeros((F, P, 2)), np.zeros((F, P, 2)), np.zeros((F, P))
    for frame in range(F):
        if trust[frame] <= 0:
            continue
        found = _pull_frame(pixels[frame] * scale, depths[frame], faces, goals[frame], shape, radius_px * scale)
        n = len(found[0])
        rows[frame, :n], targets[frame, :n], normals[frame, :n] = found[0], found[1] / scale, found[2]
        weights[frame, :n] = trust[frame] / (P / 20)  # neighbours on an outline err together: it counts as twenty points
    return OutlinePulls(*(torch.from_numpy(a) for a in (rows, targets, normals, weights)))


def outline_slack(vertices: Float[Tensor, "V 3"], *, only_motion: bool = False) -> Float[Tensor, "V"]:
    """How much further the mask may reach beyond each vertex of the body at rest than the body beyond the mask."""
    y = vertices[:, 1]
    along = (y - y.min()) / (y.max() - y.min())
    return torch.where((along > 1 - CROWN) | (along < SOLES), HAIR_SLACK_OF_MOTION if only_motion else HAIR_SLACK, CLOTHES_SLACK).to(y.dtype)


def add_outline(
    model: NormalEquations, body: FitBody, seen: Observations, state: FitState, posed: Posed, pulls: OutlinePulls,
    *, spread_px: float, radius: float = 4.0, only_motion: bool = False,
) -> None:  # fmt: skip
    """Outline vertices come to lie on the mask's outline; sliding along it is free.

    Args:
        spread_px: how far the body usually reaches beyond the mask; the mask reaches outline_slack times as far beyond the body.
        radius: of the robust kernel, in spreads.
    """
    focal = seen.focal_px * state.log_focal.exp()
    pixels, by_point = terms.project(place_surface(body.surface, pulls.vertices, posed, state.betas), focal, seen.principal)
    residuals = ((pixels - pulls.targets) * pulls.normals).sum(-1)
    slack = outline_slack(body.surface.vertices, only_motion=only_motion)[pulls.vertices]
    spread = torch.where(residuals > 0, torch.full_like(slack, spread_px), spread_px * slack)
    residuals = residuals / spread
    rho, kernel = terms.robust_kernel(residuals**2, radius)
    across = (pulls.normals[..., None, :] @ by_point).squeeze(-2) / spread[..., None]
    by_own, by_beta = surface_slopes(body.skeleton, body.surface, pulls.vertices, posed, state.betas, across)
    by_shared = columns = None
    if not only_motion:
        by_focal = ((pixels - torch.tensor(seen.principal, dtype=pixels.dtype)) * pulls.normals).sum(-1) / spread
        by_shared = torch.cat([by_beta, by_focal[..., None]], -1)
        columns = torch.tensor([*range(by_beta.shape[-1]), state.focal_column])
    model.add(residuals, by_own, pulls.weights * kernel, (pulls.weights * rho).sum(-1), by_shared, columns)
