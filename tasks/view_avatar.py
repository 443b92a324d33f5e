"""Look at an avatar, finished or in training, from anywhere and in any pose: make view. The one door to viser.

A small server on this machine only; the browser draws the splats. While a training runs, its newest checkpoint is shown and
replaced as training goes on; what is sent is kept small (see MOST_SPLATS), so that training hardly notices.

Axes: the scene is the stage of model/export/__init__.py: y up, floor at y = 0, metres.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import viser
from safetensors.torch import load_file
from torch.nn import functional as nnf

from model.avatar import Attributes, Avatar
from model.avatar_file import AvatarFileError, load_avatar
from model.body.body_files import JOINT_NAMES
from model.body.track import BodyTrack
from model.export.appearance import COLORS, lit_colors
from model.export.splats import Splats
from model.fitting.rotations import rotation_from_vector, vector_from_rotation
from model.motion.library import LIBRARY, library_motion
from model.motion.motion import Motion
from model.motion.placement import Placement, motion_of_track, placement_of_track, skeleton_of_avatar
from model.pose import BodyPose
from model.resolution import lasting_scales
from model.uv.atlas import UvAtlas
from tasks.artifacts import SubjectPaths, read_npz, read_track, subject_paths
from tasks.errors import InputError, run_stage
from tasks.settings import Settings, load_settings
from tasks.training_run import look_of

HOST = "127.0.0.1"
PORT = 8080
MOST_SPLATS = 20_000  # 0.6 MB a frame; more are thinned out evenly, and widened to cover as much
FRAMES_PER_SECOND = 10.0  # while playing: with the above 6 MB/s
SECONDS_BETWEEN_LOOKS = 1.0  # at the files of a training
STILL, CLIP = "rest", "clip"


# ------------------------------------------------------------------------------------------------------ what is shown


@dataclass(frozen=True)
class Source:
    """A file that holds the newest avatar.

    Attributes:
        path: an avatar file, or a checkpoint's folder.
        stamp: differs when the file was written anew.
    """

    path: Path
    stamp: float

    @property
    def is_checkpoint(self) -> bool:
        return self.path.is_dir()


def newest_source(paths: SubjectPaths) -> Source | None:
    """The avatar that was written last: finished, or a checkpoint of stage 1. None where there is none yet."""
    candidates = [paths.stage1 / "avatar.safetensors", paths.stage2 / "avatar.safetensors"]
    candidates += sorted((paths.checkpoints / "stage1").glob("step_*"))[-1:]
    found = []
    for path in candidates:
        try:
            found.append(Source(path, path.stat().st_mtime))
        except OSError:  # not there, or taken away between the two looks
            continue
    return max(found, key=lambda source: source.stamp, default=None)


class Scene:
    """An avatar with its motions on the stage; nothing of it knows a server."""

    def __init__(self, avatar: Avatar, track: BodyTrack, caption: str) -> None:
        self.avatar, self.caption = avatar, caption
        self.skeleton = skeleton_of_avatar(avatar)
        self.placement: Placement = placement_of_track(track, self.skeleton)
        self.decoded: Attributes = avatar.attributes()
        still = torch.zeros(1, 3)
        lift = torch.tensor([[0.0, -self.skeleton.floor_rest, 0.0]])
        rest = BodyPose(still, torch.zeros(1, self.skeleton.num_joints - 1, 3), lift)
        self._motions = {
            CLIP: motion_of_track(CLIP, track, self.placement, self.skeleton, fallback_fps=FRAMES_PER_SECOND),
            STILL: Motion(STILL, rest.global_orient, rest.body_pose, rest.transl, 1.0, True, self.skeleton),
        }

    def motion(self, name: str) -> Motion:
        """The clip's own motion, the rest pose, or one of the library's, made when it is first asked for."""
        if name not in self._motions:
            self._motions[name] = library_motion(name, self.skeleton)
        return self._motions[name]

    @torch.no_grad()
    def splats(self, motion: str, seconds: float, *, colors: str, turns: dict[int, np.ndarray], most: int = MOST_SPLATS) -> Splats:
        """The avatar at a time of a motion, on the stage.

        Args:
            colors: "lit" by the clip's light, or "albedo".
            turns: joint -> extra rotation, axis-angle in degrees, after the motion's own.
            most: thin out beyond this many splats.
        """
        played = self.motion(motion)
        pose = turned(self.placement.carry(played)[round(seconds * played.fps) % played.num_frames], turns)
        attributes = self.avatar.attributes_in(pose, self.decoded)
        means, normals = self.avatar.posed_surface(attributes, pose)
        shown = attributes.albedo if colors == "albedo" else lit_colors(self.avatar, attributes.albedo, means, normals)
        step = max(1, -(-len(means) // most))
        to_stage = self.placement.turn
        parts = ((means - self.placement.shift) @ to_stage, nnf.normalize(normals @ to_stage, dim=-1), lasting_scales(attributes.scales, self.avatar.pixel_size) * step**0.5, shown)
        arrays = [part[::step].numpy() for part in parts]
        return Splats(*arrays, np.ones(len(arrays[0]), np.float32))


def turned(pose: BodyPose, turns: dict[int, np.ndarray]) -> BodyPose:
    """The pose with some joints (the root is joint 0) turned further, axis-angle in degrees."""
    rotations = torch.cat([pose.global_orient[None], pose.body_pose]).clone()
    for joint, degrees in turns.items():
        extra = rotation_from_vector(torch.from_numpy(np.deg2rad(degrees)).to(rotations))
        rotations[joint] = vector_from_rotation(rotation_from_vector(rotations[joint]) @ extra)
    return BodyPose(rotations[0], rotations[1:], pose.transl)


def read_scene(paths: SubjectPaths, source: Source, settings: Settings) -> Scene:
    """The avatar of a source, with the track that goes with it.

    Raises:
        InputError: the file is no avatar.
    """
    if source.is_checkpoint:
        return checkpoint_scene(paths, source.path, settings)
    try:
        avatar = load_avatar(source.path)
    except AvatarFileError as error:
        raise InputError(str(error)) from error
    return Scene(avatar, read_track(paths.stage1 / "track.npz", made_by="train_stage1"), f"finished: {source.path.parent.name}")


def checkpoint_scene(paths: SubjectPaths, folder: Path, settings: Settings) -> Scene:
    """The avatar of an unfinished stage 1, in the poses that it started from. Touches nothing in the training's folder."""
    section = settings.chosen.train_stage1
    track = read_track(paths.fit_refined / "track.npz", made_by="refine_fit")
    atlas = UvAtlas.from_arrays(read_npz(paths.uv / "atlas.npz", made_by="bake_uv_maps"))
    look = look_of(section)
    avatar = Avatar(atlas, look, body=track.body, betas=track.betas).requires_grad_(False)
    tensors = load_file(folder / "state.safetensors")
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    state = {name.removeprefix("avatar."): tensor for name, tensor in tensors.items() if name.startswith("avatar.")}
    avatar.load_state_dict(state, strict=False)
    quality = f", {record['history'][-1]['psnr']:.1f} dB" if record["history"] else ""
    return Scene(avatar.train(), track, f"in training: step {record['step']} of {section.training.steps}{quality}")


