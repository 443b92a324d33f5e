"""Biovision's .bvh: a skeleton as offsets, and each frame's root place and joint angles. Text, for animation programs.

Axes: the stage's (y up, the person faces +z). Lengths are centimetres, which is what most programs expect of a .bvh; angles
are degrees, turns in the order Z X Y: R = Rz Rx Ry, each joint relative to its parent. The rest pose is SMPL's T-pose. The
root has offset 0 and its position channels say where it is, so that readers that add the two and readers that do not agree.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from model.export.joint_motion import JointMotion

CENTIMETRES = 100.0
TIP_SHARE = 0.5  # length of a last bone, as a share of the one before it; SMPL does not say where fingers and head end


def write_bvh(joint_names: tuple[str, ...], parents: list[int], joints_rest: Float[np.ndarray, "J 3"], motion: JointMotion) -> bytes:
    """Write a skeleton and its motion as .bvh.

    Args:
        joint_names: one a joint.
        parents: -1 for the root, which comes first; a parent comes before its children.
        joints_rest: joint places in the rest pose, metres.
    """
    children: list[list[int]] = [[] for _ in parents]
    for joint, parent in enumerate(parents[1:], start=1):
        children[parent].append(joint)
    lines, order = ["HIERARCHY"], []
    _write_joint(lines, order, 0, "", joint_names, parents, children, np.asarray(joints_rest, np.float64) * CENTIMETRES)
    lines += ["MOTION", f"Frames: {motion.num_frames}", f"Frame Time: {1 / motion.fps:.9f}"]
    angles = euler_zxy(motion.quaternions)[:, order].reshape(motion.num_frames, -1)
    rows = np.concatenate([motion.root_places * CENTIMETRES, angles], axis=1)
    lines += [" ".join(f"{value:.6f}" for value in row) for row in rows]
    return ("\n".join(lines) + "\n").encode("ascii")


def euler_zxy(quaternions: Float[np.ndarray, "F J 4"]) -> Float[np.ndarray, "F J 3"]:
    """Angles in degrees about z, x and y with R = Rz Rx Ry, without jumps of a full turn between frames."""
    frames, joints = quaternions.shape[:2]
    angles = Rotation.from_quat(quaternions.reshape(-1, 4)).as_euler("ZXY", degrees=True).reshape(frames, joints, 3)
    return np.unwrap(angles, axis=0, period=360.0)


def _write_joint(lines, order, joint, indent, names, parents, children, places) -> None:
    """Append one joint and all below it; `order` receives joints in the order of the file."""
    parent = parents[joint]
    offset = np.zeros(3) if parent < 0 else places[joint] - places[parent]
    order.append(joint)
    place = "Xposition Yposition Zposition " if parent < 0 else ""
    lines += [f"{indent}{'ROOT' if parent < 0 else 'JOINT'} {names[joint]}", f"{indent}{{"]
    lines.append(f"{indent}  OFFSET {_numbers(offset)}")
    lines.append(f"{indent}  CHANNELS {6 if parent < 0 else 3} {place}Zrotation Xrotation Yrotation")
    for child in children[joint]:
        _write_joint(lines, order, child, indent + "  ", names, parents, children, places)
    if not children[joint]:
        lines += [f"{indent}  End Site", f"{indent}  {{", f"{indent}    OFFSET {_numbers(TIP_SHARE * offset)}", f"{indent}  }}"]
    lines.append(f"{indent}}}")


def _numbers(values: Float[np.ndarray, "3"]) -> str:
    return " ".join(f"{value:.6f}" for value in values)
