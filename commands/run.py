"""avatar run: from a video to an avatar, its report and its page; the same stages as `make avatar`."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.plan import ask_graph
from commands.project import LAST_STAGE, command, run_dvc, user_path


@command
def run(
    video: Annotated[str | None, typer.Argument(help="Your clip, or the word demo. Left out: the subject that params.yaml names.")] = None,
    to: Annotated[str, typer.Option(help="Go up to this stage only, e.g. fit_smpl or train_stage1.")] = LAST_STAGE,
    force: Annotated[bool, typer.Option("--force", help="Run the stage --to again, even if nothing has changed; what it reads is brought up to date first.")] = False,
) -> None:
    """Make the avatar: bring every stage up to date that your video or your settings have changed.

    Ctrl-C is safe; the same command goes on from where it was. See what would run, and how long: [bold]avatar plan[/bold].

    Examples:

        avatar run                     the subject of params.yaml (at first: the demo)

        avatar run holiday.mp4         your own clip

        avatar run demo                back to the demo

        avatar run clip.mp4 --to fit_smpl     only the body fit
    """
    from tasks.artifacts import subject_paths
    from tasks.choose_subject import DEMO, choose_subject
    from tasks.settings import load_settings

    if video is not None:
        subject = choose_subject(video if video == DEMO["name"] or "://" in video else str(user_path(video)))
        typer.echo(f"params.yaml: subject {subject['name']}, video {subject['video']}")
    if force:
        if reads_from := ask_graph(to)[to]:
            run_dvc("repro", *sorted(reads_from))
        run_dvc("repro", "--single-item", "--force", to)
    else:
        run_dvc("repro", to)
    paths = subject_paths(load_settings().subject.name)
    made = {"report": paths.results / "report.html", "numbers": paths.results / "metrics.json", "page": paths.results / "avatar.html"}
    for what, path in made.items():
        if path.exists() and to == LAST_STAGE:
            typer.echo(f"{what + ':':9}{path}")
    typer.echo("next:    avatar view, avatar animate --motion walk, avatar render --camera turntable, avatar export")
