"""Parts that no training frame shows: found by their weight in the pictures, filled from the other side and from around.

Axes: N surface points, L neighbours, F frames.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg
from scipy.spatial import cKDTree
from torch import Tensor

from model.avatar import Attributes, Avatar
from model.body.track import BodyTrack
from model.camera import Camera
from model.pose import posed_joints, track_pose
from model.render.rasterize import rasterize

SEEN_SHARE = 0.35  # a point counts as seen once some frame shows this much of the area it stands for; a grazing look is noise
STAND_IN_WEIGHT = 0.5  # pull towards the colour of the point that stands in, relative to one neighbour's
HEAD = 15  # SMPL's joint, in every body of its family: the back of a head is no face


def point_visibility(avatar: Avatar, track: BodyTrack, rows: Int[Tensor, "F"], camera: Camera, *, backend: str) -> Float[Tensor, "N"]:
    """The largest share of its own area, seen from the front, that each point has in any of the frames."""
    with torch.no_grad():
        attributes = avatar.attributes()
    best, black = torch.zeros_like(avatar.seen), torch.zeros(3, device=avatar.device)
    eye = camera.eye.to(avatar.device)
    for row in rows.tolist():
        albedo = attributes.albedo.clone().requires_grad_(True)
        transforms = avatar.joint_transforms(track_pose(track, row))
        plain = Attributes(attributes.offsets, albedo, attributes.scales)
        figure = avatar.gaussians(plain, transforms, seen_from=eye, lit=False)  # bright and dark points weigh alike
        (weight,) = torch.autograd.grad(rasterize(figure, camera, black, backend=backend).image.sum(), albedo)
        depth = camera.to(avatar.device).to_camera(posed_joints(avatar.atlas_joints_rest, transforms))[:, 2].mean()
        pixels = (avatar.atlas_spacing * camera.K[0, 0] / depth).square()
        best = torch.maximum(best, weight.mean(1) / pixels)
    return best


def fill_unseen(avatar: Avatar, seen: Bool[Tensor, "N"]) -> None:
    """Give points that were never seen the colour that their surroundings and their mirror image suggest.

    The colours of unseen points solve a Laplace equation on the surface graph, held at the seen ones, with a slight pull
    towards the seen point that stands in: the one across the body from left to right, else (clothes go around) the one
    from front to back, but not on the head. Needs the free colour of each point; does nothing without it.
    """
    avatar.seen.copy_(seen.float())
    if not avatar.options.network.texel_residual or seen.all() or not seen.any():
        return
    with torch.no_grad():
        albedo = avatar.attributes().albedo
        on_cpu = [t.cpu().numpy() for t in (albedo, seen, avatar.atlas_neighbours)]
        filled = torch.from_numpy(diffuse(*on_cpu, stand_ins(avatar, seen))).to(avatar.device)
        clip = lambda c: c.clamp(0.004, 0.996)  # noqa: E731  (logits must stay finite)
        change = torch.logit(clip(filled)) - torch.logit(clip(albedo))
        avatar.texel_colors[~seen] += change[~seen]


def stand_ins(avatar: Avatar, seen: Bool[Tensor, "N"]) -> Int[np.ndarray, "N"]:
    """Which point's colour an unseen one would rather have; itself where there is none."""
    atlas = (avatar.atlas_points_rest, avatar.atlas_normals_rest, avatar.atlas_mirror, avatar.atlas_skin_joints)
    points, normals, mirror, skin_joints = (t.cpu().numpy() for t in atlas)
    shown = seen.cpu().numpy()
    across = np.column_stack([points * [1, 1, -1], 0.1 * normals * [1, 1, -1]])  # normals keep thin parts apart; 0.1 m a unit
    opposite = cKDTree(np.column_stack([points, 0.1 * normals])).query(across)[1]
    on_head = skin_joints[:, 0] == HEAD
    return np.where(shown[mirror], mirror, np.where(on_head, np.arange(len(points)), opposite))


def diffuse(
    colors: Float[np.ndarray, "N 3"], seen: Bool[np.ndarray, "N"], neighbours: Int[np.ndarray, "N L"], stand_in: Int[np.ndarray, "N"]
) -> Float[np.ndarray, "N 3"]:
    """Colours of all points, those of unseen ones interpolated. A region without any seen point around takes the mean."""
    count = len(colors)
    rows = np.repeat(np.arange(count), neighbours.shape[1])
    links = coo_matrix((np.ones(rows.size), (rows, neighbours.ravel())), shape=(count, count)).tocsr()
    links = links + links.T
    hidden = np.flatnonzero(~seen)
    anchored = STAND_IN_WEIGHT * seen[stand_in[hidden]]
    around = links[hidden]
    degree = np.asarray(around.sum(1)).ravel() + anchored + 1e-6
    system = diags(degree) - around[:, hidden]
    mean = colors[seen].mean(0)
    result = colors.copy()
    for channel in range(colors.shape[1]):
        known = around[:, np.flatnonzero(seen)] @ colors[seen, channel]
        right = known + anchored * colors[stand_in[hidden], channel] + 1e-6 * mean[channel]
        result[hidden, channel] = cg(system, right, x0=np.full(len(hidden), mean[channel]), rtol=1e-4, maxiter=500)[0]
    return np.clip(result, 0, 1).astype(colors.dtype)
