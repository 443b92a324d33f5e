"""Pictures of one avatar as it is, one after another: what they share is computed once.

A picture is two hundred small kernels, and the processor takes longer to start one than a GPU to run it. From a pose to the Gaussians
that a view shows they are the same kernels on the same shapes each time, so a GPU replays them from a recording (a CUDA
graph); the rasteriser, whose work hangs on what there is to see, is called as ever.

Axes: J joints.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from model.avatar import Attributes, Avatar
from model.camera import Camera
from model.gaussians import Gaussians, Rendered, without_transparent
from model.pose import BodyPose
from model.render.rasterize import rasterize


class Drawer:
    """Draws one avatar, which must not change meanwhile."""

    def __init__(self, avatar: Avatar, *, backend: str) -> None:
        """Args: backend as in model/render/rasterize.py."""
        self.avatar, self.backend = avatar, backend
        with torch.no_grad():
            self.decoded = avatar.attributes()
        self.last: tuple[Float[Tensor, "J-1 3"], Attributes] | None = None
        self.recorded: RecordedFigure | None = None

    @torch.no_grad()
    def draw(self, pose: BodyPose, camera: Camera, background: Float[Tensor, "3"]) -> Rendered:
        """`Avatar.render` without gradients."""
        if self.avatar.device.type != "cuda" or self.avatar.pose_encoder is not None:  # which has not been tried in a recording
            return self.avatar.render(pose, camera, background, backend=self.backend, attributes=self.attributes(pose))
        if self.recorded is None:
            self.recorded = RecordedFigure(self.avatar, self.decoded)
        return rasterize(without_transparent(self.recorded(pose, camera)), camera, background, backend=self.backend)

    @torch.no_grad()
    def attributes(self, pose: BodyPose) -> Attributes:
        """Those in a pose; the last are kept, for where and which way the body stands does not matter."""
        if self.last is None or not torch.equal(self.last[0], pose.body_pose):
            self.last = pose.body_pose, self.avatar.attributes_in(pose, self.decoded)
        return self.last[1]


class RecordedFigure:
    """`Avatar.figure` of one avatar on a CUDA GPU, replayed."""

    def __init__(self, avatar: Avatar, decoded: Attributes) -> None:
        """Args: decoded without a pose."""
        self.avatar, self.decoded = avatar, decoded
        self.numbers = torch.zeros(3 * (len(avatar.parents) + 1) + 9 + 16, device=avatar.device)  # what the recording reads
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries set themselves up in their first calls, which is not to be recorded
            self._figure()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.figure = self._figure()

    def __call__(self, pose: BodyPose, camera: Camera) -> Gaussians:
        """Each call overwrites what the last one gave."""
        parts = pose.transl, pose.global_orient, pose.body_pose, camera.K, camera.w2c
        numbers = torch.cat([part.detach().to("cpu", torch.float32).flatten() for part in parts])
        self.numbers.copy_(numbers, non_blocking=True)
        self.graph.replay()
        return self.figure

    def _figure(self) -> Gaussians:
        turns = 3 * (len(self.avatar.parents) - 1)
        transl, global_orient, body_pose, K, w2c = self.numbers.split([3, 3, turns, 9, 16])
        pose = BodyPose(global_orient, body_pose.view(-1, 3), transl)
        camera = Camera(K.view(3, 3), w2c.view(4, 4), 0, 0)  # no size, which the Gaussians do not hang on
        return self.avatar.figure(pose, camera, self.avatar.attributes_in(pose, self.decoded))
