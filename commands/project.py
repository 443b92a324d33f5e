"""Where the project is, how a command ends, and how the pipeline is started from one."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import typer

from tasks import dvc_run
from tasks.errors import EXIT_INTERRUPTED, InputError, run_stage

LAST_STAGE = "build_page"
HERE = Path.cwd()  # where the user stood when the program started: relative paths mean this


def find_project(start: Path) -> Path:
    """The project's root: the nearest folder upwards that has a pipeline, else the one this code lies in."""
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    return Path(__file__).resolve().parents[1]


def enter_project() -> Path:
    """Go to the project's root, where every path of the pipeline starts."""
    project = find_project(Path.cwd())
    os.chdir(project)
    return project


def command(function: Callable) -> Callable:
    """A command: runs in the project's root, and ends with one clear line and an exit code where its input is at fault."""

    @functools.wraps(function)
    def wrapped(*args: object, **kwargs: object) -> object:
        outcome: list[object] = []

        def main() -> None:
            enter_project()
            outcome.append(function(*args, **kwargs))

        run_stage(main)
        return outcome[0] if outcome else None

    return wrapped


def user_path(text: str | Path) -> Path:
    """A path as the user meant it: relative to where the command was typed, not to the project's root."""
    path = Path(text).expanduser()
    return path if path.is_absolute() else HERE / path


def run_dvc(*arguments: str) -> None:
    """Run DVC in the project's root, on this terminal.

    Raises:
        InputError: a stage failed; its own message stands above.
        typer.Exit: interrupted.
    """
    status = dvc_run.run_dvc(*arguments)
    if status == EXIT_INTERRUPTED:
        raise typer.Exit(EXIT_INTERRUPTED)
    if status:
        raise InputError(f"dvc {' '.join(arguments)} ended with status {status}; the stage's own message stands above. What is wrong with the set-up: avatar doctor")


def known_subjects() -> list[str]:
    """Subjects that have an avatar, for completion."""
    return sorted({path.parent.parent.name for path in find_project(Path.cwd()).glob("work/*/stage*/avatar.safetensors")})


def chosen_subject(subject: str | None) -> str:
    """The subject asked for, else the one that params.yaml names.

    Raises:
        InputError: no name that a subject can have, so that it would lead out of work/.
    """
    from tasks.settings import is_subject_name, load_settings

    if subject is not None and not is_subject_name(subject):
        known = ", ".join(known_subjects()) or "none yet"
        raise InputError(f"expected the name of a subject (small letters, digits, - and _), came {subject!r}; subjects with an avatar: {known}")
    return load_settings().subject.name if subject is None else subject
