"""From attributes in the rest pose to lit Gaussians in the world: skinning, culling and shading of all points at once.

For a point with rest place x = surface point + offset, rest normal n, albedo a and skinning weights w_j, under joint transforms [R_j | t_j]:

    [R | t] = sum_j w_j [R_j | t_j]     mean = R x + t     m = R n / |R n|     color = clip(a * shade, 0, 1)

with the shade of model/light.py, and it is kept when m does not turn away from the viewer by more than a margin. The plain torch
version is the meaning; the compiled one does the same on the CPU in one pass forward and one backward, and a third in few operations on a GPU, where points that
turn away stay and become transparent, so that shapes are the same in every frame. In all, shading and culling pass no gradient to
the motion: a body should not turn for the sake of its shade.

Axes: N points, M of them kept, J joints, K influences of a point, B rows of the light (model/light.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as nnf

from model.lamp_light import cast_shadows, lamp_share, lamp_share_reference
from model.light import LAMP, MIN_SHADE, ROWS, SHEEN, SHEEN_POWER, has_lamp, shade, weighed
from model.render.cpu_lanes import LANES, load, spread, store
from model.render.cpu_threads import PIECES_PER_THREAD, num_threads, run_pieces, split_range

LAMP_ROWS = ROWS["lamp"]  # as compiled code can read it
CHUNK = 2048  # points whose gradients are summed together; sums over chunks are in a fixed order


@dataclass(frozen=True)
class SkinnedSurface:
    """What does not change while an avatar trains.

    Attributes:
        points_rest, normals_rest: the body's surface in the rest pose and its outward unit normals, metres.
        skin_joints, skin_weights: the joints that move each point.
    """

    points_rest: Float[Tensor, "N 3"]
    normals_rest: Float[Tensor, "N 3"]
    skin_joints: Int[Tensor, "N K"]
    skin_weights: Float[Tensor, "N K"]


def pose_points(
    offsets: Float[Tensor, "N 3"],
    albedo: Float[Tensor, "N 3"],
    scales: Float[Tensor, "N"],
    light: Float[Tensor, "B 3"],
    transforms: Float[Tensor, "J 4 4"],
    surface: SkinnedSurface,
    *,
    lamp: Float[Tensor, "3"],
    viewer: Float[Tensor, "3"] | None,
    cull_margin: float | None,
) -> tuple[Float[Tensor, "M 3"], Float[Tensor, "M 3"], Float[Tensor, "M"], Float[Tensor, "M"]]:
    """Means, colours, scales and opacities of the points in the world.

    Args:
        offsets: from the surface's own points, metres.
        light: coefficients of model/light.py; empty for no light.
        lamp: unit vector towards the lamp, zero where none is known.
        viewer: the viewer's place in the world, metres; None keeps all points and shows no sheen.
        cull_margin: as a cosine; points beyond it are left out, None keeps all. On a GPU they stay, with an opacity of 0.

    Returns:
        Differentiable in offsets, albedo, scales, light and (through the means) transforms.
    """
    if offsets.device.type != "cpu":
        means, colors, opacities = PosePointsInPasses.apply(offsets, albedo, light, transforms, surface, lamp, viewer, cull_margin)
        return means, colors, scales, opacities
    if offsets.dtype != torch.float32:
        return pose_points_reference(offsets, albedo, scales, light, transforms, surface, lamp=lamp, viewer=viewer, cull_margin=cull_margin)
    rows = transforms[:, :3].reshape(-1, 12)
    means, colors, kept = _PosePoints.apply(offsets, albedo, light, rows, surface, lamp, viewer, cull_margin)
    return means, colors, scales.index_select(0, kept), torch.ones(len(kept))


def pose_points_reference(
    offsets: Tensor,
    albedo: Tensor,
    scales: Tensor,
    light: Tensor,
    transforms: Tensor,
    surface: SkinnedSurface,
    *,
    lamp: Tensor,
    viewer: Tensor | None,
    cull_margin: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same in plain torch, in any floating type: the twin that the compiled one is tested against."""
    means, normals = carried(offsets, transforms, surface)
    facing = None if viewer is None else (normals * nnf.normalize(viewer - means.detach(), dim=-1)).sum(-1)
    share = lamp_share_reference(means.detach(), normals, lamp) if has_lamp(light) else torch.zeros_like(scales)
    colors = (albedo * shade(normals, facing, share, light)).clamp(0, 1)
    if facing is not None and cull_margin is not None:
        kept = (facing > -cull_margin).nonzero()[:, 0]
        means, colors, scales = means[kept], colors[kept], scales[kept]
    return means, colors, scales, torch.ones_like(scales)


