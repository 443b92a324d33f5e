"""The CPU rasteriser against its specification in plain torch, gradients included."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from model.camera import Camera, camera_from_focal
from model.gaussians import Gaussians, Rendered
from model.render.rasterize import choose_backend, rasterize
from model.render.reference import rasterize_reference

# Both sides see the same float32 numbers; the twin computes in float64. Rounding in the compiled code is about 1e-7 for a
# pixel and grows with the sums; 1e-4 is the project's promise, and 1e-5 leaves no room for a wrong term to hide.
TOLERANCE = 1e-5
NAMES = ("means", "scales", "colors", "opacities", "background")


def random_gaussians(num_gaussians: int, seed: int, opaque: bool = False, scale: float = 0.06) -> Gaussians:
    """A box of Gaussians from 1 to 3 metres before the camera, some beyond the edges of the picture."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.rand(num_gaussians, 3, generator=generator) * torch.tensor([2.0, 2.0, 2.0]) + torch.tensor([-1.0, -1.0, 1.0])
    scales = torch.rand(num_gaussians, generator=generator) * scale + 0.004
    opacities = torch.rand(num_gaussians, generator=generator)
    return Gaussians(
        means, scales, torch.rand(num_gaussians, 3, generator=generator), torch.ones_like(opacities) if opaque else opacities
    )


def view(width: int, height: int, focal: float = 80.0, center: tuple[float, float] | None = None, turned: bool = False) -> Camera:
    """A view of that box, optionally rolled, tilted and stepped aside."""
    cx, cy = center or (width / 2, height / 2)
    w2c = torch.eye(4)
    if turned:
        axis_angle = torch.tensor([[0.0, -0.4, 0.2], [0.4, 0.0, 0.15], [-0.2, -0.15, 0.0]])
        w2c[:3, :3] = torch.matrix_exp(axis_angle)
        w2c[:3, 3] = torch.tensor([0.2, -0.1, 0.6])
    return Camera(torch.tensor([[focal, 0, cx], [0, 1.1 * focal, cy], [0, 0, 1]]), w2c, width, height)


def draw_with_gradients(draw, gaussians: Gaussians, camera: Camera, dtype: torch.dtype, seed: int = 1):
    """Outputs, and the gradients that random cotangents of image, alpha and depth send to every input."""
    background = torch.tensor([0.2, 0.5, 0.9])
    inputs = [gaussians.means, gaussians.scales, gaussians.colors, gaussians.opacities, background]
    inputs = [x.detach().to(dtype, copy=True).requires_grad_() for x in inputs]
    drawn = draw(Gaussians(*inputs[:4]), camera, inputs[4])
    send_back(drawn, seed)
    return (drawn.image, drawn.alpha, drawn.depth), tuple(x.grad for x in inputs)


