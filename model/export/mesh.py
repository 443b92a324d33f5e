"""The avatar as a textured mesh: the body's triangles, moved to where its splats are, painted with their colours.

Axes: V vertices of the body, P vertices of the mesh (a vertex on a seam of the UV layout is one for each side of it),
F triangles, U texture coordinates, N splats, T texels per side, J joints. Lengths are metres, rest pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import factorized
from scipy.spatial import cKDTree

from model.uv.atlas import BodySurface, UvAtlas, heaviest, vertex_normals
from model.uv.bake import interpolate, rasterise_layout
from model.uv.visibility import seen_from_outside

INFLUENCES = 4  # joints of one vertex, as glTF's first set has and as the splats have
STIFFNESS = 0.02  # pull of a vertex towards the offsets of its neighbours, relative to one splat's
NORMAL_WEIGHT = 0.1  # m a unit: keeps the two sides of thin parts apart when neighbours are sought
RELIEF = 0.015  # m; features smaller than this do not say where outwards is
SURROUNDINGS = 48  # splats that do
UPRIGHT = 0.5  # cosine; a triangle that moving turns further than this lies in a fold
SMOOTHINGS = 30  # at most, of the vertices in folds
BRUSHES = 24  # splats that can colour a texel
BRUSH = 1.6  # how much wider a splat paints than it is: seen from aside and through each other, splats blur so far


@dataclass(frozen=True)
class AvatarMesh:
    """A skinned mesh in the rest pose.

    Attributes:
        vertices, normals: metres, unit vectors.
        uv: texture coordinates, 0..1, v downwards, as glTF has them.
        faces: corners, counter-clockwise seen from outside.
        skin_joints, skin_weights: what moves each vertex; weights sum to 1.
        texture: display colours.
        body_vertex: which vertex of the body each vertex is.
    """

    vertices: Float[np.ndarray, "P 3"]
    normals: Float[np.ndarray, "P 3"]
    uv: Float[np.ndarray, "P 2"]
    faces: Int[np.ndarray, "F 3"]
    skin_joints: Int[np.ndarray, "P K"]
    skin_weights: Float[np.ndarray, "P K"]
    texture: UInt8[np.ndarray, "T T 3"]
    body_vertex: Int[np.ndarray, "P"]


def bake_mesh(
    surface: BodySurface,
    atlas: UvAtlas,
    offsets: Float[np.ndarray, "N 3"],
    scales: Float[np.ndarray, "N"],
    colors: Float[np.ndarray, "N 3"],
    *,
    texels: int,
    thickness: float,
) -> AvatarMesh:
    """Make the mesh. The inside of mouth and eye sockets is left out, as it is of the splats.

    Args:
        surface: the person's body.
        atlas: where on it the splats are.
        offsets, scales, colors: of the splats: rest pose, metres; standard deviations, metres; display values.
        texels: T.
        thickness: how far the mesh lies outside the splats' centres, in their standard deviations: opaque splats are seen
            beyond their centres.
    """
    seen = seen_from_outside(surface.vertices_cano, surface.faces)
    normals_body = vertex_normals(surface.vertices_rest, surface.faces)
    outwards = np.asarray(offsets, np.float64) + thickness * scales[:, None] * smooth_normals(atlas)
    vertices = surface.vertices_rest + spread_to_vertices(outwards, atlas, surface.faces, len(surface.vertices_rest))
    vertices = without_folds(surface.vertices_rest, vertices, surface.faces[seen])
    corners = np.stack([surface.faces[seen].ravel(), surface.uv_faces[seen].ravel()], axis=1)
    pairs, corner = np.unique(corners, axis=0, return_inverse=True)
    joints, weights = heaviest(surface.lbs_weights, INFLUENCES)
    body_vertex = pairs[:, 0]
    texture = bake_texture(surface, atlas, normals_body, scales, colors, texels=texels)
    return AvatarMesh(
        vertices=vertices[body_vertex],
        normals=vertex_normals(vertices, surface.faces[seen])[body_vertex],
        uv=surface.uv[pairs[:, 1]],
        faces=corner.reshape(-1, 3),
        skin_joints=joints[body_vertex],
        skin_weights=weights[body_vertex],
        texture=np.round(255 * texture.clip(0, 1)).astype(np.uint8),
        body_vertex=body_vertex,
    )


def spread_to_vertices(
    values: Float[np.ndarray, "N 3"], atlas: UvAtlas, faces: Int[np.ndarray, "F 3"], num_vertices: int
) -> Float[np.ndarray, "V 3"]:
    """Values at the vertices that give, interpolated, those at the splats, and vary smoothly where splats say little:

        min_x  sum_i |sum_k b_ik x_k - y_i|^2 + s sum_edges |x_a - x_b|^2

    so that parts without splats (the mouth's inside) move with what surrounds them.
    """
    corners, barycentric = faces[atlas.face.numpy()], atlas.barycentric.double().numpy()
    rows = np.repeat(np.arange(len(values)), 3)
    shares = coo_matrix((barycentric.ravel(), (rows, corners.ravel())), shape=(len(values), num_vertices)).tocsr()
    edges = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    links = coo_matrix((np.ones(len(edges)), edges.T), shape=(num_vertices, num_vertices)).tocsr()
    links = links + links.T
    laplacian = diags(np.asarray(links.sum(1)).ravel()) - links
    solve = factorized((shares.T @ shares + STIFFNESS * laplacian + 1e-9 * diags(np.ones(num_vertices))).tocsc())
    right = shares.T @ values
    return np.stack([solve(right[:, axis]) for axis in range(values.shape[1])], axis=1)


def smooth_normals(atlas: UvAtlas) -> Float[np.ndarray, "N 3"]:
    """Where outwards is, seen from a little away: the mean normal of the splats around that look the same way.

    Going along the normals themselves, the two lips, the sides of a nostril and the lids of an eye would run through each
    other; along these they move together.
    """
    points, normals = atlas.points_cano.double().numpy(), atlas.normals_rest.double().numpy()
    distance, around = cKDTree(points).query(points, k=min(SURROUNDINGS, len(points)))
    weights = np.exp(-0.5 * (distance / RELIEF) ** 2) * (normals[around] * normals[:, None]).sum(-1).clip(0)
    mean = (weights[..., None] * normals[around]).sum(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True).clip(1e-12)


def without_folds(
    before: Float[np.ndarray, "V 3"], after: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "V 3"]:
    """Smooth a moved surface where it folds (lips, nostrils, between fingers): there vertices go to the mean of their
    neighbours until no triangle is turned far from where it looked before."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    links = coo_matrix((np.ones(2 * len(edges)), np.concatenate([edges, edges[:, ::-1]]).T), shape=(len(before), len(before))).tocsr()
    degree = np.asarray(links.sum(1)).ravel()
    looked, moved = face_normals(before, faces), after.copy()
    for _ in range(SMOOTHINGS):
        folded = (looked * face_normals(moved, faces)).sum(1) < UPRIGHT
        if not folded.any():
            break
        corners = np.unique(faces[folded])
        moved[corners] = (links[corners] @ moved) / degree[corners, None]
    return moved


def face_normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 3"]:
    """Unit normals of the triangles."""
    A, B, C = (vertices[faces[:, k]] for k in range(3))
    normals = np.cross(B - A, C - A)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-20)


