"""Mesh files as people's programs write them: what each format says of shape and colour arrives."""

from __future__ import annotations

import json
import struct
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from humannorm.checks import InputError
from humannorm.mesh import Mesh, face_areas, mesh_volume
from humannorm.mesh_formats.parts import Part, laid_out, linear_from_srgb, mesh_of_parts, srgb_from_linear
from humannorm.mesh_io import load_mesh
from humannorm.rendering.textures import sample_texture

KINDS = {"f4": 5126, "u4": 5125, "u2": 5123, "u1": 5121, "i1": 5120, "i2": 5122}
TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (16,): "MAT4"}
SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
SQUARE_UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
SQUARE_FACES = np.array([0, 1, 2, 0, 2, 3], np.uint16)


class Glb:
    """A GLB in the making: accessors and pictures go into one buffer, the JSON is free."""

    def __init__(self) -> None:
        self.data = b""
        self.json: dict = {"asset": {"version": "2.0"}, "bufferViews": [], "accessors": [], "scene": 0}
        self.json |= {"scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}]}

    def view(self, content: bytes, **more) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        self.json["bufferViews"].append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content), **more})
        self.data += content
        return len(self.json["bufferViews"]) - 1

    def add(self, values: np.ndarray, **more) -> int:
        code = values.dtype.str[1:]
        self.json["accessors"].append({
            "bufferView": self.view(values.tobytes()), "componentType": KINDS[code], "count": len(values),
            "type": TYPES[values.shape[1:]], **more,
        })  # fmt: skip
        return len(self.json["accessors"]) - 1

    def picture(self, pixels: np.ndarray, **sampler) -> int:
        import io

        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format="PNG")
        images, textures = self.json.setdefault("images", []), self.json.setdefault("textures", [])
        images.append({"mimeType": "image/png", "bufferView": self.view(stream.getvalue())})
        self.json.setdefault("samplers", []).append(sampler)
        textures.append({"source": len(images) - 1, "sampler": len(self.json["samplers"]) - 1})
        return len(textures) - 1

    def square(self, material: dict | None = None, mode: int = 4, indices=SQUARE_FACES, **attributes) -> dict:
        named = {"POSITION": self.add(SQUARE)} if "POSITION" not in attributes else {}
        named |= {name: value if isinstance(value, int) else self.add(value) for name, value in attributes.items()}
        primitive: dict = {"attributes": named, "mode": mode}
        if indices is not None:
            primitive["indices"] = self.add(indices)
        if material is not None:
            self.json.setdefault("materials", []).append(material)
            primitive["material"] = len(self.json["materials"]) - 1
        self.json.setdefault("meshes", [{"primitives": []}])[0]["primitives"].append(primitive)
        return primitive

    def load(self, folder) -> Mesh:
        document = {**self.json, "buffers": [{"byteLength": len(self.data)}]}
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        data = self.data + b"\0" * (-len(self.data) % 4)
        body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
        path = folder / "made.glb"
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
        return load_mesh(path)


def textured(texture: int, **info) -> dict:
    return {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture, **info}}}


def seen(mesh: Mesh, x: float, y: float) -> list[float]:
    """The colour that a mesh in the xy plane shows at a place, by its triangle's own coordinates."""
    point = torch.tensor([x, y])
    for face in mesh.faces:
        corners = mesh.vertices[face, :2]
        try:
            weights = torch.linalg.solve(torch.cat([corners.T, torch.ones(1, 3)]), torch.cat([point, torch.ones(1)]))
        except RuntimeError:
            continue
        if float(weights.min()) >= -1e-4:
            if mesh.texture is None:
                return (weights @ mesh.colors[face]).tolist()
            uv = weights @ mesh.uvs[face]
            return sample_texture(mesh.texture, uv[None, None, None])[0, 0, 0].tolist()
    raise AssertionError(f"nothing at {x}, {y}")


FOUR = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8).repeat(8, 0).repeat(8, 1)
RED, GREEN, BLUE, WHITE = [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]


@pytest.mark.parametrize("kind", ["u1", "u2", "i1", "i2"])
def test_normalised_integers_are_shares_of_their_type(kind, tmp_path):
    top = np.iinfo(kind).max
    glb = Glb()
    uv = glb.add((SQUARE_UV * top).round().astype(kind), normalized=True)
    place = np.pad((SQUARE * top).round().astype(kind), ((0, 0), (0, 1)))  # rows of 4 numbers: padded to 4 bytes
    position = glb.add(place, normalized=True)
    glb.json["accessors"][position] |= {"type": "VEC3"}
    glb.json["bufferViews"][glb.json["accessors"][position]["bufferView"]]["byteStride"] = place.itemsize * 4
    colors = glb.add((np.array([[1, 0.5, 0, 1]] * 4) * top).round().astype(kind), normalized=True)
    glb.square(textured(glb.picture(FOUR)), TEXCOORD_0=uv, POSITION=position)
    mesh = glb.load(tmp_path)
    torch.testing.assert_close(mesh.vertices, torch.tensor(SQUARE), atol=1e-6, rtol=0)
    torch.testing.assert_close(mesh.uvs, torch.tensor(SQUARE_UV), atol=1e-6, rtol=0)
    glb.json["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"] = colors
    del glb.json["meshes"][0]["primitives"][0]["material"]
    half = float(srgb_from_linear(np.array([round(0.5 * top) / top]))[0])
    torch.testing.assert_close(glb.load(tmp_path).colors, torch.tensor([[1, half, 0]] * 4, dtype=torch.float32))


