"""One file that holds a trained avatar: safetensors for the numbers, JSON in its header for the rest.

The file stands alone: it has the surface points, the networks and the options that built them, so it loads without the
settings it was trained with. Loading runs no code from the file.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from model.avatar import Avatar, AvatarOptions, PoseEncoderOptions
from model.networks import NetworkOptions
from model.pose_shapes import PoseShapeOptions, choose_keys
from model.uv.atlas import UvAtlas

FORMAT, VERSION, READS = "gaussian-avatar", 5, (1, 2, 3, 4, 5)  # 1 had no pose shapes, 2 decoded at every point, 3 had one fade, 4 no lamp and no pixel size
FADE_BEFORE_4 = math.exp(-4.5)
LIGHT_BEFORE_5 = ("none", "linear", "quadratic")  # by the degree that stood there


class AvatarFileError(ValueError):
    """The file holds no avatar that this version reads."""


def save_avatar(path: Path, avatar: Avatar) -> None:
    """Write a trained avatar, of either stage."""
    record = {"format": FORMAT, "version": VERSION, "body": avatar.body, "options": dataclasses.asdict(avatar.options)}
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in avatar.state_dict().items()}
    path.write_bytes(save(tensors, metadata={"avatar": json.dumps(record)}))


def load_avatar(path: Path) -> Avatar:
    """Read an avatar onto the CPU, ready to be rendered.

    Raises:
        AvatarFileError: the file is no avatar, of another version, or its parts do not fit together.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            record = json.loads((file.metadata() or {}).get("avatar", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:
        raise AvatarFileError(f"expected an avatar file at {path}, but it does not open as safetensors: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT or record.get("version") not in READS:
        came = f"format {record.get('format')!r}, version {record.get('version')!r}" if isinstance(record, dict) else type(record).__name__
        raise AvatarFileError(f"expected {path} to be a {FORMAT} file of version {', '.join(map(str, READS))}, came {came}; train it again")
    try:
        return _built(record, tensors)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else error
        raise AvatarFileError(f"{path} is a {FORMAT} file whose parts do not fit together ({what}); copy it again from its source, or train it again") from error


def _built(record: dict, tensors: dict[str, Tensor]) -> Avatar:
    """The avatar of a file's record and tensors; raises whatever their faults lead to."""
    for name, values in tensors.items():
        if values.is_floating_point() and not values.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")
    options = _options(record["options"])
    tensors = {"pixel_size": torch.zeros(()), "lamp": torch.zeros(3)} | tensors
    atlas = UvAtlas(**{f.name: tensors[f"atlas_{f.name}"] for f in dataclasses.fields(UvAtlas)})
    atlas.check()
    avatar = Avatar(atlas, options, body=record["body"], betas=tensors["betas"])
    avatar.known_poses = tensors["known_poses"]
    avatar.load_state_dict(tensors)
    avatar.requires_grad_(False)
    return avatar.eval()


def with_pose_encoder(avatar: Avatar, options: PoseEncoderOptions) -> Avatar:
    """The same avatar with an untrained pose encoder beside its features: where the published stage 2 starts."""
    return _grown(avatar, dataclasses.replace(avatar.options, pose_encoder=options))


def with_pose_shapes(avatar: Avatar, options: PoseShapeOptions) -> Avatar:
    """The same avatar with pose shapes that change nothing yet, their keys chosen among the poses it knows."""
    chosen = choose_keys(avatar.known_poses.cpu(), options.keys)
    grown = _grown(avatar, dataclasses.replace(avatar.options, pose_shapes=dataclasses.replace(options, keys=len(chosen))))
    grown.pose_shapes.keys.copy_(avatar.known_poses[chosen])
    return grown


def _grown(avatar: Avatar, options: AvatarOptions) -> Avatar:
    grown = Avatar(avatar.atlas, options, body=avatar.body, betas=avatar.betas)
    grown.known_poses = avatar.known_poses
    grown.load_state_dict(avatar.state_dict(), strict=False)
    return grown.to(avatar.device)


def _options(record: dict) -> AvatarOptions:
    encoder, shapes = record["pose_encoder"], record.get("pose_shapes")
    return AvatarOptions(
        network=NetworkOptions(**{"decode_at": "points"} | record["network"]),
        light=record["light"] if "light" in record else LIGHT_BEFORE_5[record["light_degree"]],
        pose_encoder=None if encoder is None else PoseEncoderOptions(**encoder),
        cull_margin=record["cull_margin"],
        pose_shapes=None if shapes is None else PoseShapeOptions(**{"fade": FADE_BEFORE_4} | shapes),
    )


