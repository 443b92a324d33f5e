"""Parts that no training frame shows: found by their weight in the pictures, filled from the other side and from around.

Axes: N surface points, L neighbours, F frames.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg
from torch import Tensor

from model.avatar import Avatar
from model.camera import Camera
from model.pose import track_pose
from model.body.track import BodyTrack

SEEN_PIXELS = 0.15  # a point counts as seen once it is worth this much of one pixel in some frame
MIRROR_WEIGHT = 0.05  # pull towards the colour of the mirrored point, relative to one neighbour's


def point_visibility(avatar: Avatar, track: BodyTrack, rows: Int[Tensor, "F"], camera: Camera, *, backend: str) -> Float[Tensor, "N"]:
    """The largest sum of blending weights, in pixels, that each point has in any of the frames."""
    with torch.no_grad():
        attributes = avatar.attributes()
    best = torch.zeros(avatar.atlas.num_points)
    for row in rows.tolist():
        albedo = attributes.albedo.clone().requires_grad_(True)
        lit = type(attributes)(attributes.offsets, albedo, attributes.scales)
        rendered = avatar.render(track_pose(track, row), camera, torch.zeros(3), backend=backend, attributes=lit)
        (weight,) = torch.autograd.grad(rendered.image.sum(), albedo)
        best = torch.maximum(best, weight.mean(1))
    return best


def fill_unseen(avatar: Avatar, seen: Bool[Tensor, "N"]) -> None:
    """Give points that were never seen the colour that their surroundings and their mirror image suggest.

    The colours of unseen points solve a Laplace equation on the surface graph, held at the seen ones, with a slight pull
    towards the seen point on the other side of the body. Needs the free colour of each point; does nothing without it.
    """
    avatar.seen.copy_(seen.float())
    if not avatar.options.network.texel_residual or seen.all() or not seen.any():
        return
    with torch.no_grad():
        albedo = avatar.attributes().albedo
        filled = torch.from_numpy(diffuse(albedo.numpy(), seen.numpy(), avatar.atlas_neighbours.numpy(), avatar.atlas_mirror.numpy()))
        clip = lambda c: c.clamp(0.004, 0.996)  # noqa: E731  (logits must stay finite)
        change = torch.logit(clip(filled)) - torch.logit(clip(albedo))
        avatar.texel_colors[~seen] += change[~seen]


def diffuse(
    colors: Float[np.ndarray, "N 3"], seen: Bool[np.ndarray, "N"], neighbours: Int[np.ndarray, "N L"], mirror: Int[np.ndarray, "N"]
) -> Float[np.ndarray, "N 3"]:
    """Colours of all points, those of unseen ones interpolated. A region without any seen point around takes the mean."""
    count = len(colors)
    rows = np.repeat(np.arange(count), neighbours.shape[1])
    links = coo_matrix((np.ones(rows.size), (rows, neighbours.ravel())), shape=(count, count)).tocsr()
    links = links + links.T
    hidden = np.flatnonzero(~seen)
    anchored = MIRROR_WEIGHT * seen[mirror[hidden]]
    around = links[hidden]
    degree = np.asarray(around.sum(1)).ravel() + anchored + 1e-6
    system = diags(degree) - around[:, hidden]
    mean = colors[seen].mean(0)
    result = colors.copy()
    for channel in range(colors.shape[1]):
        known = around[:, np.flatnonzero(seen)] @ colors[seen, channel]
        right = known + anchored * colors[mirror[hidden], channel] + 1e-6 * mean[channel]
        result[hidden, channel] = cg(system, right, x0=np.full(len(hidden), mean[channel]), rtol=1e-4, maxiter=500)[0]
    return np.clip(result, 0, 1).astype(colors.dtype)
