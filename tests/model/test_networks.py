"""Claims about networks, fused kernels, light and posing."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as nnf

from model import decoding
from model.lamp_light import lamp_share, lamp_share_reference
from model.light import LAMP, MIN_SHADE, ROWS, SHEEN, harmonics, shade, unevenness
from model.networks import Decoder, FeatureTensor, NetworkOptions, PointNorm, PoseEncoder
from model.posing import PosePointsInPasses, SkinnedSurface, pose_points, pose_points_reference
from model.uv.atlas import BodySurface, bake_atlas
from model.uv.visibility import sphere_directions
from tasks.options import options_from
from tasks.settings import load_settings
from tests.conftest import make_avatar


def options_of(preset: str) -> NetworkOptions:
    return options_from(load_settings().presets[preset].train_stage1.network, NetworkOptions)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ------------------------------------------------------------------------------------------------ the published sizes


def test_the_paper_preset_has_the_published_sizes() -> None:
    options = options_of("paper")
    decoder = Decoder(options)
    assert sum(p.numel() for p in decoder.parameters() if p.dim() == 2) == pytest.approx(182_000, rel=0.005)  # multiply-adds a texel
    assert count(decoder) == pytest.approx(186_000, rel=0.01)
    assert [tuple(c.weight.shape) for c in FeatureTensor(options, torch.arange(128**2), torch.arange(128**2)).smoother] == [(64, 64, 5, 5)] * 3
    encoder = PoseEncoder(64, base_width=32, depth=5)
    assert count(encoder) == pytest.approx(4_200_000, rel=0.02)
    assert encoder(torch.zeros(1, 3, 128, 128)).shape == (1, 64, 128, 128)


def test_the_published_decoder_runs_on_points() -> None:
    torch.manual_seed(0)
    offset, color, scale = Decoder(options_of("paper"))(torch.randn(64, 50), torch.rand(50, 2))
    assert offset.shape == color.shape == (50, 3) and scale.shape == (50,)
    assert all(torch.isfinite(t).all() for t in (offset, color, scale))


def test_a_new_pose_encoder_says_nothing() -> None:
    torch.manual_seed(0)
    assert PoseEncoder(4, base_width=8, depth=3)(torch.randn(2, 3, 16, 16)).abs().max() == 0


def test_a_new_pose_encoder_can_learn() -> None:
    torch.manual_seed(0)
    encoder = PoseEncoder(4, base_width=8, depth=3)
    encoder(torch.randn(2, 3, 16, 16)).sum().backward()
    assert encoder.up[-1].weight.grad.abs().max() > 0


def test_convolutions_see_the_surface_beyond_a_seam() -> None:
    """With the left half padded from the right half, a change there reaches texels that no kernel could reach in the map."""
    torch.manual_seed(0)
    side = 16
    cells = torch.arange(side * side).reshape(side, side)[:, 8:].flatten()
    source = torch.arange(side * side).reshape(side, side) % side
    rows = torch.arange(side)[:, None] * 8
    source = torch.where(source < 8, rows + 7 - source, rows + source - 8).flatten()
    tensor = FeatureTensor(replace(options_of("paper"), features=2), source, cells)
    before = tensor().detach()
    with torch.no_grad():
        tensor.features[0, :, 4, :8] += 10.0  # padding: overwritten by what it copies
    assert torch.equal(tensor().detach(), before)
    with torch.no_grad():
        tensor.features[0, :, 4, 8] += 10.0
    assert not torch.equal(tensor().detach()[:, 4, 7], before[:, 4, 7])


# ------------------------------------------------------------------------------------------------------ fused kernels


def test_reading_features_equals_grid_sample_gradient_included() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 16, 16, generator=generator, dtype=torch.float64, requires_grad=True)
    uv = torch.rand(80, 2, generator=generator, dtype=torch.float64)
    where = decoding.bilinear_corners(uv, 16)
    wanted = nnf.grid_sample(maps[None], (uv * 2 - 1)[None, None], padding_mode="border", align_corners=False)[0, :, 0]
    assert torch.allclose(decoding.read_features(maps, *where), wanted, atol=1e-12)
    assert torch.allclose(decoding.read_features_reference(maps, *where), wanted, atol=1e-12)
    assert torch.autograd.gradcheck(lambda m: decoding.read_features(m, *where), maps)


@pytest.mark.parametrize("relu", [True, False])
def test_fused_normalisation_equals_batch_norm_gradient_included(relu: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in ((3, 40), (3,), (3,)))
    wanted = nnf.batch_norm(x.T, None, None, weight, bias, training=True).T
    wanted = nnf.relu(wanted) if relu else wanted
    assert torch.allclose(decoding.normalise(x, weight, bias, relu=relu)[0], wanted, atol=1e-10)
    assert torch.allclose(decoding.normalise_reference(x, weight, bias, relu=relu)[0], wanted, atol=1e-10)
    assert torch.autograd.gradcheck(lambda *a: decoding.normalise(*a, relu=relu)[0], (x, weight, bias))


def test_a_rounded_product_has_the_gradients_of_a_product_and_leaves_the_rounding_as_it_was() -> None:
    generator, before = torch.Generator().manual_seed(4), torch.backends.cuda.matmul.allow_tf32
    weight, x = (torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in ((3, 4), (4, 6)))
    assert torch.equal(decoding.RoundedProduct.apply(weight, x), weight @ x)
    assert torch.autograd.gradcheck(decoding.RoundedProduct.apply, (weight, x))
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_normalisation_in_passes_is_the_same_with_its_gradients() -> None:
    generator = torch.Generator().manual_seed(3)
    x, weight, bias = (torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in ((4, 30), (4,), (4,)))
    found, wanted = decoding.NormaliseInPasses.apply(x, weight, bias), decoding.normalise_reference(x, weight, bias, relu=False)
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(found, wanted, strict=True))
    assert torch.autograd.gradcheck(lambda *a: decoding.NormaliseInPasses.apply(*a)[0], (x, weight, bias))


def test_normalising_with_settled_statistics_equals_normalising_the_batch() -> None:
    torch.manual_seed(0)
    norm, x = PointNorm(5, relu=True), 3 + 2 * torch.randn(5, 100)
    norm.momentum = 1.0
    trained = norm(x)
    assert torch.allclose(norm.eval()(x), trained, atol=1e-5)


# --------------------------------------------------------------------------------------------------- light and posing


def test_harmonics_are_orthonormal_over_the_sphere_and_average_to_zero() -> None:
    basis = harmonics(torch.from_numpy(sphere_directions(20000)), 8)
    assert torch.allclose(basis.T @ basis / len(basis), torch.eye(8, dtype=basis.dtype), atol=1e-3)
    assert basis.mean(0).abs().max() < 1e-3


def test_no_light_leaves_the_albedo() -> None:
    normals = nnf.normalize(torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    for rows in ROWS.values():
        assert torch.equal(shade(normals, torch.rand(10), torch.rand(10), torch.zeros(rows, 3)), torch.ones(10, 3))


def test_sheen_shows_where_the_viewer_grazes_a_point_and_nowhere_without_a_viewer() -> None:
    light, normals, no_lamp = torch.zeros(5, 3), torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3), torch.zeros(4)
    light[SHEEN] = torch.tensor([0.4, 0.2, 0.0])
    facing = torch.tensor([1.0, 0.5, 0.0, -0.2])
    assert torch.equal(shade(normals, None, no_lamp, light), torch.ones(4, 3))
    found = shade(normals, facing, no_lamp, light)
    assert torch.allclose(found[0], torch.ones(3)) and torch.allclose(found[2], 1 + light[SHEEN])
    assert torch.equal(found[2], found[3]) and bool((found[1, :2] < found[2, :2]).all()) and bool((found[1, :2] > 1).all())


def sphere_and_plate(count: int = 20000) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and normals of a ball of 20 cm, and half a metre above it (along z) a plate over its half towards +x."""
    ball = torch.from_numpy(sphere_directions(count)).float()
    side = torch.linspace(-0.3, 0.3, 100)
    plate = torch.stack([*torch.meshgrid(side.clamp_min(0.02), side, indexing="ij"), torch.full((100, 100), 0.5)], dim=-1).reshape(-1, 3)
    up = torch.tensor([0.0, 0.0, 1.0]).expand_as(plate)
    return torch.cat([0.2 * ball, plate]), torch.cat([ball, up])


