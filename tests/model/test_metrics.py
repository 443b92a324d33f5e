"""Claims about the figures: against closed forms and against torchmetrics."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from model.metrics import fit_similarity, mask_iou, mpjpe, pa_mpjpe, psnr
from model.ssim import SsimInPasses, ssim, ssim_reference


def test_psnr_of_a_constant_error_is_its_square_in_decibel() -> None:
    image = torch.full((4, 5, 3), 0.5)
    assert psnr(image, image + 0.1) == pytest.approx(20, abs=1e-4)
    assert psnr(image, image) == math.inf


def test_psnr_inside_a_mask_does_not_see_the_outside() -> None:
    image, target = torch.zeros(4, 4, 3), torch.zeros(4, 4, 3)
    target[0] = 1.0
    target[1:] = 0.1
    inside = torch.ones(4, 4, dtype=torch.bool)
    inside[0] = False
    assert psnr(image, target, inside) == pytest.approx(20, abs=1e-4)
    with pytest.raises(ValueError, match="empty"):
        psnr(image, target, torch.zeros(4, 4, dtype=torch.bool))


def test_iou_counts_pixels_above_one_half() -> None:
    a, b = torch.zeros(2, 4), torch.zeros(2, 4)
    a[:, :2], b[:, 1:3] = 0.9, 0.6
    b[:, 3] = 0.4
    assert mask_iou(a, b) == pytest.approx(2 / 6)
    assert mask_iou(torch.zeros(2, 2), torch.zeros(2, 2)) == 1.0


def test_a_similarity_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    rotation = rotation * torch.sign(torch.linalg.det(rotation))
    found = fit_similarity(points, 1.7 * points @ rotation.T + torch.tensor([1.0, -2, 3], dtype=torch.float64))
    assert found.scale == pytest.approx(1.7, abs=1e-12)
    assert torch.allclose(found.rotation, rotation, atol=1e-12)
    assert torch.allclose(found(points), 1.7 * points @ rotation.T + torch.tensor([1.0, -2, 3], dtype=torch.float64), atol=1e-12)


def test_a_mirror_image_is_not_taken_for_a_rotation() -> None:
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.linalg.det(fit_similarity(points, points * torch.tensor([-1.0, 1, 1], dtype=torch.float64)).rotation) > 0


def test_joint_errors_ignore_what_they_should() -> None:
    joints = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert mpjpe(joints + torch.tensor([1.0, 2, 3]), joints) == pytest.approx(0, abs=1e-12)
    assert mpjpe(1.5 * joints, joints) > 0.1
    assert pa_mpjpe(1.5 * joints, joints) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("ssim", [ssim, SsimInPasses.apply], ids=["compiled", "in passes"])
@pytest.mark.parametrize("shape", [(11, 11, 3), (24, 31, 3)])
def test_the_fused_ssim_equals_its_twin_gradient_included(shape: tuple[int, int, int], ssim) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.rand(shape, generator=generator, dtype=torch.float64)
    fast, plain = ssim(image, target), ssim_reference(image, target)
    assert float((fast - plain).detach()) == pytest.approx(0, abs=1e-12)
    gradients = [torch.autograd.grad(value, image)[0] for value in (fast, plain)]
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-15)


def test_ssim_of_reflected_pictures_is_that_of_torchmetrics() -> None:
    """torchmetrics pads by reflection and means over the whole picture; we mean over whole windows only."""
    generator = torch.Generator().manual_seed(0)
    image, target = (torch.rand(40, 33, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    theirs = structural_similarity_index_measure(image.permute(2, 0, 1)[None], target.permute(2, 0, 1)[None], data_range=1.0)
    padded = [
        torch.nn.functional.pad(p.permute(2, 0, 1)[None], (5, 5, 5, 5), mode="reflect")[0].permute(1, 2, 0) for p in (image, target)
    ]
    assert float(ssim(*padded)) == pytest.approx(float(theirs), abs=1e-9)
    assert float(ssim(image, image)) == pytest.approx(1, abs=1e-12)


def test_pictures_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="11 px"):
        ssim(torch.zeros(10, 20, 3), torch.zeros(10, 20, 3))
