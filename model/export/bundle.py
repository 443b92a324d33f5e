"""The bundle: everything that moves and paints the splats, for a program that wants to do it itself. docs/bundle.md explains
it and shows a loader.

A .zip of `bundle.json`, which says what there is, and `arrays.bin`, the arrays one after the other, little-endian, each at a
multiple of 4 bytes. Axes: the stage's; rest pose, soles on the floor.

Axes: N splats, J joints, K joints a splat, F frames, B harmonics.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from model.export.folds import FoldTables
from model.export.joint_motion import JointMotion
from model.export.splats import Splats

FORMAT, VERSION = "gaussian-avatar-bundle", 3  # version 1 had no folds, 2 no lamp and no sheen
TYPES = {"float32": "<f4", "uint16": "<u2", "int16": "<i2"}
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # time stamp in the archive: the same avatar gives the same bytes


@dataclass(frozen=True)
class Bundle:
    """What goes into a bundle.

    Attributes:
        name: of the person.
        splats: at rest on the stage, in lit colours.
        albedo: their colours without light.
        skin_joints, skin_weights: what moves each splat; weights sum to 1.
        joint_names, parents, joints_rest: the skeleton on the stage; -1 for the root, which comes first.
        harmonics, lamp, sheen: what the light's parts weigh (model/light.py); no rows, zeros and zeros for none.
        lamp_direction: unit vector towards the lamp, in the axes that the light is given in; zero for none.
        light_from_stage: turns a stage's normal into the axes that the light is given in.
        motions: what there is to play.
        folds: what the splats do in a pose beyond being carried; None for nothing.
    """

    name: str
    splats: Splats
    albedo: Float[np.ndarray, "N 3"]
    skin_joints: Int[np.ndarray, "N K"]
    skin_weights: Float[np.ndarray, "N K"]
    joint_names: tuple[str, ...]
    parents: list[int]
    joints_rest: Float[np.ndarray, "J 3"]
    harmonics: Float[np.ndarray, "B 3"]
    lamp: Float[np.ndarray, "3"]
    lamp_direction: Float[np.ndarray, "3"]
    sheen: Float[np.ndarray, "3"]
    light_from_stage: Float[np.ndarray, "3 3"]
    motions: list[JointMotion]
    folds: FoldTables | None = None


def write_bundle(bundle: Bundle) -> bytes:
    """Write a bundle as .zip. Arrays are float32, numbers of joints and texels uint16, shapes int16."""
    arrays = _Arrays()
    splats = bundle.splats
    record = {
        "format": FORMAT,
        "version": VERSION,
        "name": bundle.name,
        "units": "metres, seconds, colours 0..1 as displayed (sRGB)",
        "axes": "right-handed, y up, floor at y = 0; at rest the person faces +z, the left side towards +x",
        "count": len(splats),
        "splats": {
            "means": arrays.add(splats.means),
            "normals": arrays.add(splats.normals),
            "scales": arrays.add(splats.scales),
            "opacities": arrays.add(splats.opacities),
            "colors": arrays.add(splats.colors),
            "albedo": arrays.add(bundle.albedo),
        },
        "skin": {"joints": arrays.add(bundle.skin_joints, "uint16"), "weights": arrays.add(bundle.skin_weights)},
        "skeleton": {"names": list(bundle.joint_names), "parents": list(bundle.parents), "joints": arrays.add(bundle.joints_rest)},
        "light": {
            "harmonics": arrays.add(bundle.harmonics),
            "lamp": arrays.add(bundle.lamp),
            "lamp_direction": arrays.add(bundle.lamp_direction),
            "sheen": arrays.add(bundle.sheen),
            "from_stage": bundle.light_from_stage.astype(float).tolist(),
        },
        "motions": [
            {
                "name": motion.name,
                "fps": motion.fps,
                "frames": motion.num_frames,
                "rotations": arrays.add(motion.quaternions),
                "root": arrays.add(motion.root_places),
            }
            for motion in bundle.motions
        ],
        "folds": None if bundle.folds is None else _folds(bundle.folds, arrays),
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in (("bundle.json", json.dumps(record, indent=1, allow_nan=False).encode()), ("arrays.bin", bytes(arrays.binary))):
            file.writestr(zipfile.ZipInfo(name, LONG_AGO), data, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def _folds(folds: FoldTables, arrays: _Arrays) -> dict:
    return {
        "reach": folds.reach,
        "fade": folds.fade,
        "keys": arrays.add(folds.keys),
        "near": arrays.add(folds.near),
        "shapes": arrays.add(folds.shapes, "int16"),
        "units": arrays.add(folds.units),
        "texels": arrays.add(folds.texels, "uint16"),
        "shares": arrays.add(folds.shares),
    }


class _Arrays:
    """Collects arrays; each becomes a record of where it lies and how to read it."""

    def __init__(self) -> None:
        self.binary = bytearray()

    def add(self, values: np.ndarray, dtype: str = "float32") -> dict:
        data = np.ascontiguousarray(values, TYPES[dtype]).tobytes()
        record = {"offset": len(self.binary), "shape": list(values.shape), "type": dtype}
        self.binary += data + bytes(-len(data) % 4)
        return record
