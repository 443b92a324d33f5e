"""The atlas of one person's body: the surface points that carry Gaussians, and the map that convolutions work on.

Axes: N surface points, M points of the feature map, G its texels per side, J joints, V vertices, F faces, U texture
coordinates. Lengths are metres; the body is the person's own shape.

Two poses appear. The *rest* pose is the body model's own: skinning starts there, so a posed avatar agrees with the posed
body exactly (carrying points into a second pose and blending again from that shrinks a hip by 1 / cos^2 of the angle).
The *canonical* pose has the legs apart: there the thighs do not touch, so "near in space" means "near on the surface",
which is what the neighbourhood of the points is made from.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from model.body.body_model import BodyModel, canonical_pose
from model.pose import check_tree
from model.uv.bake import TexelSamples, interpolate, rasterise_layout, texel_spacing
from model.uv.seams import padding_sources
from model.uv.visibility import seen_from_outside

INFLUENCES = 4  # joints that move one point; the same truncation while training and while rendering


@dataclass(frozen=True)
class BodySurface:
    """A skinned mesh with a UV layout, in the rest and the canonical pose.

    Attributes:
        vertices_rest, vertices_cano: metres.
        faces, uv_faces: corners by vertex and by texture coordinate.
        uv: texture coordinates, 0..1.
        lbs_weights: share of each joint in each vertex.
        joints_rest: joint positions, metres.
        parents: parent of each joint, -1 for the root.
    """

    vertices_rest: Float[np.ndarray, "V 3"]
    vertices_cano: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "U 2"]
    uv_faces: Int[np.ndarray, "F 3"]
    lbs_weights: Float[np.ndarray, "V J"]
    joints_rest: Float[np.ndarray, "J 3"]
    parents: Int[np.ndarray, "J"]


def body_surface(model: BodyModel, betas: Float[Tensor, "S"]) -> BodySurface:
    """The surface of one person. Raises ValueError where the body model has no UV layout."""
    uv, uv_faces = model.require_uv()
    betas = betas.to(model.dtype)
    vertices, joints = model.rest(betas)
    still = torch.zeros(3, dtype=model.dtype)
    cano = model.pose(betas, still, canonical_pose(model), still).vertices
    tensors = (vertices, cano, model.faces, uv, uv_faces, model.lbs_weights, joints, model.parents)
    return BodySurface(*(t.detach().cpu().numpy() for t in tensors))


@dataclass(frozen=True)
class UvAtlas:
    """Surface points of one body and the feature map they read.

    Attributes:
        points_rest, points_cano, normals_rest: position in both poses, outward unit normal in the rest pose.
        face, barycentric: the face that carries each point, and where in it.
        uv: where each point reads the feature map.
        spacing: distance to the next point along the more stretched direction.
        skin_joints, skin_weights: the joints that move each point, heaviest first; weights sum to 1.
        neighbours: the points around each point on the surface, seams crossed.
        mirror: the point on the other side of the body.
        map_texel: row * G + column of the feature map's texels that lie inside charts.
        map_points_rest, map_skin_joints, map_skin_weights: what lies there, as for the surface points.
        map_source: for each of the G * G texels of the feature map, which of its M points it shows (seams padded).
        joints_rest, parents: the skeleton.
    """

    points_rest: Float[Tensor, "N 3"]
    points_cano: Float[Tensor, "N 3"]
    normals_rest: Float[Tensor, "N 3"]
    face: Int[Tensor, "N"]
    barycentric: Float[Tensor, "N 3"]
    uv: Float[Tensor, "N 2"]
    spacing: Float[Tensor, "N"]
    skin_joints: Int[Tensor, "N K"]
    skin_weights: Float[Tensor, "N K"]
    neighbours: Int[Tensor, "N L"]
    mirror: Int[Tensor, "N"]
    map_texel: Int[Tensor, "M"]
    map_points_rest: Float[Tensor, "M 3"]
    map_skin_joints: Int[Tensor, "M K"]
    map_skin_weights: Float[Tensor, "M K"]
    map_source: Int[Tensor, "G*G"]
    joints_rest: Float[Tensor, "J 3"]
    parents: Int[Tensor, "J"]

    @property
    def num_points(self) -> int:
        return self.points_rest.shape[0]

    @property
    def map_resolution(self) -> int:
        return round(self.map_source.shape[0] ** 0.5)

    def check(self) -> None:
        """Raises ValueError where the tensors do not belong together: an index that leads elsewhere would read foreign memory."""
        N, J, M, T = self.num_points, self.joints_rest.shape[0], self.map_texel.shape[0], self.map_source.shape[0]
        below = {"skin_joints": J, "map_skin_joints": J, "neighbours": N, "mirror": N, "map_source": M, "map_texel": T, "face": None}
        rows = {"points_cano": N, "normals_rest": N, "barycentric": N, "uv": N, "spacing": N, "skin_weights": N, "skin_joints": N, "face": N, "neighbours": N,
                "mirror": N, "map_points_rest": M, "map_skin_joints": M, "map_skin_weights": M, "parents": J}  # fmt: skip
        for name, count in rows.items():
            if getattr(self, name).shape[0] != count:
                raise ValueError(f"{name} has {getattr(self, name).shape[0]} rows, expected {count}")
        for name, end in below.items():
            values = getattr(self, name)
            if values.numel() and (int(values.min()) < 0 or (end is not None and int(values.max()) >= end)):
                raise ValueError(f"{name} runs from {int(values.min())} to {int(values.max())}, expected 0 to {'any' if end is None else end - 1}")
        if self.map_resolution**2 != T:
            raise ValueError(f"map_source has {T} texels, expected a square number")
        check_tree(self.parents)

    def arrays(self) -> dict[str, np.ndarray]:
        """The same as named arrays, for a file."""
        return {field.name: getattr(self, field.name).cpu().numpy() for field in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> UvAtlas:
        """The inverse of `arrays`: reals as float32, indices as int64."""
        tensors = {field.name: torch.from_numpy(np.asarray(arrays[field.name])) for field in dataclasses.fields(cls)}
        return cls(**{name: t.float() if t.is_floating_point() else t.long() for name, t in tensors.items()})


def bake_atlas(
    surface: BodySurface, *, resolution: int, map_resolution: int, density: Float[np.ndarray, "J"] | None
) -> UvAtlas:
    """Sample a body's surface once per texel of its UV layout, and prepare the feature map.

    Surfaces that cannot be seen from outside (mouth, eye sockets) are not sampled. A layout gives each part of the body
    the room that its maker liked (the open body's face has a quarter of it, a forearm one part in seventy). With `density`
    every face is therefore sampled at a resolution of its own, so that the points lie evenly on the body, more densely
    where `density` says; their number stays about that of the plain layout.

    Args:
        surface: the body.
        resolution: texels per side that are sampled for Gaussians.
        map_resolution: texels per side of the feature map.
        density: points per length around each joint, relative to the others; None samples the layout as it is.
    """
    outside = seen_from_outside(surface.vertices_cano, surface.faces)
    if density is None:
        parts = [_sample(surface, resolution, outside)]
    else:
        wanted = face_resolutions(surface, resolution, outside, density)
        parts = [_sample(surface, int(side), outside & (wanted == side)) for side in np.unique(wanted[outside])]
    samples = TexelSamples(*(np.concatenate(values) for values in zip(*(vars(s).values() for s, _ in parts), strict=True)))
    spacing = np.concatenate([spacing for _, spacing in parts])

    points_cano = interpolate(surface.vertices_cano, surface.faces, samples)
    points_rest = interpolate(surface.vertices_rest, surface.faces, samples)
    normals = interpolate(vertex_normals(surface.vertices_rest, surface.faces), surface.faces, samples)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    joints, weights = heaviest(interpolate(surface.lbs_weights, surface.faces, samples), INFLUENCES)

    map_samples = rasterise_layout(surface.uv, surface.uv_faces, map_resolution)
    map_joints, map_weights = heaviest(interpolate(surface.lbs_weights, surface.faces, map_samples), INFLUENCES)
    arrays = dict(
        points_rest=points_rest,
        points_cano=points_cano,
        normals_rest=normals,
        face=samples.face,
        barycentric=samples.barycentric,
        uv=samples.uv,
        spacing=spacing,
        skin_joints=joints,
        skin_weights=weights,
        neighbours=surface_neighbours(points_cano, normals),
        mirror=cKDTree(points_rest).query(points_rest * [-1, 1, 1])[1],
        map_texel=map_samples.texel,
        map_points_rest=interpolate(surface.vertices_rest, surface.faces, map_samples),
        map_skin_joints=map_joints,
        map_skin_weights=map_weights,
        map_source=padding_sources(surface.faces, surface.uv, surface.uv_faces, map_samples, map_resolution),
        joints_rest=surface.joints_rest,
        parents=surface.parents,
    )
    return UvAtlas.from_arrays({k: np.float32(v) if v.dtype.kind == "f" else np.int64(v) for k, v in arrays.items()})


def heaviest(weights: Float[np.ndarray, "N J"], count: int) -> tuple[Int[np.ndarray, "N K"], Float[np.ndarray, "N K"]]:
    """The `count` largest weights of each row and their columns, heaviest first, scaled to sum to 1."""
    count = min(count, weights.shape[1])
    columns = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    kept = np.take_along_axis(weights, columns, axis=1)
    return columns, kept / kept.sum(1, keepdims=True)


def surface_neighbours(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], count: int = 6
) -> Int[np.ndarray, "N L"]:
    """The nearest points that face the same way; a point stands in for itself where it has too few of them."""
    candidates = cKDTree(points).query(points, k=min(2 * count + 1, len(points)))[1][:, 1:]
    same_side = (normals[candidates] * normals[:, None]).sum(-1) > 0.3
    order = np.argsort(~same_side, axis=1, kind="stable")[:, :count]
    nearest = np.take_along_axis(candidates, order, axis=1)
    good = np.take_along_axis(same_side, order, axis=1)
    return np.where(good, nearest, np.arange(len(points))[:, None])


def vertex_normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Unit normals: the mean of the faces around a vertex, weighted by area."""
    A, B, C = (vertices[faces[:, k]] for k in range(3))
    face_normals = np.cross(B - A, C - A)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], face_normals)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-20)