# --------------------------------------------------------------------------------------------------------- the server


class Viewer:
    """The page: splats, a grid for a floor, and controls."""

    def __init__(self, scene: Scene, *, port: int) -> None:
        self.scene, self.seconds, self.turns = scene, 0.0, {}
        self.stale = True
        self.server = viser.ViserServer(host=HOST, port=port, label="Gaussian avatar", verbose=False)
        self.server.scene.set_up_direction("+y")
        self.server.scene.add_grid("/floor", width=4.0, height=4.0, plane="xz", cell_size=0.25)
        camera = self.server.initial_camera
        camera.position, camera.look_at, camera.up = (0.0, 1.1, 2.6), (0.0, 0.9, 0.0), (0.0, 1.0, 0.0)
        self._add_controls()
        self.splats = self.server.scene.add_gaussian_splats("/avatar", *self._gaussians())

    @property
    def port(self) -> int:
        """Where it listens: the port asked for, or the next free one."""
        return self.server.get_port()

    def show(self, scene: Scene) -> None:
        """Show another avatar with the same controls."""
        self.scene, self.stale = scene, True
        self.caption.content = scene.caption
        self._fit_time()

    def step(self, elapsed: float) -> None:
        """Advance the motion, and send what changed."""
        if self.playing.value:
            motion = self.scene.motion(self.motion.value)
            self.seconds = (self.seconds + elapsed * self.speed.value) % max(motion.num_frames / motion.fps, 1e-6)
            self.time.value = min(self.seconds, self.time.max)
            self.stale = True
        if self.stale:
            self.stale = False
            self.splats.set_gaussians(*self._gaussians())

    def stop(self) -> None:
        """Close the page's server."""
        self.server.stop()

    def _gaussians(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Centres, covariances, colours and opacities as viser wants them."""
        splats = self.scene.splats(self.motion.value, self.seconds, colors=self.colors.value, turns=self.turns)
        covariances = np.eye(3, dtype=np.float32) * (splats.scales**2)[:, None, None]
        return splats.means, covariances, splats.colors.clip(0, 1), splats.opacities[:, None]

    def _add_controls(self) -> None:
        gui = self.server.gui
        self.caption = gui.add_markdown(self.scene.caption)
        self.motion = gui.add_dropdown("motion", (CLIP, STILL, *LIBRARY), initial_value=CLIP)
        self.playing = gui.add_checkbox("play", False)
        self.speed = gui.add_slider("speed", 0.1, 2.0, 0.1, 1.0)
        self.time = gui.add_slider("time, s", 0.0, 1.0, 0.01, 0.0)
        self.colors = gui.add_dropdown("colours", COLORS, initial_value=COLORS[0])
        with gui.add_folder("pose", expand_by_default=False):
            self.joint_names = JOINT_NAMES[self.scene.skeleton.num_joints]
            self.joint = gui.add_dropdown("joint", self.joint_names, initial_value="left_shoulder")
            self.angles = [gui.add_slider(f"{axis}, degrees", -120.0, 120.0, 1.0, 0.0) for axis in "xyz"]
            reset = gui.add_button("back to the motion's own")
        self._fit_time()
        self.motion.on_update(lambda _: self._start_motion())
        self.colors.on_update(lambda _: self._refresh())
        self.time.on_update(lambda event: self._scrub(event.client is not None))
        self.joint.on_update(lambda _: self._show_angles())
        for slider in self.angles:
            slider.on_update(lambda event: self._turn(event.client is not None))
        reset.on_click(lambda _: self._reset())

    def _refresh(self) -> None:
        self.stale = True

    def _fit_time(self) -> None:
        motion = self.scene.motion(self.motion.value)
        self.time.max = max((motion.num_frames - 1) / motion.fps, 0.01)
        self.seconds = min(self.seconds, self.time.max)

    def _start_motion(self) -> None:
        self.seconds = 0.0
        self._fit_time()
        self._refresh()

    def _scrub(self, by_hand: bool) -> None:
        if by_hand:
            self.seconds, self.playing.value, self.stale = self.time.value, False, True

    def _turn(self, by_hand: bool) -> None:
        if by_hand:
            self.turns[self.joint_names.index(self.joint.value)] = np.array([slider.value for slider in self.angles])
            self._refresh()

    def _show_angles(self) -> None:
        for slider, value in zip(self.angles, self.turns.get(self.joint_names.index(self.joint.value), np.zeros(3)), strict=True):
            slider.value = float(value)

    def _reset(self) -> None:
        self.turns.clear()
        self._show_angles()
        self._refresh()


def watch(viewer: Viewer, paths: SubjectPaths, settings: Settings, shown: Source, *, seconds: float | None = None) -> None:
    """Play, and show what training leaves, until Ctrl-C, or for some seconds.

    A file that cannot be read just now (half a training's folder, taken away meanwhile) is looked at again later.
    """
    start = last = time.monotonic()
    looked = start
    while seconds is None or last - start < seconds:
        now = time.monotonic()
        if now - looked > SECONDS_BETWEEN_LOOKS:
            looked = now
            newest = newest_source(paths)
            if newest is not None and newest != shown:
                try:
                    viewer.show(read_scene(paths, newest, settings))
                    shown = newest
                except (InputError, OSError, KeyError, ValueError, RuntimeError) as error:
                    print(f"{newest.path} cannot be shown yet: {error}")
        viewer.step(now - last)
        last = now
        time.sleep(max(0.0, 1 / FRAMES_PER_SECOND - (time.monotonic() - now)))


def open_viewer(name: str, settings: Settings, *, port: int, wait: bool) -> tuple[Viewer, SubjectPaths, Source]:
    """Read what there is and start the page.

    Args:
        wait: for the first checkpoint, where there is nothing yet.

    Raises:
        InputError: no avatar, no checkpoint, and no waiting.
    """
    paths = subject_paths(name)
    source = newest_source(paths)
    while source is None and wait:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        source = newest_source(paths)
    if source is None:
        raise InputError(f"expected an avatar or a training of {name!r} under {paths.work}, found neither; run: make avatar")
    return Viewer(read_scene(paths, source, settings), port=port), paths, source


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.view_avatar", description="Look at an avatar, finished or in training, in a browser.")
    parser.add_argument("--subject", help="name of the avatar; params.yaml's when left out")
    parser.add_argument("--port", type=int, default=PORT, help=f"of the page on {HOST}; the next free one when taken")
    parser.add_argument("--wait", action="store_true", help="wait for the first checkpoint when there is nothing to see yet")
    given = parser.parse_args(arguments)
    settings = load_settings()
    viewer, paths, source = open_viewer(given.subject or settings.subject.name, settings, port=given.port, wait=given.wait)
    print(f"open http://{HOST}:{viewer.port} in a browser; Ctrl-C ends")
    try:
        watch(viewer, paths, settings, source)
    finally:
        viewer.stop()


if __name__ == "__main__":
    run_stage(main, reads_arguments=True)
