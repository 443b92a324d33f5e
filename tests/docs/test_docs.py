"""What the documentation tells readers to type: every command of its shell blocks is parsed as its program would, none is run
except the quick ones."""

from __future__ import annotations

import argparse
import functools
import re
import shlex
from pathlib import Path

import click
import pytest
import typer
from ruamel.yaml import YAML
from typer.testing import CliRunner

from commands.filming import CAMERAS, MOTIONS
from commands.main import app
from tasks.export_avatar import FORMATS

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "no_truth" not in path.parts)
TEXTS = [*PAGES, PROJECT / "README.md"]
STAGES: dict[str, dict] = YAML(typ="safe", pure=True).load((PROJECT / "dvc.yaml").read_text())["stages"]
SHELL = {"cd", "export", "git", "source"}  # plain shell, nothing of this project's to be wrong about
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class WrongCommand(Exception):
    """A command that a reader could not type."""


def fences(text: str, *kinds: str) -> list[str]:
    """The bodies of a page's fenced blocks of some kinds."""
    return [body for kind, body in FENCE.findall(text) if kind in kinds]


def commands_of(text: str) -> list[list[str]]:
    """Every command of a page's shell blocks, as words."""
    found = []
    for body in fences(text, "bash", "sh", "console"):
        for line in body.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
            lexer.whitespace_split = True
            command: list[str] = []
            for word in [*lexer, ";"]:
                if word and set(word) <= set("&|;"):
                    found += [command] if command else []
                    command = []
                else:
                    command.append(word)
    return found


@functools.cache
def program() -> click.Command:
    return typer.main.get_command(app)


