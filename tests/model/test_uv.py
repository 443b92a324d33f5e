"""Claims about the atlas: what texels show, how evenly points lie, and what convolutions see across a seam."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.body.body_model import load_body_model
from model.pose import BodyPose
from model.uv.atlas import BodySurface, UvAtlas, bake_atlas, body_surface, heaviest
from model.uv.bake import interpolate, rasterise_layout, texel_spacing
from model.uv.position_maps import bake_position_map
from model.uv.seams import padding_sources, seam_edges
from model.uv.visibility import seen_from_outside


def test_every_texel_centre_inside_a_chart_gets_the_point_that_lies_there(tube: BodySurface) -> None:
    samples = rasterise_layout(tube.uv, tube.uv_faces, 50)
    assert np.allclose(interpolate(tube.uv, tube.uv_faces, samples), samples.uv, atol=1e-9)
    assert np.allclose(samples.barycentric.sum(1), 1) and samples.barycentric.min() > -1e-6
    inside = (np.abs(samples.uv - 0.5) <= 0.4 + 1e-9).all(1)
    assert inside.all() and len(samples.texel) == 40 * 40  # the chart covers 0.8 x 0.8 of the layout


def test_texels_without_a_kept_face_are_left_out(tube: BodySurface) -> None:
    keep = np.zeros(len(tube.faces), bool)
    keep[:10] = True
    assert set(rasterise_layout(tube.uv, tube.uv_faces, 50, keep_face=keep).face) <= set(range(10))


def test_spacing_is_the_distance_between_neighbouring_texels(tube: BodySurface) -> None:
    samples = rasterise_layout(tube.uv, tube.uv_faces, 50)
    spacing = texel_spacing(tube.vertices_rest, tube.faces, tube.uv, tube.uv_faces, samples, 50)
    points = interpolate(tube.vertices_rest, tube.faces, samples).reshape(40, 40, 3)
    down = np.linalg.norm(points[1:] - points[:-1], axis=2).mean()
    assert np.allclose(spacing, max(down, 2 * 0.15 * 16 * np.sin(np.pi / 16) / 0.8 / 50), rtol=1e-6)


def test_the_two_sides_of_a_seam_are_the_same_edge_of_the_body(tube: BodySurface) -> None:
    here, there = seam_edges(tube.faces, tube.uv, tube.uv_faces)
    assert len(here) == 2 * 12  # twelve rings of faces, seen from both sides
    assert np.allclose(here[..., 1], there[..., 1]) and np.allclose(np.abs(here[..., 0] - there[..., 0]), 0.8)


def test_padding_shows_what_lies_across_the_seam(tube: BodySurface) -> None:
    samples = rasterise_layout(tube.uv, tube.uv_faces, 20)  # the chart is columns and rows 2 to 17
    source = padding_sources(tube.faces, tube.uv, tube.uv_faces, samples, 20)
    column = samples.texel[source.reshape(20, 20)] % 20
    assert (column[4:16, 1] == 17).all() and (column[4:16, 0] == 16).all()
    assert (column[4:16, 18] == 2).all() and (column[4:16, 19] == 3).all()
    assert (column[4:16, 2:18] == np.arange(2, 18)).all()


def test_a_density_spreads_the_points_evenly_and_keeps_their_number() -> None:
    body = load_body_model()
    surface = body_surface(body, torch.zeros(body.num_betas))
    plain = bake_atlas(surface, resolution=96, map_resolution=32, density=None)
    even = bake_atlas(surface, resolution=96, map_resolution=32, density=np.ones(body.num_joints))
    assert abs(even.num_points / plain.num_points - 1) < 0.06  # resolutions are rounded to steps of 2^(1/4)
    spread = [float(torch.quantile(a.spacing, 0.9) / torch.quantile(a.spacing, 0.1)) for a in (plain, even)]
    assert spread[1] < 2.0 < spread[0]


def test_a_named_joint_gets_more_points() -> None:
    body = load_body_model()
    surface = body_surface(body, torch.zeros(body.num_betas))
    head = body.joint_names.index("head")
    density = np.ones(body.num_joints)
    counts = []
    for factor in (1.0, 2.0):
        density[head] = factor
        atlas = bake_atlas(surface, resolution=96, map_resolution=32, density=density)
        counts.append(float((atlas.skin_joints[:, 0] == head).float().mean()))
    assert counts[1] > 2 * counts[0]


def test_the_inside_of_a_closed_body_is_not_sampled(tube: BodySurface) -> None:
    inner = tube.vertices_rest * 0.5
    vertices = np.concatenate([tube.vertices_rest, inner])
    lids = [[k, (k + 1) % 16, c] for k, c in ((k, len(vertices)) for k in range(16))]
    lids = [[b, a, c] for a, b, c in lids]
    top = len(tube.vertices_rest) - 16
    lids += [[top + k, top + (k + 1) % 16, len(vertices) + 1] for k in range(16)]
    vertices = np.concatenate([vertices, [[0, -0.6, 0], [0, 0.6, 0]]])
    faces = np.concatenate([tube.faces, tube.faces + len(tube.vertices_rest), lids])
    seen = seen_from_outside(vertices, faces)
    assert seen[: len(tube.faces)].all() and not seen[len(tube.faces) : 2 * len(tube.faces)].any()


def test_skinning_weights_are_the_heaviest_and_sum_to_one() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(9), 50)
    columns, kept = heaviest(weights, 4)
    assert np.allclose(kept.sum(1), 1) and (np.diff(kept, axis=1) <= 0).all()
    assert (np.take_along_axis(weights, columns, 1).min(1) >= np.sort(weights, 1)[:, -4] - 1e-12).all()


def test_neighbours_cross_the_seam(atlas: UvAtlas) -> None:
    gap = (atlas.points_cano[atlas.neighbours] - atlas.points_cano[:, None]).norm(dim=-1)
    assert gap.max() < 3 * atlas.spacing.max()
    assert ((atlas.uv[atlas.neighbours] - atlas.uv[:, None])[..., 0].abs() > 0.5).any()


def test_an_atlas_survives_its_arrays(atlas: UvAtlas) -> None:
    again = UvAtlas.from_arrays(atlas.arrays())
    assert all(torch.equal(getattr(again, name), value) for name, value in vars(atlas).items())


@pytest.mark.parametrize("turn, place", [(0.0, 0.0), (2.0, 5.0)])
def test_position_maps_do_not_depend_on_place_and_heading(atlas: UvAtlas, turn: float, place: float) -> None:
    bent = torch.tensor([[0.3, 0.0, 0.2], [0.0, 0.1, 0.0]])
    still = bake_position_map(atlas, BodyPose(torch.zeros(3), bent, torch.zeros(3)))
    moved = bake_position_map(atlas, BodyPose(torch.tensor([0.0, turn, 0.0]), bent, torch.full((3,), place)))
    assert torch.equal(still, moved)


def test_the_position_map_of_the_rest_pose_is_the_surface_seen_from_the_root(atlas: UvAtlas) -> None:
    rest = bake_position_map(atlas, BodyPose(torch.zeros(3), torch.zeros(2, 3), torch.zeros(3)))
    wanted = (atlas.map_points_rest - atlas.joints_rest[0])[atlas.map_source].T.reshape(3, 16, 16)
    assert torch.allclose(rest, wanted, atol=1e-6)


def test_a_body_without_a_layout_is_refused_with_the_setting_to_change() -> None:
    import dataclasses

    body = dataclasses.replace(load_body_model(), uv=None)
    with pytest.raises(ValueError, match="body.uv"):
        body_surface(body, torch.zeros(body.num_betas))
