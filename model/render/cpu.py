"""The CPU backend: tiles, threads and autograd around the compiled kernels.

Axes: N Gaussians, P (Gaussian, tile) pairs, T tiles, H x W pixels. float32. Results do not depend on the number of
threads, bit for bit. Each picture keeps what its own backward pass needs, so several can be drawn before the first
backward. The first call of a process compiles for some twenty seconds, or loads numba's cache. That cache looks at the
file of a kernel alone: after a change of a constant in another file (splatting.py), remove `__pycache__/*.nb*` here.

Steps: project each Gaussian; list the Gaussians of each tile; sort and composite tile by tile. Backward walks the
tiles again from far to near, leaves one gradient per pair, and sums a Gaussian's pairs in a fixed order.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model.camera import Camera
from model.gaussians import Gaussians, Rendered
from model.render import cpu_binning, cpu_composite, cpu_project
from model.render.cpu_threads import PIECES_PER_THREAD, num_threads, run_pieces, split_range
from model.render.splatting import check_camera, slope_limits


def rasterize_cpu(gaussians: Gaussians, camera: Camera, background: Float[Tensor, "3"]) -> Rendered:
    """Draw Gaussians on the CPU in float32.

    Args:
        gaussians: what to draw, on the CPU; other floating-point types are converted.
        camera: the view. It gets no gradient.
        background: colour behind everything, 0..1.

    Returns:
        Image, alpha and depth (metres times alpha). Differentiable in the Gaussians and the background.
    """
    check_camera(camera)
    inputs = [x.float() for x in (gaussians.means, gaussians.scales, gaussians.colors, gaussians.opacities, background)]
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return Rendered(*_Rasterize.apply(*inputs, camera))
    return Rendered(*Frame(inputs, camera).draw(for_backward=False))


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, scales, colors, opacities, background, camera):
        inputs = (means, scales, colors, opacities, background)
        ctx.frame = Frame(inputs, camera)
        ctx.save_for_backward(*inputs)  # refuses inputs changed in place
        ctx.set_materialize_grads(False)
        return ctx.frame.draw(for_backward=True)

    @staticmethod
    def backward(ctx, grad_image, grad_alpha, grad_depth):
        _ = ctx.saved_tensors
        frame = ctx.frame
        shape = (frame.height, frame.width)
        grads = [
            np.zeros(size, np.float32) if grad is None else grad.contiguous().numpy()
            for grad, size in ((grad_image, (*shape, 3)), (grad_alpha, shape), (grad_depth, shape))
        ]
        return *frame.backward(*grads), None


class Frame:
    """One picture in the making: its inputs, its lists and what its backward pass needs."""

    def __init__(self, inputs: Sequence[Tensor], camera: Camera):
        self.view, self.width, self.height = _view(camera), camera.width, camera.height
        arrays = (x.detach().contiguous().numpy() for x in inputs)
        self.means, self.scales, self.colors, self.opacities, self.background = arrays
        self.tiles_x = -(-self.width // cpu_binning.TILE_WIDTH)
        self.num_tiles = self.tiles_x * -(-self.height // cpu_binning.TILE_HEIGHT)
        self.buffers = _Buffers.take()

    def __del__(self):
        if hasattr(self, "buffers"):
            self.buffers.give_back()

    def draw(self, *, for_backward: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Image, alpha and depth."""
        self.project()
        return self._composite(for_backward)

    def project(self) -> None:
        """Footprints of all Gaussians, and the list of each tile, not sorted yet."""
        n, get = len(self.means), self.buffers.get
        self.records = get("records", (n, cpu_project.RECORD_SIZE), np.float32)
        self.spans = get("spans", (n, 4), np.int32)
        depths = get("depths", (n,), np.float32)
        self.tile_starts = np.empty(self.num_tiles + 1, np.int64)
        ranges = split_range(n, PIECES_PER_THREAD * num_threads())
        counts = np.empty((len(ranges), self.num_tiles), np.int64)
        num_pairs = np.zeros(len(ranges), np.int64)
        inputs = (self.means, self.scales, self.colors, self.opacities, self.view, self.width, self.height)

        def project(part):
            cpu_project.project(*ranges[part], *inputs, self.records, self.spans, depths)
            num_pairs[part] = cpu_binning.count_pairs(*ranges[part], self.spans, self.tiles_x, counts[part])

        run_pieces(project, range(len(ranges)))
        cpu_binning.place_ranges(counts, self.tile_starts)
        slots = np.cumsum(num_pairs) - num_pairs
        self.keys = get("keys", (self.tile_starts[-1],), np.uint32)
        self.pairs = get("pairs", (self.tile_starts[-1],), np.uint64)

        def deal(part):
            arguments = (self.spans, depths.view(np.uint32), self.tiles_x, counts[part], self.keys, self.pairs)
            cpu_binning.deal_pairs(*ranges[part], slots[part], *arguments)

        run_pieces(deal, range(len(ranges)))

    def _composite(self, for_backward: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Sort and draw every tile."""
        shape, num_pairs, get = (self.height, self.width), len(self.pairs), self.buffers.get
        spares = get("spare_keys", (num_pairs,), np.uint32), get("spare_pairs", (num_pairs,), np.uint64)
        outputs = torch.empty(*shape, 3), torch.empty(shape), torch.empty(shape)
        self.drawn = self.transmittance = self.last = None
        if for_backward:
            self.drawn = get("drawn", (num_pairs,), np.bool_)
            self.transmittance = get("transmittance", shape, np.float32)
            self.last = get("last", shape, np.float32)
        arguments = (
            self.tiles_x, self.width, self.height, self.tile_starts, self.pairs, self.drawn, self.records.reshape(-1), self.background,
            *(output.numpy() for output in outputs), self.transmittance, self.last,
        )  # fmt: skip

        def draw(tiles):
            cpu_binning.sort_tiles(tiles, self.tile_starts, self.keys, self.pairs, *spares)
            cpu_composite.composite(tiles, *arguments)

        run_pieces(draw, self._tile_pieces())
        return outputs

    def backward(self, *picture_grads: np.ndarray) -> tuple[Tensor, ...]:
        """From the gradients of image, alpha and depth to those of means, scales, colours, opacities and background."""
        n = len(self.means)
        pair_grads = self.buffers.get("pair_grads", (len(self.pairs), cpu_project.NUM_GRADS), np.float32)
        tile_grad_background = np.empty((self.num_tiles, 3))
        arguments = (
            self.tiles_x, self.width, self.height, self.tile_starts, self.pairs, self.drawn, self.records.reshape(-1), self.background,
            self.transmittance, self.last,
            *picture_grads, pair_grads, tile_grad_background,
        )  # fmt: skip
        run_pieces(lambda tiles: cpu_composite.composite_backward(tiles, *arguments), self._tile_pieces())

        grads = torch.empty(n, 3), torch.empty(n), torch.empty(n, 3), torch.empty(n)
        inputs = (self.means, self.scales, self.view, self.records, self.spans, pair_grads)

        def project_backward(piece):
            cpu_project.project_backward(*piece, *inputs, *(grad.numpy() for grad in grads))

        run_pieces(project_backward, split_range(n, num_threads()))
        return *grads, torch.from_numpy(tile_grad_background.sum(0)).float()

    def _tile_pieces(self) -> list[np.ndarray]:
        """Tiles in groups of similar cost: the longest lists are dealt out first."""
        longest_first = np.argsort(-np.diff(self.tile_starts), kind="stable")
        pieces = min(PIECES_PER_THREAD * num_threads(), self.num_tiles)
        return [np.ascontiguousarray(longest_first[i::pieces]) for i in range(pieces)]


class _Buffers:
    """Arrays that one frame at a time uses and that outlive it, since fresh memory costs page faults."""

    _idle: list[_Buffers] = []
    _lock = threading.Lock()
    MAX_IDLE = 8

    def __init__(self):
        self._arrays: dict[str, np.ndarray] = {}

    @classmethod
    def take(cls) -> _Buffers:
        with cls._lock:
            return cls._idle.pop() if cls._idle else cls()

    def give_back(self) -> None:
        with self._lock:
            if len(self._idle) < self.MAX_IDLE:
                self._idle.append(self)

    def get(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An array of this shape with arbitrary content."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array = self._arrays.get(name)
        if array is None or array.nbytes < size:
            array = self._arrays[name] = np.empty(size + size // 4 + 64, np.uint8)
        return array[:size].view(dtype).reshape(shape)


def _view(camera: Camera) -> Float[np.ndarray, "20"]:
    """The camera as the row of numbers that the kernels read."""
    K, w2c = camera.K.detach().double().cpu().numpy(), camera.w2c.detach().double().cpu().numpy()
    intrinsics = [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    return np.array([*intrinsics, *slope_limits(camera), *w2c[:3, :3].ravel(), *w2c[:3, 3]])
