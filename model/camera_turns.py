"""How a camera turned on the spot while it filmed, and its focal length, told by the background.

A camera that only turns sees the same rays in all frames, whatever their depth: frame i shows the direction d at K R_i d, so that two
frames differ by the homography K R_j R_i^T K^-1 (Hartley and Zisserman, Multiple View Geometry, 2nd ed., 8.4 and 19.6), and all of them can be laid on the picture of one camera that
stands still and is wider. How much faster the picture's sides move than its middle tells the focal length.

Axes: F frames, H x W pixels, P and Q background points. Pixels are indices: their centres are at whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation, Slerp

from model.camera_motion import MIN_AGREEMENT, MIN_POINTS, TOLERANCE, background_corners, carry, follow_points

KEY_SHIFT = 0.12  # of the longer side, that a frame may have turned from the one it is compared with before it is compared with another
FOCAL_RANGE = 0.4, 3.0  # times the guess; a camera that is carried sideways seems to have an endless one
TOLD_POINTS = 60  # of each pair of frames, that tell the focal length
LEAST_FOCAL_ERROR = 0.05  # as a share: a telephone that is turned half a metre from the body's axis seems 4 % longer, a lens with k1 = -0.03 5 %
MAX_FOCAL_ERROR = 0.15  # as a share; a turn that tells its focal length less well is hardly one
OTHER_FOCAL = 0.3  # of the logarithm: a given focal length that the turn contradicts by more is one that the camera's being carried mimics
MIN_TOLD = 0.75  # share of the frames whose turn must be told; a quick turn blurs some
LONGEST_GAP = 10.0  # degrees that the camera may turn from a told frame to the next
MAX_MISS = 0.001  # of the longer side: root mean square by which a turn and a rolling shutter may miss what any homography hits, in nine of ten pairs of
# frames. Of 960 px a telephone turned at arm's length misses 0.2 to 0.6 px, one that is carried around or past the person as it turns 1.7 px and more


@dataclass(frozen=True)
class CameraTurns:
    """A camera that turned, and the picture of one that did not.

    Attributes:
        rotation: takes directions of the camera that stands still to those of each frame; it looks midway between the two frames that are furthest apart.
        focal_px: px of the pictures that were measured.
        focal_error: how far that may be off where the turn tells it, as a share; 0 where it was given.
    """

    rotation: Float[np.ndarray, "F 3 3"]
    focal_px: float
    focal_error: float

    @property
    def degrees(self) -> float:
        """The largest angle between two frames' optical axes."""
        axes = self.rotation[:, 2]
        return float(np.rad2deg(np.arccos(np.clip(axes @ axes.T, -1, 1)).max()))

    def off_axis(self, boxes: Sequence[tuple[float, float, float, float] | None], principal: tuple[float, float]) -> float:
        """The largest angle, degrees, between the still camera's axis and a corner of the frames' boxes (px of the pictures that were measured)."""
        K = intrinsics(self.focal_px, principal)
        angles = [0.0]
        for rotation, box in zip(self.rotation, boxes, strict=True):
            if box is not None:
                x0, y0, x1, y1 = box
                rays = _rays(np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]) - 0.5, K) @ rotation
                angles.append(float(np.rad2deg(np.arccos(np.clip(rays[:, 2], -1, 1))).max()))
        return max(angles)

    def homographies(self, scale: float, principal: tuple[float, float]) -> Float[np.ndarray, "F 3 3"]:
        """From pixels of the still camera to those of each frame, in pictures of `scale` times the size.

        Args:
            principal: there, px.
        """
        K = intrinsics(scale * self.focal_px, principal)
        return K @ self.rotation @ np.linalg.inv(K)


@dataclass(frozen=True)
class Pair:
    """Background points that two frames share: `now` of frame `row`, `before` of frame `key`; `free_px` is the root mean square by which the best homography misses them."""

    key: int
    row: int
    before: Float[np.ndarray, "Q 2"]
    now: Float[np.ndarray, "Q 2"]
    free_px: float


