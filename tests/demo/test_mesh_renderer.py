"""The triangle renderer against cases whose answer is known on paper."""

from __future__ import annotations

import numpy as np
import pytest

from demo.mesh_renderer import Skin, View, depth_maps, look_at, paint_layout, vertex_normals, visible_faces

SIZE = 64


def view(focal: float = 64.0) -> View:
    """A camera at the origin that looks along +z."""
    return View(np.array([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]]), np.eye(4), SIZE, SIZE)


def skin(faces: list[list[int]], uv: np.ndarray | None = None, texture: np.ndarray | None = None) -> Skin:
    faces = np.array(faces, np.int32)
    uv = np.zeros((len(faces), 3, 2)) if uv is None else uv
    texture = np.full((4, 4, 4), 255) if texture is None else texture
    return Skin(faces, uv.astype(np.float32), np.zeros(len(faces), np.int32), texture[None].astype(np.uint8), np.array([texture[..., 3].min() < 128]))


def test_a_triangle_covers_its_area() -> None:
    corners = np.array([[-0.31, -0.4, 1.0], [0.42, -0.27, 1.0], [0.05, 0.44, 1.0]])
    seen = visible_faces(corners, skin([[0, 1, 2]]), view(), samples=4)
    edges = corners[1:, :2] - corners[0, :2]
    area = abs(np.linalg.det(edges)) / 2 * 64**2
    # each of the about 190 boundary samples of 1/16 px can go either way; half a percent is far beyond their mean
    assert (seen.face == 0).sum() / 16 == pytest.approx(area, rel=5e-3)


def test_neighbouring_triangles_leave_no_gap() -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.linspace(-0.45, 0.45, 7), np.linspace(-0.45, 0.45, 7)), -1).reshape(-1, 2)
    inner = (np.abs(grid) < 0.4).all(axis=1)
    grid[inner] += rng.uniform(-0.05, 0.05, (inner.sum(), 2))
    corners = np.concatenate([grid, np.ones((49, 1))], 1)
    quads = [(r * 7 + c) for r in range(6) for c in range(6)]
    faces = [f for q in quads for f in ([q, q + 1, q + 8], [q, q + 8, q + 7])]
    seen = visible_faces(corners, skin(faces), view(), samples=2)
    inside = seen.face[8:-8, 8:-8]
    assert (inside >= 0).all()


def test_depth_between_the_corners_is_the_planes_own() -> None:
    corners = np.array([[-1.0, -1.0, 1.5], [1.0, -1.0, 3.0], [0.0, 1.5, 2.0]])
    seen = visible_faces(corners, skin([[0, 1, 2]]), view(), samples=1)
    rows, columns = np.nonzero(seen.face == 0)
    rays = np.stack([(columns + 0.5 - 32) / 64, (rows + 0.5 - 32) / 64, np.ones(len(rows))], axis=1)
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    depth = (normal @ corners[0]) / (rays @ normal)
    np.testing.assert_allclose(1 / seen.inverse_depth[rows, columns], depth, rtol=1e-5)  # float32


def test_textures_are_perspective_correct() -> None:
    """A wall that runs away from the camera, its far half a hole: the edge lies at the middle in space, not in the picture."""
    near, far = 1.0, 3.0
    corners = np.array([[-0.4, -0.4, near], [1.0, -1.2, far], [1.0, 1.2, far], [-0.4, 0.4, near]])
    uv = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]])
    texture = np.full((64, 64, 4), 255)
    texture[:, 32:, 3] = 0
    seen = visible_faces(corners, skin([[0, 1, 2], [0, 2, 3]], uv, texture), view(), samples=8)
    row = seen.face[SIZE * 4]
    edge = np.nonzero(row >= 0)[0].max() / 8
    middle = (corners[0] + corners[1]) / 2
    assert edge == pytest.approx(64 * middle[0] / middle[2] + 32, abs=0.3)
    assert abs(edge - (64 * (-0.4 / near + 1.0 / far) / 2 + 32)) > 5  # where interpolation on the picture plane would put it


def test_the_nearer_triangle_wins_in_either_order() -> None:
    corners = np.array([[-1, -1, 2.0], [1, -1, 2], [0, 1, 2], [-1, -1, 1.0], [1, -1, 3], [0, 1, 2]])
    one = visible_faces(corners, skin([[0, 1, 2], [3, 4, 5]]), view(), samples=1)
    other = visible_faces(corners, skin([[3, 4, 5], [0, 1, 2]]), view(), samples=1)
    seen = one.face >= 0
    seen[:, 31:33] = False  # there the two cross
    assert (one.face[seen] == 1 - other.face[seen]).all()
    assert set(one.face[seen]) == {0, 1}
    left, right = one.face[30, 28], one.face[30, 36]
    assert (left, right) == (1, 0)  # the slanted one comes forward on the left


def test_what_reaches_behind_the_camera_is_not_drawn() -> None:
    seen = visible_faces(np.array([[-1, -1, -1.0], [1, -1, 2], [0, 1, 2]]), skin([[0, 1, 2]]), view(), samples=1)
    assert (seen.face == -1).all()


def test_a_camera_stands_upright_and_does_not_mirror() -> None:
    w2c = look_at(np.array([1.0, 1.5, 4.0]), np.array([0.0, 1.0, 0.0]))
    assert np.linalg.det(w2c[:3, :3]) == pytest.approx(1.0)
    camera = View(view().K, w2c, SIZE, SIZE)
    np.testing.assert_allclose(camera.position, [1.0, 1.5, 4.0], atol=1e-12)
    middle, above, left_of_person = camera.project(np.array([[0, 1.0, 0], [0, 1.2, 0], [0.2, 1.0, 0]]))
    np.testing.assert_allclose(middle, [32, 32], atol=1e-9)
    assert above[1] < middle[1]  # up in the world is up in the picture
    assert left_of_person[0] > middle[0]  # the left hand of somebody who faces us is on our right


def test_cropping_moves_the_picture_and_nothing_else() -> None:
    points = np.array([[0.1, -0.2, 2.0], [0.3, 0.1, 1.0]])
    np.testing.assert_allclose(view().crop(5, 9, 20, 20).project(points), view().project(points) - [5, 9])


def test_depth_maps_hold_the_first_surface() -> None:
    points = np.array([[[2, 2, 0.5], [30, 2, 0.5], [2, 30, 0.5], [2, 2, 0.2], [14, 2, 0.2], [2, 14, 0.2]]])
    depth = depth_maps(points, np.array([[0, 1, 2], [3, 4, 5]], np.int32), 32)[0]
    assert depth[4, 4] == np.float32(0.2)
    assert depth[4, 20] == np.float32(0.5)
    assert np.isinf(depth[28, 28])


def test_a_layout_knows_where_its_texels_lie() -> None:
    uv = np.array([[[0.1, 0.1], [0.9, 0.2], [0.3, 0.8]]], np.float32)
    face, weights = paint_layout(uv, 32)
    rows, columns = np.nonzero(face == 0)
    found = np.einsum("nk,kc->nc", weights[rows, columns], uv[0])
    np.testing.assert_allclose(found, np.stack([(columns + 0.5) / 32, (rows + 0.5) / 32], 1), atol=1e-5)


def test_normals_point_away_from_a_counterclockwise_face() -> None:
    normals = vertex_normals(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32), np.array([[0, 1, 2]], np.int32))
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 3, atol=1e-6)
