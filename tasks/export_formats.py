"""What a finished avatar is written as: the formats, and what each is made of. tasks/export_avatar.py is the command.

docs/exports.md says what each format holds and how to open it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from model.avatar import Attributes, Avatar
from model.body.body_model import BodyModel
from model.body.track import BodyTrack
from model.export.appearance import mean_lit_colors, posed_splats, rest_lift, rest_splats
from model.export.bundle import Bundle, write_bundle
from model.export.bvh import write_bvh
from model.export.folds import fold_tables
from model.export.joint_motion import JointMotion, joint_motion
from model.export.mesh import bake_mesh
from model.export.mesh_glb import write_mesh_glb
from model.export.ply import write_ply
from model.export.splat_glb import write_splat_glb
from model.export.splats import Splats
from model.export.spz import write_spz
from model.light import parts
from model.motion.motion import Motion
from model.motion.placement import Placement, motion_of_track, placement_of_track, skeleton_of_avatar
from model.pose import BodyPose
from model.uv.atlas import body_surface

TEXELS = 1024  # along the side of the mesh's texture; four times what the splats of the quick preset resolve
THICKNESS = 2.4  # standard deviations by which the mesh lies outside the splats' centres: where an opaque splat's rim is seen
FALLBACK_FPS = 25.0  # for a track that does not know its own


@dataclass(frozen=True)
class Choice:
    """What to write.

    Attributes:
        colors: "lit" as filmed, or "albedo".
        motions: beside the clip's own; their world is y up, floor at 0.
    """

    colors: str = "lit"
    motions: tuple[Motion, ...] = ()


class Subject:
    """A finished avatar with what its exports are made of; each thing is made when the first format asks for it."""

    def __init__(self, name: str, avatar: Avatar, track: BodyTrack, choice: Choice, load_body: Callable[[], BodyModel]) -> None:
        self.name, self.avatar, self.track, self.choice = name, avatar, track, choice
        self.skeleton = skeleton_of_avatar(avatar)
        self.placement: Placement = placement_of_track(track, self.skeleton)
        self.attributes: Attributes = avatar.attributes()
        self.pose: BodyPose | None = None  # of the splats, in the world of the clip; None: at rest
        self.load_body = load_body
        self._kept: dict[str, object] = {}

    @property
    def lit(self) -> torch.Tensor:
        """Colours as filmed, the mean over the clip."""
        return self._keep("lit", lambda: mean_lit_colors(self.avatar, self.attributes, self.track))

    @property
    def shown(self) -> torch.Tensor:
        """Colours without any pose's details, as they were chosen."""
        return self.attributes.albedo if self.choice.colors == "albedo" else self.lit

    @property
    def splats(self) -> Splats:
        """The splats in the present pose, with its folds."""
        if self.pose is None:
            return self._keep("splats", self._rest_splats)
        return posed_splats(self.avatar, self.pose, self.placement, colors=self.choice.colors, decoded=self.attributes)

    def _rest_splats(self) -> Splats:
        """At rest, with what the avatar's details make of that pose."""
        if not self.avatar.follows_pose:
            return rest_splats(self.avatar, self.shown, attributes=self.attributes)
        still = torch.zeros(3)
        look = self.avatar.attributes_in(BodyPose(still, torch.zeros(len(self.parents) - 1, 3), still), self.attributes)
        colors = look.albedo if self.choice.colors == "albedo" else mean_lit_colors(self.avatar, look, self.track)
        return rest_splats(self.avatar, colors, attributes=look)

    @property
    def body(self) -> BodyModel:
        return self._keep("body", self.load_body)

    @property
    def motions(self) -> list[JointMotion]:
        """The clip's own motion, then the others."""
        return self._keep("motions", lambda: [joint_motion(motion) for motion in (self.clip_motion(), *self.choice.motions)])

    @property
    def parents(self) -> list[int]:
        return self.avatar.atlas_parents.tolist()

    def clip_motion(self) -> Motion:
        """The clip's own track as a motion: carried from the world of the clip to the stage."""
        return motion_of_track("clip", self.track, self.placement, self.skeleton, fallback_fps=FALLBACK_FPS)

    def _keep(self, name: str, make: Callable[[], object]) -> object:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]


def make_ply(subject: Subject) -> bytes:
    return write_ply(subject.splats)


def make_ply62(subject: Subject) -> bytes:
    return write_ply(subject.splats, full=True)


def make_spz(subject: Subject) -> bytes:
    return write_spz(subject.splats)


def make_splat_glb(subject: Subject) -> bytes:
    return write_splat_glb(subject.splats, name=subject.name)


def make_mesh_glb(subject: Subject) -> bytes:
    avatar, look = subject.avatar, subject.attributes
    mesh = bake_mesh(
        body_surface(subject.body, avatar.betas),
        avatar.atlas,
        look.offsets.numpy(),
        look.scales.numpy(),
        subject.shown.numpy(),
        texels=TEXELS,
        thickness=THICKNESS,
    )
    return write_mesh_glb(
        mesh,
        subject.body.joint_names,
        subject.parents,
        avatar.atlas_joints_rest.numpy(),
        subject.motions,
        name=subject.name,
        lift=rest_lift(avatar).double().numpy(),
        unlit=subject.choice.colors == "lit",
    )


def make_bvh(subject: Subject, number: int = -1) -> bytes:
    """One of the subject's motions, the last one where it is not said which."""
    return write_bvh(subject.body.joint_names, subject.parents, subject.avatar.atlas_joints_rest.numpy(), subject.motions[number])


def make_bundle(subject: Subject) -> bytes:
    avatar = subject.avatar
    harmonics, lamp, sheen = (part.numpy() for part in parts(avatar.light.detach()))
    return write_bundle(
        Bundle(
            name=subject.name,
            splats=rest_splats(avatar, subject.lit, attributes=subject.attributes),
            albedo=subject.attributes.albedo.numpy(),
            skin_joints=avatar.atlas_skin_joints.numpy(),
            skin_weights=avatar.atlas_skin_weights.numpy(),
            joint_names=subject.body.joint_names,
            parents=subject.parents,
            joints_rest=(avatar.atlas_joints_rest + rest_lift(avatar)).numpy(),
            harmonics=harmonics,
            lamp=lamp,
            lamp_direction=avatar.lamp.numpy(),
            sheen=sheen,
            light_from_stage=subject.placement.turn.numpy(),
            motions=subject.motions,
            folds=fold_tables(avatar),
        )
    )


@dataclass(frozen=True)
class Format:
    """One way to write an avatar: the end of its file name, what it is, what makes its bytes, and whether it holds one pose."""

    ending: str
    what: str
    make: Callable[[Subject], bytes]
    posed: bool = False


FORMATS = {
    "ply": Format(".ply", "splats, 3D Gaussian Splatting", make_ply, posed=True),
    "ply62": Format("-62.ply", "splats with all 62 properties, for Unity plug-ins that want them", make_ply62, posed=True),
    "spz": Format(".spz", "splats, compressed", make_spz, posed=True),
    "splat-glb": Format("-splats.glb", "splats, glTF with KHR_gaussian_splatting", make_splat_glb, posed=True),
    "mesh-glb": Format("-mesh.glb", "textured mesh with skeleton and animation", make_mesh_glb),
    "bvh": Format(".bvh", "skeleton and motion", make_bvh),
    "bundle": Format("-bundle.zip", "splats at rest, skin weights, folds, skeleton, motions; see docs/bundle.md", make_bundle),
}