def measure_turns(
    images: Sequence[UInt8[np.ndarray, "H W 3"]], boxes: Sequence[tuple[float, float, float, float] | None], *, focal_px: float, focal_known: bool
) -> CameraTurns | None:
    """Follow the background from frame to frame, and explain it by turns alone.

    Each frame is compared with one that was turned much the same way, so that errors add up over a few of them and not over all.

    Args:
        images: frames in order, of one size.
        boxes: x0, y0, x1, y1 of the person in each, px; None where it is not known.
        focal_px: the focal length, px, or where to look for it.

    Returns:
        None where the background does not tell, or where turns do not explain it: the camera was carried, or zoomed.
    """
    height, width = images[0].shape[:2]
    principal, longer = (width / 2 - 0.5, height / 2 - 0.5), max(height, width)
    pairs = follow_background(images, boxes, focal_px, principal)
    if len(pairs) + 1 < MIN_TOLD * len(images):
        return None
    told, error = _tell_focal(pairs, focal_px, principal)
    if not np.isfinite(told) or (focal_known and error < MAX_FOCAL_ERROR and abs(np.log(told / focal_px)) > OTHER_FOCAL):
        return None
    if error > MAX_FOCAL_ERROR:
        if not focal_known:
            return None
        told = focal_px
    misses = [unexplained_px(pair, intrinsics(told, principal)) for pair in pairs]
    if np.quantile(misses, 0.9) > MAX_MISS * longer:
        return None
    told, error = (focal_px, 0.0) if focal_known else (told, error)
    rotation = {pairs[0].key: np.eye(3)}
    for pair in pairs:
        rotation[pair.row] = turn_between(pair, intrinsics(told, principal))[0] @ rotation[pair.key]
    rows = np.array(sorted(rotation))
    known = Rotation.from_matrix([rotation[row] for row in rows])
    if np.rad2deg((known[1:] * known[:-1].inv()).magnitude()[np.diff(rows) > 1]).max(initial=0.0) > LONGEST_GAP:
        return None
    turned = Slerp(rows, known)(np.clip(np.arange(len(images)), rows[0], rows[-1]))
    return CameraTurns((turned * _middle(turned).inv()).as_matrix(), told, error)


