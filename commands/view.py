"""avatar view: the avatar live in a browser, finished or while it is being trained."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.project import chosen_subject, command, known_subjects


@command
def view(
    subject: Annotated[
        str | None,
        typer.Option(help="Whose avatar. Left out: the one that params.yaml names.", autocompletion=lambda incomplete: [s for s in known_subjects() if s.startswith(incomplete)]),
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of the page on this machine; the next free one when taken.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the first checkpoint when there is nothing to see yet.")] = False,
) -> None:
    """Look at the avatar in a browser, with camera, motions and joints to turn; on this machine only. Ctrl-C ends.

    The page that travels and needs no server is results/<subject>/avatar.html.

    Examples:

        avatar view

        avatar view --wait        beside a training that has just begun
    """
    from tasks import view_avatar

    words = ["--subject", chosen_subject(subject)]
    words += [] if port is None else ["--port", str(port)]
    view_avatar.main([*words, "--wait"] if wait else words)
