"""The pictures of a clip in memory, as training, refitting and the fit's refinement read them.

Axes: F frames, H x W pixels. Pictures are uint8 in memory and 0..1 where they are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

CPU = torch.device("cpu")
CROP_MARGIN_PX = 24  # around the person: room for the SSIM window and for points that stray


@dataclass(frozen=True)
class TrainingFrames:
    """The pictures that an avatar is trained on, ready in memory.

    Attributes:
        rows: rows of the body track that the frames show, ascending.
        images, masks: pictures and soft masks (255 = person).
        position_maps: root-relative position maps of the frames, for stage 2.
    """

    rows: Int[Tensor, "F"]
    images: UInt8[np.ndarray, "F H W 3"]
    masks: UInt8[np.ndarray, "F H W"]
    position_maps: Float[Tensor, "F 3 G G"] | None = None
    _kept: dict[torch.device, tuple[UInt8[Tensor, "F H W 3"], UInt8[Tensor, "F H W"]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def window(self, frame: int, *, margin: int = CROP_MARGIN_PX) -> tuple[int, int, int, int]:
        """x, y, width and height of the person in one frame, with a margin, inside the picture."""
        height, width = self.masks.shape[1:]
        columns, rows = (np.flatnonzero((self.masks[frame] > 127).any(axis)) for axis in (0, 1))
        if not len(columns):
            return 0, 0, width, height
        x0, y0 = max(columns[0] - margin, 0), max(rows[0] - margin, 0)
        return x0, y0, min(columns[-1] + 1 + margin, width) - x0, min(rows[-1] + 1 + margin, height) - y0

    def equal_windows(self) -> list[tuple[int, int, int, int]]:
        """The windows of all frames, grown to one size: that of the widest and the tallest."""
        height, width = self.masks.shape[1:]
        each = [self.window(k) for k in range(len(self.rows))]
        w, h = (max(sizes) for sizes in zip(*((w, h) for _, _, w, h in each), strict=True))
        return [(min(x, width - w), min(y, height - h), w, h) for x, y, _, _ in each]

    def pixels(
        self, frame: int, window: tuple[int, int, int, int] | None = None, *, device: torch.device = CPU
    ) -> tuple[UInt8[Tensor, "H W 3"], UInt8[Tensor, "H W"]]:
        """One frame and its mask, whole or in a window. All frames stay on a device that was asked for once."""
        if device not in self._kept:
            self._kept[device] = tuple(torch.from_numpy(pictures).to(device) for pictures in (self.images, self.masks))
        images, masks = self._kept[device]
        x, y, w, h = (0, 0, self.masks.shape[2], self.masks.shape[1]) if window is None else window
        return images[frame, y : y + h, x : x + w], masks[frame, y : y + h, x : x + w]

    def picture(
        self, frame: int, window: tuple[int, int, int, int] | None = None, *, device: torch.device = CPU
    ) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W"]]:
        """The same, 0..1."""
        image, mask = self.pixels(frame, window, device=device)
        return image.float() / 255, mask.float() / 255
