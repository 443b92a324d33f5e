"""The options that `avatar animate` and `avatar render` share, and what both do with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from commands.project import chosen_subject, known_subjects, user_path

CAMERAS = ("three-quarter", "front", "left", "right", "back", "turntable", "orbit")
MOTIONS = ("walk", "stroll", "wave", "turn", "squat", "dance", "clip")


def _starts(choices: tuple[str, ...] | list[str], typed: str) -> list[str]:
    return [choice for choice in choices if choice.startswith(typed)]


Subject: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Whose avatar: a subject of work/. Left out: the one that params.yaml names.", autocompletion=lambda incomplete: _starts(known_subjects(), incomplete)),
]
AvatarFile: TypeAlias = Annotated[Path | None, typer.Option("--avatar", help="An avatar.safetensors from anywhere, instead of a subject's.")]
Stage: TypeAlias = Annotated[str | None, typer.Option(help="stage1 or stage2 (cloth follows the pose). Left out: the last that is there.")]
Out: TypeAlias = Annotated[Path | None, typer.Option("--out", "-o", help=".mp4, .gif, .webp, .png (one picture), or a folder for one png a frame. Left out: renders/<subject>/.")]
Camera: TypeAlias = Annotated[
    str, typer.Option(help=f"{', '.join(CAMERAS)}, or a .json file of keys.", autocompletion=lambda incomplete: _starts(CAMERAS, incomplete))
]
Size: TypeAlias = Annotated[str, typer.Option(help="Pixels: 720, or width x height as 1920x1080.")]
Background: TypeAlias = Annotated[str, typer.Option(help="A colour (white, black, grey, green, blue, #rrggbb) or transparent (.png, .webp, folder).")]
Supersampling: TypeAlias = Annotated[int, typer.Option("--supersampling", min=1, max=4, help="Samples along each side of a pixel; 1 is fastest.")]
Fps: TypeAlias = Annotated[float | None, typer.Option(help="Frames per second of the film. Left out: the motion's own, within 30 and 60.")]
Speed: TypeAlias = Annotated[float, typer.Option(help="2 plays the motion in half the time.")]
Start: TypeAlias = Annotated[float, typer.Option(min=0, help="Begin here, seconds into the motion.")]
End: TypeAlias = Annotated[float | None, typer.Option(help="End here, seconds into the motion.")]
SourceFps: TypeAlias = Annotated[float | None, typer.Option(help="Frames per second of the motion file, when it does not tell or tells wrong.")]
Turns: TypeAlias = Annotated[float, typer.Option(help="How often a turntable or an orbit goes round.")]
Follow: TypeAlias = Annotated[bool, typer.Option("--follow", help="The camera keeps the person in the middle.")]
Shadow: TypeAlias = Annotated[bool, typer.Option("--shadow/--no-shadow", help="A soft shadow on the floor under the person.")]
Loops: TypeAlias = Annotated[int, typer.Option(min=1, max=100, help="Play a motion that repeats so many times.")]
RawFeet: TypeAlias = Annotated[bool, typer.Option("--raw-feet", help="Leave feet as the motion has them, sliding and all.")]
InPlace: TypeAlias = Annotated[bool, typer.Option("--as-placed", help="Keep the place and direction that the motion file has, instead of starting in the middle.")]


@dataclass(frozen=True)
class Order:
    """What a user asked to be filmed; the names are those of the options."""

    subject: str | None
    avatar_file: Path | None
    stage: str | None
    motion: str
    out: Path | None
    camera: str
    size: str
    background: str
    supersampling: int
    fps: float | None
    speed: float
    start: float
    end: float | None
    source_fps: float | None
    turns: float
    follow: bool
    loops: int
    raw_feet: bool
    in_place: bool
    shadow: bool
    save_motion: Path | None = None


def film(order: Order, project: Path) -> Path:
    """Find avatar and motion, fit one to the other, render, and return what was written."""
    from model.motion.read import save_motion
    from tasks.animate import MotionChoice, actor_from_file, find_motion, fit_motion, is_video, load_actor, repeated
    from tasks.animate_video import fit_video
    from tasks.artifacts import subject_paths
    from tasks.errors import InputError
    from tasks.render_avatar import Look, render_avatar
    from tasks.settings import load_settings
    from tasks.whole_files import replaced_file

    if order.avatar_file is not None:
        for option, given in (("--subject", order.subject), ("--stage", order.stage)):
            if given is not None:
                raise InputError(f"{option} {given} chooses among this project's avatars, --avatar names a file; leave one of them out")
        actor = actor_from_file(user_path(order.avatar_file), None, name=order.avatar_file.stem)
    else:
        subject = chosen_subject(order.subject)
        actor = load_actor(subject_paths(subject), order.stage, name=subject)
    what = order.motion if order.motion in MOTIONS else str(user_path(order.motion))
    name = Path(order.motion).stem
    if is_video(Path(what)):
        typer.echo(f"fitting a body to {order.motion} first; that takes minutes, and is kept")
        what = str(fit_video(what, project))
    choice = MotionChoice(
        fps=order.fps, speed=order.speed, start=order.start, end=order.end, source_fps=order.source_fps, centre=not order.in_place,
        feet=not order.raw_feet,
    )  # fmt: skip
    motion = repeated(fit_motion(find_motion(what, actor, source_fps=order.source_fps), actor, choice), order.loops).renamed(name)
    width, height = parse_size(order.size)
    look = Look(
        width=width, height=height, supersampling=order.supersampling, background=order.background, turns=order.turns, follow=order.follow, shadow=order.shadow,
        camera=order.camera if order.camera in CAMERAS else str(user_path(order.camera)), backend=load_settings().render.backend,
    )  # fmt: skip
    out = user_path(order.out) if order.out is not None else project / "renders" / actor.name / f"{name}-{Path(order.camera).stem}.mp4"
    out.parent.mkdir(parents=True, exist_ok=True)
    if order.save_motion is not None:
        target = user_path(order.save_motion)
        with replaced_file(target) as scratch:
            save_motion(scratch, motion)
        typer.echo(f"motion: {target}")
    render_avatar(actor, motion, look, out)
    frames = "1 picture" if out.suffix.lower() == ".png" else f"{motion.num_frames} frames"
    length = "" if out.suffix.lower() == ".png" else f", {motion.num_frames / motion.fps:.1f} s"
    typer.echo(f"{out}: {frames} of {width} x {height}{length}")
    return out


def parse_size(text: str) -> tuple[int, int]:
    """Width and height from "720" or "1920x1080".

    Raises:
        InputError: neither.
    """
    from tasks.errors import InputError

    parts = text.lower().replace("×", "x").split("x")
    if len(parts) in (1, 2) and all(part.strip().isdecimal() for part in parts):
        return int(parts[0]), int(parts[-1])
    raise InputError(f"expected a size such as 720 or 1920x1080, came {text!r}")
