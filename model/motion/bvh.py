"""BVH as a motion: joints found by their usual names, the rest pose and the unit made SMPL's.

A BVH skeleton has its own rest pose, so its turns are not SMPL's. Both rest poses are upright with flat feet, so trunk, head
and feet turn alike; an arm or leg bone that points along b in the file's rest pose and along s in SMPL's gets

    G_smpl = G_file C,   C the smallest rotation with C s = b,

whatever the file's rest pose does with its limbs (arms level, lowered, or down). Lengths of bones are the file's.

Where the file's zero angles are nobody's pose (LAFAN1's bones all lie along their own x axis then), the frame in which the person stands
straightest takes the place of the rest pose.

Axes: F frames, N joints of the file, J = 24 SMPL joints.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from model.fitting.rotations import rotation_between
from model.motion.bvh_file import BvhFile, parse_bvh
from model.motion.ground import level_floor
from model.motion.motion import Motion, MotionError, check_motion
from model.motion.skeleton import (
    ANKLE, BALL, COLLAR, ELBOW, HEAD, HIP, KNEE, NECK, NUM_SMPL_JOINTS, PELVIS, SHOULDER, SMPL_JOINT_NAMES, SMPL_PARENTS, SPINE1, SPINE2, SPINE3,
    WRIST, Skeleton, skeleton_without_surface,
)  # fmt: skip
from model.motion.smpl_arrays import usual_skeleton

# Names without prefix, side and punctuation, as Mixamo, CMU (cgspeed, MotionBuilder), LAFAN1, Rokoko, VRM, Unreal, Poser and SMPL
# write them, the surest first; a joint is taken once ("foot" is the ball of the foot where there is an ankle beside it).
TRUNK_NAMES = {
    PELVIS: ("hips", "hip", "pelvis", "root"),
    NECK: ("neck", "neck1", "neck01"),
    HEAD: ("head",),
}
SIDE_NAMES = {
    HIP: ("upleg", "upperleg", "thigh", "hip"),
    KNEE: ("leg", "lowerleg", "knee", "shin", "calf"),
    ANKLE: ("ankle", "foot"),
    BALL: ("toebase", "toe", "toes", "ball", "foot"),
    COLLAR: ("collar", "clavicle", "shoulder"),
    SHOULDER: ("arm", "upperarm", "uparm", "shldr", "shoulder"),
    ELBOW: ("forearm", "lowerarm", "elbow", "lowarm"),
    WRIST: ("wrist", "hand"),
}
SIDE_MARKS = (r"^left|^l_|_l$|_left$|\.l$", r"^right|^r_|_r$|_right$|\.r$")  # in any case
SIDE_LETTERS = (r"^[lL](?=[A-Z])", r"^[rR](?=[A-Z])")  # lThigh, RHand
PERSON = (1.15, 2.3)  # m from floor to head joint, of a person
CMU_UNIT = 0.056444  # m: CMU's files in inches / 0.45
STANDING = 0.7  # cosine beyond which a direction counts as upright
USUAL_HEAD = 1.5  # m from the floor to the head joint, when no unit makes a person of a file


def read_bvh(path: Path, *, fps: float | None = None) -> Motion:
    """Read a BVH file.

    Raises:
        MotionError: it does not parse, or is not a person: some of hips, legs, feet, arms and head are not found by name, or nobody stands
            upright in its rest pose or in any frame.
    """
    file = parse_bvh(path)
    ids = find_joints(file, path)
    turns, places = file.posed()
    rest = file.rest
    if not _stands(rest, ids):
        rest, turns = _rest_of_standing(turns, places, ids, path)
    unit = unit_of(rest, ids)
    align = _alignment(rest, ids)
    turns, places = align @ turns @ align.T, unit * places @ align.T
    rest = unit * rest @ align.T
    skeleton = _skeleton(rest, ids)
    world = _smpl_turns(file, turns, rest, ids, skeleton.joints_rest.numpy())
    local = world.copy()
    for j, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            local[:, j] = np.swapaxes(world[:, parent], -1, -2) @ world[:, j]
    vectors = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(len(local), NUM_SMPL_JOINTS, 3)
    joints = skeleton.joints_rest.double().numpy()
    hips = places[:, [ids[h] for h in HIP]].mean(axis=1)
    from_pelvis = joints[list(HIP)].mean(axis=0) - joints[PELVIS]
    transl = hips - np.einsum("fab,b->fa", world[:, PELVIS], from_pelvis) - joints[PELVIS]
    tensors = [torch.from_numpy(array).float() for array in (vectors[:, 0], vectors[:, 1:], transl)]
    rate = 1 / file.frame_seconds if fps is None else fps
    rate = round(rate) if abs(rate - round(rate)) < 0.02 else rate
    return level_floor(check_motion(Motion(path.stem, *tensors, float(rate), False, skeleton)))


def find_joints(file: BvhFile, path: Path) -> dict[int, int]:
    """SMPL joint -> joint of the file, by name.

    Raises:
        MotionError: naming what a person has and the file has not.
    """
    found: dict[int, int] = {}
    plain = [_plain(name) for name in file.names]
    for joint, names in TRUNK_NAMES.items():
        match = next((i for wanted in names for i, (side, name) in enumerate(plain) if side is None and name == wanted), None)
        if match is not None:
            found[joint] = match
    found.setdefault(PELVIS, 0)
    for joints, names in SIDE_NAMES.items():
        for side in (0, 1):
            taken = set(found.values())
            match = next((i for wanted in names for i, (s, name) in enumerate(plain) if s == side and name == wanted and i not in taken), None)
            if match is not None:
                found[joints[side]] = match
    for side in (0, 1):  # where "shoulder" is the upper arm itself
        if SHOULDER[side] not in found and COLLAR[side] in found:
            found[SHOULDER[side]] = found.pop(COLLAR[side])
    needed = [*HIP, *KNEE, *ANKLE, *SHOULDER, *ELBOW, *WRIST, HEAD]
    missing = [joint for joint in needed if joint not in found]
    if missing:
        lacks = ", ".join(SMPL_JOINT_NAMES[joint] for joint in missing)
        has = ", ".join(name for name in file.names if not name.endswith("/end"))[:300]
        raise MotionError(f"{path}: expected a person's skeleton with names as Mixamo, CMU or Unreal write them; not found: {lacks}. The file has: {has}")
    return found


def _plain(name: str) -> tuple[int | None, str]:
    """Side (0, 1 or None) and bare name of a joint: mixamorig:LeftUpLeg -> (0, upleg), thigh_r -> (1, thigh)."""
    bare = re.sub(r"^.*[:|]", "", name.strip())
    bare = re.sub(r"^(mixamorig\d*|character\d*|bip\d+|bvh|skeleton)[ _]*", "", bare, flags=re.IGNORECASE).replace(" ", "_").replace("-", "_")
    for side in (0, 1):
        hit = re.search(SIDE_MARKS[side], bare, flags=re.IGNORECASE) or re.search(SIDE_LETTERS[side], bare)
        if hit:
            rest = bare[: hit.start()] + bare[hit.end() :]
            return side, re.sub(r"[^a-z0-9/]", "", rest.lower())
    return None, re.sub(r"[^a-z0-9/]", "", bare.lower())


def _stands(rest: Float[np.ndarray, "N 3"], ids: dict[int, int]) -> bool:
    """Whether the head lies on the other side of the hips than the feet."""
    hips = rest[[ids[h] for h in HIP]].mean(axis=0)
    head, feet = rest[ids[HEAD]] - hips, rest[[ids[a] for a in ANKLE]].mean(axis=0) - hips
    return float(head @ feet) < -STANDING * float(np.linalg.norm(head) * np.linalg.norm(feet))


def _rest_of_standing(
    turns: Float[np.ndarray, "F N 3 3"], places: Float[np.ndarray, "F N 3"], ids: dict[int, int], path: Path
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "F N 3 3"]]:
    """The places in the frame that stands straightest, arms hanging, seen along an axis of the file; and all turns counted from it."""
    at = {joint: places[:, i] for joint, i in ids.items()}
    hips, feet = (np.mean([at[j] for j in pair], axis=0) for pair in (HIP, ANKLE))
    bones = [at[HEAD] - hips, *(at[a[s]] - at[b[s]] for a, b in ((HIP, KNEE), (KNEE, ANKLE), (SHOULDER, ELBOW), (ELBOW, WRIST)) for s in (0, 1))]
    bones = np.stack([bone / np.maximum(np.linalg.norm(bone, axis=-1, keepdims=True), 1e-9) for bone in bones])
    for up in (np.array([0, 1.0, 0]), np.array([0, 0, 1.0]), _axis((at[HEAD] - feet).mean(axis=0))):  # a clip may lie more than it stands
        slopes = bones @ up
        upright = slopes[:5].min(axis=0) >= STANDING  # trunk and legs
        if upright.any():
            break
    else:
        raise MotionError(f"{path}: expected a person who stands upright when all angles are zero, or in one frame; nobody does")
    best = int(np.where(upright, slopes.sum(axis=0), -np.inf).argmax())
    left = at[HIP[0]][best] - at[HIP[1]][best]
    left = left - (left @ up) * up
    ahead = _smallest_turn(left, _axis(left))
    return places[best] @ ahead.T, turns @ np.swapaxes(turns[best], -1, -2) @ ahead.T


def _axis(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """The axis that lies nearest."""
    axis, k = np.zeros(3), np.abs(direction).argmax()
    axis[k] = np.sign(direction[k])
    return axis


def unit_of(rest: Float[np.ndarray, "N 3"], ids: dict[int, int]) -> float:
    """Metres in one unit of the file: the usual unit that makes a person of its rest pose, else the one that makes an ordinary one."""
    up = _up(rest, ids)
    height = float((rest @ up).max() - (rest @ up).min())
    for unit in (1.0, 0.01, CMU_UNIT, 0.0254, 0.001):
        if PERSON[0] < height * unit < PERSON[1]:
            return unit
    return USUAL_HEAD / max(height, 1e-9)


def _up(rest: Float[np.ndarray, "N 3"], ids: dict[int, int]) -> Float[np.ndarray, "3"]:
    """The file's axis that points from the feet to the head at rest."""
    return _axis(rest[ids[HEAD]] - rest[[ids[a] for a in ANKLE]].mean(axis=0))


