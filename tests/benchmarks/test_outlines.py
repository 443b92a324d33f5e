"""The measure of masks: zero for the truth, and what an outline that lies a pixel off costs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.outlines import compare


def test_a_mask_that_is_a_pixel_too_large_is_a_pixel_off():
    truth = np.zeros((2, 40, 40), np.float32)
    truth[:, 10:30, 10:30] = 1
    assert compare(truth, truth) == (0, 0, 1, 1)
    wide = truth.copy()
    wide[0, 9:31, 9:31] = 1  # in one of two frames
    px, squared, iou, worst = compare(wide, truth)
    assert px == squared == pytest.approx(0.5, abs=0.05) and worst == pytest.approx(400 / 484) and iou == pytest.approx((1 + worst) / 2)
    soft = truth.copy()
    soft[:, 9, 10:30] = 0.5
    px, squared, _, _ = compare(soft, truth)
    assert squared == pytest.approx(px / 2)
