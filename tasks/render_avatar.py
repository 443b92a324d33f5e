"""Render an avatar while it does something: any camera path, any size, to a film or to pictures with alpha.

On demand, no stage of the pipeline. Frames are written one by one, whole, into a folder beside the film; when the work is
interrupted, the same command goes on from them. The folder's name carries a hash of everything that decides the pictures,
so frames of other settings are never mixed in; when the film is there, it goes.

Axes: F frames, H x W pixels. The avatar is decoded once, then posed, with the folds of each pose; only one with a pose encoder
is decoded anew for each pose.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from model.avatar import Attributes, Avatar
from model.camera import Camera
from model.drawing import Drawer
from model.gaussians import Gaussians
from model.motion.camera_paths import PATHS, CameraPath, camera_path, read_camera_path
from model.motion.motion import Motion, MotionError
from model.pose import BodyPose
from model.render.rasterize import rasterize
from tasks.animate import Actor
from tasks.artifacts import frame_name, write_image
from tasks.errors import InputError
from tasks.movie import WITH_ALPHA, check_format, write_movie
from tasks.progress import progress_bar
from tasks.training_run import find_device
from tasks.whole_files import replaced_file

SIZES = (16, 8192)  # px, of a picture's sides
MAX_SUPERSAMPLING = 4
COLORS = {"white": "#ffffff", "black": "#000000", "grey": "#808080", "green": "#00b140", "blue": "#0047bb"}
TRANSPARENT = "transparent"
LEFTOVERS = ".frames-"
SHADOW_POINTS = 3000
SHADOW_DEPTH = 0.020  # opacity of one point of the shadow, near the floor
SHADOW_REACH = 0.35  # m of height after which a point shades a third as much
SHADOW_SOFTNESS = (0.018, 0.09)  # m on the floor, and m per m of height: standard deviation of one point


@dataclass(frozen=True)
class Look:
    """How the pictures are taken.

    Attributes:
        width, height: px.
        supersampling: samples along each side of a pixel.
        background: a colour by name or #rrggbb, or "transparent".
        camera: a path by name, or a .json file of keys.
        turns: how often a turntable or an orbit goes round while the motion plays.
        follow: whether the camera keeps the person in the middle.
        shadow: whether a soft shadow lies on the floor under the person, so that feet are seen to stand.
        backend: see model/render/rasterize.py.
    """

    width: int = 720
    height: int = 720
    supersampling: int = 2
    background: str = "white"
    camera: str = "three-quarter"
    turns: float = 1.0
    follow: bool = False
    shadow: bool = True
    backend: str = "auto"


def render_avatar(actor: Actor, motion: Motion, look: Look, out: Path) -> Path:
    """Render a motion of this avatar's body to `out`, and return it.

    Args:
        motion: fitted to the avatar (tasks.animate.fit_motion).
        out: .mp4, .gif, .webp, .png (the first frame), or a folder for one png a frame.

    Raises:
        InputError: a size, colour, camera or format that is none.
    """
    kind = check_format(out)
    color = background_color(look.background)
    if color is None and kind not in WITH_ALPHA:
        raise InputError(f"{kind} keeps no transparency; choose a colour as background, or write .webp, .png or a folder of pictures")
    check_look(look)
    path = find_camera_path(look, motion)
    count = 1 if kind == ".png" else motion.num_frames
    photographer = Photographer(actor, look, color)
    frames = leftover_folder(out, actor, motion, path, look, count)
    frames.mkdir(parents=True, exist_ok=True)
    files = [frames / frame_name(row) for row in range(count)]
    missing = [row for row in range(count) if not files[row].exists()]
    if len(missing) < count:
        print(f"{count - len(missing)} of {count} frames are there from before")
    with progress_bar(f"rendering {motion.name}", len(missing)) as show:
        for done, row in enumerate(missing, start=1):
            picture = photographer.take(actor.placement.carry(motion, slice(row, row + 1))[0], path.camera(row, look.width, look.height))
            with replaced_file(files[row]) as scratch:
                write_image(scratch, picture)
            show(done)
    write_movie(out, files, fps=motion.fps)
    shutil.rmtree(frames)
    return out


class Photographer:
    """Takes pictures of one avatar; what does not change between them is computed once."""

    def __init__(self, actor: Actor, look: Look, color: Float[np.ndarray, "3"] | None) -> None:
        self.device = find_device(look.backend)
        self.avatar: Avatar = actor.avatar.to(self.device)
        self.placement, self.look, self.color = actor.placement, look, color
        self.drawer = Drawer(self.avatar, backend=look.backend)

    @torch.no_grad()
    def take(self, pose: BodyPose, camera: Camera) -> UInt8[np.ndarray, "H W C"]:
        """One picture: RGB over the background, or RGBA with straight alpha.

        Args:
            pose: in the avatar's world.
            camera: in the motion's world.
        """
        samples = self.look.supersampling
        fine = Camera(camera.K, self.placement.carry_camera(camera.w2c), camera.width, camera.height)
        fine = fine.resize(samples * camera.width, samples * camera.height)
        black = torch.zeros(3, device=self.device)
        drawn = self.drawer.draw(pose, fine, black)
        alpha = drawn.alpha.clamp(0, 1)
        if self.look.shadow:
            shade = rasterize(self.shadow(self.drawer.attributes(pose), pose), fine, black, backend=self.look.backend).alpha
            alpha = alpha + (1 - alpha) * shade.clamp(0, 1)
        layers = torch.cat([drawn.image, alpha[..., None]], dim=-1).clamp(0, 1).cpu().numpy()
        if samples > 1:
            layers = cv2.resize(layers, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
        covered, alpha = layers[..., :3], layers[..., 3:]
        if self.color is not None:
            return _bytes(covered + (1 - alpha) * self.color)
        return _bytes(np.concatenate([np.divide(covered, alpha, out=np.zeros_like(covered), where=alpha > 1e-4), alpha], axis=-1))

    def shadow(self, attributes: Attributes, pose: BodyPose) -> Gaussians:
        """What lies on the floor below the body: its points dropped there, soft, and the fainter the higher they were."""
        count = self.avatar.atlas_points_rest.shape[0]
        step = max(1, count // SHADOW_POINTS)
        lit = self.avatar.gaussians(attributes, self.avatar.joint_transforms(pose))
        points = lit.means[::step]
        up = self.placement.up.to(points)
        height = (points - self.placement.shift.to(points)) @ up
        spread = SHADOW_SOFTNESS[0] + SHADOW_SOFTNESS[1] * height.clamp_min(0)
        opacity = SHADOW_DEPTH * torch.exp(-height.clamp_min(0) / SHADOW_REACH) * SHADOW_POINTS / max(len(points), 1)
        return Gaussians(points - height[:, None] * up, spread, torch.zeros_like(points), opacity.clamp(0, 0.9))


def find_camera_path(look: Look, motion: Motion) -> CameraPath:
    """The camera path that a look names: by name or by file."""
    aspect = look.width / look.height
    try:
        if look.camera not in PATHS and Path(look.camera).suffix == ".json":
            return read_camera_path(Path(look.camera), motion, aspect=aspect, follow=look.follow)
        return camera_path(look.camera, motion, aspect=aspect, turns=look.turns, follow=look.follow)
    except MotionError as error:
        raise InputError(str(error)) from error


def background_color(text: str) -> Float[np.ndarray, "3"] | None:
    """A colour 0..1; None for transparent.

    Raises:
        InputError: neither a known name nor #rrggbb.
    """
    if text == TRANSPARENT:
        return None
    code = COLORS.get(text, text)
    try:
        if len(code) != 7 or code[0] != "#":
            raise ValueError
        return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float32) / 255
    except ValueError:
        raise InputError(f"expected a background {', '.join(COLORS)}, {TRANSPARENT} or #rrggbb, came {text!r}") from None


def check_look(look: Look) -> None:
    """Raise InputError for a size, a number of turns or a supersampling that cannot be rendered."""
    if not all(SIZES[0] <= side <= SIZES[1] for side in (look.width, look.height)):
        raise InputError(f"expected a width and a height within {SIZES[0]} and {SIZES[1]} px, came {look.width} x {look.height}")
    if not math.isfinite(look.turns):
        raise InputError(f"expected a number of turns, came {look.turns}")
    if not 1 <= look.supersampling <= MAX_SUPERSAMPLING:
        raise InputError(f"expected a supersampling of 1 to {MAX_SUPERSAMPLING}, came {look.supersampling}")


def leftover_folder(out: Path, actor: Actor, motion: Motion, path: CameraPath, look: Look, count: int) -> Path:
    """The folder of frames that a film is made from; one for each combination of everything that decides its pictures."""
    seal = hashlib.sha256()
    for tensor in (motion.global_orient, motion.body_pose, motion.transl, actor.placement.turn, actor.placement.shift):
        seal.update(tensor.detach().cpu().numpy().tobytes())
    for array in (path.azimuth, path.elevation, path.distance, path.target, path.field):
        seal.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
    for name, tensor in sorted(actor.avatar.state_dict().items()):
        seal.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    seal.update(json.dumps([asdict(look), count], sort_keys=True).encode())
    return out.parent / f".{out.name}{LEFTOVERS}{seal.hexdigest()[:12]}"


def _bytes(picture: Float[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    return (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)
