"""3D Gaussian Splatting's .ply, as its authors' code writes it and every splat viewer reads it.

Axes: the convention of that code is x right, y down, z forward (COLMAP, OpenCV), so the stage is turned by half a turn
about x: (x, y, z) -> (x, -y, -z). The person's head points to -y, and they look to -z, at a viewer who looks along +z.
Values as 3DGS stores them: f_dc = (colour - 0.5) / SH_C0, opacity before the sigmoid, scales before the exponential,
rotations as w x y z (here all 1 0 0 0: the splats are round).
"""

from __future__ import annotations

import numpy as np

from model.export.splats import Splats

FROM_STAGE = np.array([1.0, -1.0, -1.0])  # diagonal of the rotation from the stage to this file's axes
NUM_REST = 45  # coefficients of degrees 1 to 3, three colours


def ply_properties(*, full: bool) -> list[str]:
    """Names of a splat's numbers in file order: 17, or with `full` the 62 that a degree-3 model has."""
    rest = [f"f_rest_{i}" for i in range(NUM_REST if full else 0)]
    shape = ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    return ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, *shape]


def write_ply(splats: Splats, *, full: bool = False) -> bytes:
    """Write splats as a 3DGS .ply, binary little-endian, 4-byte floats.

    Args:
        splats: on the stage.
        full: write all 62 properties (248 bytes a splat), the higher harmonics as zeros: some plug-ins for Unity read
            nothing else. Otherwise the higher harmonics are left out, which 3DGS calls degree 0.
    """
    names = ply_properties(full=full)
    table = np.zeros((len(splats), len(names)), "<f4")
    columns = {name: i for i, name in enumerate(names)}
    table[:, columns["x"] : columns["z"] + 1] = splats.means * FROM_STAGE
    table[:, columns["nx"] : columns["nz"] + 1] = splats.normals * FROM_STAGE
    table[:, columns["f_dc_0"] : columns["f_dc_2"] + 1] = splats.sh0
    table[:, columns["opacity"]] = splats.opacity_logits
    table[:, columns["scale_0"] : columns["scale_2"] + 1] = splats.log_scales[:, None]
    table[:, columns["rot_0"]] = 1.0
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(splats)}"]
    header += [f"property float {name}" for name in names] + ["end_header\n"]
    return "\n".join(header).encode("ascii") + table.tobytes()
