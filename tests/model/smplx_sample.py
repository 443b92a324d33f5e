"""A made-up SMPL-X file: the layout (two pickled tables among the arrays), joints and landmarks of the real ones, with a handful of vertices around each joint for a body.

Axes: V = 10475 vertices, J = 55 joints. Lengths are metres. Finger joints lie where the open body's rig has them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.body.body_files import JOINT_NAMES, read_open_body

NAMES = JOINT_NAMES[55]
NUM_VERTICES, NUM_SHAPE, NUM_EXPRESSION = 10475, 300, 20
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
# joints of the left hand from its wrist, then the five tips; mm
HAND = [
    [39, -4, 25], [51, -25, 45], [77, -43, 64], [106, -4, 27], [132, -11, 31], [153, -22, 33], [105, 0, 0], [138, -11, -5], [164, -23, -7],
    [99, 0, -20], [127, -8, -29], [150, -18, -35], [90, -4, -39], [108, -12, -48], [121, -20, -53],
]  # fmt: skip
TIPS = [[101, -58, 74], [176, -37, 35], [188, -34, -9], [174, -29, -42], [138, -30, -60]]
JAW, EYE = [0, 5, 10], [30, 75, 95]  # from the head; mm


def face_marks() -> np.ndarray:
    """The 51 landmarks from the head joint, m: brows, nose, eyes, outer and inner lips, on a face that is half a barrel."""
    brows = [[x, 92 - abs(abs(x) - 30) * 0.3, 0] for x in (-52, -42, -31, -20, -10, 10, 20, 31, 42, 52)]
    nose = [[0, y, 0] for y in (75, 62, 50, 38)] + [[x, 28, 0] for x in (-14, -7, 0, 7, 14)]
    eye = [[-13, 0], [-5, 6], [5, 6], [13, 0], [5, -5], [-5, -5]]
    eyes = [[x + s * 31, y + 72, 0] for s in (-1, 1) for x, y in eye]
    ring = lambda count, wide, high: [[-wide * np.cos(a), 5 + high * np.sin(a), 0] for a in np.arange(count) / count * 2 * np.pi]  # noqa: E731
    marks = np.array(brows + nose + eyes + ring(12, 25, 11) + ring(8, 18, 3))
    marks[:, 2] = 125 - marks[:, 0] ** 2 / 60
    marks[10:19, 2] += 15
    return marks / 1000


def joint_places() -> np.ndarray:
    body = read_open_body()
    joints = np.zeros((55, 3))
    joints[:22] = (body.J_regressor @ body.v_template)[:22]
    head, side = joints[NAMES.index("head")], np.array([-1, 1, 1])
    joints[22:25] = head + np.array([JAW, EYE, EYE * side]) / 1000
    for name, mirror in (("left", 1), ("right", side)):
        wrist = joints[NAMES.index(f"{name}_wrist")]
        for k, (finger, number) in enumerate((f, n) for f in FINGERS for n in (1, 2, 3)):
            joints[NAMES.index(f"{name}_{finger}{number}")] = wrist + np.array(HAND[k]) * mirror / 1000
    return joints


def smplx_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of the file. Lips below the corners follow the jaw; expression 0 widens the mouth, expression 1 lifts the brows."""
    rng, joints, marks = np.random.default_rng(seed), joint_places(), face_marks()
    owner = np.arange(NUM_VERTICES) % 55
    v = joints[owner] + rng.uniform(-0.008, 0.008, (NUM_VERTICES, 3))
    v[:55] = joints  # the regressor reads these
    for name, mirror in (("left", 1), ("right", np.array([-1, 1, 1]))):
        for k, finger in enumerate(FINGERS):
            j = NAMES.index(f"{name}_{finger}3")
            v[j + 55] = joints[NAMES.index(f"{name}_wrist")] + np.array(TIPS[k]) * mirror / 1000
    face = slice(NUM_VERTICES - 51, NUM_VERTICES)
    head, jaw = NAMES.index("head"), NAMES.index("jaw")
    v[face], owner[face] = joints[head] + marks, head
    weights = np.eye(55)[owner]
    lower = face.start + 31 + np.flatnonzero(marks[31:, 1] < 0.0045)
    weights[lower] = 0
    weights[lower, jaw] = 1
    directions = np.zeros((NUM_VERTICES, 3, NUM_SHAPE + NUM_EXPRESSION), np.float32)
    directions[..., 0] = 0.02 * v
    directions[face.start + 31 : face.stop, 0, NUM_SHAPE] = 0.1 * marks[31:, 0]
    directions[face.start : face.start + 10, 1, NUM_SHAPE + 1] = 0.004
    tree = np.full((2, 55), -1)
    tree[0, :22] = read_open_body().parents[:22]
    tree[0, 22:25] = head
    for j, name in enumerate(NAMES[25:], start=25):
        tree[0, j] = NAMES.index(f"{name.split('_')[0]}_wrist") if name.endswith("1") else j - 1
    tree[1] = np.arange(55)
    regressor = np.zeros((55, NUM_VERTICES))
    regressor[np.arange(55), np.arange(55)] = 1
    triangles = np.arange(NUM_VERTICES - NUM_VERTICES % 3).reshape(-1, 3)
    corners = np.stack([np.arange(face.start, face.stop), np.roll(np.arange(face.start, face.stop), 1), np.arange(51)], 1)
    faces = np.concatenate([triangles, corners])
    return {
        "v_template": v, "shapedirs": directions, "J_regressor": regressor, "kintree_table": tree.astype(np.uint32), "weights": weights,
        "joint2num": np.array({name: k for k, name in enumerate(NAMES)}, dtype=object), "part2num": np.array({"pelvis": 0}, dtype=object),
        "f": faces.astype(np.uint32), "lmk_faces_idx": np.arange(len(triangles), len(faces)), "lmk_bary_coords": np.tile([1.0, 0, 0], (51, 1)),
    }  # fmt: skip


def write_smplx(folder: Path) -> Path:
    """Write it as SMPLX_NEUTRAL.npz."""
    path = folder / "SMPLX_NEUTRAL.npz"
    np.savez(path, **smplx_arrays())
    return path
