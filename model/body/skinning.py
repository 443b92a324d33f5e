"""Linear blend skinning of points and normals that live in the canonical pose.

Axes: *B leading frames, N points, J joints. Lengths are metres. `cano_to_posed` is each joint's transform from the
canonical pose to the posed body: its posed transform times the inverse of its canonical one, `transl` included.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def blend_transforms(lbs_weights: Float[Tensor, "N J"], cano_to_posed: Float[Tensor, "*B J 4 4"]) -> Float[Tensor, "*B N 4 4"]:
    """Average the joint transforms for each point:

        T_i = sum_j w_ij A_j          SMPL, Loper et al. 2015

    Returns:
        One affine transform a point; its 3 x 3 part is no rotation where joints disagree. Differentiable.
    """
    return (lbs_weights @ cano_to_posed.flatten(-2)).unflatten(-1, (4, 4))


def skin_points(
    points_cano: Float[Tensor, "*#B N 3"], lbs_weights: Float[Tensor, "N J"], cano_to_posed: Float[Tensor, "*#B J 4 4"]
) -> Float[Tensor, "*B N 3"]:
    """Carry canonical points into the posed body.

    Each point moves by the blend of joint transforms that its weights give:

        x_i = (sum_j w_ij A_j) x_i^cano          SMPL, Loper et al. 2015

    Args:
        points_cano: points in the canonical pose, metres; one set for all frames ([N, 3]) or one each.
        lbs_weights: share of each joint in each point; rows sum to 1.
        cano_to_posed: see above.

    Returns:
        Points in the posed body, metres. Differentiable in all inputs.
    """
    blended = blend_transforms(lbs_weights, cano_to_posed)
    return (blended[..., :3, :3] @ points_cano[..., None])[..., 0] + blended[..., :3, 3]


def skin_normals(
    normals_cano: Float[Tensor, "*#B N 3"], lbs_weights: Float[Tensor, "N J"], cano_to_posed: Float[Tensor, "*#B J 4 4"]
) -> Float[Tensor, "*B N 3"]:
    """Carry canonical unit normals into the posed body.

    A normal follows the cofactors of the blended 3 x 3 part M (the inverse transpose up to length), which stay right
    where the blend shrinks or shears the surface:

        n_i = cof(M_i) n_i^cano / |cof(M_i) n_i^cano|,   cof(M) = [m1 x m2, m2 x m0, m0 x m1] by columns m of M

    Returns:
        Unit normals in the posed body. Differentiable in all inputs.
    """
    columns = blend_transforms(lbs_weights, cano_to_posed)[..., :3, :3].unbind(-1)
    x, y, z = normals_cano.unbind(-1)
    turned = (
        x[..., None] * torch.linalg.cross(columns[1], columns[2])
        + y[..., None] * torch.linalg.cross(columns[2], columns[0])
        + z[..., None] * torch.linalg.cross(columns[0], columns[1])
    )
    return torch.nn.functional.normalize(turned, dim=-1)


def truncate_weights(lbs_weights: Float[Tensor, "N J"], count: int = 4) -> Float[Tensor, "N J"]:
    """Keep only the largest shares of each point and let them sum to 1 again.

    Fewer shares are faster to skin, but move points by millimetres: train with what is shown.
    """
    kept = torch.zeros_like(lbs_weights)
    top = lbs_weights.topk(min(count, lbs_weights.shape[-1]), dim=-1)
    kept.scatter_(-1, top.indices, top.values)
    return kept / kept.sum(dim=-1, keepdim=True)
