"""The networks of the avatar: feature tensor with smoother, decoder, and pose encoder.

Axes: N surface points, C feature channels, G texels per side of the feature map. A feature map is [C, G, G]; features of
points are [C, N].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as nnf

from model.decoding import EPSILON, mix, normalise


@dataclass(frozen=True)
class NetworkOptions:
    """Sizes and starting values of the stage-1 networks.

    Attributes:
        features: channels C of the feature tensor.
        feature_std: standard deviation that the feature tensor starts with.
        smoother_kernel: side of the three convolutions behind the feature tensor; 0 leaves them out.
        width, layers: the decoder's trunk.
        skip_layer: trunk layer (counted from 1) that sees the input again; 0 for none.
        branch_layers: hidden layers of each of the three branches; 0 reads all outputs from the trunk.
        activation: between the layers, after batch normalisation.
        head_std: standard deviation of the last layers' weights; null keeps PyTorch's own start.
        offset_scale: metres that an output of 1 moves a point.
        color_gain: factor on the colour's logits, so that rare colours are reached sooner.
        texel_residual: whether each point has a free colour of its own beside the decoded one.
        scale_start: the scale that training starts from, in spacings.
        scale_floor, scale_ceiling: bounds of the scale, in spacings.
        decode_at: where the decoder works: at every surface point, or at the texels of the feature map, from whose raw
            outputs the points read bilinearly. There are several points to a texel, and a texel's features are all that
            either way has to go on.
    """

    features: int
    feature_std: float
    smoother_kernel: int
    width: int
    layers: int
    skip_layer: int
    branch_layers: int
    activation: Literal["relu", "softplus"]
    head_std: float | None
    offset_scale: float
    color_gain: float
    texel_residual: bool
    scale_start: float
    scale_floor: float
    scale_ceiling: float
    decode_at: Literal["points", "texels"]


class FeatureTensor(nn.Module):
    """The optimisable appearance of one person, smoothed across the seams of its UV layout."""

    def __init__(self, options: NetworkOptions, map_source: Int[Tensor, "G*G"], cells: Int[Tensor, "M"]) -> None:
        """Args: map_source and cells say, for each texel and each texel inside a chart, what seam padding copies."""
        super().__init__()
        side = math.isqrt(map_source.shape[0])
        self.features = nn.Parameter(torch.randn(1, options.features, side, side) * options.feature_std)
        kernel = options.smoother_kernel
        self.smoother = nn.ModuleList(
            nn.Conv2d(options.features, options.features, kernel, padding=kernel // 2, bias=False) for _ in range(3 if kernel else 0)
        )
        self.register_buffer("padded_from", cells[map_source], persistent=False)

    def forward(self) -> Float[Tensor, "C G G"]:
        """The smoothed feature map; each convolution sees the surface beyond a seam, not the empty map."""
        features = pad_seams(self.features, self.padded_from)
        for convolution in self.smoother:
            features = pad_seams(convolution(features), self.padded_from)
        return features[0]


def pad_seams(maps: Float[Tensor, "B C G G"], padded_from: Int[Tensor, "G*G"]) -> Float[Tensor, "B C G G"]:
    """Copy into each texel the one that padding found for it. Differentiable in the maps."""
    return maps.flatten(2).index_select(2, padded_from).view_as(maps)


class PointNorm(nn.Module):
    """Batch normalisation over the surface points, with running statistics for use after training."""

    def __init__(self, width: int, *, relu: bool) -> None:
        super().__init__()
        self.relu, self.momentum = relu, 0.1
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_variance", torch.ones(width))

    def forward(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        if self.training:
            y, mean, variance = normalise(x, self.weight, self.bias, relu=self.relu)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_variance.lerp_(variance, self.momentum)
            return y
        gain = self.weight / (self.running_variance + EPSILON).sqrt()
        y = torch.addcmul((self.bias - self.running_mean * gain)[:, None], x, gain[:, None])
        return nnf.relu(y) if self.relu else y


class Decoder(nn.Module):
    """The shared MLP: features and uv of a point -> raw offset (3), colour logits (3), raw scale (1).

    Linear layers that are normalised have no bias of their own: the normalisation would take it away.
    """

    OUTPUTS = (3, 3, 1)

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__()
        num_inputs, width = options.features + 2, options.width
        self.skip_layer = options.skip_layer
        widths = [num_inputs] + [width] * (options.layers - 1)
        if self.skip_layer:
            widths[self.skip_layer - 1] += num_inputs
        self.trunk = nn.ModuleList(HiddenLayer(size, width, options.activation) for size in widths)
        branch = [HiddenLayer] * options.branch_layers
        self.branches = nn.ModuleList(
            nn.Sequential(*(layer(width, width, options.activation) for layer in branch)) for _ in self.OUTPUTS
        )
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in self.OUTPUTS)
        if options.head_std is not None:
            for head in self.heads:
                nn.init.normal_(head.weight, std=options.head_std)
                nn.init.zeros_(head.bias)

    def forward(self, features: Float[Tensor, "C N"], uv: Float[Tensor, "N 2"]) -> tuple[Tensor, Tensor, Tensor]:
        """Raw outputs, a row a point; activations and units are the avatar's affair."""
        inputs = torch.cat([features, uv.T])
        hidden = inputs
        for k, layer in enumerate(self.trunk, start=1):
            hidden = layer(torch.cat([hidden, inputs]) if k == self.skip_layer else hidden)
        outputs = [
            torch.addmm(head.bias[:, None], head.weight, branch(hidden)).T
            for head, branch in zip(self.heads, self.branches, strict=True)
        ]
        return outputs[0], outputs[1], outputs[2][:, 0]