def test_a_lamp_lights_what_faces_it_unless_something_stands_in_the_way() -> None:
    means, normals = sphere_and_plate()
    up, ball = torch.tensor([0.0, 0.0, 1.0]), slice(0, 20000)
    found = lamp_share(means, normals, up)[ball]
    facing = normals[ball, 2]
    free, shadowed = means[ball, 0] < -0.03, means[ball, 0] > 0.06
    steep = free & (facing > 0.35)
    assert torch.allclose(found[steep], facing[steep] - 0.25, atol=0.02), "hardly a shadow of the ball on itself"
    assert torch.equal(found[facing <= 0], torch.full_like(found[facing <= 0], -0.25))
    assert torch.equal(found[shadowed], torch.full_like(found[shadowed], -0.25))
    edge = found[(means[ball, 0].abs() < 0.03) & (facing > 0.9)] + 0.25
    assert bool(((edge > 0.2) & (edge < 0.8)).any()), "shadows have soft edges"
    below = facing < -0.35
    assert torch.allclose(lamp_share(means, normals, -up)[ball][below], -facing[below] - 0.25, atol=0.02), "what lies behind casts none"


def test_a_lamp_averages_to_nothing_over_all_directions_and_is_nothing_while_it_is_not_known() -> None:
    ball = torch.from_numpy(sphere_directions(20000)).float()
    assert abs(float(lamp_share(0.2 * ball, ball, nnf.normalize(torch.tensor([0.3, -0.5, 0.8]), dim=0)).mean())) < 1e-3
    for way in (lamp_share, lamp_share_reference):
        assert torch.equal(way(0.2 * ball, ball, torch.zeros(3)), torch.zeros(len(ball)))


