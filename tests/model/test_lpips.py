"""Claims about LPIPS, on a random backbone: the formula against torch's own layers; no number of it is an LPIPS."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from model.lpips import HUB_FILE, Lpips, channel_weights, load_lpips


@pytest.fixture
def backbone() -> tuple[nn.Sequential, dict[str, torch.Tensor]]:
    """AlexNet's features as torchvision lays them out, with random weights."""
    torch.manual_seed(0)
    relu, pool = nn.ReLU, lambda: nn.MaxPool2d(3, 2)
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), relu(), pool(), nn.Conv2d(64, 192, 5, padding=2), relu(), pool(),
        nn.Conv2d(192, 384, 3, padding=1), relu(), nn.Conv2d(384, 256, 3, padding=1), relu(), nn.Conv2d(256, 256, 3, padding=1), relu(),
    )  # fmt: skip
    return features, {f"features.{name}": t for name, t in features.state_dict().items()}


def test_the_distance_is_the_published_formula(backbone: tuple) -> None:
    features, state = backbone
    image, target = torch.rand(2, 70, 66, 3, generator=torch.Generator().manual_seed(0))
    ours = Lpips(state, channel_weights())(image, target)

    pair = torch.stack([image, target]).permute(0, 3, 1, 2) * 2 - 1
    hidden = (pair - torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    wanted, found = 0.0, []
    for layer in features:
        hidden = layer(hidden)
        if isinstance(layer, nn.ReLU):
            found.append(hidden)
    for activation, weights in zip(found, channel_weights(), strict=True):
        unit = nn.functional.normalize(activation, dim=1, eps=1e-10)
        wanted += (((unit[0] - unit[1]) ** 2) * weights[:, None, None]).sum(0).mean()
    assert float(ours) == pytest.approx(float(wanted), rel=1e-4)  # the guard against division by zero differs


def test_equal_pictures_have_no_distance_and_gradients_flow(backbone: tuple) -> None:
    lpips = Lpips(backbone[1], channel_weights())
    image = torch.rand(64, 64, 3, requires_grad=True)
    assert float(lpips(image.detach(), image.detach())) == 0
    lpips(image, torch.zeros(64, 64, 3)).backward()
    assert image.grad.abs().max() > 0


def test_the_channel_weights_are_those_of_version_0_1() -> None:
    weights = channel_weights()
    assert [len(w) for w in weights] == [64, 192, 384, 256, 256] and all((w >= 0).all() for w in weights)


def test_without_a_backbone_there_is_no_lpips_and_with_one_there_is(backbone: tuple, tmp_path: Path) -> None:
    assert load_lpips(tmp_path / HUB_FILE) is None
    torch.save(backbone[1], tmp_path / HUB_FILE)
    assert load_lpips(tmp_path / HUB_FILE) is not None