def test_interleaved_and_sparse_accessors(tmp_path):
    glb = Glb()
    rows = np.concatenate([SQUARE, SQUARE_UV], axis=1)
    view = glb.view(rows.tobytes(), byteStride=20)
    for offset, kind in ((0, "VEC3"), (12, "VEC2")):
        glb.json["accessors"].append(
            {"bufferView": view, "byteOffset": offset, "componentType": 5126, "count": 4, "type": kind}
        )
    glb.json["accessors"][0]["sparse"] = {
        "count": 1,
        "indices": {"bufferView": glb.view(np.array([2], np.uint8).tobytes()), "componentType": 5121},
        "values": {"bufferView": glb.view(np.array([5, 5, 5], np.float32).tobytes())},
    }
    glb.square(textured(glb.picture(FOUR)), POSITION=0, TEXCOORD_0=1)
    mesh = glb.load(tmp_path)
    assert mesh.vertices[2].tolist() == [5, 5, 5] and mesh.vertices[3].tolist() == [0, 1, 0]
    torch.testing.assert_close(mesh.uvs, torch.tensor(SQUARE_UV))


@pytest.mark.parametrize(
    ("transform", "expected"),
    [  # what the square shows at its lower left, lower right, upper left and upper right quarter
        ({}, (BLUE, WHITE, RED, GREEN)),
        ({"offset": [0.5, 0]}, (WHITE, BLUE, GREEN, RED)),
        ({"offset": [0, 0.5], "scale": [1, 0.5]}, (BLUE, WHITE, BLUE, WHITE)),
        ({"offset": [0, 1], "rotation": np.pi / 2, "scale": [0.5, 0.5]}, (BLUE, BLUE, BLUE, BLUE)),
        ({"offset": [0, 1], "rotation": np.pi / 2}, (WHITE, GREEN, BLUE, RED)),
        ({"texCoord": 1}, (RED, GREEN, BLUE, WHITE)),
    ],
)
def test_texture_transforms(transform, expected, tmp_path):
    glb = Glb()
    info = {"extensions": {"KHR_texture_transform": transform}} if transform else {}
    flipped = SQUARE_UV * (1, -1) + (0, 1)
    glb.square(textured(glb.picture(FOUR), **info), TEXCOORD_0=SQUARE_UV, TEXCOORD_1=flipped.astype(np.float32))
    mesh = glb.load(tmp_path)
    for (x, y), color in zip(((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)), expected, strict=True):
        assert seen(mesh, x, y) == pytest.approx(color, abs=1e-4)
    assert mesh.uvs is not None and float(mesh.uvs.min()) >= 0 and float(mesh.uvs.max()) <= 1


def test_the_second_coordinates_without_an_extension(tmp_path):
    glb = Glb()
    glb.square(textured(glb.picture(FOUR), texCoord=1), TEXCOORD_0=0 * SQUARE_UV, TEXCOORD_1=SQUARE_UV)
    torch.testing.assert_close(glb.load(tmp_path).uvs, torch.tensor(SQUARE_UV))


@pytest.mark.parametrize(("wrap", "expected"), [(10497, (RED, GREEN)), (33648, (GREEN, RED)), (33071, (GREEN, GREEN))])
def test_wrapping_beyond_the_picture(wrap, expected, tmp_path):
    glb = Glb()
    texture = glb.picture(FOUR, wrapS=wrap, wrapT=33071)
    glb.square(textured(texture), TEXCOORD_0=np.add(SQUARE_UV, (1, -3), dtype=np.float32))  # above the top: its edge
    mesh = glb.load(tmp_path)
    assert seen(mesh, 0.25, 0.5) == pytest.approx(expected[0], abs=1e-4)
    assert seen(mesh, 0.75, 0.5) == pytest.approx(expected[1], abs=1e-4)
    assert float(mesh.uvs.min()) >= 0 and float(mesh.uvs.max()) <= 1


def test_faces_far_apart_in_a_repeated_texture_need_few_copies():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (200, 1, 2)) + rng.uniform(0, 0.4, (200, 3, 2)) + rng.integers(-500, 500, (200, 1, 2))
    part = Part(rng.normal(size=(600, 3)), np.arange(600).reshape(-1, 3), uvs=corners.reshape(-1, 2),
                texture=rng.random((16, 16, 3)).astype(np.float32))  # fmt: skip
    laid = laid_out(part)
    assert laid.texture.shape[0] <= 32 and laid.texture.shape[1] <= 32
    copies = np.array(laid.texture.shape[1::-1]) / 16
    moved = laid.uvs[laid.faces] * copies - corners
    assert np.abs(moved - np.round(moved)).max() < 1e-6


