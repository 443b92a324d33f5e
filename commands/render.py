"""avatar render: the avatar from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands import filming
from commands.filming import MOTIONS, Order, film
from commands.project import command


@command
def render(
    motion: Annotated[
        str,
        typer.Option("--motion", "-m", help=f"What it does meanwhile: {', '.join(MOTIONS)}, or a motion file.", autocompletion=lambda incomplete: [m for m in MOTIONS if m.startswith(incomplete)]),
    ] = "clip",
    subject: filming.Subject = None,
    avatar_file: filming.AvatarFile = None,
    stage: filming.Stage = None,
    out: filming.Out = None,
    camera: filming.Camera = "turntable",
    size: filming.Size = "1080",
    background: filming.Background = "white",
    supersampling: filming.Supersampling = 2,
    fps: filming.Fps = None,
    speed: filming.Speed = 1.0,
    start: filming.Start = 0.0,
    end: filming.End = None,
    source_fps: filming.SourceFps = None,
    turns: filming.Turns = 1.0,
    follow: filming.Follow = False,
    loops: filming.Loops = 1,
    raw_feet: filming.RawFeet = False,
    as_placed: filming.InPlace = False,
    shadow: filming.Shadow = True,
) -> None:
    """See the avatar from anywhere: novel views as film or pictures.

    Interrupted work is kept: the same command goes on from the frames that are there. A camera file is a list of keys, e.g.
    \\[{"time": 0, "azimuth": 0}, {"time": 2, "azimuth": 90, "elevation": 30, "distance": 3}].

    Examples:

        avatar render                                      once around, while it does what the video shows

        avatar render --camera orbit --size 1920x1080 --out film.mp4

        avatar render --motion walk --start 1.2 --camera left --out step.png --background transparent

        avatar render --camera path.json --out frames/    one png a frame
    """
    order = Order(
        subject, avatar_file, stage, motion, out, camera, size, background, supersampling, fps, speed, start, end, source_fps, turns,
        follow, loops, raw_feet, as_placed, shadow,
    )  # fmt: skip
    film(order, Path.cwd())
