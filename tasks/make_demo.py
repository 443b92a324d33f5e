"""Stage make_demo: film a generated person whose truth is known.

Writes data/demo/clip.mp4, the input of everything that follows, and data/demo/truth/, which only `evaluate` may read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import Progress

from demo.cameras import cameras_around, clip_view, close_up
from demo.filming import Sensor, cut_out, shadowed_backdrop, write_clip
from demo.lighting import Light
from demo.mesh_renderer import View
from demo.motion import Motion, second_motion
from demo.people import make_light, make_person
from demo.routines import person_motion
from demo.scenery import film_backdrop
from demo.studio import Moment, light_moment, photograph
from demo.subject import Subject, build_subject, hem_swing
from tasks.artifacts import frame_name, subject_paths, timed, write_image
from tasks.errors import run_stage
from tasks.settings import MakeDemoSettings, load_settings
from tasks.truth import TruthMotion, TruthView, write_truth, write_truth_views
from tasks.whole_files import replaced_folder

DEMO = Path("data/demo")
# moments of the clip that the other cameras see, as shares of its length: the turn, arms forward and across, crouch, bend
NOVEL_MOMENTS = (0.05, 0.16, 0.27, 0.38, 0.497, 0.622, 0.786, 0.902)


@dataclass
class Shoot:
    """What is needed to take any picture, and the pictures of known truth taken so far."""

    settings: MakeDemoSettings
    subject: Subject
    light: Light
    clip: Motion
    second: Motion
    view: View
    novel_views: list[TruthView] = field(default_factory=list)
    novel_poses: list[TruthView] = field(default_factory=list)


def main() -> None:
    settings = load_settings()
    with timed(subject_paths(settings.subject.name), "make_demo"), replaced_folder(DEMO) as folder:
        make_demo(settings.make_demo, folder)


def make_demo(settings: MakeDemoSettings, folder: Path) -> None:
    """Make the person, film the clip, and keep the truth."""
    shoot = prepare(settings)
    with Progress() as progress:
        frames = progress.track(film(shoot, folder / "truth" / "masks"), total=len(shoot.clip.transl), description="filming the clip")
        write_clip(folder / "clip.mp4", frames, width=settings.width, height=settings.height, fps=settings.fps, crf=settings.crf)
        rows = np.linspace(0, len(shoot.second.transl) - 1, settings.novel_pose_rows).round().astype(int)
        for row in progress.track(rows, description="second motion"):
            photograph_second_motion(shoot, int(row))
    write_truth(folder / "truth", _truth(shoot.clip), _truth(shoot.second), shoot.view.K, shoot.view.w2c)
    write_truth_views(folder / "truth" / "novel_views", sorted(shoot.novel_views, key=lambda view: view.row))
    write_truth_views(folder / "truth" / "novel_poses", shoot.novel_poses)


def prepare(settings: MakeDemoSettings) -> Shoot:
    """Build the person of the seed, teach them both motions, set the light and the camera."""
    subject = build_subject(make_person(settings.seed), settings.texture)
    frames, second_frames = round(settings.seconds * settings.fps), round(settings.second_seconds * settings.fps)
    return Shoot(
        settings=settings,
        subject=subject,
        light=make_light(settings.seed),
        clip=person_motion(settings.seed, subject.skeleton, frames),
        second=second_motion(subject.skeleton, second_frames, settings.seed),
        view=clip_view(settings.width, settings.height),
    )


def film(shoot: Shoot, masks: Path) -> Iterator[np.ndarray]:
    """Yield the clip's frames as a camera records them; on the way write the true masks and take the other cameras' pictures."""
    settings, subject, light, view = shoot.settings, shoot.subject, shoot.light, shoot.view
    backdrop, sensor = film_backdrop(view, light, settings.seed), Sensor(view.width, view.height, settings.seed)
    swing, frames = hem_swing(shoot.clip, settings.fps), len(shoot.clip.transl)
    novel_rows = {min(frames - 1, int(share * frames)) for share in NOVEL_MOMENTS}
    around = cameras_around(settings.novel_views, settings.novel_size)
    for row in range(frames):
        moment = light_moment(subject, subject.pose(shoot.clip, row, swing), light)
        color, alpha = photograph(subject, moment, light, view)
        write_image(masks / frame_name(row), np.round(alpha * 255).astype(np.uint8))
        if row in novel_rows:
            shoot.novel_views += [_truth_view(shoot, moment, camera, row, name) for name, camera in around.items()]
        behind = shadowed_backdrop(backdrop, moment.lit.shadow, light, moment.sky, moment.directions, moment.centre)
        yield sensor.expose(color + (1 - alpha)[..., None] * behind)


def photograph_second_motion(shoot: Shoot, row: int) -> None:
    """Take the pictures of one row of the second motion: from the clip's camera, from the left and from above."""
    subject, size = shoot.subject, shoot.settings.novel_size
    vertices = subject.pose(shoot.second, row, hem_swing(shoot.second, shoot.settings.fps))
    moment = light_moment(subject, vertices, shoot.light)
    around = cameras_around(6, size)
    cameras = {"clip": shoot.view, "left": around["left"], "front_high": around["front_high"]}
    shoot.novel_poses += [_truth_view(shoot, moment, close_up(camera, vertices, size), row, name) for name, camera in cameras.items()]


def _truth_view(shoot: Shoot, moment: Moment, view: View, row: int, name: str) -> TruthView:
    color, alpha = photograph(shoot.subject, moment, shoot.light, view, samples=3)
    return TruthView(cut_out(color, alpha), view.K, view.w2c, row, name)


def _truth(motion: Motion) -> TruthMotion:
    return TruthMotion(motion.global_orient, motion.body_pose, motion.transl, motion.joints)


if __name__ == "__main__":
    run_stage(main)
