"""Claims about the avatar's file, and its table."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.avatar import Avatar
from model.avatar_file import AvatarFileError, load_avatar, save_avatar, with_pose_encoder
from model.pose import track_pose
from tests.conftest import ENCODER, SHAPES, with_shapes


def test_an_avatar_survives_its_file(trained: Avatar, clip, tmp_path: Path) -> None:
    for avatar in (trained, with_pose_encoder(trained, ENCODER).eval(), with_shapes(trained, clip)):
        save_avatar(tmp_path / "avatar.safetensors", avatar)
        again = load_avatar(tmp_path / "avatar.safetensors")
        assert again.options == avatar.options and again.body == "tube"
        pictures = [
            a.render(track_pose(clip.track, 1), clip.track.camera, torch.ones(3), backend="cpu").image.detach() for a in (avatar, again)
        ]
        assert torch.equal(*pictures)


def rewritten(avatar: Avatar, path: Path, change: Callable[[dict, dict], None]) -> Avatar:
    """The avatar as it comes out of a file whose record and arrays `change` has made those of an earlier version."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    save_avatar(path, avatar)
    with safe_open(str(path), framework="pt") as file:
        record, tensors = json.loads(file.metadata()["avatar"]), {name: file.get_tensor(name) for name in file.keys()}
    change(record, tensors)
    save_file(tensors, str(path), metadata={"avatar": json.dumps(record)})
    return load_avatar(path)


def to_version_4(record: dict, tensors: dict) -> None:
    """Which had harmonics only, and said to which degree."""
    record["version"] = 4
    del record["options"]["light"]
    record["options"]["light_degree"] = 2
    tensors["light"] = torch.full((8, 3), 0.1)
    del tensors["lamp"], tensors["pixel_size"]


def test_a_file_of_the_first_version_still_opens(trained: Avatar, tmp_path: Path) -> None:
    def to_version_1(record: dict, tensors: dict) -> None:
        to_version_4(record, tensors)
        record["version"] = 1
        del record["options"]["pose_shapes"]

    old = rewritten(trained, tmp_path / "a.safetensors", to_version_1)
    assert old.options == dataclasses.replace(trained.options, light="quadratic")


def test_light_of_an_earlier_file_is_what_it_was(trained: Avatar, tmp_path: Path) -> None:
    old = rewritten(trained, tmp_path / "a.safetensors", to_version_4)
    assert old.options.light == "quadratic" and torch.equal(old.light, torch.full((8, 3), 0.1))


def test_shapes_of_an_earlier_file_fade_as_they_did(trained: Avatar, clip, tmp_path: Path) -> None:
    def to_version_3(record: dict, tensors: dict) -> None:
        to_version_4(record, tensors)
        record["version"] = 3
        del record["options"]["pose_shapes"]["fade"]

    folding = with_shapes(trained, clip)
    assert rewritten(folding, tmp_path / "new.safetensors", lambda record, tensors: None).options.pose_shapes.fade == SHAPES.fade
    assert rewritten(folding, tmp_path / "old.safetensors", to_version_3).options.pose_shapes.fade == pytest.approx(math.exp(-4.5))


def test_a_file_that_is_no_avatar_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "text.safetensors").write_text("hello")
    save_file({"x": torch.zeros(2)}, str(tmp_path / "other.safetensors"))
    for name in ("text.safetensors", "other.safetensors"):
        with pytest.raises(AvatarFileError, match="expected"):
            load_avatar(tmp_path / name)


def put(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict, dict], None]:
    """A change of one tensor of a file."""
    return lambda record, tensors: tensors.__setitem__(name, change(tensors[name].clone()).contiguous())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("atlas_skin_joints", lambda t: t.fill_(10**6)), "skin_joints runs from"),
        (put("atlas_map_source", lambda t: t - 10**6), "map_source runs from"),
        (put("atlas_parents", lambda t: t.roll(-1)), "hang from an earlier one"),
        (put("atlas_spacing", lambda t: t[:-1]), "spacing has"),
        (put("betas", lambda t: t * float("nan")), "betas holds numbers that are not finite"),
        (lambda record, tensors: tensors.pop("atlas_uv"), "lacks 'atlas_uv'"),
        (lambda record, tensors: record.pop("options"), "lacks 'options'"),
        (lambda record, tensors: record["options"].update(light="moon"), "fit together"),
        (lambda record, tensors: record["options"]["network"].update(later=1), "later"),
        (lambda record, tensors: record["options"]["network"].update(widths=[3, 3]), "fit together"),
    ],
)
def test_a_file_whose_parts_do_not_fit_together_is_refused_in_words(trained: Avatar, tmp_path: Path, change: Callable[[dict, dict], None], said: str) -> None:
    with pytest.raises(AvatarFileError, match=rf"a.safetensors is a gaussian-avatar file .*{said}"):
        rewritten(trained, tmp_path / "a.safetensors", change)


def test_a_record_that_is_a_list_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, str(tmp_path / "a.safetensors"), metadata={"avatar": "[1]"})
    with pytest.raises(AvatarFileError, match="came list"):
        load_avatar(tmp_path / "a.safetensors")


def test_a_baked_avatar_is_the_avatar(trained: Avatar, clip) -> None:
    baked, attributes = trained.bake(), trained.attributes()
    assert torch.equal(baked.means_rest, trained.atlas_points_rest + attributes.offsets)
    assert torch.equal(baked.albedo, attributes.albedo) and torch.equal(baked.light, trained.light)
