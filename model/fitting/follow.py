"""Points of a drawn person followed into the picture of the same moment: where the surface really is, to a fraction of a pixel.

A drawing of the avatar in the fitted pose differs from the frame mostly by being a few pixels off, and dense optical flow
measures that for every pixel. A point of the surface that shows in the drawing is therefore seen at its own pixel plus the
flow there. How sharply depends on the picture: along an edge it may slide, on plain cloth it may float, so each track
carries the information of its neighbourhood (its structure tensor), not a single weight.

Axes: N points of the avatar, P tracks of a frame, H x W pixels. Lengths in the picture are px, or shares of the person's height.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.ndimage import map_coordinates

from model.avatar import Attributes, Avatar
from model.camera import Camera
from model.losses import composite
from model.pose import BodyPose

BACKGROUND = 0.5  # grey behind both pictures, so that the outline is an edge in both
FLOW_LIMIT = 0.06  # of the person's height; a longer flow has jumped to something else
RETURN_LIMIT = 2.0  # px; there and back again, a track has to come home as near as this
FACING_LIMIT = 0.25  # cosine of the angle between normal and viewer; a more slanted point shows too little of itself
DEPTH_SLACK = 0.03  # m behind the drawn surface at which a point still counts as showing
COVERED = 0.9  # of a pixel by the person, for a point in it to show
ON_PERSON = 0.7  # share of the person where a track ends
FLOW_SPREAD = 0.7  # px, of the flow on rich texture
TEXTURE = 20.0  # squared grey levels per squared px at which the spread has grown by sqrt 2
NEIGHBOURHOOD = 3.0  # px, standard deviation of the window that texture is measured in


@dataclass(frozen=True)
class Followed:
    """The tracks of one frame.

    Attributes:
        points: which points. targets: where they are seen, px. moved: how far that is from where they were drawn, px.
        sharpness: square root of the information about each target, 1/px.
    """

    points: Int[np.ndarray, "P"]
    targets: Float[np.ndarray, "P 2"]
    moved: Float[np.ndarray, "P"]
    sharpness: Float[np.ndarray, "P 2 2"]


def follow_points(
    avatar: Avatar, attributes: Attributes, pose: BodyPose, camera: Camera, image: Float[torch.Tensor, "H W 3"], mask: Float[torch.Tensor, "H W"],
    chosen: Bool[np.ndarray, "N"], *, height_px: float, backend: str,
) -> Followed:  # fmt: skip
    """Track the chosen points that show from the drawing into the picture.

    Args:
        pose, camera: of this frame; picture and mask have the camera's size, 0..1. A window around the person is enough, for
            which the camera is cropped.
        height_px: the person's, as a scale.
    """
    background = torch.full((3,), BACKGROUND, device=avatar.device)
    with torch.no_grad():
        drawn = avatar.render(pose, camera, background, backend=backend, attributes=attributes)
        points, normals = _posed(avatar, attributes, pose, np.flatnonzero(chosen))
        x = camera.to_camera(points.cpu()).double().numpy()
        toward = -(camera.w2c[:3, :3].cpu() @ normals.cpu().mT).mT.double().numpy()
    pixels = x[:, :2] / x[:, 2:] * camera.K.diagonal()[:2].double().numpy() + camera.K[:2, 2].double().numpy()
    facing = (toward * x).sum(1) / np.maximum(np.linalg.norm(x, axis=1) * np.linalg.norm(toward, axis=1), 1e-9)
    alpha, depth = drawn.alpha.cpu().numpy(), drawn.depth.cpu().numpy()
    shows = (facing > FACING_LIMIT) & _inside(pixels, alpha.shape)
    shows[shows] = _in_front(pixels[shows], x[shows, 2], alpha, depth)
    points_shown, pixels = np.flatnonzero(chosen)[shows], pixels[shows]

    seen = _grey(composite(image, mask, torch.full((3,), BACKGROUND)).numpy())
    there, back = _flows(_grey(drawn.image.clamp(0, 1).cpu().numpy()), seen)
    moved = _sample(there, pixels)
    targets = pixels + moved
    home = np.linalg.norm(moved + _sample(back, targets), axis=1) < RETURN_LIMIT
    on_person = _sample(mask.numpy()[..., None], targets)[:, 0] > ON_PERSON
    distance = np.linalg.norm(moved, axis=1)
    good = home & on_person & (distance < FLOW_LIMIT * height_px) & _inside(targets, alpha.shape)
    return Followed(points_shown[good], targets[good], distance[good], edge_information(seen, targets[good], spread=FLOW_SPREAD, texture=TEXTURE))


def _posed(
    avatar: Avatar, attributes: Attributes, pose: BodyPose, rows: Int[np.ndarray, "P"]
) -> tuple[Float[torch.Tensor, "P 3"], Float[torch.Tensor, "P 3"]]:
    """Places and normals of some points in the world; normals are not of unit length."""
    index = torch.from_numpy(rows).to(avatar.device)
    transforms = avatar.joint_transforms(pose)[avatar.atlas_skin_joints[index], :3]
    blended = (transforms * avatar.atlas_skin_weights[index, :, None, None]).sum(1)
    rest = avatar.atlas_points_rest[index] + attributes.offsets[index]
    places = (blended[:, :, :3] @ rest[..., None]).squeeze(-1) + blended[:, :, 3]
    return places, (blended[:, :, :3] @ avatar.atlas_normals_rest[index, :, None]).squeeze(-1)


def _inside(pixels: Float[np.ndarray, "P 2"], shape: tuple[int, int], margin: float = 2.0) -> Bool[np.ndarray, "P"]:
    return ((pixels >= margin) & (pixels < np.array(shape[::-1]) - margin)).all(1)


def _in_front(
    pixels: Float[np.ndarray, "P 2"], z: Float[np.ndarray, "P"], alpha: Float[np.ndarray, "H W"], depth: Float[np.ndarray, "H W"]
) -> Bool[np.ndarray, "P"]:
    """Whether points are what their pixel shows."""
    column, row = pixels.astype(int).T
    return (alpha[row, column] > COVERED) & (z < depth[row, column] / np.maximum(alpha[row, column], 1e-6) + DEPTH_SLACK)


def _grey(image: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    return cv2.cvtColor((255 * image).round().astype(np.uint8), cv2.COLOR_RGB2GRAY)


def _flows(drawn: UInt8[np.ndarray, "H W"], seen: UInt8[np.ndarray, "H W"]) -> tuple[Float[np.ndarray, "H W 2"], Float[np.ndarray, "H W 2"]]:
    """From the drawing to the picture and back: dense inverse search (Kroeger et al. 2016), which evens out brightness itself."""
    finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return finder.calc(drawn, seen, None), finder.calc(seen, drawn, None)


def _sample(values: Float[np.ndarray, "H W C"], pixels: Float[np.ndarray, "P 2"]) -> Float[np.ndarray, "P C"]:
    """Values between pixel centres, which lie at halves."""
    at = [pixels[:, 1] - 0.5, pixels[:, 0] - 0.5]
    return np.stack([map_coordinates(values[..., c], at, order=1, mode="nearest") for c in range(values.shape[2])], -1)


def edge_information(
    picture: UInt8[np.ndarray, "H W"], pixels: Float[np.ndarray, "P 2"], *, spread: float, texture: float
) -> Float[np.ndarray, "P 2 2"]:
    """Square root of the information about each place: along each axis of the structure tensor its own, 1/px.

    Args:
        spread: px, of a place on rich texture.
        texture: squared grey levels per squared px at which the spread has grown by sqrt 2.
    """
    grey = picture.astype(np.float32)
    dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    moments = np.stack([cv2.GaussianBlur(m, (0, 0), NEIGHBOURHOOD) for m in (dx * dx, dx * dy, dy * dy)], -1)
    xx, xy, yy = _sample(moments, pixels).T
    strength, axes = np.linalg.eigh(np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2))
    spreads = spread * np.sqrt(1 + texture / np.maximum(strength, 1e-3))
    return np.einsum("pij,pj,pkj->pik", axes, 1 / spreads, axes)
