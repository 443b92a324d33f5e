"""Light stays where it is in the world."""

from __future__ import annotations

import numpy as np
import pytest

from demo.lighting import Lit, cast, cast_all, ground_light, shade, sky_directions, sky_visibility
from demo.mesh_renderer import Skin, View, look_at, vertex_normals, visible_faces
from demo.people import make_light

SQUARE = np.array([[-0.3, -0.3, 0], [0.3, -0.3, 0], [0.3, 0.3, 0], [-0.3, 0.3, 0]], np.float32)
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
CENTRE = np.zeros(3)


def grey_square() -> Skin:
    return Skin(FACES, np.full((2, 3, 2), 0.5, np.float32), np.zeros(2, np.int32), np.full((1, 4, 4, 4), 128, np.uint8), np.zeros(1, bool))


def turned(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return (SQUARE @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T).astype(np.float32)


def brightness(vertices: np.ndarray, eye: np.ndarray) -> float:
    light, skin = make_light(0), grey_square()
    camera = View(np.array([[60.0, 0, 16], [0, 60, 16], [0, 0, 1]]), look_at(eye, np.zeros(3)), 32, 32)
    lit = Lit(vertices, vertex_normals(vertices, FACES), np.ones(4, np.float32), cast(vertices, FACES, light.to_key, centre=CENTRE, radius=1.0, size=128))
    color, alpha = shade(visible_faces(vertices, skin, camera, 2), lit, skin, np.zeros((1, 4), np.float32), light, camera, 2)
    return float(color[alpha == 1].mean())


def test_a_turned_surface_changes_its_shade() -> None:
    light = make_light(0)
    towards = float(np.arctan2(light.to_key[0], light.to_key[2]))
    facing, away = (brightness(turned(towards + turn), 3 * np.array([np.sin(towards + turn), 0, np.cos(towards + turn)])) for turn in (0.0, 2.6))
    assert facing > 1.8 * away


def test_a_moved_camera_does_not_change_the_shade() -> None:
    one, other = brightness(SQUARE, np.array([0.0, 0, 3])), brightness(SQUARE, np.array([1.0, 0.5, 2.5]))
    assert one == pytest.approx(other, rel=1e-4)  # float32 sums


def test_shade_is_albedo_times_light() -> None:
    light = make_light(0)
    albedo = ((128 / 255 + 0.055) / 1.055) ** 2.4
    received = light.key * light.to_key[2] + light.ambient + light.ambient_z
    assert brightness(SQUARE, np.array([0.0, 0, 3])) == pytest.approx(float((albedo * received).mean()), rel=1e-4)


def test_shadow_falls_behind_a_square_and_nowhere_else() -> None:
    to_light = np.array([0.0, 0.0, 1.0], np.float32)
    shadow = cast(SQUARE, FACES, to_light, centre=CENTRE, radius=1.0, size=256)
    points = np.array([[0, 0, -0.5], [0.1, -0.1, -0.2], [0.6, 0, -0.5], [0, 0, 0.5]], np.float32)
    np.testing.assert_allclose(ground_light(points, shadow.depth, shadow.rays, 0.05), [0, 0, 1, 1])


def test_shadows_soften_with_distance() -> None:
    to_light = np.array([0.0, 0.0, 1.0], np.float32)
    shadow = cast(SQUARE, FACES, to_light, centre=CENTRE, radius=1.0, size=512)

    def width(distance: float) -> int:
        x = np.linspace(0.15, 0.45, 301)
        points = np.stack([x, np.zeros(301), np.full(301, -distance)], axis=1).astype(np.float32)
        share = ground_light(points, shadow.depth, shadow.rays, 0.07)
        return int(((share > 0.05) & (share < 0.95)).sum())

    assert width(0.9) > 2 * width(0.1)


def test_an_open_plane_sees_the_whole_sky_and_a_corner_does_not() -> None:
    floor = np.array([[-1, 0, -1], [-1, 0, 1], [1, 0, 1], [1, 0, -1]], np.float32)
    wall = np.array([[-1, 0, -0.1], [1, 0, -0.1], [1, 1, -0.1], [-1, 1, -0.1]], np.float32)
    directions = sky_directions()
    point, up = np.zeros((1, 3), np.float32), np.array([[0, 1, 0]], np.float32)

    def share(vertices: np.ndarray, faces: np.ndarray) -> float:
        sky = cast_all(vertices, faces, directions, centre=CENTRE, radius=1.5, size=160)
        return float(sky_visibility(point, up, sky, directions)[0])

    above = directions[:, 1] > 0.1
    assert share(floor, FACES) == pytest.approx(1.0, abs=0.12)  # directions near the horizon graze the floor itself
    with_wall = share(np.concatenate([floor, wall]), np.concatenate([FACES, FACES + 4]))
    assert with_wall < 0.85 * share(floor, FACES)
    assert above.sum() > 8
