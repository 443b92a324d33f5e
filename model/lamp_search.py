"""Where the lamp is: the direction whose light and shadows explain best what frames show.

What a point looks like in a frame is read off the picture by the rasteriser's own weights: the colour it was drawn in, plus
the mean of what is left over at its pixels. For a direction, what each point gets of the lamp's light is known, shadows
included, and coefficients of the light and albedo follow by least squares in turns. Directions all round are tried, and from
the best of them ever smaller steps are taken. (Gradients would not get there: a shadow that falls beside its place does not
say which way to go.)

Axes: N surface points, M points seen in a frame, R points seen in all frames together, B rows of the light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as nnf

from model.avatar import Attributes, Avatar
from model.camera import Camera
from model.gaussians import Gaussians
from model.lamp_light import cast_shadows, lamp_share
from model.light import LAMP, MIN_SHADE, ROWS, shade, weighed
from model.pose import BodyPose
from model.render.cpu_threads import run_pieces
from model.render.rasterize import rasterize
from model.uv.visibility import sphere_directions

NUM_DIRECTIONS = 100  # tried all round, some 20 degrees apart
STEPS_DEG = (12.0, 6.0, 3.0, 1.5)  # then taken from the best, as long as they lead on
LEAST_FACING = 0.2  # cosine; points that are seen from further aside tell little
LEAST_WEIGHT = 0.15  # pixels that a point must have
RIDGE = 1e-3  # cost of a squared coefficient, in squared error of a pixel: a lamp behind, with all else turned about, shades alike
EVENNESS = np.array([1.0, 1.0, 1.0, 0.1, 0.15])  # how much of it each row costs: their mean squares over all directions
ALBEDO_HELD = 0.5  # pixels' worth of trust in the albedo as it is
ROUNDS = 2  # of albedo and light in turns
OUTLIER = 0.25  # of full white; what is further off counts as this far
LEAST_GAIN = 0.01  # share of the error that a lamp must explain to be believed
LEAST_STRENGTH = 0.02


@dataclass(frozen=True)
class Sighting:
    """What one frame shows of the points.

    Attributes:
        means, normals: all points in the world, metres.
        which: the points seen.
        facing: cosines at which the camera sees them.
        weights: how many pixels each has.
        colors: what each looks like, 0..1.
    """

    means: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"]
    which: Int[np.ndarray, "M"]
    facing: Float[np.ndarray, "M"]
    weights: Float[np.ndarray, "M"]
    colors: Float[np.ndarray, "M 3"]


def sight(
    avatar: Avatar, attributes: Attributes, pose: BodyPose, camera: Camera,
    picture: Float[Tensor, "H W 3"], mask: Float[Tensor, "H W"], *, trust: float, backend: str,
) -> Sighting:  # fmt: skip
    """Read what the points look like in a picture of the person in a pose; pixels count by their mask, all of them by the trust in the frame."""
    with torch.no_grad():
        means, normals = avatar.posed_surface(attributes, pose)
        eye = camera.eye.to(avatar.device)
        facing = (normals * nnf.normalize(eye - means, dim=-1)).sum(-1)
        drawn = (facing > -(1.0 if avatar.options.cull_margin is None else avatar.options.cull_margin)).nonzero()[:, 0]
        share = lamp_share(means, normals, avatar.lamp)
        colors = (attributes.albedo * shade(normals, facing, share, avatar.light)).clamp(0, 1)[drawn]
    colors.requires_grad_(True)
    figure = Gaussians(means[drawn], attributes.scales[drawn], colors, torch.ones_like(facing[drawn]))
    image, mask = rasterize(figure, camera, torch.zeros(3, device=avatar.device), backend=backend).image, mask[..., None]
    left_over = ((picture - image) * mask).detach()
    (pull,) = torch.autograd.grad((image * left_over).sum(), colors, retain_graph=True)
    (weight,) = torch.autograd.grad((image * mask).sum(), colors)
    weight = weight.mean(1)
    seen = (weight > LEAST_WEIGHT) & (facing[drawn] > LEAST_FACING)
    shown = colors.detach()[seen] + pull[seen] / weight[seen, None]
    parts = means, normals, drawn[seen], facing[drawn[seen]], trust * weight[seen], shown
    return Sighting(*(part.detach().cpu().contiguous().numpy() for part in parts))


def find_lamp(avatar: Avatar, attributes: Attributes, sightings: Sequence[Sighting]) -> None:
    """Give the avatar's light the lamp that explains the sightings best, or none; where it has one, look around that only.

    Args:
        avatar: its lamp and the coefficients of its light are replaced, its albedo is left to go on learning. Where nothing is
            seen, all stays.
        attributes: what its points are, in which the sightings were read.
    """
    sightings = [sighting for sighting in sightings if sighting.weights.any()]
    if not sightings:
        return
    albedo = attributes.albedo.detach().cpu().numpy()
    every, some = Explanation(albedo, sightings), Explanation(albedo, sightings[::2])
    if avatar.lamp.any():
        start = avatar.lamp.cpu().numpy()
    else:
        directions = sphere_directions(NUM_DIRECTIONS).astype(np.float32)
        start = directions[int(np.argmin(some.errors(directions)))]
    direction, error = descend(every, start)
    coefficients = every.explain(direction)[1]
    without = every.explain(np.zeros(3, np.float32))
    if error > (1 - LEAST_GAIN) * without[0] or coefficients[LAMP].mean() < LEAST_STRENGTH:
        direction, coefficients = np.zeros(3, np.float32), without[1]
    with torch.no_grad():
        avatar.lamp.copy_(torch.from_numpy(direction))
        avatar.light.copy_(torch.from_numpy(coefficients))


def descend(explanation: Explanation, direction: Float[np.ndarray, "3"]) -> tuple[Float[np.ndarray, "3"], float]:
    """Turn a direction, in ever smaller steps, to where it explains most; return it and the error left."""
    best = explanation.errors(direction[None])[0]
    for degrees in STEPS_DEG:
        while True:
            around = _around(direction, np.deg2rad(degrees))
            errors = explanation.errors(around)
            if not errors.min() < best:
                break
            direction, best = around[int(errors.argmin())], errors.min()
    return direction, float(best)


def _around(direction: Float[np.ndarray, "3"], angle: float) -> Float[np.ndarray, "6 3"]:
    """Six directions at an angle from one."""
    across = np.cross(direction, np.eye(3)[np.abs(direction).argmin()])
    across /= np.linalg.norm(across)
    turns = np.arange(6)[:, None] * np.pi / 3
    aside = np.cos(turns) * across + np.sin(turns) * np.cross(direction, across)
    return (np.cos(angle) * direction + np.sin(angle) * aside).astype(np.float32)


class Explanation:
    """How well light and albedo together explain some sightings, for any direction of the lamp."""

    def __init__(self, albedo: Float[np.ndarray, "N 3"], sightings: Sequence[Sighting]) -> None:
        self.albedo, self.sightings = albedo, sightings
        join = lambda name: np.concatenate([getattr(sighting, name) for sighting in sightings])  # noqa: E731
        self.which, self.weights, self.colors = join("which"), join("weights"), join("colors")
        normals = torch.from_numpy(np.concatenate([sighting.normals[sighting.which] for sighting in sightings]))
        facing = torch.from_numpy(join("facing"))
        self.weighed = weighed(normals, facing, torch.zeros(len(facing)), ROWS["lamp"]).numpy()

    def errors(self, directions: Float[np.ndarray, "D 3"]) -> Float[np.ndarray, "D"]:
        """What `explain` leaves with each direction; infinite where the lamp would have to take light away."""
        found = np.empty(len(directions))

        def try_one(index: int) -> None:
            error, coefficients = self.explain(directions[index])
            found[index] = error if np.isfinite(error) and coefficients[LAMP].mean() > 0 else np.inf

        run_pieces(try_one, range(len(directions)))
        return found

    def explain(self, direction: Float[np.ndarray, "3"]) -> tuple[float, Float[np.ndarray, "B 3"]]:
        """The mean squared error that is left with one direction, zero for no lamp, with what the light costs; and its coefficients."""
        matter = self.weighed.copy()
        if direction.any():
            shares = [cast_shadows(s.means, direction).share(s.which, s.means, s.normals) for s in self.sightings]
            matter[:, LAMP] = np.concatenate(shares)
        albedo, total = self.albedo, float(self.weights.sum())
        for turn in range(ROUNDS + 1):
            products, pulls = _normal_equations(self.which, self.weights, self.colors, matter, albedo)
            held = np.diag(RIDGE * total * EVENNESS)
            coefficients = np.stack([np.linalg.solve(p + held, q) for p, q in zip(products, pulls, strict=True)], axis=1)
            shades = np.maximum(1 + matter @ coefficients.astype(np.float32), np.float32(MIN_SHADE))
            if turn < ROUNDS:
                albedo = _albedo(self.which, self.weights, self.colors, shades, self.albedo)
        cost = RIDGE * float(EVENNESS @ np.square(coefficients).sum(1))
        return _error(self.which, self.weights, self.colors, shades, albedo) / total + cost, coefficients.astype(np.float32)


@numba.njit(nogil=True, cache=True)
def _normal_equations(which, weights, colors, matter, albedo):
    """Products and right sides, for each channel, of colour - albedo = albedo * matter . coefficients."""
    rows = matter.shape[1]
    products, pulls = np.zeros((3, rows, rows)), np.zeros((3, rows))
    for r in range(len(which)):
        for c in range(3):
            a = albedo[which[r], c]
            factor = weights[r] * a
            left = factor * (colors[r, c] - a)
            for k in range(rows):
                pulls[c, k] += left * matter[r, k]
                for m in range(k + 1):
                    products[c, k, m] += factor * a * matter[r, k] * matter[r, m]
    for c in range(3):
        for k in range(rows):
            for m in range(k):
                products[c, m, k] = products[c, k, m]
    return products, pulls


@numba.njit(nogil=True, cache=True)
def _albedo(which, weights, colors, shades, before):
    """Each point's colour without light, from all of its sightings, and a little from what was believed before."""
    sums, norms = np.float32(ALBEDO_HELD) * before, np.full(before.shape, np.float32(ALBEDO_HELD))
    for r in range(len(which)):
        for c in range(3):
            sums[which[r], c] += weights[r] * colors[r, c] * shades[r, c]
            norms[which[r], c] += weights[r] * shades[r, c] ** 2
    return sums / norms


@numba.njit(nogil=True, cache=True)
def _error(which, weights, colors, shades, albedo):
    """Weighted sum of squared differences, outliers held."""
    total = 0.0
    for r in range(len(which)):
        for c in range(3):
            off = abs(colors[r, c] - albedo[which[r], c] * shades[r, c])
            total += weights[r] * min(off, np.float32(OUTLIER)) ** 2
    return total
