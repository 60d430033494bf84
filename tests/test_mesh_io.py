"""Reading meshes: colours and transforms survive, broken files are refused with a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from humannorm.checks import InputError
from humannorm.mesh import Mesh, face_normals, mesh_volume, to_trimesh
from humannorm.mesh_io import convert_trimesh, load_mesh


def quad(image: Image.Image | None, uv: list[list[float]], **material: object) -> trimesh.Trimesh:
    """A unit square in the xy plane, facing +z; `uv` as trimesh has it, with v = 0 at the bottom."""
    vertices = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    skin = trimesh.visual.material.PBRMaterial(baseColorTexture=image, **material)
    visual = trimesh.visual.TextureVisuals(uv=np.array(uv, dtype=float), material=skin)
    return trimesh.Trimesh(vertices, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)


UNIT_UV = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


def two_tone(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4], pixels[4:] = top, bottom
    return Image.fromarray(pixels)


def texel_at(mesh: Mesh, vertex: int) -> torch.Tensor:
    """Nearest texel at a vertex, straight from the convention: row 0 and v = 0 are the top."""
    assert mesh.texture is not None and mesh.uvs is not None
    height, width = mesh.texture.shape[:2]
    u, v = mesh.uvs[vertex].tolist()
    return mesh.texture[min(int(v * height), height - 1), min(int(u * width), width - 1)]


def vertex_at(mesh: Mesh, *position: float) -> int:
    return int(torch.linalg.vector_norm(mesh.vertices - torch.tensor(position), dim=1).argmin())


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply"])
def test_shape_survives_every_format(suffix, tmp_path):
    sphere = trimesh.creation.icosphere(subdivisions=2)
    sphere.export(tmp_path / f"ball{suffix}")
    mesh = load_mesh(tmp_path / f"ball{suffix}")
    assert (mesh.num_vertices, mesh.num_faces) == (162, 320)
    assert mesh.vertices.dtype == torch.float32 and mesh.faces.dtype == torch.int64
    assert float(mesh_volume(mesh.vertices, mesh.faces)) == pytest.approx(float(sphere.volume), rel=1e-5)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_uv_v0_is_the_top_of_the_texture(suffix, tmp_path):
    quad(two_tone((255, 0, 0), (0, 0, 255)), UNIT_UV).export(tmp_path / f"quad{suffix}")
    mesh = load_mesh(tmp_path / f"quad{suffix}")
    assert mesh.texture is not None and mesh.texture[0, 0].argmax() == 0
    assert texel_at(mesh, vertex_at(mesh, 0, 1, 0)).argmax() == 0  # the upper corner of the square is red
    assert texel_at(mesh, vertex_at(mesh, 0, 0, 0)).argmax() == 2
    assert mesh.uvs is not None and float(mesh.uvs[vertex_at(mesh, 0, 1, 0), 1]) == pytest.approx(0.0, abs=1e-6)


def test_vertex_colors_of_a_ply_are_srgb_as_written(tmp_path):
    ball = trimesh.creation.icosphere(subdivisions=1)
    colors = np.random.default_rng(0).integers(0, 256, (len(ball.vertices), 3))
    ball.visual.vertex_colors = np.column_stack([colors, np.full(len(colors), 255)])
    ball.export(tmp_path / "ball.ply")
    mesh = load_mesh(tmp_path / "ball.ply")
    torch.testing.assert_close(mesh.colors, torch.tensor(colors / 255.0, dtype=torch.float32))


def test_vertex_colors_of_a_glb_are_linear(tmp_path):
    ball = trimesh.creation.icosphere(subdivisions=1)
    ball.visual.vertex_colors = np.tile([55, 0, 255, 255], (len(ball.vertices), 1))
    ball.export(tmp_path / "ball.glb")
    mesh = load_mesh(tmp_path / "ball.glb")
    assert mesh.colors is not None
    # 55/255 linear is very nearly one half in sRGB.
    torch.testing.assert_close(mesh.colors[0], torch.tensor([0.5019, 0.0, 1.0]), atol=2e-3, rtol=0)


def test_face_colors_split_vertices_where_colors_meet_and_only_there():
    box = trimesh.creation.box()
    colors = np.zeros((12, 4), np.uint8)
    colors[:, 3] = 255
    red = np.abs(box.face_normals[:, 0]) > 0.5
    colors[red, 0] = 255
    box.visual.face_colors = colors
    mesh = convert_trimesh(box)
    assert mesh.colors is not None and mesh.normals is not None
    assert mesh.num_vertices == 16  # each of the 8 corners sees both colours
    for face, is_red in zip(mesh.faces, red, strict=True):
        assert torch.equal(mesh.colors[face, 0], torch.full((3,), float(is_red)))
    # Normals are those of the unsplit box: radial at its corners.
    corner = torch.nn.functional.normalize(mesh.vertices, dim=1)
    assert float((mesh.normals * corner).sum(1).min()) > 0.9


def test_node_transforms_are_applied_and_mirrored_parts_stay_outward(tmp_path):
    ball = trimesh.creation.icosphere(subdivisions=2)
    _ = ball.vertex_normals  # so that the file carries normals
    stretched = np.diag([2.0, 1.0, 1.0, 1.0])
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0])
    mirrored[0, 3] = 10.0
    scene = trimesh.Scene()
    scene.add_geometry(ball, node_name="a", transform=stretched)
    scene.add_geometry(ball, node_name="b", transform=mirrored)
    scene.export(tmp_path / "two.glb")
    mesh = load_mesh(tmp_path / "two.glb")
    assert mesh.num_faces == 640
    assert float(mesh.vertices[:, 0].min()) == pytest.approx(-2.0) and float(mesh.vertices[:, 0].max()) == 11.0
    assert float(mesh_volume(mesh.vertices, mesh.faces)) == pytest.approx(3 * float(ball.volume), rel=1e-4)
    assert mesh.normals is not None
    at_corner = mesh.normals[mesh.faces].sum(1)
    assert float((face_normals(mesh.vertices, mesh.faces) * at_corner).sum(1).min()) > 0


def test_several_textures_share_one_atlas(tmp_path):
    scene = trimesh.Scene()
    for number, (top, bottom) in enumerate([((255, 0, 0), (0, 255, 0)), ((0, 0, 255), (255, 255, 0))]):
        moved = np.eye(4)
        moved[0, 3] = 3.0 * number
        scene.add_geometry(quad(two_tone(top, bottom), UNIT_UV), transform=moved)
    scene.add_geometry(quad(None, UNIT_UV, baseColorFactor=[255, 0, 255, 255]).apply_translation([6, 0, 0]))
    scene.export(tmp_path / "three.glb")
    mesh = load_mesh(tmp_path / "three.glb")
    expected = {(0, 1): (1, 0, 0), (0, 0): (0, 1, 0), (3, 1): (0, 0, 1), (3, 0): (1, 1, 0), (6, 0): (1, 0, 1)}
    for (x, y), color in expected.items():
        assert texel_at(mesh, vertex_at(mesh, x, y, 0)).tolist() == list(color)


def test_a_texture_repeats_outside_the_unit_square(tmp_path):
    wide = [[-1.0, 2.0], [1.0, 2.0], [1.0, 3.0], [-1.0, 3.0]]  # two tiles wide, whole tiles away from 0..1
    quad(two_tone((255, 0, 0), (0, 0, 255)), wide).export(tmp_path / "wide.glb")
    mesh = load_mesh(tmp_path / "wide.glb")
    assert mesh.texture is not None and mesh.texture.shape == (8, 16, 3)
    assert mesh.uvs is not None and float(mesh.uvs.min()) >= 0 and float(mesh.uvs.max()) <= 1
    assert texel_at(mesh, vertex_at(mesh, 0, 1, 0)).argmax() == 0


def test_a_factor_tints_its_texture_in_linear_light(tmp_path):
    grey = Image.fromarray(np.full((4, 4, 3), 188, np.uint8))  # 188/255 in sRGB is one half in linear light
    quad(grey, UNIT_UV, baseColorFactor=[127, 127, 127, 255]).export(tmp_path / "grey.glb")
    mesh = load_mesh(tmp_path / "grey.glb")
    assert mesh.texture is not None
    torch.testing.assert_close(mesh.texture, torch.full((4, 4, 3), 0.537), atol=4e-3, rtol=0)  # a quarter


def test_to_trimesh_and_back():
    mesh = convert_trimesh(quad(two_tone((255, 0, 0), (0, 0, 255)), UNIT_UV))
    again = convert_trimesh(to_trimesh(mesh))
    for name in ("vertices", "faces", "normals", "uvs", "texture"):
        torch.testing.assert_close(getattr(again, name), getattr(mesh, name))
    tinted = Mesh(mesh.vertices, mesh.faces, colors=torch.rand(4, 3))
    torch.testing.assert_close(convert_trimesh(to_trimesh(tinted)).colors, tinted.colors, atol=0.5 / 255, rtol=0)


@pytest.mark.parametrize("suffix", [".glb", ".ply"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_refused(suffix, kept, tmp_path):
    path = tmp_path / f"ball{suffix}"
    trimesh.creation.icosphere(subdivisions=2).export(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match="ball"):
        load_mesh(path)


@pytest.mark.parametrize("kept", [0.02, 0.3])
def test_an_obj_without_its_faces_is_refused(kept, tmp_path):
    path = tmp_path / "ball.obj"
    trimesh.creation.icosphere(subdivisions=2).export(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match="ball"):
        load_mesh(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.glb", b"", "got an empty file"),
        ("noise.glb", bytes(range(256)) * 8, "does not begin with 'glTF'"),
        ("noise.ply", bytes(range(256)) * 8, "expected a whole PLY file"),
        ("noise.obj", bytes(range(256)) * 8, "noise.obj: expected"),
        ("points.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "expected triangles, got none"),
        ("range.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "range.obj: expected"),
        ("nan.obj", b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "nan.obj"),
        ("flat.obj", b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "of zero area"),
        ("mesh.fbx", b"Kaydara", r"expected a file ending in .glb, .gltf, .obj, .ply, .stl, got .fbx"),
    ],
)
def test_what_is_no_mesh_is_refused_with_the_reason(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_mesh(tmp_path / name)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.glb"):
        load_mesh(tmp_path / "nothing.glb")


def test_a_missing_material_file_is_said(tmp_path):
    (tmp_path / "a.obj").write_text("mtllib lost.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "utf-8")
    with pytest.warns(UserWarning, match=r"lost\.mtl is missing"):
        assert load_mesh(tmp_path / "a.obj").num_faces == 1
    (tmp_path / "lost.mtl").write_text("newmtl m\nmap_Kd gone.png\n", "utf-8")
    with pytest.warns(UserWarning, match=r"gone\.png is missing"):
        load_mesh(tmp_path / "a.obj")
