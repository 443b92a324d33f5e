"""Stage: from refined poses to UV position maps, the input of the pose encoder.

Reads stage1/track.npz and uv/atlas.npz; writes pose_maps/pose_maps.npz: `maps` [F, 3, G, G], root-relative, metres, seams
padded, one for each row of the track.
"""

from __future__ import annotations

import numpy as np
import torch

from model.pose import track_pose
from model.uv.atlas import UvAtlas
from model.uv.position_maps import bake_position_maps
from tasks.artifacts import read_npz, read_track, subject_paths, timed, write_npz
from tasks.errors import run_stage
from tasks.settings import load_settings
from tasks.whole_files import replaced_folder


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    dtype = np.dtype(f"float{settings.chosen.bake_pose_maps.bits}")
    with timed(paths, "bake_pose_maps"), torch.no_grad():
        track = read_track(paths.stage1 / "track.npz", made_by="train_stage1")
        atlas = UvAtlas.from_arrays(read_npz(paths.uv / "atlas.npz", made_by="bake_uv_maps"))
        maps = bake_position_maps(atlas, track_pose(track)).numpy().astype(dtype)
        with replaced_folder(paths.pose_maps) as folder:
            write_npz(folder / "pose_maps.npz", maps=maps)


if __name__ == "__main__":
    run_stage(main)