def face_resolutions(
    surface: BodySurface, resolution: int, outside: np.ndarray, density: Float[np.ndarray, "J"]
) -> Int[np.ndarray, "F"]:
    """The resolution at which each face must be sampled for even points, in steps of a factor 2^(1/4).

    A face of area A on the body and a in the layout gets a R_f^2 points; with R_f^2 = (A / a) (d_f / h)^2 they lie h / d_f
    apart everywhere, and h follows from the number of points that the layout would have at `resolution`.
    """
    area_body = _areas(surface.vertices_rest[surface.faces])
    area_uv = _areas(np.pad(surface.uv[surface.uv_faces], ((0, 0), (0, 0), (0, 1))))
    face_density = (surface.lbs_weights @ density)[surface.faces].mean(1)
    budget = (area_uv * resolution**2)[outside].sum()
    h = np.sqrt((area_body * face_density**2)[outside].sum() / budget)
    side = np.sqrt(area_body / area_uv.clip(1e-12)) * face_density / h
    steps = np.round(4 * np.log2(side.clip(resolution / 4, resolution * 4) / resolution))
    return np.round(resolution * 2 ** (steps / 4)).astype(int)


def _areas(corners: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, "F"]:
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2


def _sample(surface: BodySurface, resolution: int, keep: np.ndarray) -> tuple[TexelSamples, np.ndarray]:
    samples = rasterise_layout(surface.uv, surface.uv_faces, resolution, keep_face=keep)
    return samples, texel_spacing(surface.vertices_rest, surface.faces, surface.uv, surface.uv_faces, samples, resolution)
