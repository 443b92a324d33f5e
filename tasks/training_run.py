"""What both training stages share: pictures into memory, progress, checkpoints, and an end that loses nothing.

Axes: F frames, H x W pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from pydantic import BaseModel

from model.avatar import Avatar, AvatarOptions
from model.body.track import BodyTrack
from model.camera import camera_from_focal
from model.checkpoint import clear_checkpoints, load_checkpoint, save_checkpoint
from model.gaussians import Gaussians
from model.lpips import HUB_FILE, Lpips, load_lpips
from model.networks import NetworkOptions
from model.render.rasterize import HOW_TO_INSTALL, Backend, choose_backend, choose_device, rasterize
from model.training import Training, run_training
from model.training_frames import TrainingFrames
from tasks.artifacts import SubjectPaths, read_frame, read_mask
from tasks.errors import InputError, Interrupted
from tasks.options import options_from
from tasks.progress import progress_bar
from tasks.settings import TrainStage1Settings


CHECKPOINT_LAYOUT = 2  # what a checkpoint's tensors are called; a training is not gone on from one of another layout


def load_training_frames(paths: SubjectPaths, track: BodyTrack, frame_ids: Sequence[int]) -> TrainingFrames:
    """Read frames and masks into memory, beside the rows of the track that they show."""
    row_of = {frame: row for row, frame in enumerate(track.frame_ids.tolist())}
    missing = [frame for frame in frame_ids if frame not in row_of]
    if missing:
        raise InputError(f"the body track has no row for frame {missing[0]} ({len(missing)} in all); run: dvc repro fit_smpl")
    if not frame_ids:
        raise InputError("expected at least one frame to work on, found none: every mask is flagged; run: dvc repro segment_person")
    ordered = sorted(frame_ids, key=row_of.get)
    images = np.stack([read_frame(paths, frame) for frame in ordered])
    masks = np.stack([read_mask(paths, frame) for frame in ordered])
    if images.shape[1:3] != (track.height, track.width):
        raise InputError(f"the body track is for {track.width} x {track.height} px, but frames/ has {images.shape[2]} x {images.shape[1]}; run: dvc repro fit_smpl")
    return TrainingFrames(torch.tensor([row_of[frame] for frame in ordered]), images, masks)


def look_of(section: TrainStage1Settings) -> AvatarOptions:
    """What an avatar of stage 1 is made of."""
    return AvatarOptions(options_from(section.network, NetworkOptions), section.light, None, section.cull_margin)


def find_device(backend: Backend) -> torch.device:
    """Where `render.backend` puts the work: on the GPU where the rasteriser draws there, else on the CPU.

    Draws one Gaussian on a GPU, for a package can import and still have no kernels; gsplat compiles its own then.

    Raises:
        InputError: a CUDA backend is asked for that does not work here; the message says what to do.
    """
    try:
        device = choose_device(backend)
    except (ValueError, ImportError) as error:
        raise InputError(f"render.backend: {error}") from error
    if device.type == "cpu":
        if backend == "auto" and torch.cuda.is_available():
            print(f"a GPU is there, but no rasteriser for it, so the CPU works; to use the GPU: {HOW_TO_INSTALL['gsplat']}")
        return device
    name = choose_backend(backend, device)
    print(f"working on {torch.cuda.get_device_name(device)}, drawing with {name} (its first use may compile for minutes)")
    try:
        one = Gaussians(*(torch.ones(shape, device=device) for shape in ((1, 3), (1,), (1, 3), (1,))))
        rasterize(one, camera_from_focal(16.0, 16, 16), torch.zeros(3, device=device), backend=name).image.sum().item()
    except Exception as error:
        raise InputError(
            f"render.backend: {name} imports but cannot draw on this GPU: {type(error).__name__}: {error}\n"
            f"  its package: {HOW_TO_INSTALL[name]}\n  or set render.backend: cpu"
        ) from error
    return device


def find_lpips(weight: float) -> Lpips | None:
    """LPIPS where it is wanted and its backbone is at hand; says so in one line where it is not."""
    if weight == 0:
        return None
    lpips = load_lpips()
    if lpips is None:
        print(f"LPIPS is left out of the loss: {HUB_FILE} is not in torch's hub cache ({torch.hub.get_dir()}/checkpoints)")
    return lpips


def fingerprint(section: BaseModel, frames: TrainingFrames, track: BodyTrack, *more: str, avatar: Avatar | None = None) -> str:
    """What a training depends on, the avatar that it starts from included: a checkpoint of another training must not be gone on from."""
    digest = hashlib.sha256(section.model_dump_json().encode())
    for text in (str(CHECKPOINT_LAYOUT), *more):
        digest.update(text.encode())
    for array in (frames.rows.numpy(), frames.images, frames.masks):
        digest.update(np.ascontiguousarray(array).data)
    for tensor in (track.betas, track.global_orient, track.body_pose, track.transl, track.K, track.w2c, track.confidence, track.joint_confidence, track.row_times):
        digest.update(tensor.numpy().tobytes())
    for name, tensor in sorted(avatar.state_dict().items()) if avatar is not None else ():
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def train_to_the_end(training: Training, folder: Path, key: str, *, name: str, every: int) -> None:
    """Train from the newest checkpoint of the same training, or from the start.

    Args:
        folder: where checkpoints are kept until the training is over and its output written.
        key: fingerprint of settings and inputs.
        name: what the progress bar says.
        every: steps between two checkpoints.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came; a checkpoint is written.
    """
    checkpoint = load_checkpoint(folder)
    if checkpoint is not None and checkpoint.record["fingerprint"] == key:
        training.resume(checkpoint)
        print(f"{name}: going on from step {training.step_number}")
    elif checkpoint is not None:
        print(f"{name}: starting anew, for settings or inputs differ from those of the checkpoint at step {checkpoint.record['step']}")
        clear_checkpoints(folder)

    total = training.options.steps
    with stop_signals() as stopped, progress_bar(name, total) as show:

        def on_step(now: Training) -> None:
            if now.history:
                show(min(round(now.progress * total), total), f"loss {now.history[-1]['loss']:.4f}, {now.history[-1]['psnr']:.1f} dB")
            if now.step_number % every == 0:
                save_checkpoint(folder, now.checkpoint(key))

        if not run_training(training, on_step=on_step, stop_asked=lambda: bool(stopped)):
            save_checkpoint(folder, training.checkpoint(key))
            raise Interrupted(f"{name} stopped at step {training.step_number}, which is kept; run the same command again to go on")


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM instead of dying from them."""
    stopped: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        stopped.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
