"""Where the cameras stand: the one that films the clip, and those that only score.

World: y up, floor at y = 0, the person near the origin, the clip's camera towards +z; metres and pixels.
"""

from __future__ import annotations

import numpy as np

from demo.mesh_renderer import View, look_at

CLIP_FOCAL = 1.082  # of the picture's width: what a telephone sees without zoom
CLIP_EYE = np.array([0.06, 1.40, 4.25])
CLIP_TARGET = np.array([0.0, 0.93, 0.0])
AROUND_TARGET = np.array([0.0, 0.98, 0.0])
AROUND_DISTANCE = 3.7
AROUND_FOCAL = 1.55  # of the picture's width
# name, azimuth from the clip's camera towards the person's left, elevation, degrees
AROUND = (("left", 88, 4), ("right", -95, 8), ("back", 176, 10), ("front_high", 34, 38), ("back_high", -142, 34), ("low", -38, -10))


def clip_view(width: int, height: int) -> View:
    """The still camera that films the clip; the picture's height decides how large the person is."""
    focal = CLIP_FOCAL * height * 16 / 9
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return View(K, look_at(CLIP_EYE, CLIP_TARGET), width, height)


def cameras_around(count: int, size: int) -> dict[str, View]:
    """Cameras around the person, the named ones first; they look up, down and at the back."""
    places = list(AROUND[:count]) + [(f"around_{k}", 137.5 * k, 25 * (k % 3) - 5) for k in range(len(AROUND), count)]
    K = np.array([[AROUND_FOCAL * size, 0, size / 2], [0, AROUND_FOCAL * size, size / 2], [0, 0, 1.0]])
    views = {}
    for name, azimuth, elevation in places:
        turn, rise = np.deg2rad(azimuth), np.deg2rad(elevation)
        away = np.array([np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)])
        views[name] = View(K, look_at(AROUND_TARGET + AROUND_DISTANCE * away, AROUND_TARGET), size, size)
    return views


def close_up(view: View, points: np.ndarray, size: int, *, margin: float = 0.08) -> View:
    """The same camera's picture, cut to a square around points [N, 3] and resampled to `size` pixels a side."""
    pixels = view.project(points)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    side = float((high - low).max() * (1 + 2 * margin))
    corner = (low + high) / 2 - side / 2
    K = view.K.copy()
    K[:2, 2] -= corner
    K[:2] *= size / side
    return View(K, view.w2c, size, size)