def bake_texture(
    surface: BodySurface,
    atlas: UvAtlas,
    normals: Float[np.ndarray, "V 3"],
    scales: Float[np.ndarray, "N"],
    colors: Float[np.ndarray, "N 3"],
    *,
    texels: int,
) -> Float[np.ndarray, "T T 3"]:
    """Paint the UV layout: each texel takes the mean of the splats around it on the surface, weighted by their Gaussians.

    Neighbours are sought in the canonical pose, where near in space is near on the surface, so paint crosses the seams of
    the layout. Texels outside the charts repeat the nearest one inside: no seam shows when a viewer blends texels.
    """
    samples = rasterise_layout(surface.uv, surface.uv_faces, texels)
    place = np.column_stack(
        [interpolate(surface.vertices_cano, surface.faces, samples), NORMAL_WEIGHT * interpolate(normals, surface.faces, samples)]
    )
    splats = np.column_stack([atlas.points_cano.numpy(), NORMAL_WEIGHT * atlas.normals_rest.numpy()])
    distance, nearest = cKDTree(splats).query(place, k=min(BRUSHES, len(splats)))
    exponent = -0.5 * (distance / (BRUSH * scales[nearest])) ** 2
    weights = np.exp(exponent - exponent.max(1, keepdims=True))
    painted = (weights[..., None] * colors[nearest]).sum(1) / weights.sum(1)[:, None]
    texture, inside = np.zeros((texels * texels, 3)), np.zeros(texels * texels, bool)
    texture[samples.texel], inside[samples.texel] = painted, True
    row, column = distance_transform_edt(~inside.reshape(texels, texels), return_distances=False, return_indices=True)
    return texture.reshape(texels, texels, 3)[row, column]
