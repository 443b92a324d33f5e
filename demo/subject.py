"""The generated person, ready to be posed: a body that is not quite the fitter's, in clothes that stand off it.

What the fitter cannot know: bone lengths and girths outside of the open body's shape space, smoother skinning weights,
loose cloth with folds that come and go with the joints, a hem that lags behind, hair, soles.

Axes: F frames, V vertices, J = 24 joints, P fold patterns, I influences per vertex. Lengths are metres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numba
import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from scipy.spatial.transform import Rotation

from demo.garments import CROTCH, REFERENCE_JOINTS, SHOE_TOP, WAIST, collar_top, cut_shirt, cut_skirt, cut_trousers, grow_hair, make_shoe, smooth_step
from demo.mesh_renderer import Skin, vertex_normals
from demo.motion import Motion
from demo.noise import layered_noise
from demo.paint import paint_hair, paint_shell, paint_shirt, paint_shoes, paint_skin, paint_skirt, paint_trousers
from demo.people import Person, Proportions
from demo.shells import Shell, cut_out_shell, neighbour_mean
from demo.skeleton import ANKLE, ELBOW, HIP, KNEE, SHOULDER, SPINE1, SPINE2, SPINE3, Skeleton, joint_transforms
from model.body.body_model import load_body_model

SKIN, SHIRT, TROUSERS, HAIR, SHOES, SKIRT = range(6)
# strength and sharpness of highlights, wrap of light, brightening towards grazing
GLOSS = np.array(
    [[0.045, 22, 0.22, 0.0], [0.006, 8, 0.06, 0.35], [0.006, 8, 0.04, 0.25], [0.05, 16, 0.15, 0.1], [0.03, 20, 0.0, 0.1], [0.006, 8, 0.05, 0.30]],
    np.float32,
)
_PAINTERS = {SKIN: paint_skin, SHIRT: paint_shirt, TROUSERS: paint_trousers, HAIR: paint_hair, SHOES: paint_shoes, SKIRT: paint_skirt}
_WITH_HOLES = (SHIRT, TROUSERS, HAIR)
INFLUENCES = 6
ANKLE_FOLDS = (-1.06, -0.86)  # m, where trousers pile up over the shoes
HEM_FREQUENCY = 1.7  # Hz, how fast the hem swings
HEM_DAMPING = 0.30
HEM_LAG = 0.050  # m that the hem trails per m/s of the hips at most speeds


@dataclass(frozen=True)
class Subject:
    """A person who can be posed.

    Attributes:
        skin: triangles and textures.
        rest: rest positions of all vertices.
        influence, weight: the joints that move each vertex, and their shares.
        skeleton: rest joints of this person.
        folds: depth of each fold pattern at each vertex, metres.
        standing_folds: folds that are there in every pose.
        hem: how much each vertex swings with the hem, 0..1.
        part: which of SKIN, SHIRT, TROUSERS, HAIR, SHOES, SKIRT each vertex belongs to.
    """

    skin: Skin
    rest: Float32[np.ndarray, "V 3"]
    influence: Int32[np.ndarray, "V I"]
    weight: Float32[np.ndarray, "V I"]
    skeleton: Skeleton
    folds: Float32[np.ndarray, "P V"]
    standing_folds: Float32[np.ndarray, "V"]
    hem: Float32[np.ndarray, "V"]
    part: Int32[np.ndarray, "V"]

    @property
    def height(self) -> float:
        """From the sole to the top of the hair in the rest pose, metres."""
        return float(np.ptp(self.rest[:, 1]))

    def pose(self, motion: Motion, row: int, swing: Float[np.ndarray, "F 3"]) -> Float32[np.ndarray, "V 3"]:
        """Where all vertices are in one row of a motion, world, metres; `swing` is hem_swing of that motion."""
        transforms, _ = joint_transforms(
            self.skeleton, motion.global_orient[row : row + 1], motion.body_pose[row : row + 1], motion.transl[row : row + 1]
        )
        posed = _skin(self.rest, self.influence, self.weight, transforms[0].astype(np.float32))
        depth = fold_strength(motion.body_pose[row]) @ self.folds + self.standing_folds
        posed += vertex_normals(posed, self.skin.faces) * depth[:, None]
        return posed + (self.hem[:, None] * swing[row]).astype(np.float32)


def build_subject(person: Person, texture_size: int) -> Subject:
    """Shape, dress and paint a person."""
    body, skeleton = shape_body(person)
    shells = _dress(body, person)
    textures = np.zeros((1 + max(part for _, part in shells), texture_size, texture_size, 4), np.uint8)
    for shell, part in shells:
        if not textures[part].any():  # the second shoe looks like the first
            textures[part] = paint_shell(shell, _PAINTERS[part], person, texture_size)
    offsets = np.cumsum([0] + [len(shell.vertices) for shell, _ in shells])
    skin = Skin(
        faces=np.concatenate([shell.faces + start for (shell, _), start in zip(shells, offsets)]).astype(np.int32),
        uv=np.concatenate([shell.uv for shell, _ in shells]),
        material=np.repeat([part for _, part in shells], [len(shell.faces) for shell, _ in shells]).astype(np.int32),
        textures=textures,
        has_holes=np.array([part in _WITH_HOLES for part in range(len(textures))]),
    )
    part = np.repeat([part for _, part in shells], [len(shell.vertices) for shell, _ in shells]).astype(np.int32)
    rest, paint = np.concatenate([shell.vertices for shell, _ in shells]), np.concatenate([shell.paint for shell, _ in shells])
    weights = np.concatenate([shell.weights for shell, _ in shells])
    influence = np.argsort(-weights, axis=1)[:, :INFLUENCES].astype(np.int32)
    weight = np.take_along_axis(weights, influence, axis=1)
    weight /= weight.sum(axis=1, keepdims=True)
    hem = np.where(part == SHIRT, (1 - smooth_step(person.cut.hem - 0.02, -0.02, paint[:, 1])) * (np.abs(paint[:, 0]) < 0.25), 0)
    if person.cut.skirt is not None:
        hem = np.where(part == SKIRT, 1 - smooth_step(person.cut.skirt, WAIST - 0.05, paint[:, 1]), hem)
    folds, standing = _fold_patterns(paint, part, person)
    sole = rest[part == SHOES, 1].min()
    skeleton = replace(skeleton, ankle_height=float(skeleton.joints[ANKLE[0], 1] - sole))
    return Subject(skin, rest.astype(np.float32), influence, weight.astype(np.float32), skeleton, folds, standing, hem.astype(np.float32), part)


def _dress(body: Shell, person: Person) -> list[tuple[Shell, int]]:
    """Everything that can be seen of a person, piece by piece, and which part each is."""
    cut, shirt = person.cut, cut_shirt(body, person.cut)
    shells = [(cut_out_shell(body, _bare(body.paint, person)), SKIN), (shirt, SHIRT)]
    if cut.trousers:
        shells.append((cut_trousers(body, cut), TROUSERS))
    shells += [(grow_hair(body, cut, person.seed), HAIR), *((make_shoe(body, side, face_in=cut.shoes_face_in), SHOES) for side in (0, 1))]
    if cut.skirt is not None:
        shells.append((cut_skirt(body, cut, shirt if cut.trousers else None), SKIRT))
    return shells


def hem_swing(motion: Motion, fps: float) -> Float[np.ndarray, "F 3"]:
    """How far the hem lags behind the hips: a damped pendulum that the hips' movement drives, world, metres."""
    hips = motion.joints[:, HIP, :].mean(axis=1) * 0.5 + motion.joints[:, SPINE1] * 0.5
    ahead = Rotation.from_rotvec(motion.global_orient).as_matrix()[:, :, 2] * 0.12
    velocity = np.gradient(hips + ahead, axis=0) * fps
    pull, stiffness, steps = HEM_LAG * velocity, (2 * np.pi * HEM_FREQUENCY) ** 2, 8
    lag, speed, out = -pull[0], np.zeros(3), np.empty_like(pull)
    for f in range(len(pull)):
        for _ in range(steps):
            force = stiffness * (-pull[f] - lag) - 2 * HEM_DAMPING * np.sqrt(stiffness) * speed
            speed = speed + force / (fps * steps)
            lag = lag + speed / (fps * steps)
        out[f] = lag
    out[:, 1] *= 0.2
    return np.clip(out, -0.03, 0.03)