def check_command(words: list[str]) -> None:
    """Raise WrongCommand where a reader who types this gets an error of usage."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    head, rest = words[0], words[1:]
    if head in SHELL:
        return
    checks = {"avatar": check_avatar, "make": check_make, "python": check_python, "dvc": check_dvc, "prefect": check_prefect, "mlflow": check_mlflow}
    if head not in checks:
        raise WrongCommand(f"{head}: a program that this test does not know; add a check of it")
    checks[head](rest)


def check_avatar(words: list[str]) -> None:
    name, *rest = words
    if name not in program().commands:
        raise WrongCommand(f"avatar {name}: no such command")
    try:
        given = program().commands[name].make_context(name, rest).params
    except Exception as error:  # typer may carry its own copy of click's errors
        raise WrongCommand(f"avatar {shlex.join(words)}: {error}") from error
    if given.get("to") is not None and given["to"] not in STAGES:
        raise WrongCommand(f"--to {given['to']}: no such stage")
    motions = given.get("motion") or ()
    for motion in [motions] if isinstance(motions, str) else motions:
        if motion not in MOTIONS and not Path(motion).suffix:
            raise WrongCommand(f"--motion {motion}: neither a motion nor a file")
    if given.get("camera") not in (None, *CAMERAS) and not given["camera"].endswith(".json"):
        raise WrongCommand(f"--camera {given['camera']}: neither a path nor a file")
    for form in given.get("formats") or ():
        if form not in (*FORMATS, "all"):
            raise WrongCommand(f"{form}: no such format")


def check_make(words: list[str]) -> None:
    text = (PROJECT / "Makefile").read_text()
    for word in words:
        name, given, _ = word.partition("=")
        known = re.search(rf"\b{re.escape(name)}\b *\?=|ifdef +{re.escape(name)}\b" if given else rf"^{re.escape(name)}:", text, re.MULTILINE)
        if known is None:
            raise WrongCommand(f"make {word}: the Makefile has none")


def check_python(words: list[str]) -> None:
    if words[0] != "-m":
        raise WrongCommand(f"python {words[0]}: expected -m and a module")
    path = PROJECT / (words[1].replace(".", "/") + ".py")
    if not path.is_file():
        raise WrongCommand(f"python -m {words[1]}: no such module")
    text = path.read_text()
    if '__name__ == "__main__"' not in text:
        raise WrongCommand(f"python -m {words[1]}: does nothing when it is run")
    for option in (word for word in words[2:] if word.startswith("-")):
        if f'"{option}"' not in text:
            raise WrongCommand(f"python -m {words[1]} {option}: no such option")


def check_dvc(words: list[str]) -> None:
    from dvc.cli.parser import get_main_parser

    try:
        given = get_main_parser().parse_args(words)
    except (SystemExit, Exception) as error:
        raise WrongCommand(f"dvc {shlex.join(words)}: {error}") from error
    assert isinstance(given, argparse.Namespace)
    unknown = set(given.targets or ()) - set(STAGES) if words[0] == "repro" else ()
    if unknown:
        raise WrongCommand(f"dvc repro: no stage {', '.join(sorted(unknown))}")


def check_prefect(words: list[str]) -> None:
    if words[:2] == ["server", "start"]:
        return
    text = (PROJECT / "flows/avatar_flow.py").read_text()  # read, for importing Prefect takes seconds
    name, parameters = re.search(r'@flow\(name="(.+?)"\)\ndef \w+\((.*?)\) ->', text).groups()
    deployment = f"{name}/" + re.search(r'serve\(name="(.+?)"', text)[1]
    if words[:3] != ["deployment", "run", deployment]:
        raise WrongCommand(f"prefect {shlex.join(words)}: expected prefect deployment run {deployment}")
    for option, value in zip(words, words[1:], strict=False):
        if option == "--param":
            key, _, target = value.partition("=")
            if f"{key}: " not in parameters or (key == "target" and target not in STAGES):
                raise WrongCommand(f"--param {value}: not of the flow")


def check_mlflow(words: list[str]) -> None:
    if words[0] != "ui":
        raise WrongCommand(f"mlflow {words[0]}: only ui is documented")


# --------------------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_command_of_a_page_can_be_typed(path: Path) -> None:
    for words in commands_of(path.read_text(encoding="utf-8")):
        check_command(list(words))


def test_the_pages_hold_commands_of_every_kind() -> None:
    heads = {words[0] for path in PAGES for words in commands_of(path.read_text(encoding="utf-8"))}
    assert {"avatar", "make", "python", "dvc", "prefect", "mlflow"} <= heads
    shown = {words[1] for path in PAGES for words in commands_of(path.read_text(encoding="utf-8")) if words[0] == "avatar"}
    assert shown == set(program().commands)


@pytest.mark.parametrize(
    "line",
    [
        "avatar fly", "avatar run --too fit_smpl", "avatar run --to fit_simple", "avatar animate", "avatar animate --motion fly", "avatar render --camera moon",
        "avatar export usdz", "avatar view --port high", "make avatars", "make avatar FILM=clip.mp4", "python -m tasks.train", "python -m tasks.scoring",
        "python -m tasks.export_avatar --shape mesh-glb", "dvc repro train_stage3", "dvc rerun", "prefect deployment run avatar-flow",
        "prefect deployment run avatar-flow/local --param stage=fit_smpl", "mlflow iu", "avatr run",
    ],
)  # fmt: skip
def test_a_wrong_command_is_noticed(line: str) -> None:
    with pytest.raises(WrongCommand):
        check_command(line.split())


def test_commands_are_found_between_comments_signs_and_variables() -> None:
    text = "```bash\n# nothing\nNAME=1 avatar doctor && avatar run 'my clip.mp4'   # both\n```\n```yaml\navatar: no\n```\n"
    assert commands_of(text) == [["NAME=1", "avatar", "doctor"], ["avatar", "run", "my clip.mp4"]]


@pytest.mark.parametrize("words", [["motions"], ["export"], ["doctor", "--help"]], ids=" ".join)
def test_the_quick_commands_really_run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    assert CliRunner().invoke(app, words).exit_code == 0


def test_the_camera_file_of_the_docs_is_read(tmp_path: Path) -> None:
    from model.motion.camera_paths import read_camera_path
    from model.motion.library import library_motion
    from model.motion.smpl_arrays import usual_skeleton

    (body,) = fences((DOCS / "how-to/render.md").read_text(), "json")
    motion = library_motion("wave", usual_skeleton())
    path = tmp_path / "path.json"
    path.write_text(body)
    camera = read_camera_path(path, motion, aspect=1.0)
    assert camera.azimuth[0] == pytest.approx(0) and camera.azimuth[-1] == pytest.approx(90)
