"""The avatar: surface points, networks and light, and how they become Gaussians in a posed body.

Axes: N surface points, J joints, C feature channels, G texels per side of the feature map, P known poses. Lengths are
metres. "Rest" is the body model's rest pose, "world" the world of the body track that the avatar was trained on.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.body.track import BodyTrack
from model.camera import Camera
from model.decoding import bilinear_corners, read_features
from model.fitting.rotations import rotation_from_vector
from model.gaussians import Gaussians, Rendered, without_transparent
from model.light import ROWS
from model.networks import Decoder, FeatureTensor, NetworkOptions, PoseEncoder, pad_seams
from model.pose import BodyPose, posed_joints, rest_to_posed, root_relative, track_pose
from model.pose_shapes import COLOR_UNIT, PoseShapeOptions, PoseShapes
from model.posing import SkinnedSurface, carried, pose_points
from model.render.rasterize import rasterize
from model.resolution import resolved_scales
from model.uv.atlas import UvAtlas
from model.uv.position_maps import place_in_map


@dataclass(frozen=True)
class PoseEncoderOptions:
    """The stage-2 network, as published.

    Attributes:
        base_width: channels of its first layer.
        depth: how often it halves the map.
        reach: how far from the training poses pose features act, rad (root mean square over joints): whole up to
            `reach`, none from three times that on. Null: everywhere, as published.
    """

    base_width: int
    depth: int
    reach: float | None


@dataclass(frozen=True)
class AvatarOptions:
    """What an avatar is made of; stored with it.

    Attributes:
        network: sizes of the stage-1 networks.
        light: form of the world's light, of model/light.py's.
        pose_encoder: the stage-2 network, as published; null for an avatar without it.
        cull_margin: points whose normal turns away from the viewer by more than this (as a cosine) are not drawn; null
            draws all.
        pose_shapes: shapes blended by the pose (model/pose_shapes.py); null for an avatar without them.
    """

    network: NetworkOptions
    light: str
    pose_encoder: PoseEncoderOptions | None
    cull_margin: float | None
    pose_shapes: PoseShapeOptions | None = None


@dataclass(frozen=True)
class Attributes:
    """What the networks say about each surface point.

    Attributes:
        offsets: displacement in the rest pose, metres.
        albedo: colour before shading, 0..1.
        scales: standard deviation, metres.
    """

    offsets: Float[Tensor, "N 3"]
    albedo: Float[Tensor, "N 3"]
    scales: Float[Tensor, "N"]


RawOutputs = tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"], Float[Tensor, "N"]]  # offset, colour logits, scale


class Avatar(nn.Module):
    """One person, to be posed and seen."""

    def __init__(self, atlas: UvAtlas, options: AvatarOptions, *, body: str, betas: Float[Tensor, "S"]) -> None:
        """Make an untrained avatar; random starts come from torch's global generator.

        Args:
            atlas: the body's surface points.
            options: what to make it of.
            body, betas: whose shape the atlas has; kept so that a track for another body is noticed.
        """
        super().__init__()
        self.options, self.body = options, body
        self.atlas_names = [field.name for field in dataclasses.fields(atlas)]
        for name in self.atlas_names:
            self.register_buffer(f"atlas_{name}", getattr(atlas, name))
        self.register_buffer("betas", betas.clone())
        corners, shares = bilinear_corners(atlas.uv, atlas.map_resolution)
        self.register_buffer("corners", corners, persistent=False)
        self.register_buffer("shares", shares, persistent=False)
        self.register_buffer("known_poses", torch.zeros(0, len(atlas.parents) - 1, 3))
        self.register_buffer("seen", torch.ones(atlas.num_points))
        self.register_buffer("pixel_size", torch.zeros(()))  # of the frames that were trained on, at the person, metres; 0: not known
        network = options.network
        self.features = FeatureTensor(network, atlas.map_source, atlas.map_texel)
        self.decoder = Decoder(network)
        self.texel_colors = nn.Parameter(torch.zeros(atlas.num_points if network.texel_residual else 0, 3))
        self.light = nn.Parameter(torch.zeros(ROWS[options.light], 3))
        self.register_buffer("lamp", torch.zeros(3))
        encoder = options.pose_encoder
        self.pose_encoder = (
            None if encoder is None else PoseEncoder(network.features, base_width=encoder.base_width, depth=encoder.depth)
        )
        self.pose_shapes = None if options.pose_shapes is None else PoseShapes(options.pose_shapes, atlas)
        self.register_buffer("scale_factor", torch.ones(()), persistent=False)  # below 1 only while the published schedule warms up
        self.skeleton = atlas.joints_rest.cpu(), atlas.parents.cpu()  # at hand for poses on the CPU: no wait for a GPU

    @property
    def device(self) -> torch.device:
        """Where the avatar lies; backgrounds have to lie there too, poses and cameras need not."""
        return self.betas.device

    @property
    def parents(self) -> Int[Tensor, "J"]:
        """The joint that each joint hangs from, on the CPU."""
        return self.skeleton[1]

    @property
    def follows_pose(self) -> bool:
        """Whether the attributes depend on the pose: an avatar of stage 2."""
        return self.pose_encoder is not None or self.pose_shapes is not None

    @property
    def atlas(self) -> UvAtlas:
        """The surface points the avatar stands on."""
        return UvAtlas(**{name: getattr(self, f"atlas_{name}") for name in self.atlas_names})

    # ------------------------------------------------------------------------------------------------- attributes

    def attributes(self, pose: BodyPose | None = None) -> Attributes:
        """Decode every surface point: pose-independent in stage 1, for one pose in stage 2.

        Differentiable in the networks, not in the pose.
        """
        feature_map = self.features()
        if self.pose_encoder is not None and pose is not None:
            feature_map = feature_map + self.pose_features(pose)
        decoded = self.decode(feature_map)
        return decoded if self.pose_shapes is None or pose is None else self.fold(decoded, self.pose_shapes(pose.body_pose))

    def attributes_in(self, pose: BodyPose, decoded: Attributes) -> Attributes:
        """`attributes(pose)`, from what was `decoded` without a pose wherever that spares the decoder."""
        if self.pose_encoder is not None:
            return self.attributes(pose)
        return decoded if self.pose_shapes is None else self.fold(decoded, self.pose_shapes(pose.body_pose))

    def fold(self, attributes: Attributes, shape: Float[Tensor, "6 G G"]) -> Attributes:
        """Add what `pose_shapes` says of one pose. Differentiable in both."""
        change = read_features(shape, self.corners, self.shares)
        return Attributes(
            offsets=attributes.offsets + self.options.network.offset_scale * change[:3].T,
            albedo=(attributes.albedo + COLOR_UNIT * change[3:].T).clamp(0, 1),
            scales=attributes.scales,
        )

    def decode(self, feature_map: Float[Tensor, "C G G"]) -> Attributes:
        """Attributes of all points from a feature map."""
        options = self.options.network
        offset, color, scale = self._decode_points(feature_map) if options.decode_at == "points" else self._decode_texels(feature_map)
        color = options.color_gain * color
        if options.texel_residual:
            color = color + self.texel_colors
        low, start, high = options.scale_floor, options.scale_start, options.scale_ceiling
        spread = low + (high - low) * torch.sigmoid(scale + _logit((start - low) / (high - low)))
        return Attributes(
            offsets=offset * options.offset_scale,
            albedo=torch.sigmoid(color),
            scales=spread * self.atlas_spacing * self.scale_factor,
        )

    def _decode_points(self, feature_map: Float[Tensor, "C G G"]) -> RawOutputs:
        return self.decoder(read_features(feature_map, self.corners, self.shares), self.atlas_uv)

    def _decode_texels(self, feature_map: Float[Tensor, "C G G"]) -> RawOutputs:
        cells, side = self.atlas_map_texel, feature_map.shape[-1]
        centres = (torch.stack([cells % side, cells // side], dim=1) + 0.5) / side
        raw = self.decoder(feature_map.flatten(1).index_select(1, cells), centres)
        rows = torch.cat([raw[0].T, raw[1].T, raw[2][None]])
        padded = rows.index_select(1, self.atlas_map_source).unflatten(1, (side, side))
        offset, color, scale = read_features(padded, self.corners, self.shares).split(Decoder.OUTPUTS)
        return offset.T, color.T, scale[0]

    def pose_features(self, pose: BodyPose) -> Float[Tensor, "C G G"]:
        """Features of one pose; they fade where the pose is far from every pose that was trained on."""
        return self.encode(self.position_map(pose)[None])[0] * self.familiarity(pose)

    def encode(self, position_maps: Float[Tensor, "B 3 G G"]) -> Float[Tensor, "B C G G"]:
        """Features of some position maps, seams padded."""
        return pad_seams(self.pose_encoder(position_maps), self.features.padded_from)

    def position_map(self, pose: BodyPose) -> Float[Tensor, "3 G G"]:
        """The root-relative UV position map of one pose, metres, seams padded. No gradient flows."""
        with torch.no_grad():
            return place_in_map(self.atlas, self.joint_transforms(root_relative(pose)))

    def familiarity(self, pose: BodyPose) -> Float[Tensor, ""]:
        """1 near a pose that was trained on, falling to 0: how much the pose features are to be believed."""
        reach = self.options.pose_encoder.reach
        if reach is None or len(self.known_poses) == 0:
            return torch.ones((), device=self.device)
        distance = pose_distance(pose.body_pose.detach().to(self.device), self.known_poses).min()
        return ((3 * reach - distance) / (2 * reach)).clamp(0, 1)

    # -------------------------------------------------------------------------------------------------- the picture

    def joint_transforms(self, pose: BodyPose) -> Float[Tensor, "*B J 4 4"]:
        """Skinning transforms of this body in a pose, on the avatar's device. Differentiable in the pose.

        They are computed where the pose lies: a chain of joints is many small steps, each of which a GPU takes longer to start
        than a CPU to do, unless they are recorded.
        """
        rest = self.skeleton[0] if pose.transl.device.type == "cpu" else self.atlas_joints_rest
        transforms = rest_to_posed(rest, self.parents, pose)
        return transforms.to(self.device, non_blocking=self.device.type == "cuda")  # a GPU that is at work need not be waited for

    @torch.no_grad()
    def posed_surface(self, attributes: Attributes, pose: BodyPose) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """All points and their unit normals in the world, whoever looks."""
        return carried(attributes.offsets, self.joint_transforms(pose), self.skinned)

    @property
    def skinned(self) -> SkinnedSurface:
        """The surface as skinning reads it."""
        return SkinnedSurface(self.atlas_points_rest, self.atlas_normals_rest, self.atlas_skin_joints, self.atlas_skin_weights)

    def gaussians(
        self, attributes: Attributes, transforms: Float[Tensor, "J 4 4"], *, seen_from: Float[Tensor, "3"] | None = None, lit: bool = True
    ) -> Gaussians:
        """Carry the points into the world and light them.

        Args:
            attributes: from `attributes`.
            transforms: rest_to_posed of one frame.
            seen_from: the viewer's place in the world, metres; with it, points that face away are left out, and there is sheen.
            lit: False leaves the albedo as it is.

        Returns:
            Opaque Gaussians; on a GPU those that are left out are there, and transparent. Differentiable in
            attributes, transforms and light (shading does not move the body).
        """
        means, colors, scales, opacities = pose_points(
            attributes.offsets,
            attributes.albedo,
            attributes.scales,
            self.light if lit else self.light[:0],
            transforms,
            self.skinned,
            lamp=self.lamp,
            viewer=seen_from,
            cull_margin=self.options.cull_margin,
        )
        return Gaussians(means, scales, colors, opacities)

    def render(
        self,
        pose: BodyPose,
        camera: Camera,
        background: Float[Tensor, "3"],
        *,
        backend: str,
        attributes: Attributes | None = None,
    ) -> Rendered:
        """See the avatar in one pose. Training does the same in parts (step_loss.py).

        Args:
            pose: one frame, in the world of the track.
            camera: the view.
            background: colour behind the person, 0..1.
            backend: see model/render/rasterize.py.
            attributes: decoded before, to share them between frames; None decodes them here.
        """
        figure = self.figure(pose, camera, self.attributes(pose) if attributes is None else attributes)
        if not torch.is_grad_enabled() and self.device.type != "cpu":  # half of the points are half of the rasteriser's work
            figure = without_transparent(figure)
        return rasterize(figure, camera, background, backend=backend)

    def figure(self, pose: BodyPose, camera: Camera, attributes: Attributes) -> Gaussians:
        """The Gaussians of one pose for one view. Differentiable as `gaussians`."""
        gaussians = self.gaussians(attributes, self.joint_transforms(pose), seen_from=camera.eye.to(self.device))
        return dataclasses.replace(gaussians, scales=resolved_scales(gaussians.means, gaussians.scales, camera, self.pixel_size))

    @torch.no_grad()
    def note_resolution(self, track: BodyTrack, rows: Int[Tensor, "F"]) -> None:
        """Keep how finely some frames of a track show the person: the smallest pixel at the root joint."""
        rest, parents = self.skeleton
        poses = track_pose(track, rows)
        roots = posed_joints(rest, rest_to_posed(rest, parents, poses))[:, 0]
        self.pixel_size.fill_(float(track.camera.to_camera(roots)[:, 2].min() / track.camera.K[0, 0]))

    @torch.no_grad()
    def bake(self, pose: BodyPose | None = None) -> BakedAvatar:
        """The avatar as a table that renders without networks; of stage 2, as it is in one pose."""
        attributes = self.attributes(pose)
        return BakedAvatar(
            means_rest=self.atlas_points_rest + attributes.offsets,
            normals_rest=self.atlas_normals_rest,
            albedo=attributes.albedo,
            scales=attributes.scales,
            skin_joints=self.atlas_skin_joints,
            skin_weights=self.atlas_skin_weights,
            joints_rest=self.atlas_joints_rest,
            parents=self.atlas_parents,
            light=self.light.detach(),
            lamp=self.lamp,
        )


@dataclass(frozen=True)
class BakedAvatar:
    """An avatar without networks: Gaussians in the rest pose, what moves them and what lights them.

    Attributes:
        means_rest, normals_rest: place and outward unit normal in the rest pose, metres.
        albedo, scales: colour before shading 0..1, standard deviation in metres.
        skin_joints, skin_weights: which joints move each Gaussian, and by which share.
        joints_rest, parents: the skeleton.
        light: coefficients of model/light.py, in the world; empty for none.
        lamp: unit vector towards the lamp, in the world; zero for none.
    """

    means_rest: Float[Tensor, "N 3"]
    normals_rest: Float[Tensor, "N 3"]
    albedo: Float[Tensor, "N 3"]
    scales: Float[Tensor, "N"]
    skin_joints: Int[Tensor, "N K"]
    skin_weights: Float[Tensor, "N K"]
    joints_rest: Float[Tensor, "J 3"]
    parents: Int[Tensor, "J"]
    light: Float[Tensor, "B 3"]
    lamp: Float[Tensor, "3"]


def pose_distance(pose: Float[Tensor, "J-1 3"], others: Float[Tensor, "P J-1 3"]) -> Float[Tensor, "P"]:
    """Root mean square over the joints of the angle between two poses' rotations, rad."""
    turned = rotation_from_vector(pose).mT @ rotation_from_vector(others)
    cosine = ((turned.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)
    return torch.acos(cosine).square().mean(-1).sqrt()


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