# ------------------------------------------------------------------------------------------------------- the body


def naked_body(person: Person, motion: Motion) -> Iterator[Float[np.ndarray, "V 3"]]:
    """The skin under the clothes in each row of a motion, on the open body's vertices; world, metres."""
    body, skeleton = shape_body(person)
    rest = np.concatenate([body.vertices, np.ones((len(body.vertices), 1))], axis=1)
    for row in range(len(motion.transl)):
        one = slice(row, row + 1)
        transforms, _ = joint_transforms(skeleton, motion.global_orient[one], motion.body_pose[one], motion.transl[one])
        yield np.einsum("vj,jab,vb->va", body.weights, transforms[0][:, :3], rest, optimize=True)


def shape_body(person: Person) -> tuple[Shell, Skeleton]:
    """The person's own naked body and bones: shape coefficients, then what lies outside of their span."""
    model = load_body_model("open")
    vertices, joints = (t.double().numpy() for t in model.rest(torch.tensor(person.betas, dtype=model.dtype)))
    template = model.v_template.numpy().astype(np.float32)
    weights, faces, parents = model.lbs_weights.numpy().astype(np.float32), model.faces.numpy().astype(np.int32), model.parents.numpy()
    # the places that clothes and paint speak of: the mean shape, carried to where its joints are expected
    moved = REFERENCE_JOINTS - model.j_template.numpy()
    template = (template + weights @ moved).astype(np.float32)
    uv = model.uv.numpy()[model.uv_faces.numpy()].astype(np.float32)
    vertices, joints = _stretch(vertices, joints, weights, parents, person.proportions)
    normals = vertex_normals(vertices, faces)
    bumps = layered_noise(template, (0.13, 0.16, 0.13), 2, person.seed + 70) + 0.5
    # not on the head, the hands and the feet
    bumps *= smooth_step(0.02, 0.10, 0.30 - template[:, 1]) * smooth_step(-1.10, -1.0, template[:, 1])
    bumps *= 1 - smooth_step(0.60, 0.68, np.abs(template[:, 0]))
    vertices = vertices + normals * (person.girth * bumps)[:, None]
    mean = neighbour_mean(faces, len(vertices))
    for _ in range(4):
        weights = 0.5 * weights + 0.5 * (mean @ weights)
    # shares shift a little from place to place
    sway = np.stack([layered_noise(template + 3.7 * j, 0.20, 1, person.seed + 80) for j in range(weights.shape[1])], axis=1)
    weights = weights * np.exp(0.30 * sway)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    vertices = vertices.astype(np.float32)
    return Shell(vertices, vertices, template, faces, uv, weights), Skeleton(joints, parents, 0.0)


