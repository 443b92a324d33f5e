"""Where a landmark detector's 33 points lie on a body: each a blend of a few vertices and of joints.

The points and their order are BlazePose's (Bazarevsky et al. 2020). Pinky, index and thumb mean knuckles.

Axes: *B leading, L = 33 landmarks, K vertices a landmark, V vertices, J joints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.body.body_files import BodyArrays, BodyFileError

LANDMARK_NAMES = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index",
    "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip

# A landmark as a blend of named surface points and joints; `left`/`l`/`L` and their opposites are filled in by side.
# BlazePose's hips sit above the hip joints (about 12 px at a 400 px figure): a quarter of the way to the pelvis.
RECIPES = {
    "nose": {"nose": 1.0},
    "{side}_eye_inner": {"{side}_eye_inner": 1.0},
    "{side}_eye": {"{l}eye": 1.0},
    "{side}_eye_outer": {"{side}_eye_outer": 1.0},
    "{side}_ear": {"{l}ear": 1.0},
    "mouth_{side}": {"{side}_mouth": 1.0},
    "{side}_shoulder": {"joint:{side}_shoulder": 1.0},
    "{side}_elbow": {"joint:{side}_elbow": 1.0},
    "{side}_wrist": {"joint:{side}_wrist": 1.0},
    "{side}_pinky": {"{l}pinky_knuckle": 1.0},
    "{side}_index": {"{l}index_knuckle": 1.0},
    "{side}_thumb": {"{l}thumb_knuckle": 1.0},
    "{side}_hip": {"joint:{side}_hip": 0.75, "joint:pelvis": 0.25},
    "{side}_knee": {"joint:{side}_knee": 1.0},
    "{side}_ankle": {"joint:{side}_ankle": 1.0},
    "{side}_heel": {"{L}Heel": 1.0},
    "{side}_foot_index": {"{L}BigToe": 1.0},
}
# What stands in for a point that a model file does not name: SMPL's own vertex ids know nose, eyes, ears, finger tips,
# toes and heels only. The shares are those of the open body's own points; each blend sums to 1.
STAND_INS = {
    "{side}_eye_inner": {"{l}eye": 0.845, "{r}eye": 0.155},
    "{side}_eye_outer": {"{l}eye": 1.225, "{r}eye": -0.225},
    "{side}_mouth": {"nose": 1.69, "{l}eye": -0.165, "{r}eye": -0.935, "{l}ear": 0.205, "{r}ear": 0.205},
    "{l}pinky_knuckle": {"joint:{side}_wrist": 0.35, "{l}pinky": 0.65},
    "{l}index_knuckle": {"joint:{side}_wrist": 0.39, "{l}index": 0.61},
    "{l}thumb_knuckle": {"joint:{side}_wrist": 0.45, "{l}thumb": 0.55},
}


@dataclass(frozen=True)
class LandmarkWeights:
    """Landmarks as blends.

    Attributes:
        ids: the K vertices that each landmark may use (repeated where it uses fewer); -1 where a subset lacks one.
        vertex_weights: their weights; joint_weights: those of the joints. Per landmark all sum to 1.
    """

    ids: Int[Tensor, "L K"]
    vertex_weights: Float[Tensor, "L K"]
    joint_weights: Float[Tensor, "L J"]

    @property
    def vertex_ids(self) -> Int[Tensor, "N"]:
        """The vertices that any landmark needs, each once."""
        return torch.unique(self.ids[self.vertex_weights != 0])

    def apply(self, vertices: Float[Tensor, "*B V 3"], joints: Float[Tensor, "*B J 3"]) -> Float[Tensor, "*B L 3"]:
        """Blend vertices and joints into the landmarks, metres. Differentiable."""
        if bool(((self.ids < 0) & (self.vertex_weights != 0)).any()):
            raise ValueError("this subset of the body lacks vertices of its landmarks; keep landmark_weights.vertex_ids in the subset")
        picked = vertices[..., self.ids.clamp(min=0), :]
        return (picked * self.vertex_weights[..., None]).sum(dim=-2) + self.joint_weights @ joints

    def renumber(self, new_id: Int[Tensor, "V"]) -> LandmarkWeights:
        """The same blends after vertices were renumbered; -1 marks a vertex that is gone."""
        return replace(self, ids=torch.where(self.ids >= 0, new_id[self.ids.clamp(min=0)], self.ids))


def _fill(name: str, side: str) -> str:
    letter, other = ("l", "r") if side == "left" else ("r", "l")
    return name.format(side=side, l=letter, r=other, L=letter.upper())


def landmark_weights_of(arrays: BodyArrays) -> LandmarkWeights:
    """Resolve the recipes against the points and joints that a body file names."""
    known = arrays.points
    stand_ins = {_fill(k, s): {_fill(n, s): w for n, w in v.items()} for s in ("left", "right") for k, v in STAND_INS.items()}
    recipes = {_fill(k, s): {_fill(n, s): w for n, w in v.items()} for s in ("left", "right") for k, v in RECIPES.items()}
    blends: list[dict[int, float]] = []
    joint_weights = np.zeros((len(LANDMARK_NAMES), len(arrays.joint_names)))
    for row, landmark in enumerate(LANDMARK_NAMES):
        vertices: dict[int, float] = {}
        for name, weight in recipes[landmark].items():
            parts = {name: 1.0} if name in known else stand_ins.get(name, {name: 1.0})
            for part, share in parts.items():
                if part.startswith("joint:"):
                    joint_weights[row, arrays.joint_names.index(part.removeprefix("joint:"))] += weight * share
                elif part in known:
                    vertices[known[part]] = vertices.get(known[part], 0.0) + weight * share
                else:
                    raise BodyFileError(f"{arrays.name}: no vertex is known for {part!r}, which the landmark {landmark!r} needs")
        blends.append(vertices)
    width = max(1, max(len(blend) for blend in blends))
    ids = np.zeros((len(blends), width), dtype=np.int64)
    weights = np.zeros((len(blends), width))
    for row, blend in enumerate(blends):
        for column, (vertex, weight) in enumerate(blend.items()):
            ids[row, column], weights[row, column] = vertex, weight
    return LandmarkWeights(torch.from_numpy(ids), torch.from_numpy(weights), torch.from_numpy(joint_weights))