def _alignment(rest: Float[np.ndarray, "N 3"], ids: dict[int, int]) -> Float[np.ndarray, "3 3"]:
    """The rotation that makes the file's rest pose face +z with y up."""
    up = _up(rest, ids)
    left = rest[ids[HIP[0]]] - rest[ids[HIP[1]]]
    axis = _axis(left - (left @ up) * up)
    return np.stack([axis, up, np.cross(axis, up)])


def _skeleton(rest: Float[np.ndarray, "N 3"], ids: dict[int, int]) -> Skeleton:
    """SMPL's rest pose with the file's lengths; what the file does not have grows with its legs."""
    usual = usual_skeleton().joints_rest.double().numpy()

    def length(points: np.ndarray, a: int, b: int) -> float:
        return float(np.linalg.norm(points[b] - points[a]))

    at = {joint: rest[i] for joint, i in ids.items()}
    legs = [(HIP[s], KNEE[s]) for s in (0, 1)] + [(KNEE[s], ANKLE[s]) for s in (0, 1)]
    size = sum(length(at, a, b) for a, b in legs) / sum(length(usual, a, b) for a, b in legs)
    hips = np.mean([at[h] for h in HIP], axis=0)
    usual_hips = usual[list(HIP)].mean(axis=0)
    trunk = np.linalg.norm(np.mean([at[s] for s in SHOULDER], axis=0) - hips) / np.linalg.norm(usual[list(SHOULDER)].mean(axis=0) - usual_hips)
    factors = dict.fromkeys(range(NUM_SMPL_JOINTS), size) | dict.fromkeys((SPINE1, SPINE2, SPINE3, NECK, HEAD, *COLLAR), trunk)
    for a, b in [*legs, *((x[s], y[s]) for x, y in ((SHOULDER, ELBOW), (ELBOW, WRIST), (ANKLE, BALL)) for s in (0, 1))]:
        if a in at and b in at and length(at, a, b) > 1e-6:
            factors[b] = length(at, a, b) / length(usual, a, b)
    joints = usual.copy() * 0
    joints[PELVIS] = usual[PELVIS]
    for j in range(1, NUM_SMPL_JOINTS):
        joints[j] = joints[SMPL_PARENTS[j]] + factors[j] * (usual[j] - usual[SMPL_PARENTS[j]])
    width = length(at, *HIP) / 2  # hips and shoulders keep the file's width
    broad = length(at, *SHOULDER) / 2
    for parts, half in (((HIP, KNEE, ANKLE, BALL), width), ((SHOULDER, ELBOW, WRIST, (22, 23)), broad)):
        for side, sign in ((0, 1.0), (1, -1.0)):
            shift = sign * half - joints[parts[0][side], 0]
            joints[[part[side] for part in parts], 0] += shift
    return skeleton_without_surface(torch.from_numpy(joints).float(), torch.tensor(SMPL_PARENTS))


