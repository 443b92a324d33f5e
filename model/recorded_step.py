"""The parts of a training step that a GPU repeats from a recording.

A step is a thousand small kernels, and the processor takes longer to start one than the GPU to run it. A CUDA graph holds a
sequence of kernels and starts it as one, if it is the same sequence on tensors of the same shapes each time. That holds from
the parameters to the Gaussians of a step's frames, and from their pictures to the loss; the rasteriser between them works on
what there is to see, and is called as ever.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Nested = Tensor | list["Nested"] | tuple["Nested", ...]


@dataclass(frozen=True)
class Parts:
    """The two parts of a step around the rasteriser: from poses to Gaussians, and from pictures to the loss.

    Both take and give tensors, in lists and tuples.
    """

    figures: Callable[..., Any]
    distance: Callable[..., Any]


def record(parts: Parts, model: nn.Module, figures_of: tuple[Nested, ...], distance_of: tuple[Nested, ...]) -> Parts:
    """Record both parts, and their gradients, as CUDA graphs.

    Args:
        parts: what to record; no shape, no choice and no number on the processor may hang on a tensor's values.
        model: whose parameters `figures` reads; its buffers come out as they were.
        figures_of, distance_of: arguments of the shapes, and with the need for gradients, that all later ones have.

    Returns:
        The same functions of new values in such arguments. Each call overwrites what the last one gave.
    """
    # PyTorch warns of its own recording: parameters' gradients are added up on another stream than they were recorded on
    warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    figures, distance = torch.cuda.make_graphed_callables(
        (_WithParameters(model, parts.figures), parts.distance),
        (_like(figures_of), _like(distance_of)),
        allow_unused_input=True,
    )
    with torch.no_grad():  # recording runs the functions, which moves running statistics
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return Parts(figures, distance)


class _WithParameters(nn.Module):
    """A function, and the module whose parameters it reads: PyTorch looks for these there."""

    def __init__(self, model: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *arguments: Nested) -> Any:
        return self.function(*arguments)


def _like(values: Nested) -> Nested:
    """Leaves of the same values, shapes and need for gradients: the places that a recording reads from."""
    if isinstance(values, Tensor):
        return values.detach().clone(memory_format=torch.contiguous_format).requires_grad_(values.requires_grad)
    return type(values)(_like(value) for value in values)
