"""Hash grid encoding and fields: kernels equal the torch form, levels are masked, interpolation is exact."""

from __future__ import annotations

import pytest
import torch

from humannorm.checks import InputError
from humannorm.fields.hash_grid import GridLayout, HashGridEncoding, encode_reference
from humannorm.geometry.fields import (
    DenseFieldSettings,
    DenseGridField,
    FieldSettings,
    HashFieldSettings,
    HashGridField,
    field_settings_from_dict,
    field_settings_to_dict,
    make_field,
)

SMALL = GridLayout(levels=6, log2_table=9, base=4, growth=1.6)


def test_published_layout() -> None:
    """16 levels from 16 to 2048; the first five fit into 2^19 entries, 12.2 million numbers in all."""
    layout = GridLayout()
    assert layout.scales[0] == 15
    assert layout.scales[-1] == pytest.approx(2047, rel=1e-3)
    assert [bool(side) for side in layout.sides] == [True] * 5 + [False] * 11
    assert sum(layout.sizes) * 2 == pytest.approx(12.2e6, rel=0.01)
    assert layout.scales[7] == pytest.approx(153, abs=1)  # the eighth level, where the progressive mask begins


@pytest.mark.parametrize("levels", [0, 3, 6])
def test_kernels_equal_the_reference(generator: torch.Generator, levels: int, device: torch.device) -> None:
    encoding = HashGridEncoding(SMALL, generator).to(device)
    points = torch.rand(2000, 3, generator=generator)
    points[:4] = torch.tensor([[0.0, 0, 0], [1.0, 1, 1], [0.0, 1, 0.5], [0.5, 0.5, 1.0]])  # the walls too
    points = points.to(device)
    features = encoding(points, levels)
    tables = list(encoding.tables)[:levels]
    twin = encode_reference(points, tables, SMALL)
    torch.testing.assert_close(features, twin, atol=1e-9, rtol=1e-5)
    assert not features[:, 2 * levels :].any()
    if levels:
        upstream = torch.randn(features.shape, generator=generator).to(device)
        gradients = torch.autograd.grad(features, tables, upstream, retain_graph=True)
        for gradient, expected in zip(gradients, torch.autograd.grad(twin, tables, upstream), strict=True):
            torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)  # sums in another order
        again = torch.autograd.grad(features, tables, upstream)
        if device.type == "cpu":  # a card adds in any order
            assert all(torch.equal(first, second) for first, second in zip(gradients, again, strict=True))


def test_reference_passes_gradcheck(generator: torch.Generator) -> None:
    layout = GridLayout(levels=3, log2_table=5, base=2, growth=2.0)
    points = torch.rand(7, 3, generator=generator, dtype=torch.float64)
    tables = [torch.randn(size, 2, generator=generator, dtype=torch.float64) for size in layout.sizes[:2]]
    inputs = tuple(table.requires_grad_() for table in tables)
    assert torch.autograd.gradcheck(lambda *tables: encode_reference(points, tables, layout), inputs)


def test_dense_levels_interpolate_a_linear_function_exactly(generator: torch.Generator) -> None:
    layout = GridLayout(levels=1, log2_table=12, base=8, growth=1.5)
    encoding = HashGridEncoding(layout, generator)
    side = layout.sides[0]
    line = torch.arange(side) - 0.5  # vertices stand half a cell before the unit cube's walls
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    with torch.no_grad():
        encoding.tables[0].copy_(torch.stack((x + 2 * y + 3 * z, x - z), -1).reshape(-1, 2))
    points = torch.rand(300, 3, generator=generator)
    cells = points * layout.scales[0]
    expected = torch.stack((cells @ torch.tensor([1.0, 2.0, 3.0]), cells @ torch.tensor([1.0, 0.0, -1.0])), 1)
    torch.testing.assert_close(encoding(points), expected, atol=1e-4, rtol=1e-5)


def test_points_outside_take_the_value_of_the_wall(generator: torch.Generator) -> None:
    encoding = HashGridEncoding(SMALL, generator)
    outside = torch.tensor([[1.3, 0.2, -0.4], [-9.0, 0.5, 0.5]])
    assert torch.equal(encoding(outside), encoding(outside.clamp(0, 1)))


@pytest.mark.parametrize("settings", [HashFieldSettings(SMALL), DenseFieldSettings((4, 8))])
def test_fields_share_one_interface(generator: torch.Generator, settings: FieldSettings) -> None:
    field = make_field(settings, generator)
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    points = torch.rand(50, 3, generator=generator) * 2 - 1
    values = field(points)
    assert values.shape == (50,)
    assert torch.equal(values, field(points, field.levels))
    assert not torch.equal(values, field(points, 1))
    values.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in field.parameters())
    assert field_settings_from_dict(field_settings_to_dict(settings)) == settings


def test_masked_levels_get_no_gradient(generator: torch.Generator) -> None:
    field = HashGridField(HashFieldSettings(SMALL), generator)
    field(torch.rand(50, 3, generator=generator) * 2 - 1, 2).sum().backward()
    gradients = [table.grad for table in field.encoding.tables]
    assert [gradient is not None and bool(gradient.any()) for gradient in gradients] == [True] * 2 + [False] * 4


def test_same_generator_same_field() -> None:
    fields = [HashGridField(HashFieldSettings(SMALL), torch.Generator().manual_seed(3)) for _ in range(2)]
    for first, second in zip(fields[0].parameters(), fields[1].parameters(), strict=True):
        assert torch.equal(first, second)


def test_dense_grid_holds_x_in_its_last_axis(generator: torch.Generator) -> None:
    field = DenseGridField(DenseFieldSettings((2,)), generator)
    with torch.no_grad():
        field.grids[0][..., 2] = 1.0  # the wall at x = 1
    points = torch.tensor([[1.0, 0.3, -0.2], [0.5, 0.0, 0.0], [-0.5, 0.9, 0.9]])
    torch.testing.assert_close(field(points), torch.tensor([1.0, 0.5, 0.0]))


def test_hostile_inputs(as_user: None, generator: torch.Generator) -> None:
    encoding = HashGridEncoding(SMALL, generator)
    with pytest.raises(InputError, match="points: expected no gradient wanted"):
        encoding(torch.rand(3, 3, requires_grad=True))
    with pytest.raises(InputError, match=r"points: expected float tensor \[N, 3\], got float32 \[3, 2\]"):
        encoding(torch.rand(3, 2))
    with pytest.raises(InputError, match="active_levels: expected 1 to 6, got 7"):
        HashGridField(HashFieldSettings(SMALL), generator)(torch.rand(3, 3), 7)
    with pytest.raises(InputError, match="engine: expected one of warp, torch"):
        HashGridEncoding(SMALL, generator, "cuda")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="resolutions: expected at least one, coarse to fine"):
        DenseGridField(DenseFieldSettings((8, 4)), generator)
    with pytest.raises(InputError, match="kind hash or dense"):
        field_settings_from_dict({"kind": "sparse"})
