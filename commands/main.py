"""avatar: one program for what a person does with the project. Try: avatar --help, avatar run --help."""

from __future__ import annotations

import typer

from commands.animate import animate, motions
from commands.compare import compare
from commands.doctor import doctor
from commands.export import export
from commands.plan import plan
from commands.render import render
from commands.run import run
from commands.view import view

EPILOG = """First steps: avatar doctor, then avatar run (the demo) or avatar run clip.mp4, then avatar animate --motion walk.
Tab completion: avatar --install-completion."""

app = typer.Typer(
    name="avatar",
    help="One ordinary video of a person in, a realistic avatar out: make it, look at it, move it, take it elsewhere.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)

app.command("run")(run)
app.command("view")(view)
app.command("animate")(animate)
app.command("motions")(motions)
app.command("render")(render)
app.command("export")(export)
app.command("compare")(compare)
app.command("plan")(plan)
app.command("doctor")(doctor)

if __name__ == "__main__":
    app()
