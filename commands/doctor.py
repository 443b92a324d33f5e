"""avatar doctor: what is installed, what it can do, and what to do about the rest.

Each check is a small function that looks and never mends. Heavy libraries are found, not loaded, except where only loading
tells.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from commands.project import command
from tasks.errors import InputError

PYTHONS = ((3, 11), (3, 12))
GIGABYTE = 1e9
NEEDED_DISK, TIGHT_DISK = 2.0, 6.0  # GB: one subject's work; the same with caches and runs of several
NEEDED_MEMORY = 4.0  # GB
LOADED = ("numpy", "torch", "cv2", "numba", "scipy", "smplx", "av", "PIL", "safetensors", "ai_edge_litert.interpreter")
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PREFECT_BREAKS_FROM = (0, 151)  # Prefect 3.8.8 beside this FastAPI or a newer one crashes in every flow
SET_UP_AGAIN = "set up again: make venv"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        about: what was looked at.
        state: "ok", "note" (works, could be better) or "bad" (something will fail).
        found: in a few words.
        advice: what to do; empty when nothing.
    """

    about: str
    state: Literal["ok", "note", "bad"]
    found: str
    advice: str = ""


@command
def doctor(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Check the set-up, and say what to do. Ends with status 1 when something will fail.

    Example:

        avatar doctor
    """
    findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        show_findings(findings)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def examine() -> list[Finding]:
    """All checks; one that breaks is a finding itself."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings.extend(check())
        except Exception as error:  # a check must not stop the others
            findings.append(Finding(check.__name__.removeprefix("check_").replace("_", " "), "bad", f"{type(error).__name__}: {error}", "this check itself failed"))
    return findings


def show_findings(findings: list[Finding]) -> None:
    """A table, what needs a hand marked, and a last line that sums up."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("ok", "green"), "note": ("note", "yellow"), "bad": ("BAD", "bold red")}
    table = Table("", "what", "found")
    for finding in findings:
        word, color = marks[finding.state]
        found = Text(finding.found)
        if finding.advice:
            found.append(f"\n-> {finding.advice}", style="italic")
        table.add_row(Text(word, style=color), finding.about, found)
    console = Console()
    console.print(table)
    bad, notes = (sum(finding.state == state for finding in findings) for state in ("bad", "note"))
    console.print(f"{bad} will fail, {notes} could be better" if bad or notes else "all is well", highlight=False)


# ------------------------------------------------------------------------------------------------------- packages


def check_python() -> Iterator[Finding]:
    version = sys.version_info[:2]
    found = f"{sys.version.split()[0]} at {sys.prefix}"
    if version in PYTHONS:
        yield Finding("Python", "ok", found)
    else:
        yield Finding("Python", "bad", found, "Python 3.11 or 3.12 is needed: make PYTHON=python3.11 venv")


def check_packages() -> Iterator[Finding]:
    """Every package of pyproject.toml is there, in the version that constraints.txt names, and loads."""
    wanted = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    pins = read_pins(Path("constraints.txt").read_text(encoding="utf-8"))
    missing, other = [], []
    for requirement in wanted:
        name = re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]
        version = version_of(name)
        if version is None:
            missing.append(name)
        elif name in pins and version.split("+")[0] != pins[name]:
            other.append(f"{name} {version} (tried with {pins[name]})")
    if missing:
        yield Finding("packages", "bad", f"not installed: {', '.join(missing)}", SET_UP_AGAIN)
    else:
        yield Finding("packages", "ok", f"all {len(wanted)} are installed")
    if other:
        yield Finding("versions", "note", ", ".join(other), f"these may work; the ones in constraints.txt do: {SET_UP_AGAIN}")
    broken = [problem for name in LOADED if (problem := load_problem(name))]
    if broken:
        yield Finding("imports", "bad", "; ".join(broken), SET_UP_AGAIN)


def read_pins(text: str) -> dict[str, str]:
    """Package -> the one version that a constraints file allows."""
    return dict(match.groups() for match in re.finditer(r"^([A-Za-z0-9_.-]+)==(\S+)", text, flags=re.MULTILINE))


def load_problem(name: str) -> str | None:
    """Why a module does not load; None where it does."""
    try:
        importlib.import_module(name)
    except Exception as error:  # a damaged package can raise anything
        return f"{name}: {type(error).__name__}: {error}"
    return None


def version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_servers() -> Iterator[Finding]:
    """Prefect and FastAPI, which clash without pip noticing; MLflow and Starlette beside them."""
    prefect, fastapi = version_of("prefect"), version_of("fastapi")
    problem = clash(prefect, fastapi)
    found = f"prefect {prefect}, fastapi {fastapi}, starlette {version_of('starlette')}, mlflow {version_of('mlflow')}"
    yield Finding("servers", "bad" if problem else "ok", found, problem or "")


def clash(prefect: str | None, fastapi: str | None) -> str | None:
    """What to do about two versions that do not work together; None where they do."""
    if prefect is None or fastapi is None:
        return SET_UP_AGAIN
    numbers = tuple(int(part) for part in re.findall(r"\d+", fastapi)[:2])
    if prefect.startswith("3.8.") and numbers >= PREFECT_BREAKS_FROM:
        return 'every flow would crash: pip install "fastapi>=0.139,<0.151"'
    return None


def check_torchvision() -> Iterator[Finding]:
    version = version_of("torchvision")
    torch = version_of("torch") or ""
    if version is not None and "+cpu" in torch and "+cpu" not in version:
        yield Finding("torchvision", "bad", f"{version} beside torch {torch}: it breaks torchmetrics", "pip uninstall torchvision (nothing here needs it)")


# -------------------------------------------------------------------------------------------------------- compute


def check_compute() -> Iterator[Finding]:
    """Processor, memory, GPU, and which rasteriser draws."""
    import torch

    from model.render.rasterize import CUDA_BACKENDS, HOW_TO_INSTALL, choose_device

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = total_memory()
    enough = memory is None or memory >= NEEDED_MEMORY
    found = f"{cores} cores" + ("" if memory is None else f", {memory:.0f} GB of memory")
    yield Finding("computer", "ok" if enough else "note", found, "" if enough else f"{NEEDED_MEMORY:.0f} GB or more are better; lower extract_frames.num_frames")
    built = [name for name in CUDA_BACKENDS if importlib.util.find_spec(name)]
    if not torch.cuda.is_available():
        why = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch sees no GPU"
        hint = "with a GPU: install torch's CUDA build and a rasteriser (see README, More power)" if shutil.which("nvidia-smi") else ""
        yield Finding("GPU", "note" if hint else "ok", f"none: {why}; the CPU rasteriser draws", hint)
        if built:
            yield Finding("CUDA rasterisers", "note", f"installed but of no use without a GPU: {', '.join(built)}")
    else:
        yield Finding("GPU", "ok", torch.cuda.get_device_name(0))
        if built:
            yield Finding("CUDA rasterisers", "ok", f"{', '.join(built)}; render.backend auto draws on {choose_device('auto')}")
        else:
            yield Finding("CUDA rasterisers", "note", "none is installed, so the CPU draws", "; or ".join(HOW_TO_INSTALL[name] for name in CUDA_BACKENDS))


def check_compiler_cache() -> Iterator[Finding]:
    """numba keeps compiled code beside the sources, or where NUMBA_CACHE_DIR says."""
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or Path("model/render"))
    if os.access(folder, os.W_OK):
        yield Finding("compiled code", "ok", f"kept in {folder}")
    else:
        yield Finding("compiled code", "note", f"{folder} cannot be written: half a minute of compiling at each start", "export NUMBA_CACHE_DIR=~/.cache/numba")


def total_memory() -> float | None:
    """GB of memory that this machine has."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE
    except (ValueError, OSError, AttributeError):
        return None


# ----------------------------------------------------------------------------------------- models, weights, settings


def check_settings_file() -> Iterator[Finding]:
    from tasks.datasets.folders import dataset_kind
    from tasks.settings import load_settings

    try:
        settings = load_settings()
    except InputError as error:
        yield Finding("params.yaml", "bad", str(error), "mend the lines named above, or: git checkout params.yaml")
        return
    yield Finding("params.yaml", "ok", f"subject {settings.subject.name}, preset {settings.preset}")
    video = Path(settings.subject.video)
    made = settings.subject.name == "demo"
    there = video.is_file() or dataset_kind(video) is not None
    if there or made:
        yield Finding("video", "ok", str(video) if there else f"{video}, which the stage make_demo films")
    else:
        yield Finding("video", "bad", f"no video and no dataset's folder at {video}", "avatar run path/to/clip.mp4, or avatar run demo")


def check_detector() -> Iterator[Finding]:
    """BlazePose's networks, which come in the mediapipe wheel."""
    names = ("pose_detection/pose_detection.tflite", "pose_landmark/pose_landmark_full.tflite")
    try:
        wheel = importlib.metadata.distribution("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        wheel = None
    missing = [name for name in names if wheel is None or not (Path(str(wheel.locate_file("mediapipe"))) / "modules" / name).is_file()]
    if missing:
        found = "the mediapipe wheel is not installed" if wheel is None else f"mediapipe {wheel.version} carries no {', '.join(missing)}"
        yield Finding("person detector", "bad", found, "pip install --no-deps mediapipe==0.10.14")
    else:
        yield Finding("person detector", "ok", f"BlazePose, from mediapipe {wheel.version}")


def check_body_model() -> Iterator[Finding]:
    from model.body.body_files import BodyFileError
    from model.body.body_model import load_body_model
    from model.body.safe_pickle import UnsafePickleError
    from tasks.settings import load_settings

    body = load_settings().body
    try:
        loaded = load_body_model(body.model, uv_path=body.uv)
        loaded.require_uv()
    except (BodyFileError, UnsafePickleError, OSError) as error:
        yield Finding("body model", "bad", str(error), "mend body.model and body.uv in params.yaml; body.model: open needs no file")
        return
    yield Finding("body model", "ok", f"{loaded.name}: {loaded.num_joints} joints, {loaded.num_betas} shape coefficients, {loaded.num_vertices} vertices")


def check_weights() -> Iterator[Finding]:
    """Weights that make results better and that a user brings: rembg's and AlexNet's."""
    import torch

    from model.lpips import HUB_FILE
    from tasks.segment_person import find_rembg_weights, rembg_home
    from tasks.settings import load_settings

    settings = load_settings().segment_person
    home, name, found = rembg_home(settings), settings.rembg_model, find_rembg_weights(settings)
    if found is not None:
        yield Finding("segmentation", "ok", f"rembg with {found}")
    elif settings.method == "rembg":
        yield Finding("segmentation", "bad", f"segment_person.method is rembg, and {name}.onnx is not in {home}", "put it there, set segment_person.rembg_home, or use method: landmarks")
    else:
        yield Finding("segmentation", "note", f"BlazePose's own masks ({name}.onnx is not in {home})", f"to try rembg: put {name}.onnx there, or set segment_person.rembg_home")
    weights = Path(torch.hub.get_dir()) / "checkpoints" / HUB_FILE
    if weights.is_file():
        yield Finding("LPIPS", "ok", str(weights))
    else:
        yield Finding("LPIPS", "note", "left out of training and figures", f"if you have AlexNet's weights, put {HUB_FILE} into {weights.parent}")


# -------------------------------------------------------------------------------------------------------- the rest


def check_disk() -> Iterator[Finding]:
    for about, folder in (("disk, project", Path.cwd()), ("disk, temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / GIGABYTE
        state = "bad" if free < NEEDED_DISK / 2 else "note" if free < (TIGHT_DISK if about.endswith("project") else NEEDED_DISK) else "ok"
        advice = "" if state == "ok" else f"a subject takes about {NEEDED_DISK:.0f} GB with its caches; make room, e.g. dvc gc --workspace"
        yield Finding(about, state, f"{free:.0f} GB free at {folder}", advice)
    if not os.access(Path.cwd(), os.W_OK):
        yield Finding("project folder", "bad", f"{Path.cwd()} cannot be written", "copy the project to a folder of yours")


def check_pipeline() -> Iterator[Finding]:
    if Path(".dvc").is_dir():
        yield Finding("pipeline", "ok", "DVC is set up here; see: avatar plan")
    else:
        yield Finding("pipeline", "bad", "no .dvc folder here", "clone the project again, or: dvc init --no-scm")


def check_browser() -> Iterator[Finding]:
    """A browser is only needed by the page's own tests; any with WebGL 2 shows the page."""
    found = next((path for name in CHROMIUMS if (path := shutil.which(name))), None)
    if found:
        yield Finding("Chromium", "ok", found)
    else:
        yield Finding("Chromium", "note", "not found: the page's browser tests skip", "only for those tests: apt install chromium; any browser with WebGL 2 shows the page")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python, check_packages, check_servers, check_torchvision, check_compute, check_compiler_cache, check_settings_file,
    check_detector, check_body_model, check_weights, check_disk, check_pipeline, check_browser,
)  # fmt: skip
