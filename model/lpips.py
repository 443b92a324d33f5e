"""LPIPS with AlexNet: a distance between pictures that follows human judgement.

    d(x, y) = sum_l mean_hw  w_l . (f_l(x) - f_l(y))^2          Zhang et al. 2018, version 0.1

f_l are the activations behind AlexNet's five ReLUs, normalised along channels; w_l are the learned weights that ship with
torchmetrics. The ImageNet backbone does not ship with anything: a user's copy is used where there is one
(torch's hub cache, or a path), and LPIPS is left out otherwise. A number from another backbone is no LPIPS.

Axes: H x W pixels, C channels of an activation.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

HUB_FILE = "alexnet-owt-7be5be79.pth"  # torchvision's name for its ImageNet weights
MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of inputs in -1..1
LAYERS = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))


class Lpips(nn.Module):
    """The distance, with a frozen backbone."""

    def __init__(self, backbone: dict[str, Tensor], heads: list[Float[Tensor, "C"]]) -> None:
        """Args: the state dict of torchvision's AlexNet, and the weights of its five layers' channels."""
        super().__init__()
        names = ("0", "3", "6", "8", "10")
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, k, stride=s, padding=p) for a, b, k, s, p in LAYERS)
        for name, layer in zip(names, self.convolutions, strict=True):
            layer.load_state_dict({key: backbone[f"features.{name}.{key}"] for key in ("weight", "bias")})
        for k, weights in enumerate(heads):
            self.register_buffer(f"head{k}", weights.detach()[:, None, None])
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])
        self.requires_grad_(False)

    def forward(self, image: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
        """Distance of two pictures with values in 0..1 (they are scaled to -1..1 here). Differentiable in both."""
        pair = torch.stack([image, target]).permute(0, 3, 1, 2) * 2 - 1
        hidden = (pair - self.mean) / self.std
        distance = pair.new_zeros(())
        for k, layer in enumerate(self.convolutions):
            if k in (1, 2):
                hidden = nn.functional.max_pool2d(hidden, 3, 2)
            hidden = torch.relu(layer(hidden))
            unit = hidden / (hidden.square().sum(1, keepdim=True) + 1e-8).sqrt()
            distance = distance + ((unit[0] - unit[1]).square() * getattr(self, f"head{k}")).sum(0).mean()
        return distance


def load_lpips(backbone: Path | None = None) -> Lpips | None:
    """LPIPS with a user's AlexNet weights, or None where there are none.

    Args:
        backbone: torchvision's AlexNet state dict; None looks into torch's hub cache.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / HUB_FILE if backbone is None else backbone
    if not path.is_file():
        return None
    return Lpips(torch.load(path, map_location="cpu", weights_only=True), channel_weights())


def channel_weights() -> list[Float[Tensor, "C"]]:
    """The five layers' weights, from the files of torchmetrics."""
    folder = Path(importlib.util.find_spec("torchmetrics").origin).parent / "functional/image/lpips_models"
    state = torch.load(folder / "alex.pth", map_location="cpu", weights_only=True)
    return [state[f"lin{k}.model.1.weight"].flatten() for k in range(5)]