def _stretch(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray, parents: np.ndarray, ratios: Proportions
) -> tuple[np.ndarray, np.ndarray]:
    """Make bones longer or shorter at rest: each joint scales what hangs on it, and carries its children along."""
    scale = np.ones((24, 3))
    for side in (0, 1):
        scale[SHOULDER[side], 0], scale[ELBOW[side], 0] = ratios.upper_arm, ratios.forearm
        scale[HIP[side], 1], scale[KNEE[side], 1] = ratios.thigh, ratios.shin
        scale[13 + side, 0] = ratios.shoulders
        scale[ANKLE[side], 2] = scale[10 + side, 2] = ratios.foot
    scale[12, 1], scale[15] = ratios.neck, ratios.head
    moved = joints.copy()
    for j, parent in enumerate(parents):
        if parent >= 0:
            moved[j] = moved[parent] + scale[parent] * (joints[j] - joints[parent])
    carried = moved[None] + scale[None] * (vertices[:, None] - joints[None])
    return (weights[..., None] * carried).sum(axis=1), moved


def _bare(paint: np.ndarray, person: Person) -> np.ndarray:
    """Which vertices of the skin can be seen: head, neck, the arms below the sleeves, the legs below a skirt."""
    arm = np.abs(paint[:, 0])
    top = collar_top(paint)
    opening = (paint[:, 2] > 0.06) & (paint[:, 1] > 0.16) & (arm < 0.07)
    bare = (arm > person.cut.sleeve - 0.07) | ((paint[:, 1] > top - 0.03) & (arm < 0.10)) | opening
    if not person.cut.trousers:
        bare |= (paint[:, 1] < min(person.cut.skirt + 0.12, CROTCH)) & (paint[:, 1] > SHOE_TOP - 0.04)
    return bare


# ---------------------------------------------------------------------------------------------------------- folds


def fold_strength(body_pose: Float[np.ndarray, "J-1 3"]) -> Float[np.ndarray, "P"]:
    """How strongly each fold pattern shows in a pose, 0 to about 1, from the bend of the joints."""
    bend = np.linalg.norm(body_pose, axis=1)
    spine = body_pose[[SPINE1 - 1, SPINE2 - 1, SPINE3 - 1]].sum(axis=0)

    def grown(angle: float, low: float, high: float) -> float:
        return float(smooth_step(low, high, np.asarray(angle)))

    hips, knees = [grown(-body_pose[j - 1, 0], 0.1, 1.5) for j in HIP], [grown(body_pose[j - 1, 0], 0.1, 1.7) for j in KNEE]
    arms = [grown(bend[j - 1], 0.3, 1.7) for j in SHOULDER]
    return np.array(
        [
            *arms, grown(spine[0], 0.0, 0.8), grown(spine[2], 0.0, 0.5), grown(-spine[2], 0.0, 0.5), grown(spine[1], 0.0, 0.7),
            grown(-spine[1], 0.0, 0.7), *hips, *knees,
        ]
    )  # fmt: skip