@pytest.mark.parametrize("direction", [(0.3, -0.5, 0.8), (0.0, 0.0, 1.0), (-0.95, 0.2, 0.1)])
def test_compiled_shadows_equal_their_float64_twin(direction: tuple) -> None:
    means, normals = sphere_and_plate()
    lamp = nnf.normalize(torch.tensor(direction, dtype=torch.float64), dim=0)
    means = means + torch.tensor([40.0, -30.0, 20.0])  # far from the origin, where the grid has gone round
    found, wanted = lamp_share(means, normals, lamp.float()), lamp_share_reference(means.double(), normals.double(), lamp)
    off = (found - wanted).abs() > 1e-3  # rounding moves a point into the next cell now and then
    assert float(off.double().mean()) < 2e-3 and float((found - wanted).abs().max()) < 0.5


def test_no_light_is_darker_than_the_least() -> None:
    normals, light = torch.tensor([[1.0, 0.0, 0.0]]), torch.zeros(3, 3)
    light[0] = -2.0
    assert torch.equal(shade(normals, None, torch.zeros(1), light), torch.full((1, 3), MIN_SHADE))


@pytest.fixture(params=["quadratic", "lamp"])
def posing_case(request: pytest.FixtureRequest) -> tuple[list[torch.Tensor], SkinnedSurface, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    num_points, num_joints = 300, 5
    randn = lambda *s: torch.randn(*s, generator=generator)  # noqa: E731
    transforms = torch.eye(4).repeat(num_joints, 1, 1)
    transforms[:, :3] += 0.3 * randn(num_joints, 3, 4)
    inputs = [randn(num_points, 3), torch.rand(num_points, 3, generator=generator), torch.rand(num_points, generator=generator)]
    inputs += [0.2 * randn(ROWS[request.param], 3), transforms]
    joints = torch.randint(0, num_joints, (num_points, 4), generator=generator)
    surface = SkinnedSurface(randn(num_points, 3), nnf.normalize(randn(num_points, 3), dim=-1), joints, torch.softmax(randn(num_points, 4), 1))
    return inputs, surface, torch.tensor([0.0, 0.0, -3.0]), nnf.normalize(torch.tensor([0.4, -0.7, -0.5]), dim=0)


@pytest.mark.parametrize(("seen", "margin"), [(True, 0.2), (True, None), (False, 0.2)])
def test_compiled_posing_equals_its_float64_twin_gradients_included(posing_case: tuple, seen: bool, margin: float | None) -> None:
    inputs, surface, viewer, lamp = posing_case
    viewer = viewer if seen else None
    single = [t.clone().requires_grad_() for t in inputs]
    double = [t.double().requires_grad_() for t in inputs]
    surface64 = SkinnedSurface(surface.points_rest.double(), surface.normals_rest.double(), surface.skin_joints, surface.skin_weights.double())
    fast = pose_points(*single, surface, lamp=lamp, viewer=viewer, cull_margin=margin)
    plain = pose_points_reference(*double, surface64, lamp=lamp.double(), viewer=viewer.double() if seen else None, cull_margin=margin)
    weights = [torch.randn(t.shape, generator=torch.Generator().manual_seed(1)) for t in fast]
    fast_grads = torch.autograd.grad(sum((t * w).sum() for t, w in zip(fast, weights, strict=True)), single)
    plain_grads = torch.autograd.grad(sum((t * w.double()).sum() for t, w in zip(plain, weights, strict=True)), double)
    for a, b in [*zip(fast, plain, strict=True), *zip(fast_grads, plain_grads, strict=True)]:
        assert a.shape == b.shape and float((a - b).detach().abs().max() / b.detach().abs().max()) < 2e-6  # float32 against float64


@pytest.mark.parametrize(("seen", "margin"), [(True, 0.2), (True, None), (False, 0.2)])
def test_posing_in_passes_is_the_same_with_its_gradients(posing_case: tuple, seen: bool, margin: float | None) -> None:
    inputs, surface, viewer, lamp = posing_case
    surface = SkinnedSurface(surface.points_rest.double(), surface.normals_rest.double(), surface.skin_joints, surface.skin_weights.double())
    viewer = viewer.double() if seen else None
    ours, twins = ([t.double().requires_grad_() for t in inputs] for _ in range(2))
    means, colors, opacities = PosePointsInPasses.apply(*ours[:2], *ours[3:], surface, lamp.double(), viewer, margin)
    kept = opacities == 1
    assert bool((kept | (opacities == 0)).all()) and bool(kept.all()) != (seen and margin is not None)
    found = (means[kept], colors[kept], ours[2][kept], opacities[kept])
    wanted = pose_points_reference(*twins, surface, lamp=lamp.double(), viewer=viewer, cull_margin=margin)
    weights = [torch.randn(t.shape, generator=torch.Generator().manual_seed(1), dtype=t.dtype) for t in wanted]
    gradients = [
        torch.autograd.grad(sum((t * w).sum() for t, w in zip(outputs, weights, strict=True)), leaves)
        for outputs, leaves in ((found, ours), (wanted, twins))
    ]
    for one, other in [*zip(found, wanted, strict=True), *zip(*gradients, strict=True)]:
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


def test_points_that_face_away_are_left_out(posing_case: tuple) -> None:
    inputs, surface, viewer, lamp = posing_case
    inputs[4] = torch.eye(4).repeat(5, 1, 1)
    means, *_ = pose_points(*inputs, surface, lamp=lamp, viewer=viewer, cull_margin=0.0)
    points = surface.points_rest + inputs[0]
    facing = (surface.normals_rest * (viewer - points)).sum(1) > 0
    assert torch.allclose(means, points[facing], atol=1e-6)
    assert len(pose_points(*inputs, surface, lamp=lamp, viewer=None, cull_margin=0.0)[0]) == len(inputs[0])


def test_shade_follows_the_turned_normal(posing_case: tuple) -> None:
    inputs, surface, _, lamp = posing_case
    half_turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])).repeat(5, 1, 1)
    light = torch.zeros(3, 3)
    light[2] = 0.3  # along z
    albedo = torch.full_like(inputs[1], 0.5)
    lit = [
        pose_points(inputs[0], albedo, inputs[2], light, t, surface, lamp=lamp, viewer=None, cull_margin=0.0)[1]
        for t in (torch.eye(4).repeat(5, 1, 1), half_turn)
    ]
    assert torch.allclose(lit[0] + lit[1], torch.ones_like(albedo), atol=1e-5)
    assert math.isclose(float((lit[0] - 0.5).abs().max()), 0.5 * 0.3 * 3**0.5, rel_tol=0.02)


