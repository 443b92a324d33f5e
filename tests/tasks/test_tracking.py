"""The door to MLflow: what is logged, and that nothing is lost or held up when the store is away."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.settings import TrackingSettings, load_settings
from tasks.tracking import RunRecord, flatten, flatten_settings, log_pending, queue_run

PARAMS = Path(__file__).parents[2] / "params.yaml"


def tracking_at(uri: str, *, enabled: bool = True) -> TrackingSettings:
    return TrackingSettings(enabled=enabled, uri=uri, experiment="avatars")


def record_of(name: str, psnr: float) -> RunRecord:
    return RunRecord(
        name=name,
        params={"preset": "quick", "seed": "0"},
        metrics={"stage1/heldout_frames/psnr": psnr},
        curves={"train_stage1/total": [(0, 1.0), (10, 0.5), (20, 0.25)]},
        tags={"subject": "demo", "commit": "abc", "data_hash": "def"},
        started=1_700_000_000.0,
        ended=1_700_000_300.0,
    )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "sheet.png"
    file.write_bytes(b"not a real picture, but bytes that must arrive")
    return file


@pytest.fixture
def failing_server() -> Iterator[str]:
    """A server that answers every request with status 500."""

    class Failing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_two_runs_can_be_compared_and_their_curves_and_files_are_there(tmp_path: Path, picture: Path) -> None:
    from mlflow.tracking import MlflowClient

    settings = tracking_at(f"sqlite:///{tmp_path}/runs.db")
    pending = tmp_path / "pending"
    for name, psnr in (("first", 27.5), ("second", 29.25)):
        queue_run(pending, record_of(name, psnr), {picture: "pictures"})
    run_ids = log_pending([pending], settings)

    client = MlflowClient(tracking_uri=settings.uri)
    experiment = client.get_experiment_by_name("avatars")
    runs = client.search_runs([experiment.experiment_id], "tags.subject = 'demo'", order_by=["metrics.`stage1/heldout_frames/psnr`"])
    assert [run.data.metrics["stage1/heldout_frames/psnr"] for run in runs] == [27.5, 29.25]
    assert {run.info.run_id for run in runs} == set(run_ids)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert runs[0].data.params == {"preset": "quick", "seed": "0"}
    curve = client.get_metric_history(runs[0].info.run_id, "train_stage1/total")
    assert sorted((point.step, point.value) for point in curve) == [(0, 1.0), (10, 0.5), (20, 0.25)]
    files = client.list_artifacts(runs[0].info.run_id, "pictures")
    assert [(file.path, file.file_size) for file in files] == [("pictures/sheet.png", picture.stat().st_size)]
    assert list(pending.iterdir()) == [], "a logged run must not wait any longer"


def test_logging_a_half_logged_run_again_makes_no_second_run(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    settings = tracking_at(f"sqlite:///{tmp_path}/runs.db")
    pending = tmp_path / "pending"
    queue_run(pending, record_of("only", 28.0), {picture: ""})

    said: list[str] = []
    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_artifact", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        assert log_pending([pending], settings, say=said.append) == []
    assert len(said) == 1 and "disk full" in said[0]

    (run_id,) = log_pending([pending], settings)
    client = MlflowClient(tracking_uri=settings.uri)
    runs = client.search_runs([client.get_experiment_by_name("avatars").experiment_id])
    assert [run.info.run_id for run in runs] == [run_id]
    assert len(client.get_metric_history(run_id, "train_stage1/total")) == 3, "the curve must not be there twice"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("state", ["is down", "answers 500", "never answers"])
def test_a_failing_server_costs_one_line_and_seconds_and_the_run_waits(
    state: str, tmp_path: Path, picture: Path, failing_server: str, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    uri = {"is down": "http://127.0.0.1:9", "answers 500": failing_server, "never answers": silent_server}[state]
    pending = tmp_path / "pending"
    folder = queue_run(pending, record_of("waiting", 28.0), {picture: "pictures"})

    said: list[str] = []
    start = time.monotonic()
    assert log_pending([pending], tracking_at(uri), say=said.append) == []
    assert time.monotonic() - start < 15
    assert len(said) == 1 and "\n" not in said[0]
    assert str(pending) in said[0] and "python -m tasks.tracking" in said[0]
    assert (folder / "run.json").is_file() and (folder / "artifacts/pictures/sheet.png").is_file()

    later = log_pending([pending], tracking_at(f"sqlite:///{tmp_path}/runs.db"), say=said.append)
    assert len(later) == 1 and not folder.exists(), "the next run that succeeds takes the waiting one along"


def test_a_slow_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.tracking.DEADLINE_S", -1.0)
    pending = tmp_path / "pending"
    queue_run(pending, record_of("slow", 28.0), {})
    said: list[str] = []
    assert log_pending([pending], tracking_at(f"sqlite:///{tmp_path}/runs.db"), say=said.append) == []
    assert "too slowly" in said[0]


def test_switched_off_tracking_touches_nothing(tmp_path: Path) -> None:
    pending = tmp_path / "pending"
    folder = queue_run(pending, record_of("kept", 28.0), {})
    assert log_pending([pending], tracking_at(f"sqlite:///{tmp_path}/runs.db", enabled=False)) == []
    assert folder.exists() and not (tmp_path / "runs.db").exists()


def test_settings_become_flat_names_of_the_chosen_preset_only() -> None:
    settings = load_settings(PARAMS)
    flat = flatten_settings(settings)
    assert flat["subject.name"] == settings.subject.name
    assert flat["bake_uv_maps.resolution"] == str(settings.chosen.bake_uv_maps.resolution)
    assert not any(name.startswith("presets") for name in flat)
    assert flatten({"a": {"b": {"c": 1}}, "d": None}, separator="/") == {"a/b/c": 1, "d": None}
