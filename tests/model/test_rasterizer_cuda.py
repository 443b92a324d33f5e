"""The CUDA backends: what is handed to the packages, and, where a GPU is, what comes back."""

import importlib.util
import inspect
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from model.camera import Camera
from model.gaussians import Gaussians, Rendered
from model.render import rasterize as interface
from model.render.cuda import centered_canvas, projection_matrix, rasterize_diff_gaussian
from model.render.rasterize import CUDA_BACKENDS, choose_backend, rasterize
from model.render.reference import rasterize_reference

_spec = importlib.util.spec_from_file_location("cuda_packages", Path(__file__).with_name("cuda_packages.py"))
cuda_packages = sys.modules.setdefault("cuda_packages", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(cuda_packages)
AuthorsRasterizer, FAKE_PACKAGES, gsplat_rasterization = (
    cuda_packages.AuthorsRasterizer, cuda_packages.FAKE_PACKAGES, cuda_packages.gsplat_rasterization
)  # fmt: skip

BACKGROUND = torch.tensor([0.2, 0.5, 0.9])


def random_gaussians(num_gaussians: int, seed: int, device: str = "cpu") -> Gaussians:
    generator = torch.Generator().manual_seed(seed)
    means = torch.rand(num_gaussians, 3, generator=generator) * 2 + torch.tensor([-1.0, -1.0, 1.0])
    scales, opacities = torch.rand(2, num_gaussians, generator=generator)
    parts = means, scales * 0.05 + 0.01, torch.rand(num_gaussians, 3, generator=generator), opacities
    return Gaussians(*(part.to(device) for part in parts))


def turned_view(width: int, height: int, center: tuple[float, float] | None = None) -> Camera:
    cx, cy = center or (width / 2, height / 2)
    w2c = torch.eye(4)
    w2c[:3, :3] = torch.matrix_exp(torch.tensor([[0.0, -0.4, 0.2], [0.4, 0.0, 0.15], [-0.2, -0.15, 0.0]]))
    w2c[:3, 3] = torch.tensor([0.2, -0.1, 0.6])
    return Camera(torch.tensor([[70.0, 0, cx], [0, 80.0, cy], [0, 0, 1]]), w2c, width, height)


def draw_with_gradients(
    draw, gaussians: Gaussians, camera: Camera, counted: torch.Tensor | float = 1.0
) -> tuple[Rendered, list[torch.Tensor]]:
    """The picture, and the gradients under a random pull on every pixel that counts."""
    inputs = (gaussians.means, gaussians.scales, gaussians.colors, gaussians.opacities, BACKGROUND.to(gaussians.means.device))
    inputs = [x.clone().requires_grad_() for x in inputs]
    drawn = draw(Gaussians(*inputs[:4]), camera, inputs[4])
    generator = torch.Generator().manual_seed(2)
    outputs = (drawn.image.permute(2, 0, 1), drawn.alpha, drawn.depth)
    sum((counted * x * torch.randn(x.shape, generator=generator).to(x.device)).sum() for x in outputs).backward()
    return drawn, [x.grad for x in inputs]


@pytest.mark.parametrize("name", list(CUDA_BACKENDS))
@pytest.mark.parametrize(
    "camera",
    [turned_view(60, 44), turned_view(60, 44, center=(22.3, 31.9)), turned_view(37, 29, center=(-12.0, 40.0))],
    ids=["centred", "off centre", "principal point outside"],
)
def test_the_package_is_handed_the_same_scene_and_view(name, camera):
    gaussians = random_gaussians(150, seed=1)
    found, gradients = draw_with_gradients(
        lambda *scene: CUDA_BACKENDS[name](*scene, FAKE_PACKAGES[name]), gaussians, camera
    )
    expected, expected_gradients = draw_with_gradients(rasterize_reference, gaussians, camera)
    # float32 on both sides; on a larger canvas J is clamped farther out, which moves Gaussians beside the picture a little
    for one, other in zip((found.image, found.alpha, found.depth), (expected.image, expected.alpha, expected.depth), strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() < 2e-4 * other.norm()
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert (one - other).norm() < 1e-3 * other.norm()


@pytest.mark.parametrize("name", list(CUDA_BACKENDS))
def test_a_gaussian_that_is_not_finite_reaches_the_package_invisible_and_gets_no_gradient(name):
    gaussians, camera = random_gaussians(40, seed=3), turned_view(30, 20)
    gaussians.means[5, 1] = math.nan
    found, gradients = draw_with_gradients(lambda *scene: CUDA_BACKENDS[name](*scene, FAKE_PACKAGES[name]), gaussians, camera)
    expected, _ = draw_with_gradients(rasterize_reference, gaussians, camera)
    torch.testing.assert_close(found.image, expected.image, rtol=0, atol=1e-5)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert not any(gradient[5].any() for gradient in gradients[:4])


def test_the_projection_puts_points_where_the_camera_does():
    camera, points = turned_view(60, 44, center=(22.3, 31.9)), random_gaussians(50, seed=4).means
    homogeneous = torch.cat([camera.to_camera(points), torch.ones(50, 1)], dim=-1) @ projection_matrix(camera).T
    ndc = homogeneous[:, :2] / homogeneous[:, 3:]
    size = torch.tensor([60.0, 44.0])
    authors_pixels = ((ndc + 1) * size - 1) / 2  # ndc2Pix in auxiliary.h: pixel i's centre is at i
    torch.testing.assert_close(authors_pixels + 0.5, camera.project(points), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("center", [(30.0, 22.0), (22.3, 31.9), (-12.0, 70.0)])
def test_the_canvas_is_centred_and_contains_the_window(center):
    camera = turned_view(60, 44, center=center)
    canvas, left, top = centered_canvas(camera)
    assert abs(canvas.width / 2 - canvas.K[0, 2]) <= 0.5 and abs(canvas.height / 2 - canvas.K[1, 2]) <= 0.5
    assert 0 <= left <= canvas.width - 60 and 0 <= top <= canvas.height - 44
    window = canvas.crop(left, top, 60, 44)
    torch.testing.assert_close(window.K, camera.K)


def test_settings_follow_the_version_of_the_authors_package():
    class LaterSettings(NamedTuple):
        image_height: int
        image_width: int
        tanfovx: float
        tanfovy: float
        bg: torch.Tensor
        scale_modifier: float
        viewmatrix: torch.Tensor
        projmatrix: torch.Tensor
        sh_degree: int
        campos: torch.Tensor
        prefiltered: bool
        debug: bool
        antialiasing: bool

    seen = []

    class Rasterizer(AuthorsRasterizer):
        def forward(self, **arguments):
            seen.append(self.settings)
            return *super().forward(**arguments), torch.zeros(1)  # later versions add inverse depth

    package = SimpleNamespace(GaussianRasterizer=Rasterizer, GaussianRasterizationSettings=LaterSettings)
    rasterize_diff_gaussian(random_gaussians(5, seed=5), turned_view(20, 10), BACKGROUND, package)
    assert len(seen) == 2 and not any(settings.antialiasing for settings in seen)


def test_a_cuda_backend_refuses_tensors_on_the_cpu():
    with pytest.raises(ValueError, match="cannot draw tensors on 'cpu'.*use 'cpu'"):
        rasterize(random_gaussians(3, seed=6), turned_view(8, 8), BACKGROUND, backend="gsplat")


@pytest.mark.parametrize("wanted", ["auto", "gsplat", "diff_gaussian_rasterization"])
def test_a_missing_package_is_named_with_the_way_to_install_it(wanted, monkeypatch):
    monkeypatch.setattr(interface.importlib, "import_module", _nothing_is_installed)
    with pytest.raises(ImportError, match="no rasteriser for CUDA tensors") as caught:
        choose_backend(wanted, "cuda")
    expected = list(CUDA_BACKENDS) if wanted == "auto" else [wanted]
    assert all(interface.HOW_TO_INSTALL[name] in str(caught.value) for name in expected)


def test_auto_takes_the_package_that_imports(monkeypatch):
    monkeypatch.setattr(
        interface.importlib, "import_module", lambda name: FAKE_PACKAGES[name] if name == "gsplat" else _nothing_is_installed(name)
    )
    assert choose_backend("auto", "cuda") == "gsplat"


def _nothing_is_installed(name: str):
    raise ImportError(f"No module named {name!r}")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(CUDA_BACKENDS))
@pytest.mark.parametrize("camera", [turned_view(160, 120), turned_view(160, 120, center=(50.0, 80.0))], ids=["centred", "off centre"])
def test_the_package_draws_what_the_cpu_draws(name, camera):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    gaussians = random_gaussians(500, seed=7, device="cuda")
    found, gradients = draw_with_gradients(lambda *scene: rasterize(*scene, backend=name), gaussians, camera)
    expected, expected_gradients = draw_with_gradients(lambda *scene: rasterize(*scene, backend="cpu"), gaussians, camera)
    # the packages cut footprints a little farther out than 3 sigma, where alpha is about 0.01, and clamp alpha differently
    for one, other in zip((found.image, found.alpha, found.depth), (expected.image, expected.alpha, expected.depth), strict=True):
        assert (one - other).abs().mean() < 0.01
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.98


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(CUDA_BACKENDS))
def test_the_package_is_exact_where_all_rasterisers_cut_alike(name):
    """Translucent footprints end where they are fainter than 1/255, before any rasteriser's number of standard deviations."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    gaussians, camera = random_gaussians(500, seed=8, device="cuda"), turned_view(160, 120)
    gaussians = replace(gaussians, opacities=0.3 * gaussians.opacities)
    counted = torch.ones(camera.height, camera.width, device="cuda")
    if name == "diff_gaussian_rasterization":  # it loses what reaches into the first row or column of a tile alone
        counted[::16], counted[:, ::16] = 0, 0
    found, gradients = draw_with_gradients(lambda *scene: rasterize(*scene, backend=name), gaussians, camera, counted)
    expected, expected_gradients = draw_with_gradients(lambda *scene: rasterize(*scene, backend="cpu"), gaussians, camera, counted)
    for one, other in zip((found.image, found.alpha, found.depth), (expected.image, expected.alpha, expected.depth), strict=True):
        difference = (one - other) * (counted if one.dim() == 2 else counted[..., None])
        assert difference.norm() < 1e-4 * other.norm()
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert (one - other).norm() < 1e-4 * other.norm()


@pytest.mark.skipif(importlib.util.find_spec("gsplat") is None, reason="gsplat is not installed")
def test_our_copy_of_gsplats_signature_is_the_installed_one():
    import gsplat

    assert set(inspect.signature(gsplat_rasterization).parameters) <= set(inspect.signature(gsplat.rasterization).parameters)

