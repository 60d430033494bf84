from __future__ import annotations

import pytest
import torch
from torch import Tensor

from humannorm.checks import InputError
from humannorm.rendering import ENGINES, Engine, antialias, available_engines, interpolate, rasterize

CORNERS = torch.tensor([[[-0.5, -0.5, 0.0, 1.0], [0.5, -0.5, 0.0, 1.0], [0.0, 0.5, 0.0, 1.0]]])
FACES = torch.tensor([[0, 1, 2]])


def test_the_table() -> None:
    assert tuple(ENGINES) == ("warp", "nvdiffrast", "torch")
    assert {"warp", "torch"} <= set(available_engines())


def test_auto_is_warp_on_a_cpu_and_operations_stay_with_their_engine() -> None:
    assert rasterize(CORNERS, FACES, (8, 8)).engine == "warp"
    assert rasterize(CORNERS, FACES, (8, 8), engine="torch").engine == "torch"


def test_a_missing_engine_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Engine("humannorm.rendering.no_engine", "no_such_package", "pip install no-such-package")
    monkeypatch.setitem(ENGINES, "missing", missing)
    assert "missing" not in available_engines()
    with pytest.raises(InputError, match="no_such_package is not installed; install it with: pip install no-such"):
        rasterize(CORNERS, FACES, (8, 8), engine="missing")
    if "nvdiffrast" not in available_engines():
        with pytest.raises(InputError, match="nvdiffrast is not installed.*pip install"):
            rasterize(CORNERS, FACES, (8, 8), engine="nvdiffrast")


@pytest.mark.parametrize("engine", ["warp", "torch"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_positions_that_are_not_finite(engine: str, poison: float) -> None:
    clip = CORNERS.clone()
    clip[0, 1, 2] = poison
    with pytest.raises(InputError, match="clip: expected finite values, got 1 that are NaN or infinite"):
        rasterize(clip, FACES, (8, 8), engine=engine)


def test_large_finite_positions_are_not_mistaken_for_infinite_ones() -> None:
    assert rasterize(CORNERS * 3e38, FACES, (8, 8)).covered.any()  # the sum of all is infinite


@pytest.mark.parametrize("faces", [[[0, 1, 3]], [[0, -1, 2]]])
def test_indices_out_of_range(faces: list[list[int]]) -> None:
    with pytest.raises(InputError, match=r"faces: expected indices 0 to 2, got"):
        rasterize(CORNERS, torch.tensor(faces), (8, 8))


@pytest.mark.parametrize(
    ("clip", "faces"), [(CORNERS[:, :0], FACES), (CORNERS, FACES[:0]), (CORNERS[:0], FACES)], ids=["V", "F", "B"]
)
def test_an_empty_mesh(clip: Tensor, faces: Tensor) -> None:
    with pytest.raises(InputError, match="mesh: expected vertices and faces, got clip"):
        rasterize(clip, faces, (8, 8))


@pytest.mark.parametrize(("height", "width", "side"), [(0, 8, "height"), (8, -1, "width"), (8, 8193, "width")])
def test_impossible_resolutions(height: int, width: int, side: str) -> None:
    with pytest.raises(InputError, match=f"resolution {side}: expected 1 to 8192"):
        rasterize(CORNERS, FACES, (height, width))


def test_wrong_dtypes_and_shapes(as_user: None) -> None:
    with pytest.raises(InputError, match=r"clip: expected float tensor \[B, V, 4\], got int64"):
        rasterize(CORNERS.long(), FACES, (8, 8))
    with pytest.raises(InputError, match=r"clip: expected float tensor \[B, V, 4\], got float32 \[3, 4\]"):
        rasterize(CORNERS[0], FACES, (8, 8))
    with pytest.raises(InputError, match=r"faces: expected int tensor \[F, 3\], got float32"):
        rasterize(CORNERS, FACES.float(), (8, 8))
    with pytest.raises(InputError, match=r"engine: expected one of auto, warp, nvdiffrast, torch, got 'opengl'"):
        rasterize(CORNERS, FACES, (8, 8), engine="opengl")
    with pytest.raises(InputError, match=r"behind: expected float tensor \[1, 8, 8\]"):
        rasterize(CORNERS, FACES, (8, 8), behind=torch.zeros(1, 4, 4))
    fragments = rasterize(CORNERS, FACES, (8, 8))
    with pytest.raises(InputError, match=r"attributes: expected float tensor \[1, V, C\], got float32 \[2, 3, 5\]"):
        interpolate(torch.zeros(2, 3, 5), fragments, FACES)
    with pytest.raises(InputError, match=r"color: expected float tensor \[1, 8, 8, C\], got float32 \[1, 8, 9, 3\]"):
        antialias(torch.zeros(1, 8, 9, 3), fragments, CORNERS, FACES)


def test_double_precision_is_the_references(as_user: None) -> None:
    with pytest.raises(InputError, match='clip: expected float32 for engine "warp" .engine "torch" takes any.'):
        rasterize(CORNERS.double(), FACES, (8, 8))
    assert rasterize(CORNERS.double(), FACES, (8, 8), engine="torch").barycentric.dtype == torch.float64


def test_inputs_on_two_devices() -> None:
    with pytest.raises(InputError, match="clip, faces.*: expected all on one device, got clip on cpu, faces on meta"):
        rasterize(CORNERS, FACES.to("meta"), (8, 8))


def test_faces_and_attributes_that_do_not_belong_to_the_fragments() -> None:
    two = torch.cat((FACES, FACES + 3))
    clip = torch.cat((CORNERS, CORNERS - torch.tensor([0.0, 0.0, 0.5, 0.0])), dim=1)
    fragments = rasterize(clip, two, (8, 8))
    with pytest.raises(InputError, match="faces: expected those the fragments were made from, got 1 without number 1"):
        interpolate(torch.zeros(6, 2), fragments, FACES)
    with pytest.raises(InputError, match="faces: expected indices 0 to 2, got 0 to 5"):
        interpolate(torch.zeros(3, 2), fragments, two)
    with pytest.raises(InputError, match="faces: expected indices 0 to 2, got 0 to 5"):
        antialias(torch.zeros(1, 8, 8, 1), fragments, CORNERS, two)


@pytest.mark.parametrize("engine", ["warp", "torch"])
def test_a_mesh_without_area_gives_an_empty_picture_and_no_gradient(engine: str) -> None:
    clip = CORNERS[:, [0, 0, 0]].clone().requires_grad_()
    fragments = rasterize(clip, FACES, (8, 8), engine=engine)
    image = interpolate(torch.ones(3, 2), fragments, FACES)
    picture = antialias(image, fragments, clip, FACES)
    assert not fragments.covered.any()
    assert (picture == 0).all()
    picture.sum().backward()
    assert clip.grad is not None and (clip.grad == 0).all()
