"""The house rules that can be checked: imports point one way, stages do not import each other, one door for each library."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

PROJECT = Path(__file__).parents[2]
ROOMS = ("commands", "flows", "tasks", "model", "demo", "teaching", "benchmarks")
MAY_IMPORT = {
    "commands": {"commands", "tasks", "model"},
    "flows": {"flows", "tasks", "model"},
    "tasks": {"tasks", "model"},
    "model": {"model"},
    "demo": {"demo", "model"},
    "teaching": {"teaching", "demo", "model"},
    "benchmarks": set(ROOMS),
}
DOORS = {  # library -> the only places that may import it
    "smplx": {"model/body/body_model.py"},
    "ai_edge_litert": {"model/fitting/landmarks.py", "model/fitting/blazepose_networks.py"},
    "mlflow": {"tasks/tracking.py"},
    "prefect": {"flows/avatar_flow.py"},
    "dvc": {"flows/avatar_flow.py"},
    "rembg": {"tasks/segment_person.py"},
    "diff_gaussian_rasterization": {"model/render/cuda.py"},
    "gsplat": {"model/render/cuda.py"},
    "mediapipe": set(),
    "viser": {"tasks/view_avatar.py"},
}


def _imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def _files() -> list[Path]:
    return [path for room in ROOMS for path in sorted((PROJECT / room).rglob("*.py"))]


def _stages() -> list[str]:
    return list(YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text())["stages"])


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_point_one_way_and_through_the_doors(path: Path) -> None:
    place = path.relative_to(PROJECT)
    room = place.parts[0]
    for name in _imports(path):
        head = name.split(".")[0]
        if head in ROOMS:
            allowed = MAY_IMPORT[room] | ({"demo"} if place.as_posix() == "tasks/make_demo.py" else set())
            assert head in allowed, f"{place} imports {name}"
        if head in DOORS and room != "benchmarks":
            assert place.as_posix() in DOORS[head], f"{place} imports {head}; its door is {DOORS[head]}"


@pytest.mark.parametrize("stage", _stages())
def test_a_stage_has_its_file_its_settings_and_imports_no_other_stage(stage: str) -> None:
    path = PROJECT / "tasks" / f"{stage}.py"
    assert path.is_file()
    others = {f"tasks.{other}" for other in _stages() if other != stage}
    assert not others & _imports(path)
    commands = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text())["stages"]
    assert commands[stage]["cmd"] == f"python -m tasks.{stage}"


def test_only_evaluation_is_handed_the_truth() -> None:
    stages = YAML(typ="safe").load((PROJECT / "dvc.yaml").read_text())["stages"]
    readers = [name for name, stage in stages.items() if any("truth" in str(dep) for dep in stage["deps"])]
    assert readers == ["evaluate"]
