"""A small network that decides where the person ends, from the picture, the background behind it and a mask that is nearly right.

What closed formulas ask of a pixel's colour and of its neighbours', a network learns from films whose truth is known
(`teaching/outlines.py`, which made the weights beside this file): what compression, a lens and noise do to an edge, which change of
colour is a shadow, where a sole ends. Knowing the background is what lets so small a one do it (Sengupta et al. 2020; Lin et al. 2021).

Axes: H x W pixels, C input channels. Pictures are RGB; masks are 0..1 with 1 = person.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as nnf

from model.fitting.scene import Background

WEIGHTS = Path(__file__).with_name("outline_network.safetensors")
CHANNELS = 12  # picture, background, its trust, spread and share of shadow, coarse and weighed mask, and which pixels are there
WIDTHS = (16, 32, 48, 64)  # channels at the picture's size and at each half of it
STEP = 2 ** (len(WIDTHS) - 1)  # px, of which sides must be multiples
MOST_SURE = 0.01  # a weighed mask's share is never surer than this where the network starts from it
MOST_SPREAD = 0.25  # standard deviation of the background, 0..1, that counts as 1


class OutlineNetwork(nn.Module):
    """A U-net without normalisation that corrects the log odds of a weighed mask."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (CHANNELS, *WIDTHS)
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip(sizes, sizes[1:]))
        self.up = nn.ModuleList(_twice(a + b, a) for a, b in zip(WIDTHS, WIDTHS[1:]))
        self.last = nn.Conv2d(WIDTHS[0], 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, inputs: Float[Tensor, "B C H W"]) -> Float[Tensor, "B H W"]:
        """Log odds of person; H and W are multiples of STEP."""
        weighed = inputs[:, -2].clamp(MOST_SURE, 1 - MOST_SURE)
        levels = [self.down[0](inputs)]
        for layer in self.down[1:]:
            levels.append(layer(nnf.max_pool2d(levels[-1], 2)))
        found = levels.pop()
        for layer in reversed(self.up):
            larger = nnf.interpolate(found, scale_factor=2, mode="nearest")
            found = layer(torch.cat([levels.pop(), larger], dim=1))
        return torch.logit(weighed) + self.last(found)[:, 0]


def _twice(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(channels_out, channels_out, 3, padding=1), nn.ReLU(inplace=True)
    )  # fmt: skip


def outline_inputs(
    image: UInt8[np.ndarray, "H W 3"], coarse: Float[np.ndarray, "H W"], weighed: Float[np.ndarray, "H W"], background: Background
) -> UInt8[np.ndarray, "C H W"]:
    """What the network is told, in bytes: 255 stands for 1."""
    spread = np.sqrt(background.variance) / MOST_SPREAD
    told = [background.trust, spread, background.shaded, coarse, weighed, np.ones_like(coarse)]
    bytes_of = [np.rint(255 * np.clip(each, 0, 1)).astype(np.uint8) for each in (*np.moveaxis(background.colour, -1, 0), *told)]
    return np.stack([*np.moveaxis(image, -1, 0), *bytes_of])


def predict_mask(inputs: UInt8[np.ndarray, "C H W"]) -> Float32[np.ndarray, "H W"]:
    """The share of person in each pixel, by the weights that come with the project."""
    height, width = inputs.shape[1:]
    padded = nnf.pad(torch.from_numpy(inputs)[None].float() / 255, (0, -width % STEP, 0, -height % STEP))
    network = load_network()
    with torch.inference_mode():
        return torch.sigmoid(network(padded))[0, :height, :width].numpy()


@cache
def load_network() -> OutlineNetwork:
    """The network with the weights that come with the project; loaded once."""
    network = OutlineNetwork()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False)
