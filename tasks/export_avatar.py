"""Take a finished avatar elsewhere: python -m tasks.export_avatar --subject demo --format ply mesh-glb

On demand, no stage of the pipeline: nothing depends on what is written here. docs/exports.md says what each format holds
and how to open it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from model.body.body_model import BodyModel
from model.body.track import BodyTrack
from model.export.appearance import COLORS
from model.motion.library import LIBRARY
from model.motion.motion import Motion
from model.pose import BodyPose, track_pose
from tasks.animate import OWN_MOTION, Actor, MotionChoice, find_motion, fit_motion, load_actor
from tasks.artifacts import read_track, subject_paths
from tasks.body import read_body
from tasks.errors import InputError, run_stage
from tasks.export_formats import FORMATS, Choice, Subject, make_bvh
from tasks.progress import progress_bar
from tasks.settings import load_settings
from tasks.whole_files import replaced_file

STAGES = ("stage1", "stage2")
REST = "rest"


def export(
    subject: str,
    formats: Sequence[str],
    *,
    out: Path | None = None,
    colors: str = "lit",
    pose: str | int = REST,
    stage: str | None = None,
    motions: Sequence[Motion] = (),
    fps: float | None = None,
) -> list[Path]:
    """Write a subject's avatar in some formats.

    Args:
        subject: its name; work/<subject>/ holds the avatar.
        formats: names in FORMATS, or "all".
        out: a folder; or, for one format in one pose, a file. None: exports/<subject>/.
        colors: "lit" as filmed, or "albedo" (splats and mesh; the bundle has both).
        pose: of the splats: "rest", the number of a frame of the clip, a frame of a motion ("walk:12"), or a motion ("walk" or a
            file): one file for each of its frames.
        stage: "stage1", or "stage2" whose splats follow the pose; None: the last that is there.
        motions: for the mesh, the bundle and the .bvh (one file each), beside the clip's own; see model/motion/motion.py.
        fps: frames per second that a motion as `pose` is written at; None: its own, within 30 and 60.

    Returns:
        The files, in the order of the formats.

    Raises:
        InputError: an unknown format, colour, stage, frame or motion; no avatar of that name; nowhere to write.
    """
    names = list(FORMATS) if "all" in formats else list(dict.fromkeys(formats))
    stages = [] if stage is None else [stage]
    for kind, given, known in (("format", names, [*FORMATS, "all"]), ("colours", [colors], COLORS), ("stage", stages, STAGES)):
        for value in given:
            if value not in known:
                raise InputError(f"unknown {kind} {value!r}; expected one of: {', '.join(known)}")
    if not names:
        raise InputError(f"expected at least one format of: {', '.join([*FORMATS, 'all'])}")
    output_paths(subject, names, out)
    loaded, actor = read_subject(subject, Choice(colors, tuple(motions)), stage)
    poses = chosen_poses(actor, pose, fps)
    if len(poses) > 1:
        if out is None:
            out = Path("exports") / subject / motion_and_row(str(pose))[0].stem
        elif out.suffix and not out.is_dir():
            raise InputError(f"{out} is one file, but the motion has {len(poses)} frames; give a folder")
        if out.exists() and not out.is_dir():
            raise InputError(f"expected a folder at {out}, found a file; choose another place with --out")
        out.mkdir(parents=True, exist_ok=True)
    written = []
    with progress_bar(f"exporting {pose}", len(poses)) if len(poses) > 1 else nullcontext(lambda _: None) as show:
        for done, (label, posed) in enumerate(poses, start=1):
            loaded.pose = posed
            wanted = [name for name in names if FORMATS[name].posed or done == 1]
            for name, place in zip(wanted, output_paths(subject, wanted, out, label=label), strict=True):
                for file, data in files_of(loaded, name, place):
                    write_whole(file, data)
                    written.append(file)
            show(done)
    return written


def files_of(loaded: Subject, name: str, place: Path) -> Iterator[tuple[Path, bytes]]:
    """A format's file; of several motions a .bvh each, for it holds one."""
    motions = loaded.choice.motions
    if name != "bvh" or len(motions) < 2:
        yield place, FORMATS[name].make(loaded)
        return
    names = [motion.name for motion in motions]
    for number, name in enumerate(names, start=1):  # 0 is the clip's own
        label = name if names.count(name) == 1 else f"{name}-{number}"
        yield place.with_stem(f"{place.stem}-{label}"), make_bvh(loaded, number)


