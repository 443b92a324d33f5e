"""avatar animate: the avatar does another motion. avatar motions: which ones there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands import filming
from commands.filming import MOTIONS, Order, film
from commands.project import command


@command
def animate(
    motion: Annotated[
        str,
        typer.Option("--motion", "-m", help=f"One of {', '.join(MOTIONS)}; a file (AMASS .npz, AIST++ .pkl, .bvh, track.npz); or another video.", autocompletion=lambda incomplete: [m for m in MOTIONS if m.startswith(incomplete)]),
    ],
    subject: filming.Subject = None,
    avatar_file: filming.AvatarFile = None,
    stage: filming.Stage = None,
    out: filming.Out = None,
    camera: filming.Camera = "three-quarter",
    size: filming.Size = "720",
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
    save_motion: Annotated[Path | None, typer.Option(help="Also keep the motion as the avatar does it, as .npz; --motion reads it back.")] = None,
) -> None:
    """Let the avatar do another motion, and film it.

    The motion is carried to the avatar's proportions: steps grow with the legs, standing feet stay where they stand. A video is
    fitted first, by the pipeline's own stages, as a subject of its own.

    Examples:

        avatar animate --motion walk

        avatar animate --motion dance --camera orbit --out dance.gif --size 400

        avatar animate --motion capture.bvh --follow

        avatar animate --motion friend.mp4               another person's video drives the avatar

        avatar animate --motion wave --background transparent --out wave/    one png a frame
    """
    order = Order(
        subject, avatar_file, stage, motion, out, camera, size, background, supersampling, fps, speed, start, end, source_fps, turns,
        follow, loops, raw_feet, as_placed, shadow, save_motion,
    )  # fmt: skip
    film(order, Path.cwd())


@command
def motions() -> None:
    """List the motions that ship with the project, and the files that --motion reads."""
    from model.motion.library import LIBRARY
    from model.motion.read import KINDS
    from model.motion.smpl_arrays import usual_skeleton

    for name, make in LIBRARY.items():
        made = make(usual_skeleton())
        typer.echo(f"{name:8}{made.seconds:5.1f} s  {make.__doc__.strip().splitlines()[0]}")
    typer.echo(f"{'clip':8}{'':7}  What the person did in the training video.")
    typer.echo(f"\nfiles: {KINDS}\nor another video: its motion is fitted first")