def test_vertex_colours_multiply_textures_in_linear_light(tmp_path):
    glb = Glb()
    grey = np.full((4, 4, 3), 188, np.uint8)  # one half in linear light
    glb.square(textured(glb.picture(grey)), TEXCOORD_0=SQUARE_UV, COLOR_0=np.array([[0.5, 1, 0]] * 4, np.float32))
    mesh = glb.load(tmp_path)
    assert mesh.colors is None
    quarter = float(srgb_from_linear(linear_from_srgb(np.array([188 / 255])) * 0.5)[0])
    assert seen(mesh, 0.3, 0.6) == pytest.approx([quarter, 188 / 255, 0], abs=2e-3)


def test_changing_vertex_colours_are_baked_into_the_texture(tmp_path):
    glb = Glb()
    colors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], np.float32)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    glb.square(textured(glb.picture(picture)), TEXCOORD_0=SQUARE_UV, COLOR_0=colors)
    mesh = glb.load(tmp_path)
    for x, y in ((0.7, 0.3), (0.3, 0.7), (0.9, 0.1), (0.44, 0.19)):
        texel = linear_from_srgb(picture[int((1 - y) * 32), int(x * 32)] / 255)
        corners = (0, 1, 2) if x > y else (0, 2, 3)
        weights = (1 - x, x - y, y) if x > y else (1 - y, x, y - x)
        expected = srgb_from_linear(texel * (np.array(weights) @ colors[list(corners)]))
        assert seen(mesh, x, y) == pytest.approx(expected.tolist(), abs=0.12)


def test_textured_coloured_and_plain_pieces_in_one_file(tmp_path):
    glb = Glb()
    moved = [SQUARE + np.array([2 * n, 0, 0], np.float32) for n in range(3)]
    glb.square(textured(glb.picture(FOUR)), POSITION=moved[0], TEXCOORD_0=SQUARE_UV)
    colors = np.array([RED, GREEN, BLUE, WHITE], np.float32)
    glb.square(None, POSITION=moved[1], COLOR_0=colors)
    glb.square({"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 1, 1]}}, POSITION=moved[2])
    mesh = glb.load(tmp_path)
    assert seen(mesh, 0.25, 0.75) == pytest.approx(RED, abs=1e-3)
    for (x, y), color in zip(((2.01, 0.005), (2.98, 0.005), (2.99, 0.985), (2.01, 0.99)), colors, strict=True):
        assert seen(mesh, x, y) == pytest.approx(color.tolist(), abs=0.25)
    assert seen(mesh, 4.5, 0.5) == pytest.approx(BLUE, abs=1e-3)


@pytest.mark.parametrize(("mode", "indices"), [(5, [0, 1, 3, 2]), (6, [0, 1, 2, 3]), (4, None)])
def test_strips_fans_and_plain_triangles(mode, indices, tmp_path):
    glb = Glb()
    if indices is None:
        glb.square(None, mode, None, POSITION=SQUARE[SQUARE_FACES])
    else:
        glb.square(None, mode, np.array(indices, np.uint16))
    mesh = glb.load(tmp_path)
    assert mesh.num_faces == 2
    crosses = torch.linalg.cross(
        mesh.vertices[mesh.faces[:, 1]] - mesh.vertices[mesh.faces[:, 0]],
        mesh.vertices[mesh.faces[:, 2]] - mesh.vertices[mesh.faces[:, 0]],
    )
    assert crosses[:, 2].tolist() == [1, 1]


def test_skinned_meshes_stand_where_their_joints_are(tmp_path):
    glb = Glb()
    joints = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]], np.uint8)
    weights = np.array([[1, 0, 0, 0]] * 4, np.float32)
    glb.square(JOINTS_0=joints, WEIGHTS_0=weights)
    bind = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    bind[1, 3, 1] = -1.0  # the second joint is at (0, 1, 0) at rest; matrices are stored by columns
    inverse = glb.add(bind.reshape(2, 16))
    glb.json["skins"] = [{"joints": [1, 2], "inverseBindMatrices": inverse}]
    glb.json["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [100, 0, 0], "scale": [7, 7, 7]},
        {"translation": [0, 0, 3], "children": [2]},
        {"translation": [0, 1, 0], "rotation": [0, 0, 2**-0.5, 2**-0.5]},  # a quarter turn about z
    ]
    glb.json["scenes"] = [{"nodes": [0, 1]}]
    expected = torch.tensor([[0, 0, 3], [1, 0, 3], [0, 2, 3], [0, 1, 3.0]])
    torch.testing.assert_close(glb.load(tmp_path).vertices, expected)