def follow_background(
    images: Sequence[UInt8[np.ndarray, "H W 3"]], boxes: Sequence[tuple[float, float, float, float] | None], focal_px: float, principal: tuple[float, float]
) -> list[Pair]:
    """What each frame shares with an earlier one, in an order in which the earlier one always came before; a frame that shares too little is left out."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    K, rotation, pairs, last = intrinsics(focal_px, principal), {0: np.eye(3)}, [], 0
    corners = {0: background_corners(grey[0], boxes[0])}
    for row in range(1, len(images)):
        expected = _carry_on(rotation, row)
        key = min(corners, key=lambda k: _shift(K, rotation[k], rotation[last]))
        if _shift(K, rotation[key], rotation[last]) > KEY_SHIFT * max(grey[0].shape):
            key, corners[last] = last, background_corners(grey[last], boxes[last])
        pair = _compare(key, row, grey, corners[key], K @ expected @ rotation[key].T @ np.linalg.inv(K), boxes[row])
        if pair is None and key != last:
            corners[last] = background_corners(grey[last], boxes[last])
            pair = _compare(last, row, grey, corners[last], K @ expected @ rotation[last].T @ np.linalg.inv(K), boxes[row])
        if pair is not None:
            rotation[row], last = turn_between(pair, K)[0] @ rotation[pair.key], row
            pairs.append(pair)
        elif not pairs:  # a title, or a hand before the lens
            rotation, corners, last = {row: np.eye(3)}, {row: background_corners(grey[row], boxes[row])}, row
    return pairs


def _carry_on(rotation: dict[int, Float[np.ndarray, "3 3"]], row: int) -> Float[np.ndarray, "3 3"]:
    """How a frame is likely turned: as the last two that are told would have it."""
    *_, last = rotation
    if len(rotation) == 1:
        return rotation[last]
    before = list(rotation)[-2]
    step = Rotation.from_matrix(rotation[last] @ rotation[before].T).as_rotvec() / (last - before)
    return Rotation.from_rotvec((row - last) * step).as_matrix() @ rotation[last]


def unexplained_px(pair: Pair, K: Float[np.ndarray, "3 3"]) -> float:
    """Root mean square, px, by which a turn misses what any homography hits, whatever a rolling shutter adds.

    A sensor that is read row by row shows each row a little later, so that a frame which is taken as the camera turns is sheared and stretched: in either
    coordinate by an amount that grows with y. That and the rotation that goes best with it are taken out, by least squares.
    """
    turn, _ = turn_between(pair, K)
    predicted = carry(K @ turn @ np.linalg.inv(K), pair.before)
    x, y = ((predicted - K[:2, 2]) / K[0, 0]).T
    zero, one = np.zeros_like(x), np.ones_like(x)
    across, down = np.stack([-x * y, one + x**2, -y, y, zero]), np.stack([-(one + y**2), x * y, x, zero, y])  # of turns about three axes, and of the shutter
    moves = np.concatenate([across, down], axis=1).T
    off = (pair.now - predicted).T.ravel()
    left = off - moves @ np.linalg.lstsq(moves, off, rcond=None)[0]
    return float(np.sqrt(max(0.0, (left**2).sum() / len(x) - pair.free_px**2)))


def turn_between(pair: Pair, K: Float[np.ndarray, "3 3"]) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "Q"]]:
    """The rotation that takes one frame's rays to the other's, by least squares (Kabsch 1976), and how far it misses each point, px."""
    before, now = (_rays(points, K) for points in (pair.before, pair.now))
    U, _, Vt = np.linalg.svd(now.T @ before)
    turn = U @ np.diag([1, 1, np.sign(np.linalg.det(U @ Vt))]) @ Vt
    return turn, np.linalg.norm(carry(K @ turn @ np.linalg.inv(K), pair.before) - pair.now, axis=1)


def intrinsics(focal_px: float, principal: tuple[float, float]) -> Float[np.ndarray, "3 3"]:
    """K of square pixels."""
    return np.array([[focal_px, 0, principal[0]], [0, focal_px, principal[1]], [0, 0, 1]])


def _compare(
    key: int, row: int, grey: list[UInt8[np.ndarray, "H W"]], corners: Float[np.ndarray, "P 2"], guess: Float[np.ndarray, "3 3"],
    box: tuple[float, float, float, float] | None,
) -> Pair | None:  # fmt: skip
    """The background points of two frames that agree on one homography; None where too few do."""
    before, now = follow_points(grey[key], grey[row], corners, carry(guess, corners), box)
    if len(before) < MIN_POINTS:
        return None
    cv2.setRNGSeed(0)
    found, agree = cv2.findHomography(before, now, cv2.RANSAC, TOLERANCE)
    agree = np.zeros(len(before), bool) if found is None else agree.ravel() > 0
    if agree.sum() < max(MIN_POINTS, MIN_AGREEMENT * len(before)):
        return None
    before, now = before[agree].astype(float), now[agree].astype(float)
    return Pair(key, row, before, now, float(np.sqrt(((carry(found, before) - now) ** 2).sum(axis=1).mean())))


def _tell_focal(pairs: list[Pair], guess: float, principal: tuple[float, float]) -> tuple[float, float]:
    """The focal length with which turns explain most, px, and its standard error as a share; endless where none in FOCAL_RANGE does best."""
    some = [replace(p, before=p.before[:: -(-len(p.before) // TOLD_POINTS)], now=p.now[:: -(-len(p.now) // TOLD_POINTS)]) for p in pairs]

    def misses(log_focal: float) -> Float[np.ndarray, "N"]:
        K = intrinsics(np.exp(log_focal), principal)
        return np.concatenate([turn_between(pair, K)[1] for pair in some])

    def cost(log_focal: float) -> float:
        return float((np.minimum(misses(log_focal), TOLERANCE) ** 2).sum())

    low, high = np.log(guess * np.array(FOCAL_RANGE))
    coarse = np.linspace(low, high, 25)
    best = int(np.argmin([cost(value) for value in coarse]))
    if best in (0, len(coarse) - 1):
        return np.inf, np.inf
    found = minimize_scalar(cost, bounds=(coarse[best - 1], coarse[best + 1]), method="bounded", options={"xatol": 1e-4}).x
    step = 0.02
    curvature = (cost(found + step) - 2 * cost(found) + cost(found - step)) / step**2
    if curvature <= 0:
        return np.inf, np.inf
    variance = cost(found) / len(misses(found)) / 2  # of a coordinate
    return float(np.exp(found)), float(np.hypot(np.sqrt(2 * variance / curvature), LEAST_FOCAL_ERROR))


def _middle(turned: Rotation) -> Rotation:
    """Midway between the two rotations whose optical axes are furthest apart."""
    axes = turned.as_matrix()[:, 2]
    one, other = np.unravel_index((axes @ axes.T).argmin(), (len(axes), len(axes)))
    return turned[[one, other]].mean()


def _rays(points: Float[np.ndarray, "Q 2"], K: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "Q 3"]:
    """Unit directions of pixels."""
    rays = np.c_[(points - K[:2, 2]) / K[0, 0], np.ones(len(points))]
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _shift(K: Float[np.ndarray, "3 3"], one: Float[np.ndarray, "3 3"], other: Float[np.ndarray, "3 3"]) -> float:
    """How far a turn from one frame to another moves the picture's middle, px."""
    return float(K[0, 0] * np.arccos(np.clip(one[2] @ other[2], -1, 1)))