def write_whole(place: Path, data: bytes) -> None:
    """Write a file, whole or not at all. Raises InputError where there is no room or no right to."""
    try:
        with replaced_file(place) as scratch:
            scratch.write_bytes(data)
    except OSError as error:
        needs = f"it needs {len(data) / 1e6:.1f} MB"
        raise InputError(f"could not write {place} ({error.strerror}); {needs}, choose another place with --out") from error


def chosen_poses(actor: Actor, pose: str | int, fps: float | None) -> list[tuple[str, BodyPose | None]]:
    """The poses that `export` was asked for, in the world of the clip (None: at rest), each with what it adds to the file's name.

    Raises:
        InputError: the clip has no such frame, or there is no such motion.
    """
    if pose == REST:
        return [("", None)]
    if isinstance(pose, int):
        return [(f"-{pose:04d}", track_pose(actor.track, row_of_frame(actor.track, pose)))]
    source, row = motion_and_row(pose)
    if not source.exists() and str(source) not in (*LIBRARY, OWN_MOTION):
        motions = ", ".join([*LIBRARY, OWN_MOTION])
        raise InputError(f"expected the pose to be {REST!r} or the number of a frame, or a motion ({motions} or a file), or its frame (walk:12); came {pose!r}")
    motion = fit_motion(find_motion(str(source), actor), actor, MotionChoice(fps=fps))
    if row is not None and row >= motion.num_frames:
        raise InputError(f"expected a frame of {source}, 0 to {motion.num_frames - 1}, came {row}")
    rows = range(motion.num_frames) if row is None else [row]
    return [(f"-{source.stem}-{r:04d}", actor.placement.carry(motion, slice(r, r + 1))[0]) for r in rows]


def motion_and_row(pose: str) -> tuple[Path, int | None]:
    """"walk:12" as the motion's name or file and its frame; "walk" as all of its frames."""
    source, colon, row = pose.rpartition(":")
    return (Path(source), int(row)) if colon and row.isdecimal() else (Path(pose), None)


def output_paths(subject: str, formats: Sequence[str], out: Path | None, *, label: str = "") -> list[Path]:
    """Where each format goes; `label` follows the subject in the file's name. Raises InputError where one file is named for several formats."""
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
    return [folder / (subject + label + FORMATS[name].ending) for name in formats]


def read_subject(name: str, choice: Choice, stage: str | None) -> tuple[Subject, Actor]:
    """Read an avatar (None: of the last stage that is there) and its track; as what can be written, and as what can act."""
    settings = load_settings()
    paths = subject_paths(name)
    if not paths.work.is_dir():
        known = sorted(path.parent.parent.name for path in Path("work").glob("*/stage1/avatar.safetensors"))
        raise InputError(f"expected an avatar called {name!r} under work/, found: {', '.join(known) or 'none'}; run: make avatar")
    read_track(paths.stage1 / "track.npz", made_by="train_stage1")
    actor = load_actor(paths, stage, name=name)
    avatar = actor.avatar

    def load_body() -> BodyModel:
        body = read_body(settings.body, num_betas=len(avatar.betas))
        if body.name != avatar.body or body.num_betas != len(avatar.betas):
            has, wants = f"{body.name}, {body.num_betas} shape coefficients", f"{avatar.body}, {len(avatar.betas)}"
            raise InputError(f"expected the body that {name} was trained on ({wants}), params.yaml gives {has}; set body.model, or train again")
        return body

    return Subject(name, avatar, actor.track, choice, load_body), actor


def row_of_frame(track: BodyTrack, frame: int) -> int:
    """Which row of a track a frame is. Raises InputError where the clip has no such frame."""
    rows = (track.frame_ids == frame).nonzero()
    if not len(rows):
        raise InputError(f"expected a frame of the clip, {int(track.frame_ids.min())} to {int(track.frame_ids.max())}, came {frame}")
    return int(rows[0, 0])


def pose_argument(text: str) -> str | int:
    """A frame's number, or the word as it is."""
    return int(text) if text.removeprefix("-").isdecimal() else text


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
    parser.add_argument("--pose", type=pose_argument, default=REST, metavar="rest|FRAME|MOTION[:FRAME]", help="of splats: rest, a frame of the clip, a frame of a motion (walk:12), or a motion (walk, or a file): every frame of it")
    parser.add_argument("--stage", metavar="|".join(STAGES), help="stage2: details that follow the pose; the last that is there when left out")
    parser.add_argument("--fps", type=float, help="frames per second of a motion that is written frame by frame")
    given = parser.parse_args(arguments)
    subject = given.subject or load_settings().subject.name
    for path in export(subject, given.format, out=given.out, colors=given.colors, pose=given.pose, stage=given.stage, fps=given.fps):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run_stage(main, reads_arguments=True)
