"""The one door to MLflow: one run for each evaluated avatar, and nothing lost when the server is away.

A run is first written to disk as it will be logged, then logged, then removed from disk. What could not be logged waits and
goes along with the next run, or with:

    python -m tasks.tracking

    work/<subject>/tracking_pending/<time>-<id>/run.json      the record
                                               /artifacts/    copies of its files, in the folders they get in MLflow
                                               /mlflow.json   which MLflow run holds the first part of it, once begun

Every request names its run, and carries the time stamps of the record: logging a record again changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.artifacts import SubjectPaths, write_json
from tasks.errors import run_stage
from tasks.settings import Settings, TrackingSettings, load_settings
from tasks.whole_files import replaced_folder

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Before mlflow is imported, which takes two seconds and is put off until a run is logged. A dead server must not hold up
# an evaluation: one request may take 5 s and is tried twice. Values that the user has set stay.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")

DEADLINE_S = 60.0  # a server that answers, but slowly, is given up after this long
METRICS_A_REQUEST = 1000  # MLflow's own limits for log_batch
ITEMS_A_REQUEST = 100
TEXT_LIMIT = 5000  # characters of one parameter or tag


@dataclass(frozen=True)
class RunRecord:
    """What MLflow keeps of one avatar.

    Attributes:
        name: how the run is called in MLflow's tables.
        params: settings, flat.
        metrics: final figures, flat, finite.
        curves: name -> rows of (step, value): values that changed while training.
        tags: what a user filters by: subject, preset, commit, data hash, ...
        started, ended: seconds since 1970.
    """

    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    curves: dict[str, list[tuple[int, float]]]
    tags: dict[str, str]
    started: float
    ended: float


def pending_folder(paths: SubjectPaths) -> Path:
    """Where the runs of one subject wait to be logged."""
    return paths.work / "tracking_pending"


def flatten(values: Mapping[str, object], *, separator: str, prefix: str = "") -> dict[str, object]:
    """Nested mappings as one flat mapping: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, separator=separator, prefix=f"{name}{separator}")
        else:
            flat[name] = value
    return flat


def flatten_settings(settings: Settings) -> dict[str, str]:
    """The settings that made an avatar, flat; of the presets only the chosen one, under its sections' names."""
    values = settings.model_dump(exclude={"presets", "tracking"}) | settings.chosen.model_dump()
    return {name: "none" if value is None else str(value) for name, value in flatten(values, separator=".").items()}


def queue_run(pending: Path, record: RunRecord, artifacts: Mapping[Path, str]) -> Path:
    """Write a run to disk, whole or not at all, to be logged by `log_pending`.

    Args:
        pending: the folder of waiting runs, see `pending_folder`.
        record: what to log.
        artifacts: file -> the folder that it gets in MLflow ("" for the top). Files are copied: later runs may replace them.

    Returns:
        The new run's own folder.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(record.ended))
    folder = pending / f"{stamp}-{uuid.uuid4().hex[:8]}"
    with replaced_folder(folder) as scratch:
        for file, where in artifacts.items():
            (scratch / "artifacts" / where).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, scratch / "artifacts" / where / file.name)
        write_json(scratch / "run.json", dataclasses.asdict(record))
    return folder


def log_pending(folders: Iterable[Path], settings: TrackingSettings, *, say: Callable[[str], None] = print) -> list[str]:
    """Log every run that waits in `folders`, oldest first, and remove from disk what was logged.

    Never raises for what MLflow does: the first failure is said in one line and leaves its run, and those after it, on disk.

    Returns:
        The MLflow ids of the runs that were logged.
    """
    waiting = sorted((run for folder in folders for run in _waiting_runs(folder)), key=lambda run: run.name)
    logged: list[str] = []
    if not waiting or not settings.enabled:
        return logged
    deadline = time.monotonic() + DEADLINE_S
    try:
        client, experiment_id = _connect(settings)
        for run in waiting:
            logged.append(_log_run(client, experiment_id, run, deadline))
            shutil.rmtree(run)
    except Exception as error:  # whatever a server or a database does, the avatar is made and its figures are on disk
        reason = " ".join(str(error).split())[:200]
        say(
            f"warning: MLflow at {settings.uri} did not take the run ({type(error).__name__}: {reason}); "
            f"{len(waiting) - len(logged)} waiting in {waiting[-1].parent}; to log them: python -m tasks.tracking"
        )
    return logged


def _waiting_runs(folder: Path) -> list[Path]:
    return [run for run in folder.glob("*") if not run.name.startswith(".") and (run / "run.json").is_file()]


def _connect(settings: TrackingSettings) -> tuple[MlflowClient, str]:
    """A client for the store at `settings.uri` and the id of the experiment, made when missing."""
    from mlflow.tracking import MlflowClient  # two seconds; it sets its own logging up, so ours comes after

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=settings.uri)
    experiment = client.get_experiment_by_name(settings.experiment)
    if experiment is not None:
        return client, experiment.experiment_id
    return client, client.create_experiment(settings.experiment, artifact_location=_artifact_location(settings.uri))


def _artifact_location(uri: str) -> str | None:
    """Files go beside a database file, in mlartifacts/; a server knows its own place for them."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()


