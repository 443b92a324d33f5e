"""What is known of a generated clip: its pictures, cameras and motions, under truth/. Only evaluate and the benchmarks read it.

Axes: F frames, J joints, H x W pixels. Lengths are metres, in the world of the demo.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from tasks.artifacts import frame_name, read_image, read_npz, write_image, write_json, write_npz


@dataclass(frozen=True)
class TruthView:
    """One picture whose truth is known: truth/<kind>/<name>.png (RGBA, straight alpha) seen by one camera.

    Attributes:
        image_rgba: the person alone as the camera would see it, alpha is the true mask.
        K, w2c, width, height: the camera, in the demo's world, metres.
        row: which row of the motion it shows (a row of the clip's motion, or of the second motion).
        camera: name of the camera.
    """

    image_rgba: UInt8[np.ndarray, "H W 4"]
    K: Float[np.ndarray, "3 3"]
    w2c: Float[np.ndarray, "4 4"]
    row: int
    camera: str


@dataclass(frozen=True)
class TruthMotion:
    """A motion of the generated person, one row a video frame; world axes of the demo, metres.

    `global_orient`, `body_pose`, `transl` pose the generated person's own skeleton; `joints` are where its joints are.
    """

    global_orient: Float[np.ndarray, "F 3"]
    body_pose: Float[np.ndarray, "F J-1 3"]
    transl: Float[np.ndarray, "F 3"]
    joints: Float[np.ndarray, "F J 3"]


@dataclass(frozen=True)
class Truth:
    """Everything the demo knows of itself: data/demo/truth/. Only evaluate reads it.

        truth.npz         clip/second motions, the clip's camera
        masks/NNNNNN.png  true masks of the clip's frames, source size
        novel_views/      other cameras, rows of the clip's motion
        novel_poses/      rows of the second motion
    """

    clip: TruthMotion
    second: TruthMotion
    clip_K: Float[np.ndarray, "3 3"]
    clip_w2c: Float[np.ndarray, "4 4"]
    folder: Path

    def mask(self, row: int) -> UInt8[np.ndarray, "H W"]:
        """The true mask of one video frame, at the source's size."""
        return read_image(self.folder / "masks" / frame_name(row))

    def views(self, kind: str) -> list[TruthView]:
        """The pictures under novel_views/ or novel_poses/, in the order of views.json."""
        records = json.loads((self.folder / kind / "views.json").read_text())
        return [
            TruthView(read_image(self.folder / kind / r["file"]), np.array(r["K"]), np.array(r["w2c"]), r["row"], r["camera"])
            for r in records
        ]


def write_truth(folder: Path, clip: TruthMotion, second: TruthMotion, clip_K: np.ndarray, clip_w2c: np.ndarray) -> None:
    """Write truth.npz; the pictures are written one by one with write_image and write_truth_views."""
    arrays = {f"{name}_{k}": v for name, motion in (("clip", clip), ("second", second)) for k, v in vars(motion).items()}
    write_npz(folder / "truth.npz", clip_K=clip_K, clip_w2c=clip_w2c, **arrays)


def write_truth_views(folder: Path, views: list[TruthView]) -> None:
    """Write pictures of known truth and their cameras into one folder."""
    records = []
    for i, view in enumerate(views):
        file = f"{i:04d}.png"
        write_image(folder / file, view.image_rgba)
        records.append({"file": file, "K": view.K.tolist(), "w2c": view.w2c.tolist(), "row": view.row, "camera": view.camera})
    write_json(folder / "views.json", records)


def read_truth(folder: Path) -> Truth | None:
    """The truth of a generated clip, or None where there is none (an ordinary video)."""
    if not (folder / "truth.npz").exists():
        return None
    arrays = read_npz(folder / "truth.npz", made_by="make_demo")
    motions = {
        name: TruthMotion(**{k: arrays[f"{name}_{k}"] for k in ("global_orient", "body_pose", "transl", "joints")})
        for name in ("clip", "second")
    }
    return Truth(motions["clip"], motions["second"], arrays["clip_K"], arrays["clip_w2c"], folder)