def test_morph_targets_stand_at_their_default_weights(tmp_path):
    glb = Glb()
    primitive = glb.square()
    primitive["targets"] = [{"POSITION": glb.add(np.array([[0, 0, 2]] * 4, np.float32))}]
    glb.json["meshes"][0]["weights"] = [0.5]
    assert glb.load(tmp_path).vertices[:, 2].tolist() == [1, 1, 1, 1]
    glb.json["nodes"][0]["weights"] = [0.25]
    assert glb.load(tmp_path).vertices[:, 2].tolist() == [0.5] * 4


def test_instances_and_hidden_nodes(tmp_path):
    glb = Glb()
    glb.square()
    moves = glb.add(np.array([[0, 0, 0], [5, 0, 0], [9, 0, 0]], np.float32))
    glb.json["nodes"] = [
        {"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": moves}}}},
        {"mesh": 0, "translation": [50, 0, 0], "extensions": {"KHR_node_visibility": {"visible": False}}},
    ]
    glb.json["scenes"] = [{"nodes": [0, 1]}]
    mesh = glb.load(tmp_path)
    assert mesh.num_faces == 6 and float(mesh.vertices[:, 0].max()) == 10


def test_the_older_materials_of_specular_and_glossiness(tmp_path):
    glb = Glb()
    older = {"diffuseTexture": {"index": glb.picture(FOUR)}, "diffuseFactor": [1, 0, 1, 1]}
    glb.square({"extensions": {"KHR_materials_pbrSpecularGlossiness": older}}, TEXCOORD_0=SQUARE_UV)
    assert seen(glb.load(tmp_path), 0.75, 0.25) == pytest.approx([1, 0, 1], abs=1e-4)


def test_pictures_in_other_formats_are_said(tmp_path):
    glb = Glb()
    glb.square(textured(glb.picture(FOUR)), TEXCOORD_0=SQUARE_UV)
    glb.json["textures"][0] = {"extensions": {"KHR_texture_basisu": {"source": 0}}}
    with pytest.warns(UserWarning, match="KHR_texture_basisu only, which cannot be read here; .* write it as PNG"):
        mesh = glb.load(tmp_path)
    assert mesh.texture is None and mesh.colors is None and mesh.uvs is not None


@pytest.mark.parametrize("name", ["KHR_draco_mesh_compression", "EXT_meshopt_compression"])
def test_compressed_files_name_the_remedy(name, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "DracoPy", None)  # as where it is not installed
    glb = Glb()
    primitive = glb.square()
    if name.startswith("KHR"):
        primitive["extensions"] = {name: {"bufferView": 0, "attributes": {"POSITION": 0}}}
    else:
        glb.json["bufferViews"][0]["extensions"] = {name: {"buffer": 0, "count": 4}}
    with pytest.raises(InputError, match=rf"made.glb: .*{name}.*decompress it first, .*gltf-transform copy"):
        glb.load(tmp_path)


