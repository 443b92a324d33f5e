"""Claims about who is followed among several people, and which pixels are whose."""

from __future__ import annotations

import numpy as np

from model.fitting.subject import Sightings, choose_subject, clothes_colours, colour_distance, follow, territory

RED, BLUE = np.array([0.8, 0.1, 0.1]), np.array([0.1, 0.1, 0.8])


def sighting(*people: tuple[float, np.ndarray, float]) -> Sightings:
    """People at x with colours and a prominence."""
    return Sightings(
        np.array([[x, 100.0, 200.0] for x, _, _ in people]).reshape(-1, 3),
        np.array([c for _, c, _ in people]).reshape(-1, 3),
        np.array([p for _, _, p in people]),
    )


def crossing(num_frames: int = 21) -> list[Sightings]:
    """Red stays, blue walks past; in the middle both are at one place, and their order changes from frame to frame."""
    frames = []
    for i in range(num_frames):
        people = [(0.0, RED, 180.0), (40.0 * (i - num_frames // 2), BLUE, 150.0)]
        frames.append(sighting(*(people if i % 2 else people[::-1])))
    return frames


def red_rows(frames: list[Sightings]) -> list[int]:
    return [int(np.argmin(colour_distance(f.colours, RED))) for f in frames]


def test_who_is_crossed_by_another_stays_who_it_was():
    frames = crossing()
    assert follow(frames, (0, red_rows(frames)[0])) == red_rows(frames)
    blue = follow(frames, (20, 1 - red_rows(frames)[20]))
    assert blue == [1 - r for r in red_rows(frames)]


def test_the_subject_is_who_is_seen_most():
    frames = crossing()
    assert choose_subject(frames, [(10, 0), (10, 1)]) == red_rows(frames)


def test_who_is_hidden_for_a_while_is_found_again_and_nobody_takes_its_place():
    frames = crossing()
    for i in (9, 10, 11):
        frames[i] = sighting((40.0 * (i - 10), BLUE, 150.0))
    chain = follow(frames, (0, red_rows(frames)[0]))
    assert chain[9:12] == [None] * 3 and chain[12:] == red_rows(frames)[12:]


def test_frames_without_anybody_are_passed_over():
    frames = [sighting((0.0, RED, 1.0)), sighting(), sighting((5.0, RED, 1.0))]
    assert follow(frames, (0, 0)) == [0, None, 0]


def standing(x: float, feet: float) -> np.ndarray:
    """A stick figure 100 px tall."""
    points = np.zeros((33, 2))
    heights = {0: 95, 7: 93, 8: 93, 11: 80, 12: 80, 13: 65, 14: 65, 15: 50, 16: 50, 19: 46, 20: 46, 23: 50, 24: 50, 25: 26, 26: 26}
    for i in range(33):
        points[i] = x + (6 if i % 2 else -6), feet - heights.get(i, 0)
    return points


def test_each_pixel_belongs_to_the_nearest_limb():
    mine, hidden = territory(standing(40, 110), [standing(110, 110)], 120, 160)
    assert mine[:, :70].all() and not mine[:, 82:].any() and hidden == 0
    alone, _ = territory(standing(40, 110), [], 120, 160)
    assert alone.all()


def test_who_stands_nearer_hides_the_other():
    behind, in_front = standing(60, 100), standing(66, 115)
    mine, hidden = territory(behind, [in_front], 130, 130)
    theirs, unhidden = territory(in_front, [behind], 130, 130)
    assert hidden > 0.4 and unhidden == 0
    assert not (mine & theirs).any()


def test_colours_of_shirt_and_trousers_are_kept_apart():
    image = np.zeros((120, 100, 3), np.uint8)
    image[:60], image[60:] = (200, 30, 30), (30, 30, 200)
    person = standing(50, 110) + np.where(np.arange(33) % 2, 14, -14)[:, None] * np.array([1, 0])
    worn, swapped = clothes_colours(image, person), clothes_colours(np.ascontiguousarray(image[::-1]), person)
    assert colour_distance(worn, worn) < 1e-3 < 0.5 < colour_distance(worn, swapped)
    assert np.allclose(clothes_colours(image, person + 500).sum(), 1)  # outside of the picture
