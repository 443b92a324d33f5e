"""What an avatar looks like outside its own renderer: its surface and its colours, at rest or in a pose, on the stage.

An avatar has an albedo, and a light that stands still in the world of its clip. Files know neither, they hold one colour a
point. "lit" is the colour as filmed: in a pose of the clip, what the light did to each point there; at rest, the mean of
that over the clip, each frame counting as far as the point looked towards the camera, since what a camera never saw lit is
not known. The sheen, which depends on the viewer, is left out. "albedo" is the colour without light, for programs that light
it themselves.

Axes: N surface points, F frames, J joints. Lengths are metres, colours display values in 0..1.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as nnf

from model.avatar import Attributes, Avatar
from model.body.track import BodyTrack
from model.export.splats import Splats
from model.lamp_light import lamp_share
from model.light import shade
from model.motion.placement import Placement, skeleton_of_avatar
from model.pose import BodyPose, track_pose
from model.resolution import lasting_scales

COLORS = ("lit", "albedo")
GRAZING = 0.05  # weight, beside the cosine's 0..1, of a frame in which a point looks away: points that never looked count evenly


@torch.no_grad()
def mean_lit_colors(avatar: Avatar, attributes: Attributes, track: BodyTrack) -> Float[Tensor, "N 3"]:
    """Colours as the clip shows them on average; see above."""
    eye = track.camera.eye
    total, weights = torch.zeros_like(attributes.albedo), torch.zeros(len(attributes.albedo))
    for row in range(track.num_frames):
        means, normals = avatar.posed_surface(attributes, track_pose(track, row))
        facing = (normals * nnf.normalize(eye - means, dim=-1)).sum(-1).clamp_min(0) + GRAZING
        total += facing[:, None] * lit_colors(avatar, attributes.albedo, means, normals)
        weights += facing
    return total / weights[:, None]


@torch.no_grad()
def lit_colors(
    avatar: Avatar, albedo: Float[Tensor, "N 3"], means: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"]
) -> Float[Tensor, "N 3"]:
    """Colours of all points in a pose, in the light of the clip and the shadows that it casts there."""
    return (albedo * shade(normals, None, lamp_share(means, normals, avatar.lamp), avatar.light)).clamp(0, 1)


@torch.no_grad()
def rest_splats(avatar: Avatar, colors: Float[Tensor, "N 3"], *, attributes: Attributes | None = None) -> Splats:
    """The avatar in its rest pose, feet on the floor of the stage.

    Args:
        colors: to show, 0..1.
        attributes: decoded before; None decodes them here.
    """
    attributes = avatar.attributes() if attributes is None else attributes
    means = avatar.atlas_points_rest + attributes.offsets + rest_lift(avatar)
    return _splats(means, avatar.atlas_normals_rest, lasting_scales(attributes.scales, avatar.pixel_size), colors)


@torch.no_grad()
def posed_splats(avatar: Avatar, pose: BodyPose, placement: Placement, *, colors: str, decoded: Attributes | None = None) -> Splats:
    """The avatar in a pose, with the folds of that pose, carried to the stage.

    Args:
        pose: in the world of the clip.
        placement: where the stage lies in that world.
        colors: "lit" by the clip's light in this pose, or "albedo".
        decoded: attributes without a pose, decoded before; None decodes here.
    """
    attributes = avatar.attributes(pose) if decoded is None else avatar.attributes_in(pose, decoded)
    means, normals = avatar.posed_surface(attributes, pose)
    shown = attributes.albedo if colors == "albedo" else lit_colors(avatar, attributes.albedo, means, normals)
    return _splats((means - placement.shift) @ placement.turn, normals @ placement.turn, lasting_scales(attributes.scales, avatar.pixel_size), shown)


def rest_lift(avatar: Avatar) -> Float[Tensor, "3"]:
    """What raises the rest pose so that its soles stand on the floor, metres."""
    return torch.tensor([0.0, -skeleton_of_avatar(avatar).floor_rest, 0.0])


def _splats(means: Tensor, normals: Tensor, scales: Tensor, colors: Tensor) -> Splats:
    arrays = [t.detach().cpu().numpy() for t in (means, normals, scales, colors, torch.ones_like(scales))]
    return Splats(**dict(zip((field.name for field in dataclasses.fields(Splats)), arrays, strict=True)))