def test_unevenness_is_the_mean_squared_departure_from_one_and_tints_and_quick_changes_count_more() -> None:
    grey = (0.1 * torch.randn(8, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).expand(8, 3)
    directions = torch.from_numpy(sphere_directions(20000))
    departure = [float((shade(directions, None, directions[:, 0], light) - 1).square().mean()) for light in (grey[:3], grey)]
    assert float(unevenness(grey[:3])) == pytest.approx(departure[0], rel=1e-2)
    assert float(unevenness(grey)) > departure[0] + 20 * (departure[1] - departure[0])
    tinted = grey * torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
    assert float(unevenness(tinted)) > 5 * float(unevenness(grey))


def test_a_lamp_and_a_sheen_cost_their_mean_squares() -> None:
    directions = torch.from_numpy(sphere_directions(20000))
    lamp, sheen = torch.zeros(2, 5, 3, dtype=torch.float64)
    lamp[LAMP], sheen[SHEEN] = 0.4, 0.3
    lit = shade(directions, None, directions[:, 2].clamp_min(0) - 0.25, lamp)
    assert float(unevenness(lamp)) == pytest.approx(float((lit - 1).square().mean()), rel=1e-2)
    in_sight = directions[directions[:, 2] > 0]
    seen = shade(in_sight, in_sight[:, 2], torch.zeros(len(in_sight)), sheen)
    assert float(unevenness(sheen)) == pytest.approx(float((seen - 1).square().mean()), rel=1e-2)


# ----------------------------------------------------------------------------------------------- where the decoder works


def test_where_points_are_texels_decoding_at_either_is_the_same(tube: BodySurface) -> None:
    atlas = bake_atlas(tube, resolution=24, map_resolution=24, density=None)
    torch.manual_seed(0)
    avatar = make_avatar(atlas).eval()
    feature_map = avatar.features().detach()
    at_texels = avatar.decode(feature_map)
    avatar.options = replace(avatar.options, network=replace(avatar.options.network, decode_at="points"))
    for ours, theirs in zip(vars(at_texels).values(), vars(avatar.decode(feature_map)).values(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert at_texels.offsets.std() > 0


def test_texels_decode_smoothly_between_their_centres_and_learn(tube: BodySurface) -> None:
    avatar = make_avatar(bake_atlas(tube, resolution=48, map_resolution=16, density=None))
    decoded = avatar.attributes()
    neighbours = avatar.atlas_neighbours
    step = (decoded.albedo[neighbours.clamp_min(0)] - decoded.albedo[:, None]).norm(dim=-1)[neighbours >= 0]
    assert step.mean() < 0.5 * (decoded.albedo[torch.randperm(len(decoded.albedo))] - decoded.albedo).norm(dim=-1).mean()
    decoded.albedo.sum().backward()
    assert avatar.features.features.grad.abs().max() > 0


@pytest.mark.slow
def test_fresh_kernels_and_those_from_numbas_cache_give_the_same_digits(tmp_path: Path) -> None:
    script = """
import hashlib, torch
from model import decoding, ssim
g = torch.Generator().manual_seed(0)
rand = lambda *shape: torch.rand(*shape, generator=g, requires_grad=True)
x, weight, bias, image = rand(16, 3001), rand(16), rand(16), rand(60, 70, 3)
y = decoding.normalise(x, weight, bias, relu=True)[0]
value = ssim.ssim(image, rand(60, 70, 3))
((y * rand(*y.shape)).sum() + value).backward()
found = [y, value, *(leaf.grad for leaf in (x, weight, bias, image))]
print(hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in found)).hexdigest())
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    fresh, cached = (subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert fresh == cached and any(tmp_path.rglob("*.nbc"))
