"""One file that holds a trained avatar: safetensors for the numbers, JSON in its header for the rest.

The file stands alone: it has the surface points, the networks and the options that built them, so it loads without the
settings it was trained with. Loading runs no code from the file.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

from model.avatar import Avatar, AvatarOptions, PoseEncoderOptions
from model.networks import NetworkOptions
from model.uv.atlas import UvAtlas

FORMAT, VERSION = "gaussian-avatar", 1


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
        AvatarFileError: the file is no avatar, or of another version.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            record = json.loads((file.metadata() or {}).get("avatar", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:
        raise AvatarFileError(f"expected an avatar file at {path}, but it does not open as safetensors: {error}") from error
    if record.get("format") != FORMAT or record.get("version") != VERSION:
        came = f"format {record.get('format')!r}, version {record.get('version')!r}"
        raise AvatarFileError(f"expected {path} to be a {FORMAT} file of version {VERSION}, came {came}; train it again")
    options = _options(record["options"])
    atlas = UvAtlas(**{f.name: tensors[f"atlas_{f.name}"] for f in dataclasses.fields(UvAtlas)})
    avatar = Avatar(atlas, options, body=record["body"], betas=tensors["betas"])
    avatar.known_poses = tensors["known_poses"]
    avatar.load_state_dict(tensors)
    avatar.requires_grad_(False)
    return avatar.eval()


def with_pose_encoder(avatar: Avatar, options: PoseEncoderOptions) -> Avatar:
    """The same avatar with an untrained pose encoder beside its features: where stage 2 starts."""
    grown = Avatar(avatar.atlas, dataclasses.replace(avatar.options, pose_encoder=options), body=avatar.body, betas=avatar.betas)
    grown.known_poses = avatar.known_poses
    grown.load_state_dict(avatar.state_dict(), strict=False)
    return grown.to(avatar.device)


def _options(record: dict) -> AvatarOptions:
    encoder = record["pose_encoder"]
    return AvatarOptions(
        network=NetworkOptions(**record["network"]),
        light_degree=record["light_degree"],
        pose_encoder=None if encoder is None else PoseEncoderOptions(**encoder),
        cull_margin=record["cull_margin"],
    )


