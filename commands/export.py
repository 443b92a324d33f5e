"""avatar export: take the avatar elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.filming import MOTIONS
from commands.project import chosen_subject, command, user_path

FORMATS = ("ply", "ply62", "spz", "splat-glb", "mesh-glb", "bvh", "bundle", "all")


@command
def export(
    formats: Annotated[
        list[str] | None,
        typer.Argument(help="What to write; left out: lists the formats.", autocompletion=lambda incomplete: [f for f in FORMATS if f.startswith(incomplete)]),
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Whose avatar. Left out: the one that params.yaml names.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder, or file when one format is written. Left out: exports/<subject>/.")] = None,
    colors: Annotated[str, typer.Option(help="lit as filmed, or albedo without light.")] = "lit",
    pose: Annotated[str, typer.Option(help="Of splats: rest, a frame of the clip (40), a frame of a motion (walk:12), or a motion (walk, or a file): every frame of it.")] = "rest",
    stage: Annotated[str | None, typer.Option(help="stage1, or stage2 whose details follow the pose. Left out: the last that is there.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second of a motion that is written frame by frame.")] = None,
    motion: Annotated[list[str] | None, typer.Option("--motion", "-m", help="Motions to take along (mesh-glb, bundle, bvh): names or files; may be repeated.")] = None,
) -> None:
    """Write the avatar in formats that other programs open.

    Examples:

        avatar export                   lists the formats

        avatar export mesh-glb bvh      a skinned mesh and its motion, for Blender, Unity, Unreal

        avatar export mesh-glb -m walk -m dance

        avatar export ply --pose 40     splats of one frame, with its folds

        avatar export spz --pose walk --fps 12       one file for each frame of a walk
    """
    from tasks import export_avatar
    from tasks.animate import MotionChoice, find_motion, fit_motion, load_actor
    from tasks.artifacts import subject_paths

    if not formats:
        for name, form in export_avatar.FORMATS.items():
            typer.echo(f"{name:10} {form.what}")
        typer.echo(f"{'all':10} every one of them")
        return
    name = chosen_subject(subject)
    source, row = export_avatar.motion_and_row(pose)
    if source.suffix:  # a motion file, named from where the user stands
        pose = str(user_path(source)) + ("" if row is None else f":{row}")
    motions = []
    if motion:
        actor = load_actor(subject_paths(name), None, name=name)
        for word in motion:
            found = find_motion(word if word in MOTIONS else str(user_path(word)), actor)
            motions.append(fit_motion(found, actor, MotionChoice()))
    written = export_avatar.export(
        name, formats, out=None if out is None else user_path(out), colors=colors, pose=export_avatar.pose_argument(pose), stage=stage, motions=motions,
        fps=fps,
    )
    for path in written:
        typer.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