def carried(offsets: Float[Tensor, "N 3"], transforms: Float[Tensor, "J 4 4"], surface: SkinnedSurface) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Means and unit normals of all points in the world. Differentiable in offsets and transforms through the means alone."""
    blended = (transforms[surface.skin_joints, :3] * surface.skin_weights[..., None, None]).sum(1)
    means = (blended[:, :, :3] * (surface.points_rest + offsets)[:, None]).sum(-1) + blended[:, :, 3]
    return means, nnf.normalize((blended[:, :, :3].detach() * surface.normals_rest[:, None]).sum(-1), dim=-1)


class PosePointsInPasses(torch.autograd.Function):
    """`pose_points_reference` with its gradients written out, in half the operations that autograd would record: a GPU waits for each.

    Skinning is a matrix product with all joints, not a sum over each point's own: a GPU adds up the gradient of a choice of
    rows one row at a time.
    """

    @staticmethod
    def forward(ctx, offsets, albedo, light, transforms, surface, lamp, viewer, margin):
        shares = surface.skin_weights.new_zeros(len(offsets), len(transforms)).scatter_add_(1, surface.skin_joints, surface.skin_weights)
        points, normals = surface.points_rest + offsets, surface.normals_rest
        blended = (shares @ transforms[:, :3].flatten(1)).unflatten(1, (3, 4))
        means = (blended[:, :, :3] * points[:, None]).sum(-1) + blended[:, :, 3]
        normals = nnf.normalize((blended[:, :, :3] * normals[:, None]).sum(-1), dim=-1)
        opacities = torch.ones_like(points[:, 0])
        facing = None if viewer is None else (normals * nnf.normalize(viewer - means, dim=-1)).sum(-1)
        if facing is not None and margin is not None:
            opacities = (facing > -margin).to(points.dtype)
        share = lamp_share(means, normals, lamp) if has_lamp(light) else torch.zeros_like(opacities)
        lit = weighed(normals, facing, share, len(light))
        raw = 1 + lit @ light
        shades = raw.clamp_min(MIN_SHADE)
        colors = albedo * shades
        ctx.save_for_backward(points, blended, shares, albedo, lit, raw, shades, colors)
        ctx.mark_non_differentiable(opacities)
        ctx.set_materialize_grads(False)
        return means, colors.clamp(0, 1), opacities

    @staticmethod
    def backward(ctx, grad_means, grad_colors, _):
        points, blended, shares, albedo, lit, raw, shades, colors = ctx.saved_tensors
        to_offsets = to_albedo = to_light = to_transforms = None
        if grad_means is not None:
            to_offsets = (blended[:, :, :3] * grad_means[:, :, None]).sum(1)
            if ctx.needs_input_grad[3]:
                moment = torch.cat([points, torch.ones_like(points[:, :1])], 1)
                rows = shares.T @ (grad_means[:, :, None] * moment[:, None]).flatten(1)
                to_transforms = nnf.pad(rows.unflatten(1, (3, 4)), (0, 0, 0, 1))
        if grad_colors is not None:
            inside = grad_colors * ((colors >= 0) & (colors <= 1))
            to_albedo = inside * shades
            if ctx.needs_input_grad[2]:
                to_light = lit.T @ (inside * albedo * (raw >= MIN_SHADE))
        return to_offsets, to_albedo, to_light, to_transforms, None, None, None, None


class _PosePoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx, offsets, albedo, light, transforms, surface, lamp, viewer, margin):
        fixed = [t.contiguous().numpy() for t in (surface.points_rest, surface.normals_rest, surface.skin_joints, surface.skin_weights)]
        offsets, albedo, light, transforms = (t.detach().contiguous().numpy() for t in (offsets, albedo, light, transforms))
        means, normals, facing = np.empty_like(offsets), np.empty_like(offsets), np.empty(len(offsets), np.float32)
        margin = np.float32(np.inf if viewer is None or margin is None else margin)
        eye = np.full(3, np.nan, np.float32) if viewer is None else viewer.numpy()
        ranges = split_range(len(offsets), PIECES_PER_THREAD * num_threads())
        counts = np.zeros(len(ranges), np.int64)
        transforms = _padded(transforms)

        def carry(part):
            counts[part] = _carry(*ranges[part], offsets, transforms, *fixed, eye, margin, means, normals, facing)

        run_pieces(carry, range(len(ranges)))
        places, num_kept = np.cumsum(counts) - counts, counts.sum()
        kept = np.empty(num_kept, np.int64)
        kept_means, colors, shades = (np.empty((num_kept, 3), np.float32) for _ in range(3))
        lamp_shares = np.zeros(num_kept, np.float32)
        shadows = cast_shadows(means, lamp.numpy()) if has_lamp(light) and lamp.any() else None

        def light_up(part):
            start = places[part]
            stop = start + _keep(*ranges[part], start, facing, margin, means, kept, kept_means)
            if shadows is not None:
                lamp_shares[start:stop] = shadows.share(kept[start:stop], means, normals)
            _light(start, stop, kept, facing, lamp_shares, normals, albedo, light, colors, shades)

        run_pieces(light_up, range(len(ranges)))
        ctx.fixed, ctx.arrays, ctx.kept, ctx.lit = fixed, (offsets, albedo, light, transforms), kept, (normals, facing, lamp_shares, shades)
        index = torch.from_numpy(kept)
        ctx.mark_non_differentiable(index)
        ctx.set_materialize_grads(False)
        return torch.from_numpy(kept_means), torch.from_numpy(colors), index

    @staticmethod
    def backward(ctx, grad_means, grad_colors, _):
        offsets, albedo, light, transforms = ctx.arrays
        surface_points, _, joints, weights = ctx.fixed
        kept = ctx.kept
        zeros = np.zeros((len(kept), 3), np.float32)
        means, colors = (zeros if g is None else g.contiguous().numpy() for g in (grad_means, grad_colors))
        to_offsets, to_albedo = np.zeros_like(offsets), np.zeros_like(albedo)
        num_chunks = -(-len(kept) // CHUNK)
        to_light = np.zeros((num_chunks, *light.shape), np.float32)
        to_transforms = np.zeros((num_chunks, len(transforms), 12), np.float32)
        inputs = (offsets, albedo, light, transforms, surface_points, joints, weights, kept, *ctx.lit, means, colors)

        def carry_back(chunks):
            _carry_back(*chunks, *inputs, to_offsets, to_albedo, to_light, to_transforms)

        run_pieces(carry_back, split_range(num_chunks, PIECES_PER_THREAD * num_threads()))
        sums = (total.sum(0, dtype=np.float64).astype(np.float32) for total in (to_light, to_transforms))
        found = [torch.from_numpy(g) for g in (to_offsets, to_albedo, *sums)]
        return *(g if needed else None for g, needed in zip(found, ctx.needs_input_grad, strict=False)), None, None, None, None


def _padded(transforms: Float[np.ndarray, "J 12"]) -> Float[np.ndarray, "J 16"]:
    """Rows as long as two registers."""
    return np.pad(transforms, ((0, 0), (0, 2 * LANES - 12)))


@numba.njit(inline="always")
def _blend(i, transforms, joints, weights, blend):
    """Write a point's own transform, the sum of its joints' by its weights."""
    top, bottom = spread(np.float32(0)), spread(np.float32(0))
    for k in range(joints.shape[1]):
        w = weights[i, k]
        if w > 0:
            row = joints[i, k] * (2 * LANES)
            top += load(transforms, row) * w
            bottom += load(transforms, row + LANES) * w
    store(blend, 0, top)
    store(blend, LANES, bottom)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _carry(begin, end, offsets, transforms, points_rest, normals_rest, joints, weights, viewer, margin, means, normals, facing):
    """Write means, normals and the cosines at which points are seen, 1 without a viewer; return how many of them count as seen."""
    blend = np.empty(2 * LANES, np.float32)
    rows = transforms.reshape(-1)
    count = 0
    for i in range(begin, end):
        _blend(i, rows, joints, weights, blend)
        x, y, z = points_rest[i, 0] + offsets[i, 0], points_rest[i, 1] + offsets[i, 1], points_rest[i, 2] + offsets[i, 2]
        a, b, c = normals_rest[i, 0], normals_rest[i, 1], normals_rest[i, 2]
        length, towards, along = np.float32(0), np.float32(0), np.float32(0)
        for r in range(3):
            mean = blend[4 * r] * x + blend[4 * r + 1] * y + blend[4 * r + 2] * z + blend[4 * r + 3]
            normal = blend[4 * r] * a + blend[4 * r + 1] * b + blend[4 * r + 2] * c
            means[i, r], normals[i, r] = mean, normal
            ray = viewer[r] - mean
            length += normal * normal
            towards += ray * ray
            along += ray * normal
        norm = max(np.sqrt(length), np.float32(1e-12))
        for r in range(3):
            normals[i, r] /= norm
        cosine = along / (norm * max(np.sqrt(towards), np.float32(1e-12)))
        facing[i] = np.float32(1) if np.isnan(cosine) else cosine
        count += facing[i] > -margin
    return count


@numba.njit(inline="always")
def _harmonic(k, x, y, z):
    """The k-th harmonic above degree 0, as in model/light.py."""
    if k == 0:
        return np.float32(3**0.5) * x
    if k == 1:
        return np.float32(3**0.5) * y
    if k == 2:
        return np.float32(3**0.5) * z
    if k == 3:
        return np.float32(15**0.5) * x * y
    if k == 4:
        return np.float32(15**0.5) * y * z
    if k == 5:
        return np.float32(15**0.5) * z * x
    if k == 6:
        return np.float32(5**0.5 / 2) * (np.float32(3) * z * z - np.float32(1))
    return np.float32(15**0.5 / 2) * (x * x - y * y)


@numba.njit(inline="always")
def _grazing(facing):
    return (np.float32(1) - min(max(facing, np.float32(0)), np.float32(1))) ** SHEEN_POWER


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _keep(begin, end, place, facing, margin, means, kept, kept_means):
    """Write index and mean of a range's points that are seen, from a place on; return how many."""
    start = place
    for i in range(begin, end):
        if facing[i] > -margin:
            kept[place] = i
            for c in range(3):
                kept_means[place, c] = means[i, c]
            place += 1
    return place - start


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _light(begin, end, kept, facing, lamp_shares, normals, albedo, light, colors, shades):
    """Write colour and shade of a range of the points that are seen."""
    lamp = light.shape[0] == LAMP_ROWS
    num_harmonics = LAMP if lamp else light.shape[0]
    for place in range(begin, end):
        i = kept[place]
        x, y, z = normals[i, 0], normals[i, 1], normals[i, 2]
        for c in range(3):
            shades[place, c] = 1
        for k in range(num_harmonics):
            h = _harmonic(k, x, y, z)
            for c in range(3):
                shades[place, c] += h * light[k, c]
        if lamp:
            rim = _grazing(facing[i])
            for c in range(3):
                shades[place, c] += lamp_shares[place] * light[LAMP, c] + rim * light[SHEEN, c]
        for c in range(3):
            value = albedo[i, c] * max(shades[place, c], np.float32(MIN_SHADE))
            colors[place, c] = min(max(value, np.float32(0)), np.float32(1))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _carry_back(
    first_chunk, end_chunk, offsets, albedo, light, transforms, points_rest, joints, weights, kept, normals, facing, lamp_shares, shades, grad_means, grad_colors,
    to_offsets, to_albedo, light_sums, transform_sums,
):  # fmt: skip
    """Gradients of some chunks of the points that are seen; sums stay apart, a chunk each."""
    blend = np.empty(2 * LANES, np.float32)
    rows = transforms.reshape(-1)
    lamp = light.shape[0] == LAMP_ROWS
    num_harmonics = LAMP if lamp else light.shape[0]
    for chunk in range(first_chunk, end_chunk):
        for m in range(chunk * CHUNK, min(len(kept), (chunk + 1) * CHUNK)):
            i = kept[m]
            _blend(i, rows, joints, weights, blend)
            x, y, z = points_rest[i, 0] + offsets[i, 0], points_rest[i, 1] + offsets[i, 1], points_rest[i, 2] + offsets[i, 2]
            gx, gy, gz = grad_means[m, 0], grad_means[m, 1], grad_means[m, 2]
            for c in range(3):
                to_offsets[i, c] = blend[c] * gx + blend[4 + c] * gy + blend[8 + c] * gz
            for k in range(joints.shape[1]):
                w = weights[i, k]
                if w > 0:
                    row = transform_sums[chunk, joints[i, k]]
                    for r in range(3):
                        g = w * grad_means[m, r]
                        row[4 * r] += g * x
                        row[4 * r + 1] += g * y
                        row[4 * r + 2] += g * z
                        row[4 * r + 3] += g
            for c in range(3):
                shade_c = max(shades[m, c], np.float32(MIN_SHADE))
                value = albedo[i, c] * shade_c
                if value < 0 or value > 1:
                    continue
                to_albedo[i, c] = grad_colors[m, c] * shade_c
                if shades[m, c] >= np.float32(MIN_SHADE):
                    slope = grad_colors[m, c] * albedo[i, c]
                    for k in range(num_harmonics):
                        light_sums[chunk, k, c] += slope * _harmonic(k, normals[i, 0], normals[i, 1], normals[i, 2])
                    if lamp:
                        light_sums[chunk, LAMP, c] += slope * lamp_shares[m]
                        light_sums[chunk, SHEEN, c] += slope * _grazing(facing[i])
