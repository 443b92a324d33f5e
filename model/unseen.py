"""Parts that no training frame shows: found by their weight in the pictures, filled by what the seen ones suggest (docs/adr/0009).

Axes: N surface points, P of them in one part of the body, L neighbours, F frames, J joints.
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
from model.body.body_files import BODY_JOINTS
from model.body.track import BodyTrack
from model.camera import Camera
from model.pose import posed_joints, track_pose
from model.render.rasterize import rasterize

SEEN_SHARE = 0.35  # a point counts as seen once some frame shows this much of the area it stands for; a grazing look is noise
SURE_SHARE = 0.7  # the same of a point beside a hidden region: there the outline mixes it with the wall behind
PULL, LOOSE = 0.1, 1e-6  # towards the colour that stands in, relative to one neighbour's; towards the mean, where nothing does
SLICE = 0.012  # m, thickness of a part's slices that have one usual colour
MIN_SEEN = 4  # points of a slice, or of a head's hair, that tell a usual colour
PATTERN = 0.05  # 0..1, by which the median point of a part is off the usual colour of its slice, where slices do not tell the pattern
HAIR_UP, HAIR_FRONT, NAPE = 0.7, -0.2, -0.4  # cosines with up, with the front and with up again, from the head's middle
HEAD, NECK = 15, 12  # SMPL's joints, in every body of its family; what comes after BODY_JOINTS are hands, fingers, jaw and eyes
TRUNK, FEET, TOES = (0, 3, 6, 9, 13, 14), (7, 8), (10, 11)  # pelvis, spine and collars; ankles; balls of the feet
UPRIGHT = (0, *FEET, NECK, HEAD)  # parts that change from bottom to top: shoe, sock and trousers, collar and hair
THIN = (*FEET, 20, 21)  # and wrists: parts of which little is further in than their rim
RIM, SPECK = 3, 2  # steps from point to neighbour: how wide the rim of a hidden region is, and the half width of regions that have one


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


def fill_unseen(avatar: Avatar, visibility: Float[Tensor, "N"]) -> Bool[Tensor, "N"]:
    """Give points that were never seen the colour that the seen ones suggest.

    What stands in for them (`stand_in_colors`) is laid on their place with its own changes of colour, and brought to meet the seen points
    around without a step. What was seen at a grazing angle only, on the rim of a hidden region, is not believed either. Needs the free
    colour of each point; without it nothing changes.

    Args:
        visibility: from `point_visibility`.

    Returns:
        Which points count as seen; the avatar keeps it too.
    """
    seen = visibility > SEEN_SHARE
    avatar.seen.copy_(seen.float())
    if not avatar.options.network.texel_residual or seen.all() or not seen.any():
        return seen
    with torch.no_grad():
        albedo = avatar.attributes().albedo
        colors, shown, grazed, neighbours = (t.cpu().numpy() for t in (albedo, seen, visibility < SURE_SHARE, avatar.atlas_neighbours))
        parts = parts_of_points(avatar)
        doubted = (grazed | (parts == HEAD)) & ~np.isin(parts, THIN)  # hair is frayed: its outline shows the wall wherever it is
        sure = shown & ~(rim_of(~shown, neighbours) & doubted)
        sure = sure if sure.any() else shown
        filled = torch.from_numpy(blend_in(colors, sure, neighbours, stand_in_colors(avatar, colors, sure, sure & ~grazed))).to(avatar.device)
        clip = lambda c: c.clamp(0.004, 0.996)  # noqa: E731  (logits must stay finite)
        change = torch.logit(clip(filled)) - torch.logit(clip(albedo))
        avatar.texel_colors[~sure] += change[~sure]
    return seen


def rim_of(hidden: Bool[np.ndarray, "N"], neighbours: Int[np.ndarray, "N L"]) -> Bool[np.ndarray, "N"]:
    """Where the surface goes out of sight for long."""

    def grown(region: Bool[np.ndarray, "N"], steps: int) -> Bool[np.ndarray, "N"]:
        for _ in range(steps):
            region = region | region[neighbours].any(axis=1)
        return region

    regions = grown(~grown(~hidden, SPECK), SPECK) & hidden
    return grown(regions, RIM) & ~hidden


def stand_in_colors(
    avatar: Avatar, colors: Float[np.ndarray, "N 3"], seen: Bool[np.ndarray, "N"], clear: Bool[np.ndarray, "N"]
) -> list[Float[np.ndarray, "N 3"]]:
    """What unseen points would rather look like, by source, the best first; NaN where a source says nothing of a point.

    Across: the point that mirrors it from left to right. Through: where clothes have a pattern that no place along them tells, such as checks,
    the point before or behind it. Around: clothes and limbs go around, so the usual colour of what is seen at the same place along the same
    part of the body; a print on the chest is not usual. The head: what shows on top of it and behind, for the back of a head is no face.

    Args:
        clear: which of the seen points were seen well; what is usual is told by these, where a part has some.
    """
    atlas = (avatar.atlas_points_rest, avatar.atlas_normals_rest, avatar.atlas_mirror, avatar.atlas_joints_rest, avatar.atlas_parents)
    points, normals, mirror, joints, parents = (t.cpu().numpy() for t in atlas)
    across = np.where(seen[mirror, None], colors[mirror], np.nan)
    through, around = np.full_like(colors, np.nan), np.full_like(colors, np.nan)
    places = np.column_stack([points[:, :2], 0.2 * points[:, 2], 0.1 * normals[:, 2]])  # height and side count most; a normal keeps front and back apart
    behind = cKDTree(places).query(places * [1, 1, -1, -1])[1]
    parts = parts_of_points(avatar)
    for part in np.unique(parts):
        rows = np.flatnonzero(parts == part)
        along = (points[rows] - joints[part]) @ axis_of(part, joints, parents)
        telling = (clear if clear[rows].sum() >= MIN_SEEN else seen)[rows]
        if part == HEAD:
            around[rows] = colors_of_hair(points[rows], colors[rows], telling)
            continue
        around[rows] = colors_along(along, colors[rows], telling)
        if seen[rows].any() and np.median(np.abs(colors[rows] - around[rows])[seen[rows]]) > PATTERN:
            through[rows] = np.where((seen[behind] & (parts[behind] == part))[rows, None], colors[behind[rows]], np.nan)
    return [across, through, around]


def parts_of_points(avatar: Avatar) -> Int[np.ndarray, "N"]:
    """The joint that stands for the part of the body that each point moves with most: hands, feet, trunk and head count as one each."""
    parents = avatar.atlas_parents.tolist()
    part = np.arange(len(parents))
    for joint in range(1, len(parents)):
        part[joint] = 0 if joint in TRUNK else part[parents[joint]] if joint in TOES or joint >= len(BODY_JOINTS) else joint
    return part[avatar.atlas_skin_joints[:, 0].cpu().numpy()]


def axis_of(part: int, joints: Float[np.ndarray, "J 3"], parents: Int[np.ndarray, "J"]) -> Float[np.ndarray, "3"]:
    """The unit vector along a part: up for the trunk, neck and head, else towards the joint that hangs from it."""
    child = np.flatnonzero(parents == part)
    if part in UPRIGHT or not len(child):
        return np.array([0.0, 1.0, 0.0])
    along = joints[child[0]] - joints[part]
    return along / max(np.linalg.norm(along), 1e-9)


def colors_along(along: Float[np.ndarray, "P"], colors: Float[np.ndarray, "P 3"], seen: Bool[np.ndarray, "P"]) -> Float[np.ndarray, "P 3"]:
    """The median colour of what is seen at the same place along a part, in slices; between slices that show enough it goes over evenly.

    Args:
        along: m.
    """
    along = along / SLICE
    slices = np.floor(along).astype(int)
    medians = {k: np.median(colors[shown], axis=0) for k in range(slices.min(), slices.max() + 1) if (shown := (slices == k) & seen).sum() >= MIN_SEEN}
    if not medians:
        return np.full_like(colors, np.nan)
    middles, values = np.array(list(medians)) + 0.5, np.stack(list(medians.values()))
    return np.stack([np.interp(along, middles, channel) for channel in values.T], axis=1).astype(colors.dtype)


def colors_of_hair(places: Float[np.ndarray, "P 3"], colors: Float[np.ndarray, "P 3"], seen: Bool[np.ndarray, "P"]) -> Float[np.ndarray, "P 3"]:
    """The median colour of what is seen on top of a head and behind, for the back of it down to the nape; NaN elsewhere."""
    away = places - (places.min(axis=0) + places.max(axis=0)) / 2
    _, up, front = (away / np.linalg.norm(away, axis=1, keepdims=True)).T
    shown = seen & ((up > HAIR_UP) | (front < HAIR_FRONT))
    wanted = np.full_like(colors, np.nan)
    if shown.sum() >= MIN_SEEN:
        wanted[(up > NAPE) & (front < 0) | (up > HAIR_UP)] = np.median(colors[shown], axis=0)
    return wanted


def blend_in(
    colors: Float[np.ndarray, "N 3"], seen: Bool[np.ndarray, "N"], neighbours: Int[np.ndarray, "N L"], sources: list[Float[np.ndarray, "N 3"]]
) -> Float[np.ndarray, "N 3"]:
    """Colours of all points, those of unseen ones from the first source that knows them, without a step where they meet what is seen.

    With c the colours sought, w those of a source, links between neighbours (i, j) and PULL p, least of

        sum_ij |(c_i - c_j) - (w_i - w_j)|^2 + p sum_i |c_i - w_i|^2,    c_i given where it is seen

    (Poisson image editing, Perez et al. 2003, eq. 4, screened). Links between points of two sources, or of none, ask for c_i = c_j.
    A region that no source and no seen point tells of takes the mean.
    """
    count = len(colors)
    rows = np.repeat(np.arange(count), neighbours.shape[1])
    links = coo_matrix((np.ones(rows.size), (rows, neighbours.ravel())), shape=(count, count)).tocsr()
    links = (links + links.T).tocoo()
    known = np.array([np.isfinite(source).all(axis=1) for source in sources], bool).reshape(len(sources), count)
    kind = np.argmax([*known, np.ones(count, bool)], axis=0)
    here = links.row[~seen[links.row]], links.col[~seen[links.row]], links.data[~seen[links.row]]
    i, j, weight = here
    change = np.zeros((len(i), 3))
    for k, source in enumerate(sources):
        same = (kind[i] == k) & known[k][j] & (seen[j] | (kind[j] == k))
        change[same] = source[i[same]] - source[j[same]]
    hidden = np.flatnonzero(~seen)
    place = np.full(count, -1)
    place[hidden] = np.arange(len(hidden))
    mean = colors[seen].mean(0)
    wanted = np.choose(kind[hidden, None], [*(source[hidden] for source in sources), np.broadcast_to(mean, (len(hidden), 3))])
    pull = np.where(kind[hidden] < len(sources), PULL, LOOSE)
    degree = np.bincount(place[i], weight, len(hidden)) + pull
    inner = ~seen[j]
    system = diags(degree) - coo_matrix((weight[inner], (place[i[inner]], place[j[inner]])), shape=(len(hidden), len(hidden)))
    result = colors.copy()
    for channel in range(3):
        right = np.bincount(place[i], weight * (change[:, channel] + np.where(inner, 0, colors[j, channel])), len(hidden))
        result[hidden, channel] = cg(system.tocsr(), right + pull * wanted[:, channel], x0=wanted[:, channel], rtol=1e-4, maxiter=500)[0]
    return np.clip(result, 0, 1).astype(colors.dtype)
