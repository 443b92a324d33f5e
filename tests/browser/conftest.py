"""The page of a small run, as the stage builds it, and a browser that shows it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from model.avatar import Avatar
from model.body.body_model import load_body_model
from model.body.track import BodyTrack
from tasks.build_page import main as build_page


def _beside(name: str) -> ModuleType:
    """A module of this folder; tests import each other by file."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


chromium, small_run = _beside("chromium"), _beside("small_run")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> small_run.Run:
    """The run of an avatar with pose shapes."""
    return built(tmp_path_factory.mktemp("run"), lambda avatar, track: small_run.with_folds(avatar, track))


@pytest.fixture(scope="session")
def encoder_run(tmp_path_factory: pytest.TempPathFactory) -> small_run.Run:
    """The run of an avatar with a pose encoder, which a page cannot show."""
    return built(tmp_path_factory.mktemp("encoder_run"), lambda avatar, _: small_run.with_encoder(avatar))


def built(folder: Path, second_stage: Callable[[Avatar, BodyTrack], Avatar]) -> small_run.Run:
    """Write what the stages before leave, and build the page from it."""
    body = load_body_model("open")
    betas = torch.zeros(body.num_betas)
    track = small_run.make_track(body, betas)
    avatar = small_run.make_avatar(body, betas)
    second = second_stage(avatar, track)
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as said:
        small_run.write_run(track, avatar, second)
        build_page()
    return small_run.Run(folder, folder / "results" / small_run.SUBJECT / "avatar.html", said.getvalue(), second, body, track)


@pytest.fixture(scope="package")
def browser() -> Iterator[chromium.Browser]:
    """A browser with software WebGL, for all tests of this folder; it ends before the next folder's, since it goes on drawing."""
    if chromium.find_chromium() is None:
        pytest.skip("no Chromium on this machine")
    with chromium.chromium(*chromium.SOFTWARE_GL) as started:
        yield started


@pytest.fixture(scope="package")
def _open(browser: chromium.Browser, run: small_run.Run) -> chromium.Browser:
    return opened(browser, run, "?play=0")


@pytest.fixture
def page(_open: chromium.Browser) -> chromium.Browser:
    """The browser with the page open, paused at the start of the clip, seen from the front."""
    _open.run(
        "avatarPage.extra.clear(), document.getElementById('turntable').checked && document.getElementById('turntable').click(),"
        "avatarPage.fold(true), avatarPage.choose('clip'), avatarPage.play(false), avatarPage.look('front'), avatarPage.paint('#d5dae0', true)"
    )
    return _open


@pytest.fixture
def fresh_page(_open: chromium.Browser, run: small_run.Run) -> chromium.Browser:
    """The same, just loaded."""
    return opened(_open, run, "?play=0")


def opened(browser: chromium.Browser, run: small_run.Run, query: str) -> chromium.Browser:
    """Open the page and wait until it has started."""
    browser.open(run.page, size=(640, 420), query=query)
    browser.wait_for(f"location.search == '{query}' && document.body?.dataset.state")
    assert browser.run("document.body.dataset.state") == "ready", browser.run("document.getElementById('message').textContent")
    return browser
