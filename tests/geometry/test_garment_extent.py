"""A garment ends where its colour does, or after its reach; never where the body's region does."""

from __future__ import annotations

import math

import pytest
import torch

from humannorm.body import load_body
from humannorm.body.regions import share_of_regions
from humannorm.checks import InputError
from humannorm.geometry.garment_extent import GarmentSettings, garment_vertices
from humannorm.geometry.holding import hold_all_but
from humannorm.mesh import Mesh

RED, BLUE, SKIN = (0.75, 0.05, 0.05), (0.1, 0.2, 0.7), (0.85, 0.65, 0.5)


def tube() -> Mesh:
    """Open, of radius 0.1 along Y from 0 to 1, in rings 0.01 apart; its seam is cut."""
    rings, around = 101, 25
    angle = torch.linspace(0, 2 * math.pi, around)
    angle[-1] = 0.0  # the same place to the bit, another vertex
    height = torch.linspace(0, 1, rings)
    y, a = torch.meshgrid(height, angle, indexing="ij")
    vertices = torch.stack([0.1 * a.cos(), y, 0.1 * a.sin()], -1).reshape(-1, 3)
    i = torch.arange(rings - 1)[:, None] * around + torch.arange(around - 1)
    first = torch.stack([i, i + around, i + 1], -1).reshape(-1, 3)
    second = torch.stack([i + 1, i + around, i + around + 1], -1).reshape(-1, 3)
    return Mesh(vertices, torch.cat([first, second]))


def banded(mesh: Mesh, *bands: tuple[float, tuple[float, float, float]]) -> torch.Tensor:
    """Colours by height: each band from its height upwards."""
    colors = torch.zeros(len(mesh.vertices), 3)
    for height, color in bands:
        colors[mesh.vertices[:, 1] >= height - 1e-4] = torch.tensor(color)
    return colors


def lowest(mesh: Mesh, chosen: torch.Tensor) -> float:
    return float(mesh.vertices[chosen, 1].min())


def test_it_ends_at_the_hem_or_after_its_reach() -> None:
    mesh = tube()
    region = mesh.vertices[:, 1] >= 0.6 - 1e-4
    hemmed = banded(mesh, (0.0, BLUE), (0.4, RED))
    assert lowest(mesh, garment_vertices(mesh, hemmed, region)) == pytest.approx(0.4, abs=1e-3)
    suit = banded(mesh, (0.0, BLUE))
    assert lowest(mesh, garment_vertices(mesh, suit, region)) == pytest.approx(0.25, abs=1.1e-2)
    near = GarmentSettings(reach=0.1)
    assert lowest(mesh, garment_vertices(mesh, suit, region, near)) == pytest.approx(0.5, abs=1.1e-2)


def test_shades_of_one_cloth_belong_together_and_what_is_not_connected_does_not() -> None:
    mesh = tube()
    region = mesh.vertices[:, 1] >= 0.6 - 1e-4
    gap = banded(mesh, (0.0, RED), (0.3, BLUE), (0.45, RED))
    gap = gap * (0.8 + 0.2 * torch.rand(len(gap), 1, generator=torch.Generator().manual_seed(0)))
    found = garment_vertices(mesh, gap, region, GarmentSettings(reach=2.0))
    assert lowest(mesh, found) == pytest.approx(0.45, abs=1e-3)
    assert torch.equal(found, (mesh.vertices[:, 1] >= 0.45 - 1e-4))  # all around, over the seam too


def test_a_part_that_ends_below_its_garment_does_not_take_the_next_one() -> None:
    """A short top over trousers whose waist lies inside the region: the trousers stay."""
    mesh = tube()
    region = mesh.vertices[:, 1] >= 0.4 - 1e-4
    short = banded(mesh, (0.0, BLUE), (0.5, RED))
    assert torch.equal(garment_vertices(mesh, short, region), region)


def test_without_a_main_colour_the_part_is_all() -> None:
    mesh = tube()
    region = mesh.vertices[:, 1] >= 0.6 - 1e-4
    many = torch.rand(len(mesh.vertices), 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(garment_vertices(mesh, many, region, GarmentSettings(share=0.6)), region)
    nothing = torch.zeros(len(region), dtype=torch.bool)
    assert not bool(garment_vertices(mesh, many, nothing).any())
    with pytest.raises(InputError, match="share: expected"):
        GarmentSettings(share=1.5)


@pytest.mark.slow
def test_an_edit_of_the_top_reaches_hem_and_cuffs_and_leaves_trousers_and_skin() -> None:
    body = load_body().in_working_box()
    mesh = body.to_mesh(normalized=False)
    place = mesh.vertices
    named = {region: share_of_regions(place, body, [region]) >= 0.5 for region in ("top", "bottom", "head", "hands")}
    hem = body.joint("upperleg01.L")[1] - 0.12
    trousers = (place[:, 1] < hem) & ~named["hands"] & (place[:, 0].abs() < 0.25)
    colors = torch.tensor(RED).expand(len(place), 3).clone()
    colors[trousers] = torch.tensor(BLUE)
    colors[named["head"] | named["hands"]] = torch.tensor(SKIN)
    red = (colors == torch.tensor(RED)).all(1) & (place[:, 1] > hem + 0.03)
    plain, reaching = (hold_all_but(mesh, body, ["top"], seen).share_at(place) for seen in (None, colors))
    band = red & (plain > 0.9)
    assert int(band.sum()) > 50  # without its colour a region leaves the hem as it was
    assert float(reaching[band].mean()) < 0.05
    below = trousers & (place[:, 1] < hem - 0.08)
    assert float(reaching[below].min()) > 0.99
    assert float((reaching - plain).max()) < 1e-6  # never holds more than the region alone does
