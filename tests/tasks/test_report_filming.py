"""How a clip was filmed, measured: edges that cut, blur, light, contrast; and the coverage and doubts drawn from it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from model.body.body_model import BodyModel, load_body_model
from model.coverage import BodyPart, body_parts
from tasks.report_advice import DIM, LIKE_BACKGROUND, SOFT_DETAIL
from tasks.report_coverage import NEVER, coverage_colors, coverage_rows, report_coverage, standing
from tasks.report_doubts import APART, WORST, choose_worst
from tasks.report_filming import BLURRED, Seen, count_blurred, fine_detail, measure_picture, outline_contrast

SIZE = 128


def person(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[rows, columns] = 255
    return mask


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Coloured noise like cloth in focus: as much detail at every size, cut off at half a pixel's blur."""
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.normal(0, 1, (n, n)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for n in (8, 16, 32, 64)]
    grey = cv2.GaussianBlur(sum(layers), (0, 0), 0.5)
    return np.clip(128 + 30 * grey, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


@pytest.mark.parametrize("kernel", [(9, 1), (1, 9), (9, 9)], ids=["to the side", "up and down", "all round"])
def test_blur_in_any_direction_takes_the_fine_detail(picture: np.ndarray, kernel: tuple[int, int]) -> None:
    inside = person(slice(10, -10), slice(10, -10)) > 0
    assert fine_detail(picture[..., 0], inside) > 2 * SOFT_DETAIL
    blurred = fine_detail(cv2.blur(picture, kernel)[..., 0], inside)
    assert blurred < BLURRED * fine_detail(picture[..., 0], inside) and (blurred < SOFT_DETAIL or min(kernel) == 1)


def test_dim_light_does_not_pass_for_blur(picture: np.ndarray) -> None:
    inside = person(slice(10, -10), slice(10, -10)) > 0
    dim = (0.3 * picture).astype(np.uint8)
    assert fine_detail(dim[..., 0], inside) == pytest.approx(fine_detail(picture[..., 0], inside), rel=0.1)
    assert measure_picture(dim, person(slice(10, -10), slice(10, -10)))[1] < DIM < measure_picture(picture, person(slice(10, -10), slice(10, -10)))[1]


def test_a_frame_without_a_person_measures_nothing(picture: np.ndarray) -> None:
    detail, _, burnt, background, contrast = measure_picture(picture, np.zeros((SIZE, SIZE), np.uint8))
    assert np.isnan([detail, burnt, contrast]).all() and 0 < background < 1
    assert np.isnan(measure_picture(picture, np.full((SIZE, SIZE), 255, np.uint8))[3])


def test_burnt_pixels_count_on_the_person_only() -> None:
    image = np.full((SIZE, SIZE, 3), 255, np.uint8)
    mask = person(slice(20, 100), slice(20, 60))
    image[mask > 0] = 90
    assert measure_picture(image, mask)[2] == 0.0
    image[20:60, 20:60] = 255
    assert measure_picture(image, mask)[2] == pytest.approx(0.5)


def test_contrast_is_that_across_the_outline() -> None:
    mask = person(slice(20, 100), slice(30, 90))
    image = np.full((SIZE, SIZE, 3), 120, np.uint8)
    assert outline_contrast(image, mask > 0) < 1 < LIKE_BACKGROUND
    image[40:80, 50:70] = (250, 20, 20)  # deep inside of the person: no help in telling it from the wall
    assert outline_contrast(image, mask > 0) < LIKE_BACKGROUND
    image[mask > 0] = (200, 60, 60)
    assert outline_contrast(image, mask > 0) > 3 * LIKE_BACKGROUND


def test_a_frame_is_blurred_against_its_neighbours_in_time() -> None:
    times = np.arange(40) / 10
    sharpness = np.full(40, 0.2)
    sharpness[20:] = 0.1  # the plain back of a shirt
    sharpness[[5, 30]] = (0.05, 0.03)
    assert count_blurred(sharpness, times) == 2
    assert count_blurred(np.full(40, np.nan), times) == 0


# ------------------------------------------------------------------------------------------- coverage, drawn and tabled


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body_model("open")


@pytest.fixture(scope="module")
def front_seen(body: BodyModel) -> Seen:
    """A body of which ten frames saw what looks ahead, and two of them the left hand."""
    betas = torch.zeros(body.num_betas)
    parts = body_parts(body, betas)
    frames = np.zeros(body.num_vertices, int)
    named = {part.name: part for part in parts}
    for name in ("head, front", "torso, front"):
        frames[named[name].vertices] = 10
    frames[named["hands"].sides[0]] = 2
    return Seen(frames, np.ones(body.num_vertices), parts, np.ones(1), None)


def test_the_table_tells_parts_sides_and_how_often(front_seen: Seen) -> None:
    rows = {row.part: row for row in coverage_rows(front_seen)}
    front, back, hands = rows["torso, front"], rows["torso, back"], rows["hands"]
    assert (front.seen, front.often, front.frames) == (1.0, 1.0, 10) and front.left is None
    assert (back.seen, back.frames) == (0.0, 0)
    assert (hands.left, hands.right, hands.often) == (1.0, 0.0, 0.0) and hands.seen == pytest.approx(0.5, abs=0.05)


def test_a_part_that_the_body_lacks_has_no_row(front_seen: Seen) -> None:
    none = BodyPart("tail", np.zeros(len(front_seen.area), bool))
    assert coverage_rows(Seen(front_seen.vertex_frames, front_seen.area, [none], front_seen.iou, None)) == []


def test_pictures_show_the_seen_front_and_the_unseen_back(front_seen: Seen, body: BodyModel) -> None:
    report = report_coverage(front_seen, body, torch.zeros(body.num_betas), num_frames=10)
    opened = {name: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int) for name, data in report.pictures}

    def never(name: str) -> float:
        """Share of the drawn body that is reddish, as NEVER is and viridis is nowhere."""
        shown = opened[name][opened[name].min(2) < 200]
        return float(((shown[:, 0] > shown[:, 1] + 60) & (shown[:, 0] > shown[:, 2] + 60)).mean())

    assert never("back") > 0.9 and never("front") < never("back") - 0.2
    assert 0 < report.total < 0.5 and len(report.pictures) == 6