def _smpl_turns(
    file: BvhFile, turns: Float[np.ndarray, "F N 3 3"], rest: Float[np.ndarray, "N 3"], ids: dict[int, int], joints_rest: np.ndarray
) -> Float[np.ndarray, "F J 3 3"]:
    """World rotations of SMPL's joints from those of the file's."""
    world = np.tile(np.eye(3), (len(turns), NUM_SMPL_JOINTS, 1, 1))
    world[:, PELVIS] = turns[:, ids[PELVIS]]
    chest_chain = _chain(file, ids[PELVIS], ids.get(NECK, ids[HEAD]))
    for joint, share in ((SPINE1, 1 / 3), (SPINE2, 2 / 3), (SPINE3, 1.0)):
        world[:, joint] = _along(turns, [ids[PELVIS], *chest_chain], share)
    world[:, HEAD] = turns[:, ids[HEAD]]
    world[:, NECK] = turns[:, ids[NECK]] if NECK in ids else _between(world[:, SPINE3], world[:, HEAD], 0.5)
    for side in (0, 1):
        world[:, COLLAR[side]] = turns[:, ids[COLLAR[side]]] if COLLAR[side] in ids else world[:, SPINE3]
        corrections = {}
        for joint, child in ((HIP[side], KNEE[side]), (KNEE[side], ANKLE[side]), (SHOULDER[side], ELBOW[side]), (ELBOW[side], WRIST[side])):
            ours, theirs = joints_rest[child] - joints_rest[joint], rest[ids[child]] - rest[ids[joint]]
            corrections[joint] = _smallest_turn(ours, theirs)
            world[:, joint] = turns[:, ids[joint]] @ corrections[joint]
        world[:, WRIST[side]] = turns[:, ids[WRIST[side]]] @ corrections[ELBOW[side]]
        foot = np.eye(3)
        if BALL[side] in ids:  # feet are flat in both rest poses, and may point elsewhere
            level = np.array([1.0, 0, 1])
            foot = _smallest_turn((joints_rest[BALL[side]] - joints_rest[ANKLE[side]]) * level, (rest[ids[BALL[side]]] - rest[ids[ANKLE[side]]]) * level)
        world[:, ANKLE[side]] = turns[:, ids[ANKLE[side]]] @ foot
        world[:, BALL[side]] = turns[:, ids[BALL[side]]] @ foot if BALL[side] in ids else world[:, ANKLE[side]]
        world[:, 22 + side] = world[:, WRIST[side]]
    return world


def _chain(file: BvhFile, top: int, bottom: int) -> list[int]:
    """The joints strictly between two of one branch, from the top down."""
    chain, joint = [], file.parents[bottom]
    while joint not in (-1, top):
        chain.append(joint)
        joint = file.parents[joint]
    return chain[::-1]


def _along(turns: np.ndarray, chain: list[int], share: float) -> np.ndarray:
    """The rotation at a share of the way along a chain of joints."""
    place = share * (len(chain) - 1)
    before = min(int(place), len(chain) - 1)
    after = min(before + 1, len(chain) - 1)
    return _between(turns[:, chain[before]], turns[:, chain[after]], place - before)


def _between(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    first, second = Rotation.from_matrix(a), Rotation.from_matrix(b)
    return (first * Rotation.from_rotvec(share * (first.inv() * second).as_rotvec())).as_matrix()


def _smallest_turn(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "3 3"]:
    if np.linalg.norm(a) < 1e-9 or np.linalg.norm(b) < 1e-9:
        return np.eye(3)
    return rotation_between(torch.from_numpy(a).double(), torch.from_numpy(b).double()).numpy()
