"""Films that an outline network learns from: people of many seeds, in clothes and light that vary, before places that vary more.

Every film is made anew from its seed: a person, a light, a place, a camera, what its lens, sensor and encoder do to the picture, and the
true share of person in each pixel. The demo's own person and cast are left out, so that they can judge what was learned.

Axes: F frames, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from demo.filming import Sensor, display_colors, shadowed_backdrop, write_clip
from demo.lighting import Light
from demo.mesh_renderer import View, look_at
from demo.motion import Motion
from demo.people import CAST, Person, make_light, make_person
from demo.routines import ROUTINES
from demo.scenery import Backdrop, any_place, film_backdrop
from demo.studio import Moment, light_moment, photograph
from demo.subject import Subject, build_subject, hem_swing
from model.video import window_around

WIDTHS, HEIGHT = (720, 960, 1280), 720  # px of the filmed picture
FPS = 24
SECONDS = 8.0  # of each routine
SPAN = (1.5, 8.0)  # s of it that a film shows
TEXTURE = 768
RESOLUTIONS = (384, 448, 512, 576, 640)  # px of the square that is cut out
CRF = (17, 32)  # of the encoder
COPIED_HEIGHTS = (432, 480, 540)  # px of films that were made smaller and larger again on their way
SHUTTER = 0.7  # of the time between two frames, that it is open at most
BLURRED = 3  # moments that a blurred frame averages
FLICKER = 0.015  # standard deviation of the exposure from frame to frame, at most
SWAY = 0.35  # px by which a camera that was steadied still moves, at most
FRAY = 1.6  # px by which hair and cloth are frayed at most; half of the films less than an eighth of it
PATTERNS = ("check", "stripes", "plain")


@dataclass(frozen=True)
class OutlineFilm:
    """A filmed person, cut to a square as the pipeline would cut it, and the truth.

    Attributes:
        images: as the decoder returns them.
        alphas: the true share of person, 0..1.
    """

    images: UInt8[np.ndarray, "F H W 3"]
    alphas: Float32[np.ndarray, "F H W"]


def make_film(seed: int, num_frames: int) -> OutlineFilm:
    """The film of a seed.

    Raises:
        ValueError: the seed is one of the cast's.
    """
    if seed < len(CAST):
        raise ValueError(f"seed {seed} is of the cast, which judges what is learned; expected {len(CAST)} or more")
    rng = np.random.default_rng([seed, 11])
    light, view = _any_light(seed, rng), _any_view(rng)
    backdrop = _any_colours(film_backdrop(view, light, seed, any_place(rng)), rng)
    subject = build_subject(_any_clothes(make_person(seed), backdrop, rng), TEXTURE)
    motion = ROUTINES[str(rng.choice(list(ROUTINES)))](subject.skeleton, round(SECONDS * FPS), seed)
    sensor = Sensor(view.width, view.height, seed, blur=rng.uniform(0.3, 1.4), grain=rng.uniform(0.2, 2.0))
    swing, fray, exposure = hem_swing(motion, FPS), FRAY * rng.uniform() ** 3, np.exp(rng.uniform(-0.7, 0.4))
    restless = rng.uniform() ** 2  # of the whole camera
    shutter = SHUTTER * rng.uniform() * (rng.random() < 0.5)
    span = rng.uniform(*SPAN) * FPS
    rows = np.unique((rng.uniform(0, SECONDS * FPS - span) + np.linspace(0, span - 1, num_frames)).astype(int))
    pictures, alphas, boxes = [], [], []
    for row in rows:
        vertices = subject.pose(motion, row, swing)
        moment = light_moment(subject, vertices, light)
        color, alpha = _frayed(*_exposed(subject, motion, row, moment, light, view, shutter), fray, rng)
        behind = shadowed_backdrop(backdrop, moment.lit.shadow, light, moment.sky, moment.directions, moment.centre)
        flicker, sway = np.exp(FLICKER * restless * rng.normal()), SWAY * restless * rng.normal(size=2)
        picture, alpha = (_moved(each, sway) for each in (color + (1 - alpha)[..., None] * behind, alpha))
        pictures.append(sensor.expose(np.float32(exposure * flicker) * picture))
        alphas.append(alpha)
        pixels = view.project(vertices)
        boxes.append([*pixels.min(axis=0), *pixels.max(axis=0)])
    if rng.random() < 0.2:
        pictures = _copied(pictures, int(rng.choice(COPIED_HEIGHTS)), rng)
    pictures = _encoded(pictures, fps=max(2, round(len(rows) / span * FPS)), crf=int(rng.integers(*CRF)))
    window = window_around(np.array(boxes), margin=0.15, resolution=int(rng.choice(RESOLUTIONS)))
    cut = np.stack([window.cut(picture) for picture in pictures])
    true = np.stack([window.cut(np.repeat(alpha[..., None], 3, axis=2))[..., 0] for alpha in alphas])
    return OutlineFilm(cut, np.clip(true, 0, 1).astype(np.float32))


def _exposed(
    subject: Subject, motion: Motion, row: int, moment: Moment, light: Light, view: View, shutter: float
) -> tuple[Float32[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """The person alone while the shutter is open: linear colour times alpha, and alpha."""
    last = len(motion.transl) - 1
    if shutter == 0 or row == last:
        return photograph(subject, moment, light, view)
    first, second = moment.lit.vertices, subject.pose(motion, row + 1, hem_swing(motion, FPS))
    shots = []
    for share in np.linspace(-shutter / 2, shutter / 2, BLURRED):
        lit = replace(moment.lit, vertices=(first + np.float32(share) * (second - first)).astype(np.float32))
        shots.append(photograph(subject, replace(moment, lit=lit), light, view))
    color, alpha = (np.mean(each, axis=0) for each in zip(*shots, strict=True))
    return color, alpha


def _moved(picture: Float32[np.ndarray, "H W *C"], by: np.ndarray) -> Float32[np.ndarray, "H W *C"]:
    """The picture moved by px."""
    shift = np.array([[1, 0, by[0]], [0, 1, by[1]]], np.float32)
    return cv2.warpAffine(picture, shift, picture.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _copied(pictures: list[UInt8[np.ndarray, "H W 3"]], height: int, rng: np.random.Generator) -> list[UInt8[np.ndarray, "H W 3"]]:
    """What is left of a film that was made smaller, sharpened, encoded, and made larger again."""
    full = pictures[0].shape[1::-1]
    size, sharp = (2 * round(full[0] * height / full[1] / 2), height), rng.uniform(0, 0.8)
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
    small = [cv2.addWeighted(picture, 1 + sharp, cv2.GaussianBlur(picture, (0, 0), 1.2), -sharp, 0) for picture in small]
    return [cv2.resize(picture, full, interpolation=cv2.INTER_CUBIC) for picture in _encoded(small, fps=FPS, crf=int(rng.integers(18, 28)))]


def _any_clothes(person: Person, place: Backdrop, rng: np.random.Generator) -> Person:
    """The same person in clothes that vary more than those of a seed; some have the colour of the place behind them."""
    cut = replace(
        person.cut, pattern=PATTERNS[rng.integers(3)], hair_height=rng.uniform(0.010, 0.045), sleeve=rng.choice([0.30, 0.38, 0.62]),
        ease=rng.uniform(0.8, 1.4), leg_ease=rng.uniform(0.8, 1.6),
    )  # fmt: skip
    if rng.random() < 0.35:
        length = rng.uniform(-0.75, -0.45)
        cut = replace(cut, skirt=length, flare=rng.uniform(0.12, 0.25), trousers=bool(rng.random() < 0.5))

    def dyed(color: tuple[float, float, float]) -> tuple[float, float, float]:
        return tuple(float(c) for c in np.clip(np.array(color) * np.exp(rng.normal(size=3) * 0.3 + rng.uniform(-0.9, 0.6)), 0.02, 0.97))

    middle = (slice(place.direct.shape[0] // 4, None), slice(place.direct.shape[1] // 4, -place.direct.shape[1] // 4))
    behind = display_colors(cv2.blur(place.direct + place.around, (15, 15))[middle]).reshape(-1, 3)
    hiding = [name for name in ("shirt", "trousers", "shoes", "hair") if rng.random() < 0.15]
    alike = {name: tuple(float(c) for c in np.clip(behind[rng.integers(len(behind))] * rng.uniform(0.8, 1.2), 0.02, 0.97)) for name in hiding}
    names = ("shirt", "shirt_band", "shirt_line", "shirt_accent", "trousers", "shoes", "belt", "hair")
    palette = replace(person.palette, **{name: dyed(getattr(person.palette, name)) for name in names} | alike)
    return replace(person, cut=cut, palette=palette)


def _any_light(seed: int, rng: np.random.Generator) -> Light:
    """From hard sun to an overcast day, and lamps indoors."""
    light, key, sky = make_light(seed), np.float32(rng.choice([0.1, 0.4, 1.0, 1.3])), np.float32(rng.uniform(0.5, 1.2))
    return replace(
        light, key=light.key * key, key_size=float(np.exp(rng.uniform(np.log(0.02), np.log(0.3)))), ambient=light.ambient * sky,
        ambient_x=light.ambient_x * sky, ambient_y=light.ambient_y * sky, ambient_z=light.ambient_z * sky,
    )  # fmt: skip


def _any_view(rng: np.random.Generator) -> View:
    """A camera at hip to head height, three to six metres away."""
    width, height = int(rng.choice(WIDTHS)), HEIGHT
    focal = rng.uniform(1.5, 2.1) * height
    distance = rng.uniform(2.05, 2.9) * focal / height
    eye = np.array([rng.uniform(-0.5, 0.5), rng.uniform(0.8, 1.7), distance])
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return View(K, look_at(eye, np.array([0.0, 0.92, 0.0])), width, height)


def _any_colours(place: Backdrop, rng: np.random.Generator) -> Backdrop:
    """The same place in other colours and of another contrast, from bare walls to busy ones."""
    mixed = (0.5 * np.eye(3) + 0.5 * rng.dirichlet(np.full(3, 0.35), size=3)).astype(np.float32)
    gain = np.exp(rng.normal(size=3) * 0.25 + rng.uniform(-0.4, 0.9)).astype(np.float32)
    empty = (place.direct + place.around) @ mixed.T
    mean = np.exp(np.log(empty + 1e-3).mean(axis=(0, 1)))
    contrast = ((empty + 1e-3) / mean) ** (rng.choice([0.15, 0.5, 1.0, 1.3]) - 1) * gain
    return replace(place, direct=(place.direct @ mixed.T * contrast).astype(np.float32), around=(place.around @ mixed.T * contrast).astype(np.float32))


def _frayed(color: np.ndarray, alpha: np.ndarray, strength: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The cut-out with an outline as rough as hair and wool, more so in some places than in others."""
    height, width = alpha.shape

    def noise(sigma: float) -> np.ndarray:
        field = cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), sigma)
        return field / field.std()

    amount = strength * np.clip(0.4 + noise(25), 0, 1.5)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    both = cv2.remap(np.dstack([color, alpha]), columns + amount * noise(0.9), rows + amount * noise(0.9), cv2.INTER_LINEAR)
    return both[..., :3], both[..., 3]


def _encoded(pictures: list[UInt8[np.ndarray, "H W 3"]], *, fps: int, crf: int) -> list[UInt8[np.ndarray, "H W 3"]]:
    """What is left of pictures after H.264."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_clip(path, pictures, width=pictures[0].shape[1], height=pictures[0].shape[0], fps=fps, crf=crf)
        with av.open(str(path)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
