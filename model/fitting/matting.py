"""A fine, soft outline from a coarse mask: weigh the colours near the edge, then let a network that knows the background decide.

Axes: F frames, H x W pixels. Pictures are RGB, masks 0..1 with 1 = person; radii are pixels.

Where the clip shows the background that the person hides in one frame, the colour of a pixel tells person from background:

    logit alpha = logit p + log( P(I | person) / P(I | background) )

with p the coarse mask, P(I | person) the person's colours over the whole clip and some room for others, and P(I | background) a
Gaussian around the background's colour at this pixel or around it, in light or in shadow. The outline network (outline_network.py) starts
from the mask that comes of it.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_propagation

from model.fitting.mask_checks import largest_part
from model.fitting.outline_network import outline_inputs, predict_mask
from model.fitting.scene import DARKEST, Background, ShownPixels, colour_bins, disc, everything, learn_background, person_colours

NEW_COLOUR = 0.15  # share of a person's pixels whose colour was not counted on them
UNEXPLAINED = 0.02  # share of the background's pixels that look like nothing known
SHADE_DENSITY = 0.12  # how a shadow's density spreads over all shades
DOUBT = 0.05  # a coarse mask is never surer than this, since whole soles may be missing
MAX_EVIDENCE = 5.0  # log odds that colour may add
DEEP = 6  # px inside the coarse mask, where nothing is in doubt
MAX_SCENE_FRAMES = 48  # from which background and colours are learned
PLATE_RADII = (8, 4)  # px, how far from the coarse person, and from the weighed one, a pixel must be to show the background
REACH = 10  # px, how far from a coarse outline colours are weighed
FARTHEST, FARTHEST_UNSEEN = 20, 12  # px, how far from it the fine one may lie, since soles and hems are cut off; where the background is never seen
OTHERWISE = (0.009, 0.018), (FARTHEST, 5)  # mean difference of the free background from what it should be, 0..1, and how far then; a tripod's is 0.004
ROOM = 24  # px around a coarse mask that are worked on
PATTERN = 9  # px, side of the square in which a picture is compared with the background's pattern
SURELY, LIKELY = (0.9, 0.04, 0.08), (0.8, 0.03, 0.03)  # least correlation and deviation, 0..1, and most difference of mean colours, 0..1
SAME = 0.05  # difference of colour in the pixel itself, 0..1, up to which it may be the background's


def weigh_colours(
    image: UInt8[np.ndarray, "H W 3"],
    coarse: Float[np.ndarray, "H W"],
    *,
    background: Background,
    colours: Float[np.ndarray, "K K K"],
) -> Float[np.ndarray, "H W"]:
    """Decide the pixels near a coarse outline by their colour, as far as the background is known.

    A pixel of the background may lie in a shadow: its colour then is the background's, but darker. And a person has colours that
    were seen nowhere else, such as a white sole that a coarse mask leaves out in every frame.

    Args:
        colours: see person_colours.
    """
    colour = image / np.float32(255)
    darker = background.darker(colour)
    lit, shaded = (
        np.exp(-((colour - share[..., None] * background.colour) ** 2).sum(axis=-1) / (2 * background.variance))
        / (2 * np.pi * background.variance) ** 1.5
        for share in (np.ones_like(darker), np.clip(darker, DARKEST, 1))
    )
    of_background = (1 - background.shaded - UNEXPLAINED) * lit + background.shaded * SHADE_DENSITY * shaded + UNEXPLAINED
    of_person = (1 - NEW_COLOUR) * colours[tuple(np.moveaxis(colour_bins(image), -1, 0))] + NEW_COLOUR
    evidence = np.clip(np.log(of_person / of_background), -MAX_EVIDENCE, MAX_EVIDENCE) * background.trust
    evidence = cv2.GaussianBlur(evidence.astype(np.float32), (0, 0), 0.7)
    odds = np.log(np.clip(coarse, DOUBT, 1 - DOUBT) / (1 - np.clip(coarse, DOUBT, 1 - DOUBT))) + evidence
    near = cv2.dilate((coarse > 0.1).astype(np.uint8), disc(REACH)) > 0
    deep = cv2.erode((coarse > 0.9).astype(np.uint8), disc(DEEP)) > 0
    return np.where(deep, 1, np.where(near, 1 / (1 + np.exp(-odds)), 0)).astype(np.float32)


def decide_outline(
    image: UInt8[np.ndarray, "H W 3"],
    coarse: Float[np.ndarray, "H W"],
    *,
    background: Background,
    colours: Float[np.ndarray, "K K K"],
) -> Float[np.ndarray, "H W"]:
    """The share of person in each pixel, from a mask that is right but for its outline; see weigh_colours."""
    if not coarse.any():
        return np.zeros_like(coarse)
    weighed = weigh_colours(image, coarse, background=background, colours=colours)
    found = predict_mask(outline_inputs(image, coarse, weighed, background))
    reach = round(float(np.interp(_unlike(image, coarse, background), *OTHERWISE)))
    near, nearer = (cv2.dilate((coarse > 0.1).astype(np.uint8), disc(radius)) > 0 for radius in (reach, min(reach, FARTHEST_UNSEEN)))
    within = np.select([background.trust == 1, background.trust > 0], [near, nearer], coarse > 0.1)
    return largest_part(np.where(within & ~shows_background(image, background), found, 0), seed=coarse)


def shows_background(image: UInt8[np.ndarray, "H W 3"], background: Background) -> Bool[np.ndarray, "H W"]:
    """Where the known background's own pattern is to be seen: a chair's edge, a letter on the wall. Nobody wears it just there.

    A coarse mask that reaches over such things is often sure of them, and their colour may be one that the person wears too. It is
    taken from where the pattern is surely seen as far as it likely is.
    """
    plate = background.colour.astype(np.float32)
    colour = image / np.float32(255)
    colour = colour / np.clip(cv2.blur(background.darker(colour), (PATTERN, PATTERN)), DARKEST, 1)[..., None]

    def around(values: Float[np.ndarray, "H W *C"]) -> Float[np.ndarray, "H W *C"]:
        return cv2.blur(values, (PATTERN, PATTERN), borderType=cv2.BORDER_REFLECT)

    mean, mean_plate = around(colour), around(plate)
    together, own, of_plate = (
        (around(a * b) - mean_a * mean_b).sum(axis=-1)
        for a, b, mean_a, mean_b in ((colour, plate, mean, mean_plate), (colour, colour, mean, mean), (plate, plate, mean_plate, mean_plate))
    )
    correlation = together / np.sqrt(np.maximum(own, 1e-6) * np.maximum(of_plate, 1e-6))
    deviation, apart = np.sqrt(np.maximum(of_plate, 0)), np.linalg.norm(mean - mean_plate, axis=-1)
    possible = (np.sqrt(((colour - plate) ** 2).mean(axis=-1)) < SAME) & (background.trust == 1)
    surely, likely = (possible & (correlation > least) & (deviation > rough) & (apart < far) for least, rough, far in (SURELY, LIKELY))
    return binary_propagation(surely, mask=surely | likely)


def _unlike(image: UInt8[np.ndarray, "H W 3"], coarse: Float[np.ndarray, "H W"], background: Background) -> float:
    """How far the picture is from the background where that is known and free, 0..1: a camera that creeps, or light that changes."""
    free = (cv2.dilate((coarse > 0.1).astype(np.uint8), disc(FARTHEST_UNSEEN)) == 0) & (background.trust == 1)
    return float(np.abs(image[free] / np.float32(255) - background.colour[free]).mean()) if free.any() else 0.0


def learn_scene(
    images: UInt8[np.ndarray, "F H W 3"], coarse: Float[np.ndarray, "F H W"], *, shown: ShownPixels = everything
) -> tuple[Background, Float[np.ndarray, "K K K"]]:
    """The background and the person's colours: learned around the coarse masks, and once more, nearer to the person, around those that come of them.

    Args:
        shown: which pixels of each frame show anything.
    """
    found = np.flatnonzero(coarse.any(axis=(1, 2)))  # where nobody was found somebody may stand all the same
    found = found if len(found) else np.arange(len(images))
    some = found[np.unique(np.linspace(0, len(found) - 1, min(len(found), MAX_SCENE_FRAMES)).astype(int))]
    images, masks = images[some], coarse[some]

    def shown_of_some(place: int) -> Bool[np.ndarray, "*B"]:
        return shown(int(some[place]))

    background, colours = learn_background(images, masks, radius=PLATE_RADII[0], shown=shown_of_some), person_colours(images, masks)
    weighed = (
        weigh_colours(image, mask, background=background.where(shown_of_some(place)), colours=colours)
        for place, (image, mask) in enumerate(zip(images, masks, strict=True))
    )
    masks = np.stack([largest_part(mask) for mask in weighed])
    return learn_background(images, masks, radius=PLATE_RADII[1], shown=shown_of_some), person_colours(images, masks)


def box_around(mask: Float[np.ndarray, "H W"]) -> tuple[slice, slice]:
    """Rows and columns of the mask with some room around it; the whole picture where the mask is empty."""
    rows, columns = np.flatnonzero((mask > 0.02).any(axis=1)), np.flatnonzero((mask > 0.02).any(axis=0))
    if not len(rows):
        return slice(None), slice(None)
    return slice(max(0, rows[0] - ROOM), rows[-1] + 1 + ROOM), slice(max(0, columns[0] - ROOM), columns[-1] + 1 + ROOM)