def test_draco_gives_what_was_compressed(tmp_path):
    """Of a patch with coordinates and joints, compressed, and colours beside it that are not."""
    DracoPy = pytest.importorskip("DracoPy", reason="decodes Draco; pip install DracoPy")
    across, down = np.meshgrid(np.linspace(0, 1, 6), np.linspace(0, 1, 6))
    points = np.stack([across, down, 0.2 * np.sin(5 * across)], -1).reshape(-1, 3).astype(np.float32)
    first = (np.arange(5) + 6 * np.arange(5)[:, None]).reshape(-1, 1)
    faces = np.add(first, np.array([[0, 1, 7], [0, 7, 6]])[:, None]).reshape(-1, 3).astype(np.uint32)
    uvs = np.stack([across, 1 - down], -1).reshape(-1, 2)
    joints, weights = np.tile(np.array([1, 0, 0, 0], np.uint16), (36, 1)), np.tile(np.float32([1, 0, 0, 0]), (36, 1))
    packed = DracoPy.encode(
        points,
        faces,
        quantization_bits=14,
        preserve_order=True,
        tex_coord=uvs,
        generic_attributes={8: joints, 9: weights},
    )
    kinds = {int(entry["attribute_type"]): entry["unique_id"] for entry in DracoPy.decode(packed).attributes}
    glb = Glb()
    ids = {"POSITION": kinds[0], "TEXCOORD_0": kinds[3], "JOINTS_0": 8, "WEIGHTS_0": 9}
    stated = {"POSITION": points, "TEXCOORD_0": uvs.astype(np.float32), "JOINTS_0": joints, "WEIGHTS_0": weights}
    for values in stated.values():  # what is compressed has no data of its own
        glb.add(values)
        del glb.json["accessors"][-1]["bufferView"]
    primitive = glb.square(
        textured(glb.picture(FOUR)), 5, faces.reshape(-1), COLOR_0=np.tile(np.float32([1, 0, 1]), (36, 1)),
        **{name: at for at, name in enumerate(stated)},
    )  # fmt: skip
    primitive["extensions"] = {"KHR_draco_mesh_compression": {"bufferView": glb.view(packed), "attributes": ids}}
    glb.json["nodes"] = [{"mesh": 0, "skin": 0}, {}, {"translation": [0, 0, 3]}]
    glb.json["skins"] = [{"joints": [1, 2]}]
    mesh = glb.load(tmp_path)
    wanted = torch.tensor(points) + torch.tensor([0.0, 0, 3])
    torch.testing.assert_close(mesh.vertices, wanted, atol=1e-4, rtol=0)
    assert mesh.faces.shape == (50, 3)
    area = float(face_areas(wanted, torch.tensor(faces.astype(np.int64))).sum())
    assert float(face_areas(mesh.vertices, mesh.faces).sum()) == pytest.approx(area, rel=1e-4)
    torch.testing.assert_close(mesh.uvs, torch.tensor(uvs, dtype=torch.float32), atol=1e-4, rtol=0)
    assert seen(mesh, 0.8, 0.2) == pytest.approx([1, 0, 1]) and seen(mesh, 0.2, 0.8) == pytest.approx([1, 0, 0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda j: j["meshes"][0]["primitives"][0].update(indices=77), "expected accessors 0 to 1, got 77"),
        (lambda j: j["accessors"][0].update(count=10**9), "made.glb: expected"),
        (lambda j: j["accessors"][0].update(count=400), "expected 400 values in accessor 0"),
        (lambda j: j["accessors"][1].update(count=3, byteOffset=4), "made.glb"),
        (lambda j: j["accessors"][0].update(type="VEC9"), "accessor 0 of glTF 2.0's types"),
        (lambda j: j["bufferViews"][0].update(byteLength=10**6), "expected buffer view 0 inside of its"),
        (lambda j: j["nodes"][0].update(children=[0]), "tree of nodes"),
        (lambda j: j["nodes"][0].update(translation=[1, "a", 2]), "expected 3 numbers for translation"),
        (lambda j: j["meshes"][0]["primitives"][0].update(attributes={}), "expected POSITION"),
        (lambda j: j.update(asset={"version": "1.0"}), "expected glTF 2.0, got version 1.0; convert it"),
        (lambda j: j.update(meshes={"a": 1}), "expected a list of meshes"),
        (lambda j: j["scenes"][0].update(nodes=[5]), "expected nodes 0 to 0, got 5"),
        (lambda j: j["meshes"].clear(), "expected meshes, to which it refers, got none"),
    ],
)
def test_broken_documents_are_told(spoil, message, tmp_path):
    glb = Glb()
    glb.square()
    spoil(glb.json)
    if "byteOffset" in glb.json["accessors"][1]:  # indices that begin late and point beyond the vertices
        glb.data += np.array([9, 9, 9], np.uint16).tobytes()
        glb.json["bufferViews"][1]["byteOffset"] += 8
    with pytest.raises(InputError, match=message):
        glb.load(tmp_path)


def test_indices_beyond_the_vertices(tmp_path):
    glb = Glb()
    glb.square(indices=np.array([0, 1, 9], np.uint16))
    with pytest.raises(InputError, match=r"made.glb: expected vertex indices 0 to 3, got 0 to 9"):
        glb.load(tmp_path)


def test_gltf_with_files_beside_it_and_data_uris(tmp_path):
    import base64

    glb = Glb()
    glb.square(textured(0), TEXCOORD_0=SQUARE_UV)
    Image.fromarray(FOUR).save(tmp_path / "my picture.png")
    glb.json |= {"images": [{"uri": "my%20picture.png"}], "textures": [{"source": 0}]}
    for uri in ("shape.bin", "data:application/octet-stream;base64," + base64.b64encode(glb.data).decode()):
        (tmp_path / "shape.bin").write_bytes(glb.data)
        document = {**glb.json, "buffers": [{"byteLength": len(glb.data), "uri": uri}]}
        (tmp_path / "made.gltf").write_text(json.dumps(document), "utf-8")
        assert seen(load_mesh(tmp_path / "made.gltf"), 0.25, 0.75) == pytest.approx(RED, abs=1e-4)
    (tmp_path / "shape.bin").unlink()
    document["buffers"][0]["uri"] = "shape.bin"
    (tmp_path / "made.gltf").write_text(json.dumps(document), "utf-8")
    with pytest.raises(InputError, match=r"made.gltf: expected shape.bin beside it"):
        load_mesh(tmp_path / "made.gltf")


BOX = [(x, y, z) for x in (0, 0.5) for y in (0, 1.8) for z in (0, 0.3)]
BOX_QUADS = ((1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4))


def check_box(mesh: Mesh) -> None:
    assert float(face_areas(mesh.vertices, mesh.faces).sum()) == pytest.approx(3.18, rel=1e-5)
    assert float(mesh_volume(mesh.vertices, mesh.faces)) == pytest.approx(0.27, rel=1e-5)


