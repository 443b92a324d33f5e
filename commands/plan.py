"""avatar plan: what a run would do, and about how long it takes, from the seconds that earlier runs kept."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from commands.project import LAST_STAGE, command
from tasks.dvc_run import stage_environment
from tasks.errors import InputError

EDGE = re.compile(r'"([^"]+)"\s*->\s*"([^"]+)"')
NODE = re.compile(r'^"([^"]+)";$', re.MULTILINE)


@dataclass(frozen=True)
class PlannedStage:
    """One stage of the plan.

    Attributes:
        name: of the stage.
        why: what has changed; None when it is up to date.
        seconds: about how long it takes; None where no run has told.
        from_subject: whose run told.
    """

    name: str
    why: str | None
    seconds: float | None
    from_subject: str | None


@command
def plan(
    to: Annotated[str, typer.Option(help="Up to this stage.")] = LAST_STAGE,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show which stages a run would do, why, and about how long they take.

    A stage after one that runs is counted as running; DVC may find its result in the cache after all. Times are those of
    earlier runs on this machine, of this subject or else of others.

    Examples:

        avatar plan

        avatar plan --to fit_smpl
    """
    from tasks.settings import load_settings

    subject = load_settings().subject.name
    stages = make_plan(ask_graph(to), ask_status(), read_all_seconds(Path("work")), subject)
    if as_json:
        typer.echo(json.dumps([vars(stage) for stage in stages], indent=2))
        return
    show_plan(stages, subject)


def make_plan(
    graph: dict[str, set[str]], changed: dict[str, str], seconds: dict[str, dict[str, float]], subject: str
) -> list[PlannedStage]:
    """The plan, each stage after what it reads.

    Args:
        graph: stage -> stages that it reads from.
        changed: stage -> what has changed for it.
        seconds: subject -> stage -> how long it took.
    """
    planned: dict[str, PlannedStage] = {}
    for name in in_order(graph):
        why = changed.get(name)
        if why is None:
            behind = sorted(parent for parent in graph[name] if planned[parent].why is not None)
            why = f"after {', '.join(behind)}" if behind else None
        own = seconds.get(subject, {}).get(name)
        others = sorted(times[name] for times in seconds.values() if name in times)
        told = own if own is not None else median(others) if others else None
        source = subject if own is not None else "other subjects" if others else None
        planned[name] = PlannedStage(name, why, told, source)
    return list(planned.values())


def in_order(graph: dict[str, set[str]]) -> list[str]:
    """Stages, each after those that it reads from; equals by name."""
    left, done = {name: set(parents) for name, parents in graph.items()}, []
    while left:
        ready = sorted(name for name, parents in left.items() if parents <= set(done))
        assert ready, "a pipeline has no circles"
        done.append(ready[0])
        del left[ready[0]]
    return done


def show_plan(stages: list[PlannedStage], subject: str) -> None:
    """The plan as a table, and its sum."""
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "what", "about", "why", title=f"plan for {subject}")
    for stage in stages:
        runs = stage.why is not None
        about = "" if not runs else "unknown" if stage.seconds is None else duration(stage.seconds)
        table.add_row(stage.name, "[bold]run[/bold]" if runs else "up to date", about, stage.why or "")
    console = Console()
    console.print(table)
    running = [stage for stage in stages if stage.why is not None]
    if not running:
        console.print("nothing to do: everything is up to date")
        return
    known = sum(stage.seconds for stage in running if stage.seconds is not None)
    unknown = [stage.name for stage in running if stage.seconds is None]
    borrowed = any(stage.from_subject not in (None, subject) for stage in running)
    text = f"{len(running)} stages, about {duration(known)}" + (f" and {', '.join(unknown)}, which no run has timed yet" if unknown else "")
    console.print(text + ("; times of other subjects where this one has none" if borrowed else ""), highlight=False)
    console.print("start it with: avatar run", highlight=False)


def duration(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def read_all_seconds(work: Path) -> dict[str, dict[str, float]]:
    """Subject -> stage -> seconds, of every subject that has been worked on."""
    found: dict[str, dict[str, float]] = {}
    for path in sorted(work.glob("*/seconds/*.json")):
        try:
            seconds = float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
        except (ValueError, KeyError, TypeError, OSError):
            continue  # a time is no input of anything
        found.setdefault(path.parents[1].name, {})[path.stem] = seconds
    return found


def ask_graph(target: str) -> dict[str, set[str]]:
    """Stage -> stages that it reads from, of everything that `target` needs.

    Raises:
        InputError: there is no such stage.
    """
    text = _dvc("dag", "--dot", "--full")
    every: dict[str, set[str]] = {name: set() for name in NODE.findall(text)}
    for source, reader in EDGE.findall(text):
        every.setdefault(source, set())
        every.setdefault(reader, set()).add(source)
    if target not in every:
        raise InputError(f"expected a stage ({', '.join(in_order(every))}), came {target!r}")
    needed, waiting = set(), [target]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(every[name])
    return {name: every[name] for name in sorted(needed)}


def ask_status() -> dict[str, str]:
    """Stage -> what has changed for it, in a few words."""
    status = json.loads(_dvc("status", "--json") or "{}")
    return {name: explain(changes) for name, changes in status.items()}


def explain(changes: list) -> str:
    """What `dvc status` says of one stage, in a few words."""
    words = []
    for change in changes:
        if isinstance(change, str):
            words.append({"changed command": "its command changed", "always changed": "runs always"}.get(change, change))
            continue
        for kind, paths in change.items():
            names = {"changed deps": "changed: ", "changed outs": "missing or changed output: "}.get(kind, f"{kind}: ")
            listed = [_short(path, state) for path, state in paths.items()]
            words.append(names + ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else ""))
    return "; ".join(words) or "changed"


def _short(path: str, state: object) -> str:
    if isinstance(state, dict):  # params.yaml -> {key: modified}
        return ", ".join(sorted(state)[:3]) + (" ..." if len(state) > 3 else "")
    return f"{path} (new)" if state == "new" else path


def _dvc(*arguments: str) -> str:
    """What a DVC command prints."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], env=stage_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"dvc {' '.join(arguments)} failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout
