"""What one training step minimises: some frames drawn with the avatar as it is, compared, and what the surface costs by itself.

From parameters and poses to Gaussians, through the rasteriser, and from pictures to the loss. On a GPU the first and the last
of the three are recordings (recorded_step.py), so they take and give tensors alone, of the same shapes in every step.

Axes: B frames of a step, H x W pixels, J joints, G texels per side.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from model.avatar import Attributes, Avatar
from model.camera import Camera
from model.gaussians import Gaussians
from model.light import unevenness
from model.losses import LossWeights, composite, picture_loss, random_background, roughness, surface_loss
from model.lpips import Lpips
from model.pose import BodyPose
from model.recorded_step import Parts, record
from model.render.rasterize import rasterize
from model.training_frames import TrainingFrames

Posed = tuple[Float[Tensor, "B 3"], Float[Tensor, "B J-1 3"], Float[Tensor, "B 3"], Float[Tensor, "B 3 G G"]]  # a pose's parts, position maps
Seen = list[tuple[UInt8[Tensor, "H W 3"], UInt8[Tensor, "H W"], Float[Tensor, ""]]]  # picture, mask and weight of each frame
Drawn = list[tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W"]]]  # colour and coverage


class StepLoss:
    """The loss of some frames of a clip, for the avatar as it is."""

    def __init__(
        self,
        avatar: Avatar,
        frames: TrainingFrames,
        camera: Camera,
        trust: Float[Tensor, "F"],
        weights: LossWeights,
        *,
        crop: bool,
        background: Literal["random", "white"],
        frames_per_step: int,
        lpips: Lpips | None,
        backend: str,
        generator: torch.Generator,
    ) -> None:
        """Args: trust says how much each of the frames counts; backgrounds are drawn from the generator; others as in TrainingOptions."""
        self.avatar, self.frames, self.weights, self.generator = avatar, frames, weights, generator
        self.device, self.background, self.frames_per_step = avatar.device, background, frames_per_step
        self.lpips, self.backend = None if lpips is None else lpips.to(self.device), backend
        self.camera, self.records = camera.to("cpu"), self.device.type == "cuda"
        self.viewer = self.camera.eye.to(self.device)
        self.windows: list[tuple[int, int, int, int] | None] = [frames.window(k) if crop else None for k in range(len(frames.rows))]
        self.trust = trust
        if crop and self.records:  # windows of one size: what they are larger by shows background alone, and must not thin out the rest
            own = torch.tensor([float(w * h) for _, _, w, h in self.windows])
            self.windows = frames.equal_windows()
            self.trust = trust * (self.windows[0][2] * self.windows[0][3] / own)
        self.progress, self.clock = 0.0, torch.zeros((), device=self.device)  # the same number, for the processor and for recordings
        self.forget()

    def forget(self) -> None:
        """Drop what was kept of parameters that have been replaced."""
        self.fixed: Attributes | None = None
        self.recorded: Parts | None = None

    def __call__(self, chosen: Int[Tensor, "B"], poses: BodyPose, *, progress: float) -> tuple[Float[Tensor, ""], Float[Tensor, "B"]]:
        """Draw and compare.

        Args:
            chosen: which of the frames.
            poses: theirs.
            progress: share of the training that is done.

        Returns:
            The loss, differentiable in avatar and poses, and the mean squared error of each picture, as of the whole frame.
        """
        self.progress = progress
        self.clock.fill_(progress)
        backgrounds = self._backgrounds(len(chosen))
        posed, seen = self._posed(chosen, poses), self._seen(chosen)
        parts = self._parts(posed, seen, backgrounds)
        figures, loss = parts.figures(*posed)
        drawn = []
        for frame, figure, background in zip(chosen.tolist(), figures, backgrounds, strict=True):
            window = self.windows[frame]
            camera = self.camera if window is None else self.camera.crop(*window)
            picture = rasterize(Gaussians(*figure), camera, background, backend=self.backend)
            drawn.append((picture.image, picture.alpha))
        distance, errors = parts.distance(drawn, seen, backgrounds)
        return loss + distance, errors.detach()

    # ------------------------------------------------------------------------------------------------------- what goes in

    def _backgrounds(self, count: int) -> Float[Tensor, "B 3"]:
        """Drawn on the CPU, so that chance is the same on every device."""
        each = [random_background(self.generator) if self.background == "random" else torch.ones(3) for _ in range(count)]
        return torch.stack(each).to(self.device, non_blocking=True)

    def _posed(self, chosen: Int[Tensor, "B"], poses: BodyPose) -> Posed:
        """Poses and position maps on the avatar's device; no maps where nothing reads them."""
        maps = torch.zeros(len(chosen), 0) if self.avatar.pose_encoder is None else self.frames.position_maps[chosen]
        parts = poses.global_orient, poses.body_pose, poses.transl, maps
        return tuple(part.to(self.device, non_blocking=True) for part in parts)

    def _seen(self, chosen: Int[Tensor, "B"]) -> Seen:
        weights = self.trust[chosen].to(self.device, non_blocking=True)
        return [(*self.frames.pixels(k, self.windows[k], device=self.device), w) for k, w in zip(chosen.tolist(), weights, strict=True)]

    def _parts(self, posed: Posed, seen: Seen, backgrounds: Float[Tensor, "B 3"]) -> Parts:
        """What there is to do around the rasteriser; recorded on a GPU, for steps of the usual number of frames.

        Steps with the pose encoder or LPIPS are not: neither has been tried in a recording.
        """
        parts = Parts(self._figures, self._distance)
        if not self.records or len(seen) < self.frames_per_step or self.avatar.pose_encoder is not None or self._compares_deeply:
            return parts
        if self.recorded is None:
            drawn = [(image.float().requires_grad_(), mask.float().requires_grad_()) for image, mask, _ in seen]
            self.recorded = record(parts, self.avatar, posed, (drawn, seen, backgrounds))
        return self.recorded

    # ------------------------------------------------------------------------------------------- from poses to Gaussians

    def _figures(
        self, global_orient: Tensor, body_poses: Tensor, transl: Tensor, position_maps: Tensor
    ) -> tuple[list[tuple[Tensor, ...]], Float[Tensor, ""]]:
        """Gaussians of each frame, and what the surface costs by itself."""
        transforms = self.avatar.joint_transforms(BodyPose(global_orient, body_poses, transl))
        attributes, loss = self._attributes(body_poses.detach(), position_maps)
        figures = [self.avatar.gaussians(each, t, seen_from=self.viewer) for each, t in zip(attributes, transforms, strict=True)]
        return [(g.means, g.scales, g.colors, g.opacities) for g in figures], loss

    def _attributes(self, body_poses: Tensor, position_maps: Tensor) -> tuple[list[Attributes], Float[Tensor, ""]]:
        """The look in each frame, decoded as seldom as can be, and what it costs by itself."""
        avatar, count = self.avatar, len(body_poses)
        if avatar.pose_encoder is not None:
            person = avatar.features()
            maps = person + avatar.encode(position_maps)
            attributes = [avatar.decode(each) for each in maps]
            loss = self.weights.pose_feature * (maps - person.detach()).square().mean()
        elif avatar.pose_shapes is not None:
            decoded, shapes = self._decoded(), [avatar.pose_shapes(pose) for pose in body_poses]
            attributes = [avatar.fold(decoded, shape) for shape in shapes]
            loss = self.weights.pose_feature * torch.stack(shapes).square().mean()
        else:
            decoded = self._decoded()
            return [decoded] * count, self._surface_loss(decoded) + self._appearance_loss()
        return attributes, loss + sum(self._surface_loss(each) for each in attributes) / count

    def _decoded(self) -> Attributes:
        """The look without a pose; decoded once where nothing that it comes from moves."""
        avatar = self.avatar
        if any(p.requires_grad for p in (*avatar.decoder.parameters(), *avatar.features.parameters(), avatar.texel_colors)):
            return avatar.attributes()
        if self.fixed is None:
            self.fixed = avatar.attributes()
        return self.fixed

    def _surface_loss(self, attributes: Attributes) -> Float[Tensor, ""]:
        return surface_loss(attributes, self.avatar.atlas_neighbours, self.weights, progress=self.clock)

    def _appearance_loss(self) -> Float[Tensor, ""]:
        """What features, free colours and light cost by themselves."""
        avatar, weights = self.avatar, self.weights
        loss = weights.feature * avatar.features.features.square().mean()
        if avatar.texel_colors.numel() and weights.color_smooth:
            loss = loss + weights.color_smooth * roughness(avatar.texel_colors, avatar.atlas_neighbours)
        if len(avatar.light):
            loss = loss + weights.light * unevenness(avatar.light)
        return loss

    # ---------------------------------------------------------------------------------------- from pictures to the loss

    @property
    def _compares_deeply(self) -> bool:
        """Whether LPIPS takes part by now."""
        return self.lpips is not None and self.progress >= self.weights.lpips_after

    def _distance(self, drawn: Drawn, seen: Seen, backgrounds: Float[Tensor, "B 3"]) -> tuple[Float[Tensor, ""], Float[Tensor, "B"]]:
        """How far drawn pictures and coverages are from the frames, and each one's mean squared error, as of the whole frame."""
        whole, lpips = self.frames.images[0].size, self.lpips if self._compares_deeply else None
        loss, errors = torch.zeros((), device=self.device), []
        for (image, alpha), (picture, mask, weight), background in zip(drawn, seen, backgrounds, strict=True):
            mask = mask.float() / 255
            target = composite(picture.float() / 255, mask, background)
            loss = loss + weight * picture_loss(image, alpha, target, mask, self.weights, lpips=lpips) / len(seen)
            errors.append((image.detach() - target).square().mean().double() * (target.numel() / whole))
        return loss, torch.stack(errors)
