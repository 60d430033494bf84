"""Start meshes are repaired by the stated rules or refused, and fields fit them closely and quickly."""

from __future__ import annotations

import math

import pytest
import torch
import trimesh

from humannorm.checks import InputError
from humannorm.fields.hash_grid import GridLayout
from humannorm.geometry.band import box_field, dense_band, settle_band
from humannorm.geometry.fields import DenseFieldSettings, FieldSettings, HashFieldSettings, SdfField, make_field
from humannorm.geometry.fitting import FitSettings, fit_field
from humannorm.geometry.lattice import Lattice
from humannorm.geometry.marching import marching_tetrahedra
from humannorm.geometry.start import prepare_start, sample_surface
from humannorm.mesh import Mesh, is_watertight, mesh_volume
from humannorm.working_box import BODY_HEIGHT

SMALL = HashFieldSettings(GridLayout(levels=8, log2_table=15, base=8, growth=1.4), hidden=32)


def mesh_of(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces, dtype=torch.int64))


def sphere(radius: float = 0.9, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(3, radius).apply_translation(centre)


def test_a_good_mesh_in_place_is_left_alone() -> None:
    start = prepare_start(mesh_of(sphere()))
    assert start.repairs == ()
    assert torch.equal(start.mesh.vertices, mesh_of(sphere()).vertices)


@pytest.mark.parametrize(("scale", "shift"), [(1e-4, 0.0), (300.0, 0.0), (1.0, 50.0), (0.01, -7.0)])
def test_tiny_huge_and_off_centre_are_placed(scale: float, shift: float) -> None:
    mesh = mesh_of(sphere())
    start = prepare_start(mesh.replace(vertices=mesh.vertices * scale + shift))
    assert len(start.repairs) == 1
    assert start.repairs[0].startswith("placed")
    low, high = start.mesh.vertices.amin(0), start.mesh.vertices.amax(0)
    torch.testing.assert_close(low + high, torch.zeros(3), atol=1e-3, rtol=0)
    assert float(high[1] - low[1]) == pytest.approx(BODY_HEIGHT, rel=1e-3)


def test_a_wide_mesh_fits_the_box() -> None:
    start = prepare_start(mesh_of(trimesh.creation.box((4.0, 1.0, 0.5))))
    assert float(start.mesh.vertices.abs().max()) == pytest.approx(0.95)


def test_inside_out_is_turned() -> None:
    mesh = mesh_of(sphere())
    start = prepare_start(mesh.replace(faces=mesh.faces[:, [0, 2, 1]]))
    assert start.repairs == ("inside-out: all faces were turned round",)
    assert float(mesh_volume(start.mesh.vertices, start.mesh.faces)) > 0
    assert float(start.signed_distance(torch.zeros(1, 3))) < 0


def test_small_hole_is_bridged_and_a_large_one_refused() -> None:
    shape = sphere()
    tops = shape.triangles_center[:, 1]
    holed = mesh_of(shape).replace(faces=torch.tensor(shape.faces[tops < 0.85]))
    start = prepare_start(holed)
    assert start.repairs[0].startswith("open: 1 holes")
    assert float(start.signed_distance(torch.zeros(1, 3))) < 0
    bowl = mesh_of(shape).replace(faces=torch.tensor(shape.faces[tops < 0.0]))
    with pytest.raises(InputError, match="mesh: expected a closed surface or one with small holes"):
        prepare_start(bowl)


def test_overlapping_pieces_become_one_surface_and_specks_go() -> None:
    shape = trimesh.util.concatenate([sphere(0.5), sphere(0.5, (0.0, 0.6, 0.0)), sphere(0.005, (0.8, 0.0, 0.0))])
    start = prepare_start(mesh_of(shape))
    assert [repair.split(":")[0] for repair in start.repairs] == [
        "1 specks below 2% of the mesh's size",
        "2 pieces",
        "placed",
    ]
    band, sdf = settle_band(dense_band(Lattice(64)), start.signed_distance)
    vertices, faces = marching_tetrahedra(band, sdf)
    assert is_watertight(faces)
    size = 0.5 * BODY_HEIGHT / 1.6
    lens = math.pi * (2 * size - 1.2 * size) ** 2 * (1.44 * size**2 + 4.8 * size**2) / (12 * 1.2 * size)
    union = 2 * 4 / 3 * math.pi * size**3 - lens
    assert float(mesh_volume(vertices, faces)) == pytest.approx(union, rel=0.02)


def test_sheet_is_refused() -> None:
    sheet = mesh_of(trimesh.creation.box((1.0, 1.8, 1e-5)))
    with pytest.raises(InputError, match="mesh: expected a solid that encloses a volume"):
        prepare_start(sheet)


def test_broken_meshes_are_refused(as_user: None) -> None:
    mesh = mesh_of(sphere())
    with pytest.raises(InputError, match="vertices: expected finite values"):
        prepare_start(mesh.replace(vertices=torch.full_like(mesh.vertices, math.nan)))
    with pytest.raises(InputError, match="mesh: expected vertices and faces"):
        prepare_start(mesh.replace(faces=mesh.faces[:0]))
    with pytest.raises(InputError, match=r"height: expected 0\.1 to 1\.9"):
        prepare_start(mesh, height=3.0)


def test_surface_samples_are_even(generator: torch.Generator) -> None:
    points = sample_surface(mesh_of(sphere(0.5)), 20000, generator)
    torch.testing.assert_close(points.mean(0), torch.zeros(3), atol=0.01, rtol=0)
    torch.testing.assert_close(points.square().mean(0), torch.full((3,), 0.25 / 3), atol=2e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "active_levels"),
    [(SMALL, 6), (DenseFieldSettings((8, 16, 32, 64)), None), (DenseFieldSettings((48,)), None)],
)
def test_fields_fit_a_start_mesh(
    generator: torch.Generator, settings: FieldSettings, active_levels: int | None
) -> None:
    capsule = trimesh.creation.capsule(height=1.0, radius=0.4).apply_transform(
        trimesh.transformations.rotation_matrix(math.pi / 2, (1, 0, 0))
    )
    start = prepare_start(mesh_of(capsule))
    field = make_field(settings, generator)
    report = fit_field(field, start, generator, active_levels, FitSettings(steps=120, points=4096, pool=40_000))
    assert report.mean_error < 0.003
    assert report.p99_error < 0.012
    assert report.wrong_side == 0
    band, sdf = settle_band(dense_band(Lattice(48)), box_field(lambda points: field(points, active_levels)))
    vertices, faces = marching_tetrahedra(band, sdf)
    assert is_watertight(faces)
    exact = float(mesh_volume(start.mesh.vertices, start.mesh.faces))
    assert float(mesh_volume(vertices, faces)) == pytest.approx(exact, rel=0.03)


def test_unknown_field_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(InputError, match="field: expected a HashGridField or a DenseGridField"):
        fit_field(SdfField(), prepare_start(mesh_of(sphere())), generator)
