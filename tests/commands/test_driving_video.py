"""Another video that drives an avatar: fitted beside the project, which stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from configobj import ConfigObj

from tasks import animate_video
from tasks.errors import InputError
from tasks.settings import load_settings


def test_a_video_is_fitted_as_a_subject_of_its_own_and_the_project_stays_as_it_is(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in animate_video.CODE:
        (here / name).mkdir()
    (here / "Friend.mp4").write_bytes(b"x")
    before = {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()}
    asked: list[tuple[list[str], Path]] = []

    def instead(*arguments: str, folder: Path) -> int:
        asked.append((list(arguments), folder))
        track = folder / "work" / "friend" / "fit" / "track.npz"
        track.parent.mkdir(parents=True)
        track.write_bytes(b"")
        return 0

    monkeypatch.setattr(animate_video, "run_dvc", instead)
    monkeypatch.setattr(animate_video, "cache_folder", lambda project: Path("/somewhere/cache"))
    track = animate_video.fit_video(str(here / "Friend.mp4"), here)
    folder = here / "work" / ".drivers" / "friend"
    assert track == folder / "work" / "friend" / "fit" / "track.npz"
    assert asked == [(["repro", "fit_smpl"], folder)]
    settings = load_settings(folder / "params.yaml")
    assert (settings.subject.name, settings.subject.video) == ("friend", str(here / "Friend.mp4"))
    assert (folder / "dvc.yaml").read_bytes() == before["dvc.yaml"] and "/somewhere/cache" in (folder / ".dvc" / "config").read_text()
    assert (folder / "model").resolve() == here / "model"
    assert {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", ["#1 project", "My Films, 2024", "it's"])
def test_a_place_with_signs_of_its_own_in_the_name_is_told_to_dvc_as_it_is(name: str) -> None:
    text = animate_video.DVC_CONFIG.format(cache=animate_video._quoted(Path("/home") / name / "cache"))
    assert ConfigObj(text.splitlines())["cache"]["dir"] == f"/home/{name}/cache"


OF_THE_CLIP = {
    "focal_px: null": "focal_px: 900.0", "distortion: null": "distortion: [0.1, 0.0, 0.0, 0.0, 0.0]", "subject_box: null": "subject_box: [1.0, 2.0, 3.0, 4.0]",
    "import: null": "import: tracks/own.npz", "height: null": "height: 1.85",
}  # fmt: skip
OF_THE_USER = {"model: open": "model: bodies/smpl.npz", "uv: null": "uv: /bodies/smpl.obj", "rembg_home: null": "rembg_home: weights", "prior: 0.6": "prior: 0.5"}


@pytest.mark.parametrize("same_clip", [False, True])
def test_another_video_is_fitted_without_what_was_set_for_the_avatars_own(here: Path, monkeypatch: pytest.MonkeyPatch, same_clip: bool) -> None:
    (here / "friend.mp4").write_bytes(b"x")
    text = (here / "params.yaml").read_text()
    for usual, own in (OF_THE_CLIP | OF_THE_USER | ({"video: data/demo/clip.mp4": "video: friend.mp4"} if same_clip else {})).items():
        assert usual in text
        text = text.replace(usual, own, 1)
    (here / "params.yaml").write_text(text)
    monkeypatch.setattr(animate_video, "cache_folder", lambda _: here)
    settings = load_settings(animate_video.prepare_folder(here / "friend.mp4", here) / "params.yaml")
    frames, fit = settings.extract_frames, settings.fit_smpl
    known = (frames.focal_px, frames.distortion, frames.subject_box, fit.import_track, fit.height)
    assert known == ((900.0, [0.1, 0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0], str(here / "tracks/own.npz"), 1.85) if same_clip else (None,) * 5)
    assert (settings.body.model, settings.body.uv) == (str(here / "bodies/smpl.npz"), "/bodies/smpl.obj")
    assert settings.segment_person.rembg_home == str(here / "weights") and fit.prior == 0.5


def test_a_video_that_the_stages_refuse_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a.mp4").write_bytes(b"x")
    monkeypatch.setattr(animate_video, "run_dvc", lambda *_, **__: 255)
    with pytest.raises(InputError, match="ended with status 255"):
        animate_video.fit_video(str(here / "a.mp4"), here)
    with pytest.raises(InputError, match="found nothing"):
        animate_video.fit_video(str(here / "none.mp4"), here)