def _log_run(client: MlflowClient, experiment_id: str, folder: Path, deadline: float) -> str:
    """Log one waiting run, going on with the MLflow run that an earlier attempt began; returns its id."""
    from mlflow.entities import Metric, Param, RunTag

    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    ended_ms = int(record["ended"] * 1000)
    run_id = _begun_run(client, folder, experiment_id)
    if run_id is None:
        begun = client.create_run(experiment_id, start_time=int(record["started"] * 1000), run_name=record["name"])
        run_id = begun.info.run_id
        write_json(folder / "mlflow.json", {"run_id": run_id, "experiment_id": experiment_id})

    metrics = [Metric(key, value, ended_ms, 0) for key, value in record["metrics"].items()]
    metrics += [Metric(key, value, ended_ms, int(step)) for key, rows in record["curves"].items() for step, value in rows]
    params = [Param(key, str(value)[:TEXT_LIMIT]) for key, value in record["params"].items()]
    tags = [RunTag(key, str(value)[:TEXT_LIMIT]) for key, value in record["tags"].items()]
    for chunk in _chunks(tags, ITEMS_A_REQUEST):
        _in_time(deadline)
        client.log_batch(run_id, tags=chunk)
    for chunk in _chunks(params, ITEMS_A_REQUEST):
        _in_time(deadline)
        client.log_batch(run_id, params=chunk)
    for chunk in _chunks(metrics, METRICS_A_REQUEST):
        _in_time(deadline)
        client.log_batch(run_id, metrics=chunk)
    artifacts = folder / "artifacts"
    for file in sorted(path for path in artifacts.rglob("*") if path.is_file()):
        _in_time(deadline)
        where = file.parent.relative_to(artifacts).as_posix()
        client.log_artifact(run_id, str(file), None if where == "." else where)
    client.set_terminated(run_id, "FINISHED", end_time=ended_ms)
    return run_id


def _begun_run(client: MlflowClient, folder: Path, experiment_id: str) -> str | None:
    """The MLflow run that an earlier attempt at this record began in this experiment, if it is still there."""
    note = folder / "mlflow.json"
    if not note.is_file():
        return None
    begun = json.loads(note.read_text(encoding="utf-8"))
    known = client.search_runs([experiment_id], f"attributes.run_id = '{begun['run_id']}'", max_results=1)
    return begun["run_id"] if known else None


def _chunks(items: list, size: int) -> list[list]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _in_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"it answers too slowly, given up after {DEADLINE_S:.0f} s")


def main() -> None:
    """Log everything that waits, of every subject."""
    settings = load_settings()
    folders = sorted(Path("work").glob("*/tracking_pending"))
    waiting = sum(len(_waiting_runs(folder)) for folder in folders)
    if waiting and not settings.tracking.enabled:
        print(f"{waiting} runs waiting, but tracking.enabled is false in params.yaml")
        return
    logged = log_pending(folders, settings.tracking)
    print(f"{len(logged)} of {waiting} waiting runs logged to {settings.tracking.uri}")
    if len(logged) < waiting:
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
