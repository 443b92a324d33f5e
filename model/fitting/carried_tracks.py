"""Places of single frames, carried on the posed body into other frames and matched there.

A look that is learned on a wrong motion has its texture in the wrong places, and where the person turns, all points that are
followed from it slip to one side. Here nothing is learned: the pixels of one frame, evened out in light, are warped as the
body moves from that frame to another, which takes turning, shortening and most of the way out, and Lucas-Kanade finds what
is left. Small windows, and only places where forth and back agree closely: a track that is off by a pixel harms more than a
dozen good ones help.

Frames up to half a second away tell how the body turns from one to the next, but not what such turns add up to. So places are also
carried into frames of any other time in which the chest is seen from much the same side: there they look alike, light included.

Axes: K frames that have a picture, V vertices and T faces of the body, M pixels that it covers, N places, P tracks of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from model.body.body_files import BODY_JOINTS
from model.fitting.bundle import SurfaceTracks
from model.fitting.fit import pose_state, skin_surface
from model.fitting.follow import edge_information
from model.fitting.kinematics import Posed, SurfacePoints
from model.fitting.objective import FitBody
from model.fitting.observations import FitState, Observations
from model.fitting.outline import render_faces
from model.fitting.terms import project
from model.training_frames import TrainingFrames

LIGHT_WIDTH = 8.0  # px, standard deviation of the window that a pixel's grey is compared with
CONTRAST, LIGHT_FLOOR, LIGHT_SHARE = 40.0, 6.0, 0.15  # grey levels: what differs by LIGHT_FLOOR + LIGHT_SHARE of the mean becomes CONTRAST
RIM = 5  # px, side of the square in which all pixels must show the person, for a place to be taken there
BORDER = 2.0  # px at the picture's border where nothing is matched
FURTHEST = 10.0  # px; a match further from where the body carried its place has jumped to something else
MATCH_SPREAD = 0.3  # px, of a match on rich texture
MATCH_TEXTURE = 25.0  # squared grey levels per squared px at which it has grown by sqrt 2
CHEST = BODY_JOINTS.index("spine3")
DRAWN_AT_ONCE = 128  # bodies that are kept, some MB each
SEARCH = {"maxLevel": 1, "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.01)}  # of Lucas-Kanade


@dataclass(frozen=True)
class CarryOptions:
    """How places are carried from frame to frame.

    Attributes:
        every: training frames from one that places are taken from to the next.
        reach: training frames to either side that its places are carried into.
        far: frames beyond those, drawn at random, that they are carried into as well.
        turned: deg that the chest may be turned by between a frame and such a far one.
        places: taken from one frame.
        tracks: of one frame, at most; 0 carries nothing.
        window: px, side of the square that is matched.
        agree: px; forth and back again, a match has to come home as near as this.
        strength: how many independent points all tracks of a frame count as.
        point_spread: m, of a place from where the bare body has it.
        rounds: how often places are carried, each time on the motion that the last ones led to.
        steps: Gauss-Newton steps of each adjustment.
    """

    every: int
    reach: int
    far: int
    turned: float
    places: int
    tracks: int
    window: int
    agree: float
    strength: float
    point_spread: float
    rounds: int
    steps: int


@dataclass(frozen=True)
class DrawnBody:
    """The body drawn in one frame.

    Attributes:
        posed: its skeleton, one frame of it.
        vertices: camera axes, m. corners: of each face, px.
        rows, columns: pixels that it covers.
        face, shares: the face that shows in each, and the pixel's barycentric coordinates in the drawn face.
        shows: faces that show anywhere.
    """

    posed: Posed
    vertices: Float[Tensor, "V 3"]
    corners: Float[np.ndarray, "T 3 2"]
    rows: Int[np.ndarray, "M"]
    columns: Int[np.ndarray, "M"]
    face: Int[np.ndarray, "M"]
    shares: Float[np.ndarray, "M 3"]
    shows: Bool[np.ndarray, "T"]

    def pixels(self, face: Int[np.ndarray, "N"], shares: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        """Where places of the surface are drawn, px."""
        return np.einsum("nk,nkx->nx", shares, self.corners[face])


def carry_tracks(
    body: FitBody, seen: Observations, frames: TrainingFrames, state: FitState, confidence: Float[Tensor, "F"], options: CarryOptions,
    *, seed: int,
) -> tuple[SurfacePoints, SurfaceTracks]:  # fmt: skip
    """Carry places of every few frames into those around, on the body as the state has it.

    Args:
        frames: the pictures between which places are carried.
        confidence: 0..1, of each frame of the state.

    Returns:
        Places on the bare body, and where each is seen; frames without a picture have no tracks. Deterministic in the seed.
    """
    generator, rows = np.random.default_rng(seed), frames.rows.tolist()
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in frames.images]
    even = [even_light(picture) for picture in grey]
    chest = pose_state(body, state).R[rows, CHEST].numpy()

    @lru_cache(DRAWN_AT_ONCE)
    def draw(k: int) -> DrawnBody:
        return draw_body(body, seen, state, rows[k], frames.masks.shape[1:])

    surfaces, found, count = [], [], 0
    for k in range(0, len(rows), options.every):
        chosen = choose_places(draw(k), frames.masks[k], options.places, generator)
        face, shares = draw(k).face[chosen], draw(k).shares[chosen]
        at = draw(k).pixels(face, shares)
        surfaces.append(places_on(body, state, draw(k), face, shares))
        sharpness = edge_information(grey[k], at, spread=MATCH_SPREAD, texture=MATCH_TEXTURE)
        others = choose_frames(chest, k, options, generator) if len(at) else []
        matches = [(other, *match(draw(k), even[k], draw(other), even[other], face, shares, options)) for other in others]
        for other, targets, good in [(k, at, np.ones(len(at), bool)), *matches]:
            found.append((np.full(good.sum(), rows[other]), count + np.flatnonzero(good), targets[good], sharpness[good]))
        count += len(face)
    surface = SurfacePoints(*(torch.cat([getattr(s, name) for s in surfaces]) for name in ("vertices", "vertices_by_beta", "lbs_weights")))
    return surface, gather([np.concatenate(part) for part in zip(*found, strict=True)], confidence, options, generator)


def choose_frames(chest: Float[np.ndarray, "K 3 3"], k: int, options: CarryOptions, generator: np.random.Generator) -> list[int]:
    """Frames that places of one are carried into, ascending: those around, and some of any time that show the chest much alike."""
    gap = np.abs(np.arange(len(chest)) - k)
    cosine = (np.einsum("ij,kij->k", chest[k], chest) - 1) / 2
    alike = np.flatnonzero((gap > options.reach) & (cosine > np.cos(np.radians(options.turned))))
    around = np.flatnonzero((gap > 0) & (gap <= options.reach))
    return sorted([*around.tolist(), *generator.permutation(alike)[: options.far].tolist()])


def draw_body(body: FitBody, seen: Observations, state: FitState, row: int, shape: tuple[int, int]) -> DrawnBody:
    """Draw the body's surface as the state has it in one frame, with its faces' numbers for colours."""
    posed = pose_state(body, state.frames(slice(row, row + 1)))
    vertices = skin_surface(body.surface, posed, state.betas)
    pixels = project(vertices, seen.focal_px * state.log_focal.exp(), seen.principal)[0][0].numpy()
    faces = body.faces.numpy()
    owner, _ = render_faces(pixels, vertices[0, :, 2].numpy(), faces, *shape)
    rows, columns = np.nonzero(owner >= 0)
    face, corners = owner[rows, columns], pixels[faces]
    a, b, c = corners[face].transpose(1, 0, 2)
    ab, ac, to = b - a, c - a, np.stack([columns, rows], 1) + 0.5 - a
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    of_b = (to[:, 0] * ac[:, 1] - to[:, 1] * ac[:, 0]) / area
    of_c = (ab[:, 0] * to[:, 1] - ab[:, 1] * to[:, 0]) / area
    shows = np.zeros(len(faces), bool)
    shows[face] = True
    return DrawnBody(posed, vertices[0], corners, rows, columns, face, np.stack([1 - of_b - of_c, of_b, of_c], 1), shows)


def even_light(grey: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """The picture without slow changes of light and contrast: how much each pixel differs from those around."""
    grey = grey.astype(np.float32)
    around = cv2.GaussianBlur(grey, (0, 0), LIGHT_WIDTH)
    return np.clip(128 + CONTRAST * (grey - around) / (LIGHT_FLOOR + LIGHT_SHARE * around), 0, 255).astype(np.uint8)


def choose_places(drawn: DrawnBody, mask: UInt8[np.ndarray, "H W"], count: int, generator: np.random.Generator) -> Int[np.ndarray, "N"]:
    """Some of the drawn pixels that lie well inside the person."""
    inside = cv2.erode((mask > 127).astype(np.uint8), np.ones((RIM, RIM)))
    return generator.permutation(np.flatnonzero(inside[drawn.rows, drawn.columns]))[:count]


def match(
    start: DrawnBody, picture: UInt8[np.ndarray, "H W"], drawn: DrawnBody, seen: UInt8[np.ndarray, "H W"],
    face: Int[np.ndarray, "N"], shares: Float[np.ndarray, "N 3"], options: CarryOptions,
) -> tuple[Float[np.ndarray, "N 2"], Bool[np.ndarray, "N"]]:  # fmt: skip
    """Warp one frame's picture as the body moves into another frame, and find the places of `face` and `shares` there.

    Args:
        start, picture: of the frame that is warped. drawn, seen: of the other one.

    Returns:
        Where they are seen, px, and which of them can be believed.
    """
    source = start.pixels(drawn.face, drawn.shares) - 0.5
    known = start.shows[drawn.face]
    x, y = np.full((2, *seen.shape), -1, np.float32)
    x[drawn.rows[known], drawn.columns[known]], y[drawn.rows[known], drawn.columns[known]] = source[known].T
    carried = np.where(x >= 0, cv2.remap(picture, x, y, cv2.INTER_LINEAR), seen)

    at = drawn.pixels(face, shares) - 0.5
    inside = ((at > BORDER) & (at < np.array(seen.shape[::-1]) - 1 - BORDER)).all(1)
    column, row = np.where(inside[:, None], at, 0).round().astype(int).T
    guess, window = at.astype(np.float32)[:, None], (options.window, options.window)
    there, found, _ = cv2.calcOpticalFlowPyrLK(carried, seen, guess, None, winSize=window, **SEARCH)
    home, returned, _ = cv2.calcOpticalFlowPyrLK(seen, carried, there, guess.copy(), winSize=window, flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **SEARCH)
    there, home = there[:, 0].astype(np.float64), home[:, 0].astype(np.float64)
    agree = np.linalg.norm(home - at, axis=1) < options.agree
    near = np.linalg.norm(there - at, axis=1) < FURTHEST
    good = inside & drawn.shows[face] & (x[row, column] >= 0) & (found[:, 0] > 0) & (returned[:, 0] > 0) & agree & near
    return there + 0.5, good


def places_on(body: FitBody, state: FitState, drawn: DrawnBody, face: Int[np.ndarray, "N"], shares: Float[np.ndarray, "N 3"]) -> SurfacePoints:
    """Places as the fit sees surfaces, such that each lies exactly where it was seen in the frame that it is from."""
    corners = body.faces[torch.from_numpy(face).long()]
    on_surface = torch.from_numpy(shares) / drawn.vertices[corners, 2]  # perspective: what is nearer takes up more of the picture
    on_surface = on_surface / on_surface.sum(1, keepdim=True)

    def between(values: Tensor) -> Tensor:
        return torch.einsum("nk,nk...->n...", on_surface, values[corners])

    weights, by_beta = between(body.surface.lbs_weights), between(body.surface.vertices_by_beta)
    R = (weights @ drawn.posed.R[0].flatten(1)).unflatten(-1, (3, 3))
    rest = torch.linalg.solve(R, between(drawn.vertices) - weights @ drawn.posed.b[0])
    return SurfacePoints(rest - by_beta @ state.betas, by_beta, weights)


def gather(found: list[np.ndarray], confidence: Float[Tensor, "F"], options: CarryOptions, generator: np.random.Generator) -> SurfaceTracks:
    """Some tracks of each frame, as strong together as the options say.

    Args: found holds row, place, target and sharpness of every track.
    """
    row, *parts = found
    count, most = len(confidence), min(options.tracks, int(np.bincount(row, minlength=1).max()))
    points, targets, sharpness = np.zeros((count, most), np.int64), np.zeros((count, most, 2)), np.zeros((count, most, 2, 2))
    for frame in np.unique(row):
        kept = generator.permutation(np.flatnonzero(row == frame))[:most]
        for into, part in zip((points, targets, sharpness), parts, strict=True):
            into[frame, : len(kept)] = part[kept]
        sharpness[frame] *= (options.strength / max(len(kept), options.strength) * float(confidence[frame])) ** 0.5
    return SurfaceTracks(*(torch.from_numpy(a) for a in (points, targets, sharpness)))
