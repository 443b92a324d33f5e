"""Shape and place of a body whose rotations are given: the outline of the posed body is brought onto the mask's.

Axes: F frames, G chosen frames, V vertices, S shape coefficients, P pulls of a frame. Camera axes are the world; pixels.

With rotations fixed, a vertex of a skinned body is linear in betas and translation, x = x_0 + B betas + t, so pairing
outlines (as `outline` does for the body fit) and solving least squares settles it in a few rounds. Betas and places of some
frames are solved together, then the place of every frame by itself, near what the chosen frames say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from model.body.body_model import BodyModel
from model.body.track_import.place import PlacedTrack
from model.fitting.outline import CLOTHES_SLACK, Outline, find_outline, find_pulls, shrink_masks

NUM_CHOSEN = 20
RADII = (0.15, 0.10, 0.06, 0.04, 0.04)  # how far outlines may lie apart, share of the person's height in the picture
SPREAD_PX = 0.01  # of the body beyond the mask, share of that height
SHAPE_SPREAD, STATURE_SPREAD = 0.7, 0.06  # of each coefficient; of the body's height, m
SHIFT_SPREAD = (0.15, 0.15)  # of the place, first of the whole clip's then of a frame's: m at right angles to the view
DEPTH_SHARE = 0.12  # of the distance, spread of depth over that of the other directions' 1 m
SMOOTH_ROWS = (1.5, 1.5, 4.0)  # over how many rows a shift is evened out, one standard deviation; outlines hardly tell depth
KERNEL = 4.0  # radius of the robust kernel, spreads


def settle_on_masks(
    model: BodyModel,
    placed: PlacedTrack,
    K: Float[np.ndarray, "3 3"],
    masks: UInt8[np.ndarray, "F H W"],
    trust: Float[np.ndarray, "F"],
    *,
    on_progress: Callable[[float], None] = lambda share: None,
) -> PlacedTrack:
    """Find betas and translations that bring the outlines together; rotations stay as they are.

    Args:
        K: of the pictures that the masks belong to.
        trust: 0..1 of each mask; frames of trust 0 keep the shift of those around them.

    Returns:
        The settled track. It is the given one where no mask can be trusted.
    """
    usable = np.flatnonzero((trust > 0) & masks.reshape(len(masks), -1).any(1))
    if not len(usable):
        return placed
    chosen = usable[np.unique(np.linspace(0, len(usable) - 1, min(NUM_CHOSEN, len(usable))).round().astype(int))]
    small, scale = shrink_masks(masks[usable])
    goals = {int(frame): find_outline(mask) for frame, mask in zip(usable, small, strict=True)}
    rows = small.any(2)
    height_px = float(np.quantile([r.nonzero()[0][-1] - r.nonzero()[0][0] + 1 for r in rows if r.any()], 0.9)) / scale
    surface = _LinearSurface(model)
    bodies = {int(frame): surface.at(placed, int(frame)) for frame in chosen}
    betas, moved = placed.betas.clone(), {int(frame): torch.zeros(3, dtype=torch.float64) for frame in chosen}
    distance = float(placed.transl[:, 2].median())
    prior = _shift_prior(SHIFT_SPREAD[0], distance)
    stature = surface.stature / STATURE_SPREAD
    for number, radius in enumerate(RADII):
        system = _Arrow(len(betas), list(moved))
        system.add_shape(betas, stature)
        for frame, (rest, by_beta) in bodies.items():
            x = rest + by_beta @ betas + moved[frame]
            vertices, targets, normals = _pulls(x, K, surface.faces, goals[frame], small.shape[1:], scale, radius * height_px)
            residuals, by_x = _misses(x[vertices], targets, normals, K, SPREAD_PX * height_px)
            system.add_frame(frame, residuals, torch.einsum("px,pxs->ps", by_x, by_beta[vertices]), by_x, moved[frame], prior)
        by_shape, by_shift = system.solve()
        betas = betas + by_shape
        moved = {frame: moved[frame] + by_shift[frame] for frame in moved}
        on_progress(0.5 * (number + 1) / len(RADII))
    settled = replace(placed, betas=betas)
    transl = _settle_places(settled, K, goals, small.shape[1:], scale, height_px, moved, surface, on_progress)
    return replace(settled, transl=transl)


def _settle_places(
    placed: PlacedTrack, K: np.ndarray, goals: dict[int, Outline], shape: tuple[int, int], scale: float,
    height_px: float, moved: dict[int, Tensor], surface: _LinearSurface, on_progress: Callable[[float], None],
) -> Float[Tensor, "F 3"]:  # fmt: skip
    """The place of every frame, near what the chosen frames around it say."""
    frames = np.arange(len(placed.transl))
    known = np.array(sorted(moved))
    shifts = np.stack([moved[int(frame)].numpy() for frame in known])
    guess = torch.from_numpy(np.stack([np.interp(frames, known, shifts[:, axis]) for axis in range(3)], 1))
    prior = _shift_prior(SHIFT_SPREAD[1] / 3, float(placed.transl[:, 2].median()))
    shifted = guess.clone()
    for frame, goal in goals.items():
        start = surface.posed(placed, frame)
        shift = guess[frame].clone()
        for radius in RADII[-2:]:
            x = start + shift
            vertices, targets, normals = _pulls(x, K, surface.faces, goal, shape, scale, radius * height_px)
            residuals, by_x = _misses(x[vertices], targets, normals, K, SPREAD_PX * height_px)
            H = by_x.T @ by_x + torch.diag(prior)
            shift = shift - torch.linalg.solve(H, by_x.T @ residuals + prior * (shift - guess[frame]))
        shifted[frame] = shift
        on_progress(0.5 + 0.5 * (frame + 1) / len(frames))
    smooth = [gaussian_filter1d(shifted[:, axis].numpy(), sigma, mode="nearest") for axis, sigma in enumerate(SMOOTH_ROWS)]
    return placed.transl + torch.from_numpy(np.stack(smooth, 1))


class _LinearSurface:
    """A posed surface as a linear function of betas."""

    def __init__(self, model: BodyModel) -> None:
        self.model = model.to(dtype=torch.float32)
        self.faces = model.faces.numpy()
        rest = self.model.v_template[:, 1]
        self.stature = (self.model.shapedirs[rest.argmax(), 1] - self.model.shapedirs[rest.argmin(), 1]).double()

    @torch.no_grad()
    def at(self, placed: PlacedTrack, frame: int) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "V 3 S"]]:
        """The surface at betas 0, and its change by each of them."""
        shapes = torch.cat([torch.zeros(1, len(placed.betas)), torch.eye(len(placed.betas))])
        pose = [getattr(placed, name)[frame].float()[None] for name in ("global_orient", "body_pose", "transl")]
        vertices = self.model.pose(shapes, *pose).vertices.double()
        return vertices[0], (vertices[1:] - vertices[0]).permute(1, 2, 0).contiguous()

    @torch.no_grad()
    def posed(self, placed: PlacedTrack, frame: int) -> Float[Tensor, "V 3"]:
        """The surface as it is."""
        pose = [getattr(placed, name)[frame].float() for name in ("global_orient", "body_pose", "transl")]
        return self.model.pose(placed.betas.float(), *pose).vertices.double()


class _Arrow:
    """Normal equations of shared betas and of one shift a frame."""

    def __init__(self, num_betas: int, frames: list[int]) -> None:
        size = num_betas + 3 * len(frames)
        self.num_betas, self.start = num_betas, {frame: num_betas + 3 * i for i, frame in enumerate(frames)}
        self.H, self.g = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)

    def add_shape(self, betas: Tensor, stature: Tensor) -> None:
        S = self.num_betas
        self.H[:S, :S] += torch.eye(S, dtype=torch.float64) / SHAPE_SPREAD**2 + stature[:, None] * stature
        self.g[:S] += betas / SHAPE_SPREAD**2 + stature * (stature @ betas)

    def add_frame(self, frame: int, residuals: Tensor, by_beta: Tensor, by_x: Tensor, shift: Tensor, prior: Tensor) -> None:
        S, i = self.num_betas, self.start[frame]
        J = torch.zeros(len(residuals), self.H.shape[0], dtype=torch.float64)
        J[:, :S], J[:, i : i + 3] = by_beta, by_x
        self.H += J.T @ J
        self.g += J.T @ residuals
        self.H[i : i + 3, i : i + 3] += torch.diag(prior)
        self.g[i : i + 3] += prior * shift

    def solve(self) -> tuple[Tensor, dict[int, Tensor]]:
        step = -torch.linalg.solve(self.H, self.g)
        return step[: self.num_betas], {frame: step[i : i + 3] for frame, i in self.start.items()}


def _shift_prior(spread: float, distance: float) -> Float[Tensor, "3"]:
    """Inverse variance of a shift: depth is far less sure than the rest."""
    return torch.tensor([spread, spread, max(spread, DEPTH_SHARE * distance)], dtype=torch.float64) ** -2


def _project(x: Float[Tensor, "*B 3"], K: Float[np.ndarray, "3 3"]) -> Float[Tensor, "*B 2"]:
    return x[..., :2] / x[..., 2:] * torch.tensor([K[0, 0], K[1, 1]]) + torch.tensor([K[0, 2], K[1, 2]])


def _pulls(
    x: Tensor, K: np.ndarray, faces: np.ndarray, goal: Outline, shape: tuple[int, int], scale: float, radius_px: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices of the outline, where they belong and across which direction; as many twice as there are pulls at most."""
    pulls = find_pulls(_project(x, K).numpy()[None], x[None, :, 2].numpy(), faces, [goal], shape, scale, np.ones(1), radius_px)
    used = pulls.weights[0] > 0
    return pulls.vertices[0][used], pulls.targets[0][used], pulls.normals[0][used]


def _misses(
    x: Tensor, targets: Tensor, normals: Tensor, K: np.ndarray, spread_px: float
) -> tuple[Float[Tensor, "P"], Float[Tensor, "P 3"]]:
    """Weighted misses across the outline, in spreads, and their change with each point; clothes reach beyond a body."""
    focal = torch.tensor([K[0, 0], K[1, 1]])
    by_point = torch.zeros(len(x), 2, 3, dtype=torch.float64)
    by_point[:, 0, 0], by_point[:, 1, 1] = focal[0] / x[:, 2], focal[1] / x[:, 2]
    by_point[:, :, 2] = -focal * x[:, :2] / x[:, 2:] ** 2
    misses = ((_project(x, K) - targets) * normals).sum(-1)
    spread = torch.where(misses > 0, spread_px, spread_px * CLOTHES_SLACK)
    residuals = misses / spread
    weight = 1 / (1 + (residuals / KERNEL) ** 2) / (1 + len(x) / 20) ** 0.5  # neighbours on an outline err together
    return weight * residuals, weight[:, None] * torch.einsum("pi,pix->px", normals, by_point) / spread[:, None]
