"""Takes pictures of a posed person: light, shadow and any number of cameras for one moment.

Axes: V vertices, H x W pixels. World: y up, floor at y = 0, metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from demo.lighting import KEY_MAP, SKY_MAP, Light, Lit, Shadow, cast, cast_all, shade, sky_directions, sky_visibility
from demo.mesh_renderer import View, vertex_normals, visible_faces
from demo.subject import GLOSS, Subject

RADIUS = 1.35  # m around the person that the depth maps cover


@dataclass(frozen=True)
class Moment:
    """A person in one pose with the light that falls on them there.

    Attributes:
        lit: the mesh, lit.
        sky: depth maps from all over the sky, for what lies around the person.
        centre: the middle of the person, metres.
    """

    lit: Lit
    sky: list[Shadow]
    directions: Float32[np.ndarray, "D 3"]
    centre: np.ndarray


def light_moment(subject: Subject, vertices: np.ndarray, light: Light) -> Moment:
    """Work out which light reaches a posed person; it serves every camera."""
    faces = subject.skin.faces
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    shadow = cast(vertices, faces, light.to_key, centre=centre, radius=RADIUS, size=KEY_MAP)
    directions = sky_directions()
    sky = cast_all(vertices, faces, directions, centre=centre, radius=RADIUS, size=SKY_MAP)
    normals = vertex_normals(vertices, faces)
    return Moment(Lit(vertices, normals, sky_visibility(vertices, normals, sky, directions), shadow), sky, directions, centre)


def photograph(
    subject: Subject, moment: Moment, light: Light, view: View, *, samples: int = 2
) -> tuple[Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """See the person through one camera: linear colour times alpha, and alpha. Only the person's window is worked on."""
    color, alpha = np.zeros((view.height, view.width, 3), np.float32), np.zeros((view.height, view.width), np.float32)
    pixels = view.project(moment.lit.vertices)
    x0, y0 = np.clip(np.floor(pixels.min(axis=0)).astype(int) - 1, 0, [view.width, view.height])
    x1, y1 = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + 1, 0, [view.width, view.height])
    if x1 <= x0 or y1 <= y0:
        return color, alpha
    window = view.crop(x0, y0, x1 - x0, y1 - y0)
    visible = visible_faces(moment.lit.vertices, subject.skin, window, samples)
    part, cover = shade(visible, moment.lit, subject.skin, GLOSS, light, window, samples)
    color[y0:y1, x0:x1], alpha[y0:y1, x0:x1] = part, cover
    return color, alpha