def box_lines(relative: bool, apart: bool) -> str:
    """All vertices first, or those of each face just above it, with positive or negative indices."""
    if not apart:
        lines = [f"v {x} {y} {z}" for x, y, z in BOX] + ["vt 0 0", "vt 1 1"]
        quads = [[(n - 9 if relative else n) for n in quad] for quad in BOX_QUADS]
        return "\n".join([*lines, *("f " + " ".join(f"{n}/{-1 if relative else 2}" for n in q) for q in quads)])
    lines = []
    for number, quad in enumerate(BOX_QUADS):
        lines += ["v " + " ".join(map(str, BOX[n - 1])) for n in quad]
        lines.append("f -4 -3 -2 -1" if relative else "f " + " ".join(str(4 * number + k) for k in (1, 2, 3, 4)))
    return "\n".join(lines)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_obj_indices_of_both_kinds(relative, apart, tmp_path):
    (tmp_path / "box.obj").write_text(box_lines(relative, apart), "utf-8")
    check_box(load_mesh(tmp_path / "box.obj"))


@pytest.mark.parametrize("line", ["f 1 2 0", "f 1 2 -9", "f 1 2 99", "f 1 2 x", "f 1/5 2/5 3/5"])
def test_obj_indices_that_point_nowhere(line, tmp_path):
    (tmp_path / "box.obj").write_text(box_lines(False, False) + "\n" + line, "utf-8")
    with pytest.raises(InputError, match=r"box.obj: expected"):
        load_mesh(tmp_path / "box.obj")


def test_obj_spelling(tmp_path):
    text = "\ufeff# made\r\nv\t0 0  0 1.0\r\nv 1 0 0 1.0\r\nv 1 \\\r\n1 0 1.0\r\nv 0 1 0\r\n"
    text += "o thing\ns off\nf 1// 2// 3//\nf 1 3 4 # c"
    (tmp_path / "a.obj").write_bytes(text.encode())
    mesh = load_mesh(tmp_path / "a.obj")
    assert mesh.vertices.tolist() == SQUARE.tolist() and mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    (tmp_path / "a.obj").write_bytes(text.encode().replace(b"thing", b"\xc4\xe9\xff"))
    assert load_mesh(tmp_path / "a.obj").num_faces == 2


@pytest.mark.parametrize("top", [1, 255])
def test_obj_colours_behind_vertices(top, tmp_path):
    lines = [f"v {x:g} {y:g} {z:g} {top} {top / 2:g} 0" for x, y, z in SQUARE.tolist()]
    (tmp_path / "a.obj").write_text("\n".join([*lines, "f 1 2 3 4"]), "utf-8")
    torch.testing.assert_close(load_mesh(tmp_path / "a.obj").colors, torch.tensor([[1, 0.5, 0]] * 4))


