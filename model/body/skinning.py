"""Linear blend skinning of points that live in the canonical pose.

Axes: *B leading frames, N points, J joints. Lengths are metres. `cano_to_posed` is each joint's transform from the
canonical pose to the posed body: its posed transform times the inverse of its canonical one, `transl` included.
"""

from __future__ import annotations

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