def _fold_patterns(p: np.ndarray, part: np.ndarray, person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Fold patterns, in the order of `fold_strength`, and the folds of standing cloth."""
    x, y, z = p.T
    seed = person.seed
    warp = layered_noise(p, 0.11, 2, seed + 90)
    fine = layered_noise(p, 0.05, 2, seed + 91)

    def ridges(t: np.ndarray, length: float, phase: float = 0.0) -> np.ndarray:
        """Sharp-crested waves along t."""
        wave = np.sin(2 * np.pi * t / length + 2.6 * warp + 1.2 * fine + phase)
        return np.sign(wave) * np.abs(wave) ** 0.8 * (0.6 + 0.6 * layered_noise(p + 1.7 + phase, 0.09, 1, seed + 92))

    def around(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)

    shirt, trousers = (part == SHIRT) * 1.0, (part == TROUSERS) * 1.0
    patterns = []
    for sign in (1, -1):  # from the armpit over chest, back and sleeve
        radial = np.arctan2(y - 0.06, sign * x - 0.20)
        patterns.append(shirt * 0.0065 * ridges(radial * 0.11, 0.055, sign) * around(sign * 0.19, 0.10, 0.10, 0.12))
    patterns.append(shirt * 0.008 * ridges(y + 0.25 * np.abs(x), 0.062) * around(0, -0.06, 0.3, 0.13) * smooth_step(0.0, 0.08, z))
    for sign in (1, -1):
        patterns.append(shirt * 0.008 * ridges(y - 0.3 * sign * x, 0.055, 2.0 + sign) * around(-sign * 0.15, -0.06, 0.11, 0.12))
    for sign in (1, -1):
        patterns.append(shirt * 0.0065 * ridges(0.7 * y + sign * 0.75 * x * np.sign(z - 0.045), 0.070, 4.0 + sign) * around(0, -0.04, 0.3, 0.17))
    for sign in (1, -1):  # hips: from the groin outwards
        radial = np.arctan2(y + 0.36, sign * x - 0.02)
        patterns.append(trousers * 0.015 * ridges(radial * 0.14, 0.075, 5.0 + sign) * around(sign * 0.10, -0.36, 0.11, 0.13) * smooth_step(0.02, 0.08, z))
    for sign in (1, -1):  # knees: behind, and lines that run to the sides
        behind = 1 - smooth_step(0.03, 0.10, z)
        patterns.append(trousers * (sign * x > 0) * ridges(y + 0.5 * z, 0.065, 6.0 + sign) * around(sign * 0.13, -0.70, 0.14, 0.15) * (0.014 * behind + 0.007))
    stand = shirt * 0.0058 * ridges(np.arctan2(x, z - 0.045) * 0.15, 0.085, 0.4) * (1 - smooth_step(-0.22, 0.0, y)) * (np.abs(x) < 0.25)
    stand += shirt * 0.0052 * ridges(y + 0.5 * np.abs(x), 0.10, 1.1) * (np.abs(x) < 0.2)
    stand += shirt * 0.0045 * ridges(0.6 * np.abs(x) + 0.5 * y, 0.06, 2.2) * smooth_step(0.2, 0.3, np.abs(x))
    stand += trousers * 0.0095 * ridges(y + 0.25 * z, 0.060, 3.0) * (1 - smooth_step(ANKLE_FOLDS[0], ANKLE_FOLDS[1], y))
    inner = np.abs(x) * 1.6 + y  # lines that run from the crotch outwards and down, and across the knee
    stand += trousers * 0.0065 * ridges(inner, 0.10, 3.9) * smooth_step(-0.62, -0.42, y) * (y < -0.2)
    stand += trousers * 0.0062 * ridges(y - 0.5 * np.abs(x), 0.085, 4.4) * around(0.13, -0.72, 0.3, 0.13)
    stand += trousers * 0.0045 * ridges(y + 1.2 * z, 0.14, 0.9)
    if person.cut.skirt is not None:  # pleats that open towards the hem
        fall = 1 - smooth_step(person.cut.skirt, WAIST - 0.03, y)
        stand += (part == SKIRT) * 0.016 * fall * ridges(np.arctan2(x, z - 0.045) * 0.16, 0.105, 1.9)
    return np.stack(patterns).astype(np.float32), stand.astype(np.float32)


@numba.njit(cache=True, parallel=True)
def _skin(rest, influence, weight, transforms):
    out = np.empty_like(rest)
    for v in numba.prange(len(rest)):
        for a in range(3):
            total = np.float32(0)
            for i in range(influence.shape[1]):
                m = transforms[influence[v, i], a]
                total += weight[v, i] * (m[0] * rest[v, 0] + m[1] * rest[v, 1] + m[2] * rest[v, 2] + m[3])
            out[v, a] = total
    return out