@pytest.mark.parametrize(
    ("map_line", "file", "expected"),
    [
        ("map_Kd pic.png", "pic.png", RED),
        ("map_Kd -s 1 1 1 pic.png", "pic.png", RED),
        ("map_Kd -o 0.5 0 0 -mm 0 1 -blendu on pic.png", "pic.png", GREEN),
        ("map_kd -bm 1.0 -imfchan r -clamp on pic.png", "pic.png", RED),
        (r"map_Kd tex dir\my picture.png", "tex dir/my picture.png", RED),
        ("map_Kd tex dir/my picture.png", "tex dir/my picture.png", RED),
        (r"map_Kd C:\Users\Anna\tex dir\my picture.png", "my picture.png", RED),
        ('map_Kd "my picture.png"', "my picture.png", RED),
        ("map_Kd PIC.PNG", "pic.png", RED),
        ("map_Kd ./deep/../pic.png", "pic.png", RED),
        ("map_Kd pic.png # the skin", "pic.png", RED),
        ("map_Kd pic #1.png", "pic #1.png", RED),
    ],
)
def test_mtl_names_and_options(map_line, file, expected, tmp_path):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    Image.fromarray(FOUR).save(tmp_path / file)
    (tmp_path / "my stuff.mtl").write_text(f"newmtl a b\nKd 0.8 0.8 0.8\n\t{map_line}\n", "utf-8")
    lines = [f"v {x:g} {y:g} {z:g}" for x, y, z in SQUARE.tolist()] + ["vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
    text = "\n".join(["mtllib my stuff.mtl", *lines, "usemtl a b", "f 1/1 2/2 3/3 4/4"])
    (tmp_path / "a.obj").write_text(text, "utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seen(load_mesh(tmp_path / "a.obj"), 0.25, 0.75) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("\u4eba", "utf-8"),
        ("\u4eba", "gbk"),
        ("\u30c6\u30af\u30b9\u30c1\u30e3", "shift_jis"),
        ("\u041a\u043e\u0436\u0430", "cp1251"),
        ("M\u00fcller", "latin-1"),
        ("\u00e9 \u00e0", "utf-16"),
    ],
)
def test_names_of_other_scripts(name, encoding, tmp_path):
    """Case 12: in the file's name, of its library, material and picture, in the encoding of any computer."""
    Image.fromarray(FOUR).save(tmp_path / f"{name}.png")
    (tmp_path / f"{name}.mtl").write_bytes(f"newmtl {name}\nmap_Kd {name}.png\n".encode(encoding))
    lines = [f"v {x:g} {y:g} {z:g}" for x, y, z in SQUARE.tolist()] + ["vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
    text = "\n".join([f"mtllib {name}.mtl", *lines, f"usemtl {name}", "f 1/1 2/2 3/3 4/4"])
    (tmp_path / f"{name}.obj").write_bytes(text.encode(encoding))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seen(load_mesh(tmp_path / f"{name}.obj"), 0.25, 0.75) == pytest.approx(RED, abs=1e-4)


def test_obj_in_capitals_and_with_decimal_commas(tmp_path):
    lines = [f"V {x:g},0 {y:g},0 {z:g},0" for x, y, z in SQUARE.tolist()]
    (tmp_path / "a.obj").write_text("\n".join([*lines, "F 1 2 3 4"]), "utf-8")
    assert load_mesh(tmp_path / "a.obj").vertices.tolist() == SQUARE.tolist()


def test_obj_materials_without_pictures(tmp_path):
    (tmp_path / "m.mtl").write_text("newmtl r\nKd 1 0 0\nnewmtl b\nKd 0 0 1\nnewmtl g\nKd 0.5\n", "utf-8")
    lines = [f"v {x:g} {y:g} {z:g}" for x, y, z in SQUARE.tolist()]
    text = "\n".join(["mtllib m.mtl", *lines, "usemtl r", "f 1 2 3", "usemtl b", "f 1 3 4"])
    (tmp_path / "a.obj").write_text(text, "utf-8")
    mesh = load_mesh(tmp_path / "a.obj")
    assert seen(mesh, 0.8, 0.2) == RED and seen(mesh, 0.2, 0.8) == BLUE


def ply(form: str, kind: str, colors: np.ndarray, uv: bool) -> bytes:
    """The square with colours of a number type, as ASCII or binary of either order."""
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(form, "<")
    names = {"u1": "uchar", "u2": "ushort", "f4": "float"}
    fields = [(axis, order + "f4") for axis in "xyz"] + [(c, order + kind) for c in ("red", "green", "blue")]
    fields += [("s", order + "f4"), ("t", order + "f4")] if uv else []
    rows = np.zeros(4, fields)
    for at, axis in enumerate("xyz"):
        rows[axis] = SQUARE[:, at]
    for at, name in enumerate(("red", "green", "blue")):
        rows[name] = colors[:, at]
    if uv:
        rows["s"], rows["t"] = SQUARE_UV[:, 0], 1 - SQUARE_UV[:, 1]
    head = ["ply", f"format {form} 1.0", "comment made", "element vertex 4"]
    head += [f"property {names.get(code[1:], 'float')} {name}" for name, code in fields]
    head += ["element face 1", "property list uchar int vertex_indices", "end_header\n"]
    if form == "ascii":
        body = "\n".join(" ".join(f"{value:g}" for value in row) for row in rows.tolist()).encode() + b"\n4 0 1 2 3\n"
    else:
        body = rows.tobytes() + b"\x04" + np.arange(4).astype(order + "i4").tobytes()
    return "\n".join(head).encode() + body


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize(("kind", "top"), [("u1", 255), ("u2", 65535), ("f4", 1)])
@pytest.mark.parametrize("uv", [False, True])
def test_ply_colours_of_every_number_type(form, kind, top, uv, tmp_path):
    colors = np.array([[1, 0.5, 0]] * 4) * top
    (tmp_path / "a.ply").write_bytes(ply(form, kind, np.floor(colors) if top > 1 else colors, uv))
    mesh = load_mesh(tmp_path / "a.ply")
    assert mesh.vertices.tolist() == SQUARE.tolist() and mesh.num_faces == 2 and mesh.texture is None
    torch.testing.assert_close(mesh.colors, torch.tensor([[1, 0.5, 0]] * 4), atol=0.6 / 255, rtol=0)
    if uv:
        torch.testing.assert_close(mesh.uvs, torch.tensor(SQUARE_UV))
    else:
        assert mesh.uvs is None


def test_ply_corners_with_coordinates_of_their_own_and_a_texture(tmp_path):
    Image.fromarray(FOUR).save(tmp_path / "pic.png")
    head = "ply\nformat ascii 1.0\ncomment TextureFile pic.png\nelement vertex 4\nproperty float x\nproperty float y\n"
    head += (
        "property float z\nelement face 1\nproperty list uchar int vertex_index\nproperty list uchar float texcoord\n"
    )
    body = "end_header\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3 8 0 0 1 0 1 1 0 1\n"
    (tmp_path / "a.ply").write_text(head + body, "utf-8")
    mesh = load_mesh(tmp_path / "a.ply")
    assert seen(mesh, 0.25, 0.75) == pytest.approx(RED, abs=1e-4)
    assert seen(mesh, 0.25, 0.25) == pytest.approx(BLUE, abs=1e-4)


def test_faces_of_mixed_sizes_in_binary_ply(tmp_path):
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 4\nproperty double x\nproperty double y\n"
    head += "property double z\nelement face 2\nproperty list uchar uint vertex_indices\nend_header\n"
    faces = b"\x03" + np.array([0, 1, 2], "<u4").tobytes() + b"\x04" + np.array([0, 2, 3, 1], "<u4").tobytes()
    (tmp_path / "a.ply").write_bytes(head.encode() + SQUARE.astype("<f8").tobytes() + faces)
    assert load_mesh(tmp_path / "a.ply").faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 3, 1]]


