"""Suggestions on how to film better, each from one measurement of this clip: nothing is said where nothing is wrong.

A rule compares one number of `Filming` with a named threshold, says what was found and what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable

from tasks.report_filming import Filming
from tasks.report_sections import Advice

SMALL_PERSON_PX = 400.0  # px of the video; below it a face has fewer than 50 px
UPRIGHT_SHARE = 0.8  # of the video's height; a person as tall cannot come nearer, only the telephone can be turned
HIDDEN_SHARE = 0.5  # of a part's surface; less than that seen is worth filming again
HIDDEN_ARMPITS = 0.35  # the same of armpits, which are never seen whole
HIDDEN_CROWN = 0.3
FULL_TURN_DEG = 300.0  # with what the sides of the body show, that is all round
ONE_SIDED = 0.3  # difference of the shares that are seen of left and right
CUT_FRAMES = 3  # frames in which the picture's edge may cut the person off
SHORT_SECONDS = 4.0
FEW_FRAMES = 40
LOST_SHARE = 0.05  # of the frames, in which nobody was found
BLURRED_SHARE = 0.1  # of the frames, much less sharp than their neighbours
SOFT_DETAIL = 0.04  # see fine_detail: a sharp picture has 0.1 to 0.3
DIM = 0.35  # brightness of the bright parts of the picture, 0..1
BURNT_SHARE = 0.1  # of the person's pixels, white
EXPOSURE_DRIFT = 0.08  # 0..1, of the background's brightness
EVENED = 0.25  # of its light, that was evened out
LIKE_BACKGROUND = 10.0  # CIELAB; 2 is just visible
CAMERA_SHARE = 0.005  # of the picture's width, that a still camera may seem to move
DOUBTED_SHARE = 0.15  # of the frames
EDGES = {"bottom": "Feet or legs are", "top": "Head or raised hands are", "left": "An arm or leg is", "right": "An arm or leg is"}


def advise(filming: Filming) -> list[Advice]:
    """All suggestions for one clip, the weightiest first."""
    return [advice for rule in RULES for advice in rule(filming)]


def turn_round(f: Filming) -> list[Advice]:
    share = f.seen.get("torso, back", 1.0)
    if share >= HIDDEN_SHARE or f.turned_deg >= FULL_TURN_DEG:
        return []
    return [
        Advice(
            "turn_round", "Turn all the way round, slowly, once or twice.",
            f"Only {share:.0%} of the back was seen: the person turned through {f.turned_deg:.0f}° of 360°. What was not seen is made up from the front.",
        )
    ]  # fmt: skip


def show_front(f: Filming) -> list[Advice]:
    share = f.seen.get("torso, front", 1.0)
    if share >= HIDDEN_SHARE:
        return []
    return [Advice("show_front", "Face the camera for a part of the video.", f"Only {share:.0%} of the torso's front was seen.")]


def keep_inside(f: Filming) -> list[Advice]:
    return [
        Advice(
            "keep_inside", f"Leave room at the {edge} of the picture: step back, or move the camera.",
            f"{EDGES[edge]} cut off by the picture's {edge} edge in {frames} of {f.frames} frames.",
        )
        for edge, frames in f.cut.items()
        if frames > CUT_FRAMES
    ]  # fmt: skip


def come_nearer(f: Filming) -> list[Advice]:
    if f.person_px >= SMALL_PERSON_PX:
        return []
    seen = f"The person fills only {f.person_px:.0f} px of {f.source_height} px in height; {SMALL_PERSON_PX:.0f} px show a face."
    if f.person_px < UPRIGHT_SHARE * f.source_height:
        return [Advice("come_nearer", "Come nearer" + (", or film upright." if f.source_width > f.source_height else "."), seen)]
    return [Advice("come_nearer", "Record with a higher resolution" + (", or film upright." if f.source_width > f.source_height else "."), seen)]


def hold_still(f: Filming) -> list[Advice]:
    if f.camera_share <= CAMERA_SHARE:
        return []
    return [
        Advice(
            "hold_still", "Put the camera on a tripod, or lean it on something.",
            f"The camera moved: the background lies up to {f.camera_px:.0f} px ({f.camera_share:.1%} of the picture's width) off its place.",
        )
    ]  # fmt: skip


def lift_arms(f: Filming) -> list[Advice]:
    share = f.seen.get("armpits", 1.0)
    if share >= HIDDEN_ARMPITS:
        return []
    return [Advice("lift_arms", "Lift the arms sideways once, from front and from back.", f"The arms stay against the body: {share:.0%} of the armpits was seen.")]


def show_both_sides(f: Filming) -> list[Advice]:
    found = []
    for part in ("arms", "hands", "legs", "feet"):
        left, right = f.sides.get(part, (1.0, 1.0))
        if abs(left - right) > ONE_SIDED:
            less = "left" if left < right else "right"
            text = f"{min(left, right):.0%} of the {less} {_one(part)} was seen, and {max(left, right):.0%} of the other."
            found.append(Advice("show_both_sides", f"Show the {less} side of the body too.", text))
    return found[:1]


def show_crown(f: Filming) -> list[Advice]:
    share = f.seen.get("crown", 1.0)
    if share >= HIDDEN_CROWN:
        return []
    return [Advice("show_crown", "Bow the head once, or film from chest height or above.", f"{share:.0%} of the top of the head was seen.")]


def show_hands(f: Filming) -> list[Advice]:
    share = f.seen.get("hands", 1.0)
    if share >= HIDDEN_SHARE:
        return []
    return [Advice("show_hands", "Keep the hands in sight, and turn the palms once.", f"{share:.0%} of the hands was seen.")]


def film_longer(f: Filming) -> list[Advice]:
    if f.seconds >= SHORT_SECONDS and f.frames >= FEW_FRAMES:
        return []
    return [Advice("film_longer", "Film for 5 to 20 seconds.", f"The clip has {f.frames} usable frames over {f.seconds:.1f} s.")]


def stay_in_view(f: Filming) -> list[Advice]:
    total = f.frames + f.dropped
    if f.dropped <= LOST_SHARE * total:
        return []
    return [Advice("stay_in_view", "Stay in the picture, whole and without anything in front.", f"Nobody was found in {f.dropped} of {total} frames.")]


def move_slowly(f: Filming) -> list[Advice]:
    if f.blurred <= BLURRED_SHARE * f.frames:
        return []
    text = f"{f.blurred} of {f.frames} frames are much less sharp than those beside them: motion blur."
    return [Advice("move_slowly", "Move more slowly, or film in brighter light, which shortens the exposure.", text)]


def focus(f: Filming) -> list[Advice]:
    if not f.sharpness < SOFT_DETAIL:
        return []
    text = f"The person is blurred throughout: its fine detail measures {f.sharpness:.2f}, where a sharp picture has 0.1 to 0.3."
    return [Advice("focus", "Clean the lens, tap on the person to focus, and record at a higher quality.", text)]


def more_light(f: Filming) -> list[Advice]:
    if not f.brightness < DIM:
        return []
    return [Advice("more_light", "Film in brighter light, from the front.", f"The picture is dark: its bright parts reach {f.brightness:.0%} of white.")]


def less_light(f: Filming) -> list[Advice]:
    if not f.burnt > BURNT_SHARE:
        return []
    return [Advice("less_light", "Avoid direct sun and lamps on the person, or lower the exposure.", f"{f.burnt:.0%} of the person is burnt out to white.")]


def lock_exposure(f: Filming) -> list[Advice]:
    if f.exposure_drift > EXPOSURE_DRIFT:
        text = f"The background's brightness strays by {f.exposure_drift:.0%} of white over the clip: the camera corrects itself."
    elif f.evened > EVENED:
        text = f"The background's light strayed by {f.evened:.0%} over the clip: the camera corrects itself. The frames were evened out, which is less exact."
    else:
        return []
    return [Advice("lock_exposure", "Lock exposure and white balance (on most telephones: press long on the person).", text)]


def other_background(f: Filming) -> list[Advice]:
    if not f.outline_contrast < LIKE_BACKGROUND:
        return []
    text = f"Clothes and background differ by {f.outline_contrast:.0f} along the outline (CIELAB; {LIKE_BACKGROUND:.0f} and more is told apart well)."
    return [Advice("other_background", "Choose a background of another colour than clothes and hair.", text)]


def alone(f: Filming) -> list[Advice]:
    if f.others <= 0:
        return []
    people = "another person is" if f.others == 1 else f"{f.others} other people are"
    return [Advice("alone", "Film one person alone.", f"At times {people} in the picture.")]


def clear_masks(f: Filming) -> list[Advice]:
    if f.flagged <= DOUBTED_SHARE * f.frames:
        return []
    text = f"The person could not be cut out well in {f.flagged} of {f.frames} frames; they were not trained on."
    return [Advice("clear_masks", "Stand free before a plain background, in even light.", text)]


def plain_poses(f: Filming) -> list[Advice]:
    if f.doubted <= DOUBTED_SHARE * f.frames:
        return []
    text = f"The pose is in doubt in {f.doubted} of {f.frames} frames (see above)."
    return [Advice("plain_poses", "Move slowly and keep arms and legs in sight of the camera.", text)]


def _one(part: str) -> str:
    return {"feet": "foot"}.get(part, part.removesuffix("s"))


RULES: tuple[Callable[[Filming], list[Advice]], ...] = (
    turn_round, show_front, keep_inside, come_nearer, hold_still, stay_in_view, clear_masks, plain_poses, show_both_sides,
    lift_arms, show_hands, show_crown, film_longer, move_slowly, focus, more_light, less_light, lock_exposure, other_background, alone,
)  # fmt: skip
