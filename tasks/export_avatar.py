"""Take a finished avatar elsewhere: python -m tasks.export_avatar --subject demo --format ply mesh-glb

On demand, no stage of the pipeline: nothing depends on what is written here. docs/exports.md says what each format holds
and how to open it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from model.avatar import Attributes, Avatar
from model.avatar_file import AvatarFileError, load_avatar
from model.body.body_model import BodyModel, load_body_model
from model.body.body_files import BodyFileError
from model.body.safe_pickle import UnsafePickleError
from model.body.track import BodyTrack
from model.export.appearance import COLORS, mean_lit_colors, posed_splats, rest_lift, rest_splats
from model.export.bundle import Bundle, write_bundle
from model.export.bvh import write_bvh
from model.export.joint_motion import JointMotion, joint_motion
from model.export.mesh import bake_mesh
from model.export.mesh_glb import write_mesh_glb
from model.export.ply import write_ply
from model.export.splat_glb import write_splat_glb
from model.export.splats import Splats
from model.export.spz import write_spz
from model.motion.motion import Motion, carried
from model.motion.placement import Placement, placement_of_track, skeleton_of_avatar
from model.pose import track_pose
from model.uv.atlas import body_surface
from tasks.artifacts import SubjectPaths, read_track, replaced_file, require, subject_paths
from tasks.errors import InputError, run_stage
from tasks.settings import load_settings

STAGES = ("stage1", "stage2")
REST = "rest"
TEXELS = 1024  # along the side of the mesh's texture; four times what the splats of the quick preset resolve
THICKNESS = 2.4  # standard deviations by which the mesh lies outside the splats' centres: where an opaque splat's rim is seen
FALLBACK_FPS = 25.0  # for a track that does not know its own


@dataclass(frozen=True)
class Choice:
    """What to write.

    Attributes:
        colors: "lit" as filmed, or "albedo".
        pose: "rest", or the number of a frame of the clip.
        stage: the avatar of which training stage.
        motions: beside the clip's own; their world is y up, floor at 0.
    """

    colors: str = "lit"
    pose: str | int = REST
    stage: str = "stage1"
    motions: tuple[Motion, ...] = ()


class Subject:
    """A finished avatar with what its exports are made of; each thing is made when the first format asks for it."""

    def __init__(self, name: str, avatar: Avatar, track: BodyTrack, choice: Choice, load_body: Callable[[], BodyModel]) -> None:
        self.name, self.avatar, self.track, self.choice = name, avatar, track, choice
        self.skeleton = skeleton_of_avatar(avatar)
        self.placement: Placement = placement_of_track(track, self.skeleton)
        self.attributes: Attributes = avatar.attributes()
        self.load_body = load_body
        self._kept: dict[str, object] = {}

    @property
    def lit(self) -> torch.Tensor:
        """Colours as filmed, the mean over the clip."""
        return self._keep("lit", lambda: mean_lit_colors(self.avatar, self.attributes, self.track))

    @property
    def shown(self) -> torch.Tensor:
        """Colours of the rest pose as they were chosen."""
        return self.attributes.albedo if self.choice.colors == "albedo" else self.lit

    @property
    def splats(self) -> Splats:
        """The splats in the pose that was chosen."""
        if self.choice.pose == REST:
            return self._keep("splats", lambda: rest_splats(self.avatar, self.shown, attributes=self.attributes))
        row = row_of_frame(self.track, self.choice.pose)
        return self._keep("splats", lambda: posed_splats(self.avatar, track_pose(self.track, row), self.placement, colors=self.choice.colors))

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
        turn, shift = self.placement.turn, self.placement.shift
        pose = carried(track_pose(self.track), self.skeleton, turn.T, -shift @ turn)
        fps = self.track.fps if self.track.fps > 0 else FALLBACK_FPS
        return Motion("clip", pose.global_orient, pose.body_pose, pose.transl, fps, False, self.skeleton)

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


def make_bvh(subject: Subject) -> bytes:
    return write_bvh(subject.body.joint_names, subject.parents, subject.avatar.atlas_joints_rest.numpy(), subject.motions[-1])


def make_bundle(subject: Subject) -> bytes:
    avatar = subject.avatar
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
            light=avatar.light.detach().numpy(),
            light_from_stage=subject.placement.turn.numpy(),
            motions=subject.motions,
        )
    )


@dataclass(frozen=True)
class Format:
    """One way to write an avatar: the end of its file name, what it is, and what makes its bytes."""

    ending: str
    what: str
    make: Callable[[Subject], bytes]


FORMATS = {
    "ply": Format(".ply", "splats, 3D Gaussian Splatting", make_ply),
    "ply62": Format("-62.ply", "splats with all 62 properties, for Unity plug-ins that want them", make_ply62),
    "spz": Format(".spz", "splats, compressed", make_spz),
    "splat-glb": Format("-splats.glb", "splats, glTF with KHR_gaussian_splatting", make_splat_glb),
    "mesh-glb": Format("-mesh.glb", "textured mesh with skeleton and animation", make_mesh_glb),
    "bvh": Format(".bvh", "skeleton and motion", make_bvh),
    "bundle": Format("-bundle.zip", "splats at rest, skin weights, skeleton, motions; see docs/bundle.md", make_bundle),
}


def export(
    subject: str,
    formats: Sequence[str],
    *,
    out: Path | None = None,
    colors: str = "lit",
    pose: str | int = REST,
    stage: str = "stage1",
    motions: Sequence[Motion] = (),
) -> list[Path]:
    """Write a subject's avatar in some formats.

    Args:
        subject: its name; work/<subject>/ holds the avatar.
        formats: names in FORMATS, or "all".
        out: a folder; or, for one format, a file. None: exports/<subject>/.
        colors: "lit" as filmed, or "albedo" (splats and mesh; the bundle has both).
        pose: "rest", or the number of a frame of the clip (splats only).
        stage: "stage1", or "stage2" whose splats follow the pose of a frame.
        motions: for the mesh, the bundle and the .bvh (which takes the last), beside the clip's own; see model/motion/motion.py.

    Returns:
        The files, in the order of the formats.

    Raises:
        InputError: an unknown format, colour, stage or frame; no avatar of that name; nowhere to write.
    """
    names = list(FORMATS) if "all" in formats else list(dict.fromkeys(formats))
    for kind, given, known in (("format", names, [*FORMATS, "all"]), ("colours", [colors], COLORS), ("stage", [stage], STAGES)):
        for value in given:
            if value not in known:
                raise InputError(f"unknown {kind} {value!r}; expected one of: {', '.join(known)}")
    if not names:
        raise InputError(f"expected at least one format of: {', '.join([*FORMATS, 'all'])}")
    if pose != REST and not isinstance(pose, int):
        raise InputError(f"expected the pose to be {REST!r} or the number of a frame, came {pose!r}")
    places = output_paths(subject, names, out)
    loaded = read_subject(subject, Choice(colors, pose, stage, tuple(motions)))
    for name, place in zip(names, places, strict=True):
        data = FORMATS[name].make(loaded)
        try:
            with replaced_file(place) as scratch:
                scratch.write_bytes(data)
        except OSError as error:
            needs = f"it needs {len(data) / 1e6:.1f} MB"
            raise InputError(f"could not write {place} ({error.strerror}); {needs}, choose another place with --out") from error
    return places


def output_paths(subject: str, formats: Sequence[str], out: Path | None) -> list[Path]:
    """Where each format goes. Raises InputError where one file is named for several formats."""
    folder = Path("exports") / subject if out is None else out
    if folder.suffix and not folder.is_dir():
        if len(formats) > 1:
            raise InputError(f"{folder} is one file, but {len(formats)} formats were asked for; give a folder")
        ending = "." + FORMATS[formats[0]].ending.split(".")[-1]
        if folder.suffix.lower() != ending:
            raise InputError(f"format {formats[0]} is written to a file that ends in {ending}, came {folder.name}")
        return [folder]
    if folder.exists() and not folder.is_dir():
        raise InputError(f"expected a folder at {folder}, found a file; choose another place with --out")
    return [folder / (subject + FORMATS[name].ending) for name in formats]


def read_subject(name: str, choice: Choice) -> Subject:
    """Read an avatar and its track, and check that what was chosen exists."""
    settings = load_settings()
    paths = subject_paths(name)
    if not paths.work.is_dir():
        known = sorted(path.parent.parent.name for path in Path("work").glob("*/stage1/avatar.safetensors"))
        raise InputError(f"expected an avatar called {name!r} under work/, found: {', '.join(known) or 'none'}; run: make avatar")
    track = read_track(paths.stage1 / "track.npz", made_by="train_stage1")
    try:
        avatar = load_avatar(require(avatar_path(paths, choice.stage), made_by=f"train_{choice.stage}"))
    except AvatarFileError as error:
        raise InputError(str(error)) from error
    if choice.pose != REST:
        row_of_frame(track, choice.pose)

    def load_body() -> BodyModel:
        try:
            body = load_body_model(settings.body.model, uv_path=settings.body.uv, num_betas=len(avatar.betas), dtype=torch.float32)
        except (BodyFileError, UnsafePickleError) as error:
            raise InputError(str(error)) from error
        if body.name != avatar.body or body.num_betas != len(avatar.betas):
            has, wants = f"{body.name}, {body.num_betas} shape coefficients", f"{avatar.body}, {len(avatar.betas)}"
            raise InputError(f"expected the body that {name} was trained on ({wants}), params.yaml gives {has}; set body.model, or train again")
        return body

    return Subject(name, avatar, track, choice, load_body)


def avatar_path(paths: SubjectPaths, stage: str) -> Path:
    """Where a stage leaves its avatar."""
    return getattr(paths, stage) / "avatar.safetensors"


def row_of_frame(track: BodyTrack, frame: int) -> int:
    """Which row of a track a frame is. Raises InputError where the clip has no such frame."""
    rows = (track.frame_ids == frame).nonzero()
    if not len(rows):
        raise InputError(f"expected a frame of the clip, {int(track.frame_ids.min())} to {int(track.frame_ids.max())}, came {frame}")
    return int(rows[0, 0])


def pose_argument(text: str) -> str | int:
    """A frame's number, or the word as it is."""
    return int(text) if text.lstrip("-").isdigit() else text


def main(arguments: Sequence[str] | None = None) -> None:
    lines = "\n".join(f"  {name:10} {form.what}" for name, form in FORMATS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tasks.export_avatar",
        description="Write a finished avatar in formats that other programs open.",
        epilog=f"formats:\n{lines}\n  all        every one of them",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--subject", help="name of the avatar; params.yaml's when left out")
    parser.add_argument("--format", nargs="+", required=True, metavar="FORMAT", help="one or more of the formats below")
    parser.add_argument("--out", type=Path, help="folder, or file when one format is written; exports/<subject>/ when left out")
    parser.add_argument("--colors", default="lit", metavar="|".join(COLORS), help="lit as filmed, or albedo without light")
    parser.add_argument("--pose", type=pose_argument, default=REST, metavar="rest|FRAME", help="rest, or the number of a frame of the clip")
    parser.add_argument("--stage", default="stage1", metavar="|".join(STAGES), help="stage2: splats that follow the frame's pose")
    given = parser.parse_args(arguments)
    subject = given.subject or load_settings().subject.name
    for path in export(subject, given.format, out=given.out, colors=given.colors, pose=given.pose, stage=given.stage):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_stage(main)