class HiddenLayer(nn.Module):
    """Linear, normalised, activated; activations are [C, N]."""

    def __init__(self, num_inputs: int, width: int, activation: str) -> None:
        super().__init__()
        self.weight = nn.Linear(num_inputs, width, bias=False).weight
        self.norm = PointNorm(width, relu=activation == "relu")
        self.softplus = activation == "softplus"

    def forward(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        y = self.norm(mix(self.weight, x))
        return nnf.softplus(y) if self.softplus else y


class PoseEncoder(nn.Module):
    """A U-Net from a root-relative position map to a map of pose features.

    4 x 4 convolutions of stride 2 down and transposed ones up, skip connections, batch normalisation without affine
    parameters. The last layer starts at zero, so an avatar enters stage 2 exactly as it left stage 1.
    """

    def __init__(self, channels: int, *, base_width: int, depth: int) -> None:
        """Args: channels of the features, base_width of the first layer (doubled up to eightfold), depth of the U."""
        super().__init__()
        widths = [base_width * min(2**k, 8) for k in range(depth)]
        self.down = nn.ModuleList(
            nn.Conv2d(3 if k == 0 else widths[k - 1], widths[k], 4, stride=2, padding=1, bias=False) for k in range(depth)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(
                widths[k] * (1 if k == depth - 1 else 2), widths[k - 1] if k else channels, 4, stride=2, padding=1, bias=k == 0
            )
            for k in reversed(range(depth))
        )
        self.norms_down = nn.ModuleList(nn.BatchNorm2d(w, affine=False) for w in widths[1:-1])
        self.norms_up = nn.ModuleList(nn.BatchNorm2d(widths[k - 1], affine=False) for k in reversed(range(1, depth)))
        nn.init.zeros_(self.up[-1].weight)
        nn.init.zeros_(self.up[-1].bias)

    def forward(self, position_maps: Float[Tensor, "B 3 G G"]) -> Float[Tensor, "B C G G"]:
        """Pose features of each map. G must be divisible by 2 ** depth."""
        hidden, skips = position_maps, []
        for k, layer in enumerate(self.down):
            hidden = layer(hidden if k == 0 else nnf.leaky_relu(hidden, 0.2))
            if 0 < k < len(self.down) - 1:
                hidden = self.norms_down[k - 1](hidden)
            skips.append(hidden)
        hidden = skips.pop()
        for k, layer in enumerate(self.up):
            hidden = layer(nnf.relu(hidden))
            if k < len(self.up) - 1:
                hidden = torch.cat([self.norms_up[k](hidden), skips.pop()], dim=1)
        return hidden
