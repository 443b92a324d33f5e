"""Claims about the films that the outline network learns from, and about teaching it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from demo.people import CAST
from model.fitting.outline_network import CHANNELS, OutlineNetwork, predict_mask
from teaching import films, outlines
from teaching.films import OutlineFilm, make_film
from teaching.outlines import Lesson, disturb, film_lessons, outline_loss, recolour, teach

UNSEEN = 53  # no film of this seed was taught


@pytest.fixture(scope="module")
def film() -> OutlineFilm:
    return make_film(UNSEEN, 4)


def test_a_film_shows_a_person_before_a_place_that_stays(film: OutlineFilm):
    side = film.images.shape[1]
    assert film.images.shape == (4, side, side, 3) and film.alphas.shape == (4, side, side) and side in films.RESOLUTIONS
    assert film.alphas.min() == 0 and film.alphas.max() == 1 and (0.02 < film.alphas.mean(axis=(1, 2))).all()
    difference = np.abs(film.images[0].astype(int) - film.images[-1]).mean(axis=-1)
    empty = film.alphas.max(axis=0) == 0
    assert np.median(difference[empty]) < 10 < difference[(film.alphas[0] == 1) != (film.alphas[-1] == 1)].mean()


def test_the_cast_is_not_taught():
    with pytest.raises(ValueError, match=f"seed {len(CAST) - 1} is of the cast, which judges what is learned; expected {len(CAST)} or more"):
        make_film(len(CAST) - 1, 4)


def test_the_network_halves_the_error_of_weighed_masks_on_a_film_it_never_saw(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outlines, "FRAMES", 6)
    lessons = list(film_lessons(UNSEEN))
    assert len(lessons) == 6
    errors = np.zeros(2)
    for lesson in lessons:
        truth = lesson.truth / 255
        errors += [((mask - truth) ** 2).sum() for mask in (lesson.inputs[-2] / 255, predict_mask(lesson.inputs))]
    assert errors[1] < 0.5 * errors[0]


def squares(count: int = 8, size: int = 40) -> torch.Tensor:
    """Inputs with a known background and a person in the right half."""
    inputs = torch.rand(count, CHANNELS, size, size, generator=torch.Generator().manual_seed(0))
    inputs[:, 6], inputs[:, 11] = 1, 1
    inputs[:, 9:11] = (torch.arange(size) >= size // 2).float()
    return inputs


def test_a_spoilt_background_changes_what_is_known_of_it_and_not_the_picture():
    torch.manual_seed(3)
    inputs = squares(64)
    spoilt = disturb(inputs)
    assert torch.equal(spoilt[:, :3], inputs[:, :3]) and torch.equal(spoilt[:, 9], inputs[:, 9])
    changed = (spoilt[:, 3:6] != inputs[:, 3:6]).any(dim=1).flatten(1)
    assert 0.2 < changed.any(dim=1).float().mean() < 0.9 and changed.float().mean() < 0.35
    gone = spoilt[:, 6].flatten(1).max(dim=1).values == 0
    assert 0 < gone.float().mean() < 0.2 and torch.equal(spoilt[gone, 10], inputs[gone, 9]) and not spoilt[gone, 3:6].any()
    assert (spoilt[~gone, 10] >= inputs[~gone, 10]).all()


def test_colours_change_alike_in_picture_and_background():
    inputs = squares()
    inputs[:, 3:6] = inputs[:, :3]
    changed = recolour(inputs, np.random.default_rng(0))
    assert (changed[:, :3] - inputs[:, :3]).abs().mean() > 0.05
    assert (changed[:, :3] - changed[:, 3:6]).abs().mean() < 0.03
    assert torch.equal(changed[:, 6:], inputs[:, 6:])


def test_teaching_lowers_the_loss_and_goes_on_from_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"SQUARE": 40, "BATCH": 4, "SPOILT": 0.0, "UNKNOWN": 0.0}.items():
        monkeypatch.setattr(outlines, name, value)
    inputs = (255 * squares(2)).byte().numpy()
    inputs[:, 10] = 128  # nothing is known; the coarse mask is right
    for k, told in enumerate(inputs):
        np.savez(tmp_path / f"00010{k}.npz", inputs_0=told, truth_0=told[9])
    taught = teach(tmp_path, 60, torch.device("cpu"))

    def loss(network: OutlineNetwork) -> float:
        told = torch.from_numpy(inputs[1:]).float() / 255
        with torch.no_grad():
            return float(outline_loss(network(told), told[:, 9]))

    assert loss(taught) < 0.3 * loss(OutlineNetwork())
    assert [type(lesson) for lesson in outlines.read_lessons(tmp_path / "000100.npz")] == [Lesson]


def test_weights_are_averaged(tmp_path: Path):
    for k, value in enumerate((1.0, 2.0, 6.0)):
        save_file({"weight": torch.full((2,), value).half()}, tmp_path / f"{k}.safetensors")
    mean = outlines.average([tmp_path / f"{k}.safetensors" for k in range(3)])
    assert mean["weight"].tolist() == [3.0, 3.0] and mean["weight"].dtype == torch.float16