def test_grey_pictures_of_16_bits(tmp_path):
    glb = Glb()
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    glb.square(textured(glb.picture(ramp)), TEXCOORD_0=SQUARE_UV)
    mesh = glb.load(tmp_path)
    assert float(mesh.texture.mean()) == pytest.approx(0.5, abs=1e-3)
    assert float(mesh.texture[0, 16, 0]) == pytest.approx(16 / 63, abs=1e-3)


def test_uvs_without_a_texture_keep_colours_and_invent_none(tmp_path):
    glb = Glb()
    glb.square(None, TEXCOORD_0=SQUARE_UV, COLOR_0=np.array([[1, 0, 0]] * 4, np.float32))
    mesh = glb.load(tmp_path)
    assert mesh.texture is None and mesh.colors.tolist() == [RED] * 4 and mesh.uvs is not None
    bare = Glb()
    bare.square(None, TEXCOORD_0=SQUARE_UV)
    mesh = bare.load(tmp_path)
    assert mesh.texture is None and mesh.colors is None and mesh.uvs is not None


def test_one_part_is_one_mesh_in_the_files_order():
    part = Part(SQUARE.astype(np.float64), SQUARE_FACES.reshape(-1, 3))
    mesh = mesh_of_parts([part])
    assert mesh.vertices.tolist() == SQUARE.tolist() and mesh.normals is None


NORMALS = np.array([[[128, 128, 255], [200, 128, 220]]], np.uint8).repeat(16, 0).repeat(8, 1)


def look_of(glb: Glb, folder):
    from humannorm.export import load_baked

    glb.load(folder)
    return load_baked(folder / "made.glb")


def test_maps_and_factors_of_a_material(tmp_path):
    glb = Glb()
    base, bumps = glb.picture(FOUR), glb.picture(NORMALS)
    glb.square({
        "pbrMetallicRoughness": {"baseColorTexture": {"index": base}, "metallicFactor": 0.25},
        "normalTexture": {"index": bumps, "scale": 0.5}, "occlusionTexture": {"index": bumps, "strength": 0.75},
        "emissiveFactor": [0, 1, 0], "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 3}},
    }, TEXCOORD_0=SQUARE_UV)  # fmt: skip
    found = look_of(glb, tmp_path)
    torch.testing.assert_close(found.normal_map, torch.tensor(NORMALS, dtype=torch.float32) / 255)
    assert torch.equal(found.occlusion, found.normal_map[..., :1]) and found.tangents.shape == (4, 4)
    look = found.material
    assert (look.metallic, look.roughness, look.normal_scale, look.occlusion_strength) == (0.25, 1, 0.5, 0.75)
    assert look.emissive_factor == (0, 1, 0) and look.emissive_strength == 3 and look.emissive is None


@pytest.mark.parametrize("wrap", [10497, 33648])
def test_maps_are_laid_out_with_their_base_colour(wrap, tmp_path):
    """Coordinates turned, and beyond the picture: the map's colours stay where the base colour's are."""
    glb = Glb()
    base, bumps = (glb.picture(FOUR, wrapS=wrap, wrapT=wrap) for _ in range(2))
    turned = {"extensions": {"KHR_texture_transform": {"scale": [2, -1.5], "offset": [0.25, 0], "rotation": 0.5}}}
    glb.square({**textured(base, **turned), "normalTexture": {"index": bumps, **turned}}, TEXCOORD_0=SQUARE_UV)
    found = look_of(glb, tmp_path)
    torch.testing.assert_close(found.normal_map, found.mesh.texture)


def test_maps_that_lie_elsewhere_are_named(tmp_path):
    glb = Glb()
    base, bumps = glb.picture(FOUR), glb.picture(NORMALS)
    glb.square(
        {**textured(base), "normalTexture": {"index": bumps, "texCoord": 1}},
        TEXCOORD_0=SQUARE_UV, TEXCOORD_1=SQUARE_UV * 0.5,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="loaded without its normal map; maps have to lie where"):
        assert look_of(glb, tmp_path).normal_map is None