def send_back(drawn: Rendered, seed: int) -> None:
    """Backward from a random weighted sum of everything drawn."""
    generator = torch.Generator().manual_seed(seed)
    outputs = (drawn.image, drawn.alpha, drawn.depth)
    weights = (torch.randn(x.shape, generator=generator).to(x.dtype) for x in outputs)
    sum((x * w).sum() for x, w in zip(outputs, weights, strict=True)).backward()


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Euclidean distance over the expected length; absolute where nothing is expected."""
    distance, length = (found.double() - expected.double()).norm().item(), expected.double().norm().item()
    return distance / length if length > 0 else distance


def assert_agrees_with_twin(gaussians: Gaussians, camera: Camera) -> None:
    outputs, gradients = draw_with_gradients(rasterize, gaussians, camera, torch.float32)
    twin_outputs, twin_gradients = draw_with_gradients(rasterize_reference, gaussians, camera, torch.float64)
    for name, found, expected in zip(("image", "alpha", "depth"), outputs, twin_outputs, strict=True):
        assert relative_error(found, expected) < TOLERANCE, name
    for name, found, expected in zip(NAMES, gradients, twin_gradients, strict=True):
        assert relative_error(found, expected) < TOLERANCE, f"gradient of {name}"


@pytest.mark.parametrize(
    ("camera", "opaque"),
    [
        pytest.param(view(64, 32), False, id="one tile"),
        pytest.param(view(97, 71, center=(41.3, 50.2)), False, id="off-centre principal point"),
        pytest.param(view(97, 71, turned=True), False, id="turned camera"),
        pytest.param(view(131, 66, focal=140.0, turned=True), True, id="opaque, not a multiple of a tile"),
        pytest.param(view(40, 48, focal=30.0, center=(90.0, -20.0)), False, id="principal point outside the picture"),
        pytest.param(view(1, 1, focal=1.0), False, id="one pixel"),
    ],
)
def test_the_picture_and_all_gradients_agree_with_the_twin(camera, opaque):
    assert_agrees_with_twin(random_gaussians(300, seed=3, opaque=opaque), camera)


def test_small_gaussians_far_from_the_corner_keep_their_precision():
    # at pixel 2000 float32 has steps of 1e-4 pixels; a centre stored so moves exp(-p) of a one-pixel dot by more than this
    gaussians = random_gaussians(300, seed=4)
    dots = Gaussians(gaussians.means, 1e-4 * gaussians.scales, gaussians.colors, gaussians.opacities)
    camera = view(2048, 48, focal=1000.0)
    outputs, gradients = draw_with_gradients(rasterize, dots, camera, torch.float32)
    twin_outputs, twin_gradients = draw_with_gradients(
        lambda *scene: rasterize_reference(*scene, tile_px=128), dots, camera, torch.float64
    )
    for found, expected in zip((*outputs, *gradients), (*twin_outputs, *twin_gradients), strict=True):
        assert relative_error(found, expected) < TOLERANCE


def test_equal_depths_are_composited_in_the_order_given():
    gaussians = random_gaussians(200, seed=5)
    depths = torch.tensor([1.5, 2.0])[torch.arange(200) % 2]
    tied = Gaussians(torch.cat([gaussians.means[:, :2], depths[:, None]], dim=-1), gaussians.scales, gaussians.colors, gaussians.opacities)
    assert_agrees_with_twin(tied, view(80, 60))


def test_a_deep_stack_of_opaque_gaussians_agrees_with_the_twin():
    # many layers per pixel: the transmittance stop and the skipping of hidden Gaussians are at work
    generator = torch.Generator().manual_seed(6)
    means = torch.rand(1500, 3, generator=generator) * torch.tensor([0.5, 0.3, 1.0]) + torch.tensor([-0.25, -0.15, 1.0])
    gaussians = Gaussians(means, torch.full((1500,), 0.03), torch.rand(1500, 3, generator=generator), torch.ones(1500))
    assert_agrees_with_twin(gaussians, view(70, 36, focal=60.0))


def test_the_twin_draws_the_same_in_tiles():
    gaussians, camera = _as_double(random_gaussians(200, seed=7)), view(50, 41, turned=True)
    whole, whole_gradients = draw_with_gradients(rasterize_reference, gaussians, camera, torch.float64)
    tiled, tiled_gradients = draw_with_gradients(
        lambda *scene: rasterize_reference(*scene, tile_px=16), gaussians, camera, torch.float64
    )
    for one, other in zip((*whole, *whole_gradients), (*tiled, *tiled_gradients), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_the_gradients_of_the_twin_are_those_of_finite_differences():
    # opacities stay under the clamp at 0.99, whose gradient is passed through on purpose
    gaussians = _as_double(random_gaussians(5, seed=8, scale=0.2))
    camera = view(6, 5, focal=4.0, center=(3.5, 2.0), turned=True).to(dtype=torch.float64)
    inputs = [gaussians.means, gaussians.scales, gaussians.colors, 0.2 + 0.7 * gaussians.opacities]
    inputs = [x.clone().requires_grad_() for x in (*inputs, torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64))]

    def draw(*tensors):
        drawn = rasterize_reference(Gaussians(*tensors[:4]), camera, tensors[4])
        return drawn.image, drawn.alpha, drawn.depth

    assert draw(*inputs)[1].max() > 0.3
    assert torch.autograd.gradcheck(draw, inputs, eps=1e-7, atol=1e-5)


def test_the_gradient_passes_through_the_clamp_of_alpha():
    opacities = torch.ones(1, dtype=torch.float64, requires_grad=True)
    gaussian = Gaussians(torch.tensor([[0.0, 0.0, 2.0]]).double(), torch.tensor([0.5]).double(), torch.ones(1, 3).double(), opacities)
    camera = view(3, 3, focal=80.0)
    drawn = rasterize_reference(gaussian, camera, torch.zeros(3, dtype=torch.float64))
    assert drawn.alpha[1, 1].item() == pytest.approx(0.99)
    drawn.alpha[1, 1].backward()
    assert opacities.grad.item() == pytest.approx(1.0)


def test_results_do_not_depend_on_the_number_of_threads():
    gaussians, camera = random_gaussians(2000, seed=9), view(200, 150)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(draw_with_gradients(rasterize, gaussians, camera, torch.float32))
    finally:
        torch.set_num_threads(before)
    for outputs, gradients in results[1:]:
        for first, other in zip((*results[0][0], *results[0][1]), (*outputs, *gradients), strict=True):
            assert torch.equal(first, other)


def test_two_pictures_may_be_drawn_before_the_first_backward():
    gaussians = random_gaussians(300, seed=10)
    cameras = [view(90, 60), view(50, 80, turned=True)]
    alone = [draw_with_gradients(rasterize, gaussians, camera, torch.float32)[1] for camera in cameras]

    inputs = [gaussians.means, gaussians.scales, gaussians.colors, gaussians.opacities, torch.tensor([0.2, 0.5, 0.9])]
    inputs = [x.clone().requires_grad_() for x in inputs]
    drawn = [rasterize(Gaussians(*inputs[:4]), camera, inputs[4]) for camera in cameras]
    for picture in drawn:
        send_back(picture, seed=1)
    for x, first, second in zip(inputs, *alone, strict=True):
        torch.testing.assert_close(x.grad, first + second, rtol=1e-5, atol=1e-6)


def test_backward_twice_through_one_picture_gives_the_same_gradient():
    gaussians = random_gaussians(100, seed=11)
    means = gaussians.means.clone().requires_grad_()
    drawn = rasterize(Gaussians(means, gaussians.scales, gaussians.colors, gaussians.opacities), view(60, 40), torch.zeros(3))
    first = torch.autograd.grad(drawn.image.sum(), means, retain_graph=True)[0]
    rasterize(gaussians, view(90, 90), torch.ones(3))  # must not touch what the first picture keeps
    assert torch.equal(first, torch.autograd.grad(drawn.image.sum(), means)[0])


def test_pictures_drawn_in_several_threads_are_those_drawn_one_by_one():
    gaussians, cameras = random_gaussians(500, seed=12), [view(60 + 7 * i, 50, turned=i % 2 == 1) for i in range(6)]
    one_by_one = [draw_with_gradients(rasterize, gaussians, camera, torch.float32) for camera in cameras]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda camera: draw_with_gradients(rasterize, gaussians, camera, torch.float32), cameras))
    for (outputs, gradients), (outputs_together, gradients_together) in zip(one_by_one, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(outputs, outputs_together, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(gradients, gradients_together, strict=True))


@pytest.mark.parametrize("draw", [rasterize, rasterize_reference])
def test_an_empty_scene_gives_the_background(draw):
    empty = Gaussians(torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 3), torch.zeros(0))
    background = torch.tensor([0.1, 0.6, 0.3], requires_grad=True)
    drawn = draw(empty, view(70, 40), background)
    assert torch.equal(drawn.image, background.detach().expand(40, 70, 3))
    assert not drawn.alpha.any() and not drawn.depth.any()
    drawn.image.sum().backward()
    torch.testing.assert_close(background.grad, torch.full((3,), 2800.0))


@pytest.mark.parametrize(
    "mean",
    [
        pytest.param((0.0, 0.0, -2.0), id="behind the camera"),
        pytest.param((0.0, 0.0, 0.0), id="at the camera"),
        pytest.param((0.05, 0.0, 0.19), id="nearer than the near plane"),
        pytest.param((50.0, 0.0, 2.0), id="beside the picture"),
        pytest.param((1e12, -1e12, 2.0), id="at the end of the world"),
        pytest.param((math.nan, 0.0, 2.0), id="nowhere"),
        pytest.param((math.inf, 0.0, 2.0), id="infinitely far"),
    ],
)
@pytest.mark.parametrize("draw", [rasterize, rasterize_reference])
def test_a_gaussian_that_cannot_be_seen_changes_nothing(draw, mean):
    gaussians, camera = random_gaussians(50, seed=13), view(40, 30)
    outputs, gradients = draw_with_gradients(draw, gaussians, camera, torch.float32)
    more = Gaussians(
        torch.cat([gaussians.means, torch.tensor([mean])]),
        torch.cat([gaussians.scales, torch.tensor([0.05])]),
        torch.cat([gaussians.colors, torch.ones(1, 3)]),
        torch.cat([gaussians.opacities, torch.ones(1)]),
    )
    outputs_more, gradients_more = draw_with_gradients(draw, more, camera, torch.float32)
    for one, other in zip(outputs, outputs_more, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(gradients[:4], gradients_more[:4], strict=True):
        torch.testing.assert_close(one, other[:-1])
        assert not other[-1].any()


@pytest.mark.parametrize("attribute", ["scales", "colors", "opacities"])
@pytest.mark.parametrize("draw", [rasterize, rasterize_reference])
def test_a_gaussian_with_a_number_that_is_not_finite_is_skipped(draw, attribute):
    gaussians, camera = random_gaussians(50, seed=14), view(40, 30)
    parts = {name: getattr(gaussians, name).clone() for name in ("means", "scales", "colors", "opacities")}
    parts[attribute][7] = math.nan
    keep = torch.arange(50) != 7
    outputs, gradients = draw_with_gradients(draw, Gaussians(**parts), camera, torch.float32)
    expected, _ = draw_with_gradients(draw, Gaussians(**{name: x[keep] for name, x in parts.items()}), camera, torch.float32)
    for one, other in zip(outputs, expected, strict=True):
        assert torch.equal(one, other)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert not any(gradient[7].any() for gradient in gradients[:4])


def test_a_scale_of_zero_draws_a_dot_as_small_as_the_dilation():
    dot = Gaussians(torch.tensor([[0.0, 0.0, 2.0]]), torch.zeros(1), torch.ones(1, 3), torch.tensor([0.8]))
    camera = camera_from_focal(50.0, 9, 9)
    alpha = rasterize(dot, camera, torch.zeros(3)).alpha
    assert alpha[4, 4].item() == pytest.approx(0.8, rel=1e-6)
    assert alpha[4, 5].item() == pytest.approx(0.8 * math.exp(-0.5 / 0.3), rel=1e-5)
    assert_agrees_with_twin(dot, camera)


def test_a_huge_gaussian_fills_the_picture():
    huge = Gaussians(torch.tensor([[0.3, 0.2, 3.0]]), torch.tensor([1e4]), torch.tensor([[0.2, 0.4, 0.6]]), torch.tensor([0.7]))
    drawn = rasterize(huge, view(130, 70), torch.zeros(3))
    torch.testing.assert_close(drawn.alpha, torch.full((70, 130), 0.7), rtol=1e-4, atol=0)
    torch.testing.assert_close(drawn.depth, torch.full((70, 130), 2.1), rtol=1e-4, atol=0)


def test_a_gaussian_is_brightest_where_the_camera_projects_it():
    camera = view(60, 40, center=(25.0, 24.0), turned=True)
    mean = torch.tensor([[0.1, 0.05, 2.0]])
    column, row = (camera.project(mean)[0] - 0.5).round().long().tolist()
    alpha = rasterize(Gaussians(mean, torch.tensor([0.02]), torch.ones(1, 3), torch.full((1,), 0.9)), camera, torch.zeros(3)).alpha
    assert divmod(alpha.argmax().item(), 60) == (row, column)


def test_a_crop_is_the_window_of_the_whole_picture():
    # J's clamp follows the window's edges, 9 pixels beyond them: these footprints are too small to reach in from there
    gaussians, camera = random_gaussians(2000, seed=15, scale=0.015), view(160, 120, focal=120.0)
    whole = rasterize(gaussians, camera, torch.ones(3))
    window = rasterize(gaussians, camera.crop(70, 31, 60, 50), torch.ones(3))
    assert window.alpha.mean() > 0.1
    torch.testing.assert_close(window.image, whole.image[31:81, 70:130], rtol=0, atol=1e-5)
    torch.testing.assert_close(window.depth, whole.depth[31:81, 70:130], rtol=0, atol=1e-5)


def test_double_inputs_are_drawn_in_single_precision_and_get_double_gradients():
    gaussians = random_gaussians(50, seed=16)
    outputs, gradients = draw_with_gradients(rasterize, _as_double(gaussians), view(40, 30), torch.float64)
    expected, _ = draw_with_gradients(rasterize, gaussians, view(40, 30), torch.float32)
    assert torch.equal(outputs[0], expected[0])
    assert gradients[0].dtype == torch.float64


def test_inputs_changed_before_backward_are_refused():
    gaussians = random_gaussians(20, seed=17)
    colors = gaussians.colors.clone().requires_grad_()
    drawn = rasterize(Gaussians(gaussians.means, gaussians.scales, colors, gaussians.opacities), view(20, 20), torch.zeros(3))
    with torch.no_grad():
        colors += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        drawn.image.sum().backward()


def test_skew_is_refused():
    camera = view(20, 20)
    camera.K[0, 1] = 0.5
    with pytest.raises(ValueError, match="skew"):
        rasterize(random_gaussians(3, seed=18), camera, torch.zeros(3))


@pytest.mark.parametrize("attribute", ["scales", "colors", "opacities"])
def test_tensors_of_unequal_length_are_refused(attribute):
    parts = {name: getattr(random_gaussians(5, seed=19), name) for name in ("means", "scales", "colors", "opacities")}
    parts[attribute] = parts[attribute][:-1]
    with pytest.raises(ValueError, match=f"'{attribute}': \\(4"):
        rasterize(Gaussians(**parts), view(8, 8), torch.zeros(3))


def test_a_cpu_tensor_is_drawn_on_the_cpu():
    assert choose_backend("auto", "cpu") == "cpu"


def test_an_unknown_backend_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown rasteriser 'opengl'.*gsplat"):
        choose_backend("opengl", "cpu")


def _as_double(gaussians: Gaussians) -> Gaussians:
    return Gaussians(gaussians.means.double(), gaussians.scales.double(), gaussians.colors.double(), gaussians.opacities.double())