def test_more_frames_are_brighter_and_none_has_its_own_colour() -> None:
    colors = coverage_colors(np.array([[0, 0, 9], [1, 1, 1], [10, 10, 10], [100, 100, 100]]), 100)
    assert tuple(colors[0]) == NEVER
    luma = colors[1:] @ [0.299, 0.587, 0.114]
    assert luma[0] + 50 < luma[1] and luma[1] + 50 < luma[2]
    assert np.isfinite(coverage_colors(np.array([[1, 1, 1]]), 1)).all(), "one training frame"


def test_the_standing_body_is_upright_with_arms_away_from_it(body: BodyModel) -> None:
    vertices = standing(body, torch.zeros(body.num_betas))
    tall, wide = np.ptp(vertices[:, 1]), np.ptp(vertices[:, 0])
    assert 1.4 < tall < 2.1 and 0.6 * tall < wide < tall


# ---------------------------------------------------------------------------------------------------------------- doubts


def test_the_worst_frames_are_doubted_ones_first_and_lie_apart() -> None:
    confidence, iou = np.full(60, 0.9), np.full(60, 0.9)
    confidence[10:14] = 0.1
    iou[40] = 0.2
    worst = choose_worst(confidence, iou, {30: "the mask is flagged"})
    assert worst == sorted(worst) and len(worst) == WORST
    assert {10, 30, 40} <= set(worst) and 11 not in worst and 12 not in worst
    assert min(np.diff(worst)) >= APART
    assert choose_worst(np.ones(2), np.array([np.nan, 0.5]), {}) == [1], "two frames are nearer than that"
