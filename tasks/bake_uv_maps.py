"""Stage: from a person's shape to the points of their surface that will carry Gaussians.

Reads fit_refined/track.npz (the betas); writes uv/atlas.npz.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from model.body.body_model import BodyModel
from model.uv.atlas import UvAtlas, bake_atlas, body_surface
from tasks.artifacts import read_track, subject_paths, timed, write_npz
from tasks.body import read_body
from tasks.errors import run_stage
from tasks.settings import BakeUvMapsSettings, load_settings
from tasks.whole_files import replaced_folder


def main() -> None:
    settings = load_settings()
    paths = subject_paths(settings.subject.name)
    with timed(paths, "bake_uv_maps"):
        track = read_track(paths.fit_refined / "track.npz", made_by="refine_fit")
        body = read_body(settings.body, with_uv=True)
        atlas = bake(body, track.betas, settings.chosen.bake_uv_maps)
        with replaced_folder(paths.uv) as folder:
            write_npz(folder / "atlas.npz", **atlas.arrays())
    print(f"bake_uv_maps: {atlas.num_points} surface points, {1000 * float(atlas.spacing.median()):.1f} mm apart")


def bake(body: BodyModel, betas: Float[Tensor, "S"], settings: BakeUvMapsSettings) -> UvAtlas:
    """The atlas of one person."""
    density = None if settings.density is None else joint_density(body, settings.density)
    return bake_atlas(body_surface(body, betas), resolution=settings.resolution, map_resolution=settings.map_resolution, density=density)


def joint_density(body: BodyModel, named: dict[str, float]) -> np.ndarray:
    """Density by joint, 1 where none is named. Names that a body lacks (SMPL's hand in SMPL-X) are passed over."""
    return np.array([named.get(name, 1.0) for name in body.joint_names])


if __name__ == "__main__":
    run_stage(main)
