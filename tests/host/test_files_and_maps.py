"""3D files and materials in and out: FILE_3D wires, the host's path notation, all fields of a MESH."""

from __future__ import annotations

import importlib
import io
import json
import struct
import sys
import types
from pathlib import Path

import graphs
import pytest
import torch
import trimesh
from graphs import changed, node
from server import Host

from humannorm.body import load_body
from humannorm.checks import InputError
from humannorm.export import BakedMesh, ExportSettings, Material, bake, load_baked, write_glb
from humannorm.mesh import welded_vertex_normals


def random_map(seed: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(16, 16, channels, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def dressed_up() -> BakedMesh:
    """A human with every map and factor that a MESH has a place for."""
    mesh = load_body().to_mesh(uvs=True)
    mesh = mesh.replace(normals=welded_vertex_normals(mesh.vertices, mesh.faces), texture=random_map(0))
    look = Material(
        metallic=0.5,
        roughness=0.25,
        metallic_roughness=random_map(1),
        emissive=random_map(2),
        emissive_factor=(1.0, 0.5, 0.25),
        emissive_strength=2.0,
        normal_scale=0.5,
        occlusion_strength=0.75,
        double_sided=True,
    )
    tangents = torch.cat([mesh.normals, torch.ones(mesh.num_vertices, 1)], 1)
    return BakedMesh(mesh, tangents, random_map(3), random_map(4, 1), look)


@pytest.fixture(scope="module")
def rooms(pack) -> types.SimpleNamespace:
    names = ("host_mesh", "files", "mesh")
    return types.SimpleNamespace(**{name: importlib.import_module(f"humannorm_pack.nodes.{name}") for name in names})


def assert_same_look(found: BakedMesh, wanted: BakedMesh, tolerance: float = 0.0) -> None:
    for name in ("normal_map", "occlusion"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), atol=tolerance, rtol=0)
    for name in ("metallic_roughness", "emissive"):
        theirs, ours = getattr(found.material, name), getattr(wanted.material, name)
        torch.testing.assert_close(theirs[..., 1:], ours[..., 1:], atol=tolerance, rtol=0)


def test_every_field_of_a_mesh_there_and_back(rooms, dressed_up):
    value = rooms.host_mesh.baked_to_host(dressed_up)
    assert value.occlusion_in_mr and torch.equal(value.metallic_roughness[0, ..., :1], dressed_up.occlusion)
    assert value.material["metallic_factor"] == 0.5 and value.tangents.shape[-1] == 4
    back = rooms.host_mesh.baked_from_host(value)
    assert_same_look(back, dressed_up)
    assert torch.equal(back.tangents, dressed_up.tangents)
    for name in ("metallic", "roughness", "emissive_factor", "emissive_strength", "normal_scale", "occlusion_strength"):
        assert getattr(back.material, name) == pytest.approx(getattr(dressed_up.material, name)), name


def test_occlusion_alone_leaves_cloth_as_dull_as_it_was(rooms, dressed_up):
    plain = BakedMesh(dressed_up.mesh, occlusion=dressed_up.occlusion)
    value = rooms.host_mesh.baked_to_host(plain)
    assert value.occlusion_in_mr and value.material["metallic_factor"] == 0 and value.material["roughness_factor"] == 1


def test_a_base_colour_factor_is_in_the_texture(rooms, dressed_up):
    value = rooms.host_mesh.to_host(dressed_up.mesh)
    value.material = {"base_color_factor": [0.5, 1.0, 0.0, 1.0]}
    texture = rooms.host_mesh.from_host(value).texture
    torch.testing.assert_close(texture[..., 1], dressed_up.mesh.texture[..., 1], atol=1e-5, rtol=0)
    assert float(texture[..., 2].max()) == 0 and float((texture[..., 0] / dressed_up.mesh.texture[..., 0]).mean()) < 0.8


def test_transparency_that_is_lost_is_told(rooms, dressed_up):
    value = rooms.host_mesh.to_host(dressed_up.mesh)
    value.vertex_colors = torch.full((1, dressed_up.mesh.num_vertices, 4), 0.5)
    with pytest.warns(UserWarning, match="transparency of its vertex colours is left out"):
        rooms.host_mesh.from_host(value)


def test_the_hosts_own_writer_takes_all_that_we_hand_over(rooms, dressed_up, monkeypatch):
    """MESH to GLB by the host, GLB to MESH by us; only newer hosts write maps."""
    import comfy_api.latest

    if not hasattr(getattr(comfy_api.latest, "Types", None), "File3D"):
        pytest.skip("this host writes positions alone")
    hosts = types.SimpleNamespace(PromptServer=types.SimpleNamespace(instance=None))
    monkeypatch.setitem(sys.modules, "server", hosts)  # the tests' own module has this name too
    from comfy_extras.nodes_save_3d import mesh_item_to_glb_bytes

    content = mesh_item_to_glb_bytes(rooms.host_mesh.baked_to_host(dressed_up), 0)
    file = comfy_api.latest.Types.File3D(io.BytesIO(content), file_format="glb")
    back = rooms.host_mesh.baked_from_host(file)
    assert_same_look(back, dressed_up, 1.01 / 255)
    assert back.material.metallic == 0.5 and back.material.roughness == 0.25


def test_our_own_file_there_and_back(dressed_up, tmp_path):
    back = load_baked(write_glb(tmp_path / "a.glb", dressed_up))
    assert_same_look(back, dressed_up, 0.51 / 255)
    assert back.material.double_sided and back.material.emissive_factor == (1.0, 0.5, 0.25)


def test_a_batch_is_refused_with_its_count(rooms, dressed_up):
    value = rooms.host_mesh.to_host(dressed_up.mesh)
    value.vertices, value.faces = value.vertices.repeat(3, 1, 1), value.faces.repeat(3, 1, 1)
    with pytest.raises(InputError, match="own_mesh: expected one mesh, got a batch of 3"):
        rooms.host_mesh.from_host(value, "own_mesh")


@pytest.mark.parametrize(
    "name", ["3d/box.stl", "3d\\box.stl", "3d/box.stl [input]", "3d\\box.stl [input]", "box.stl[output]"]
)
def test_the_hosts_notation_of_paths(rooms, tmp_path, monkeypatch, name):
    import folder_paths

    for kind in ("input", "output"):
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    for place in ("input/3d", "output"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        trimesh.creation.box().export(tmp_path / place / "box.stl")
    found = rooms.files.existing_file(name, [".stl"])
    assert found == tmp_path / ("output" if "output" in name else "input/3d") / "box.stl"
    assert rooms.files.pickable_files([".stl"], "input") == ["3d/box.stl", "box.stl [output]"]
    assert rooms.files.pickable_files([".stl"]) == ["box.stl", "3d/box.stl [input]"]
    with pytest.raises(InputError, match="expected a place inside"):
        rooms.files.existing_file("..\\..\\box.stl [input]", [".stl"])


def exported(graph: graphs.Graph, source: list, name: str, **settings: object) -> graphs.Graph:
    """The graph with an exporter behind a MESH or a file."""
    return graph | {
        "export": node(
            "HumanNormMeshExporter", mesh=source, format="glb", faces=2000, texture_size=64, height_m=0.0,
            filename_prefix=f"tests/{name}", **settings,
        )
    }  # fmt: skip


def saved(host: Host, entry: dict) -> tuple[Path, dict]:
    (path,) = entry["outputs"]["export"]["text"]
    content = host.output(path).read_bytes()
    return host.output(path), json.loads(content[20 : 20 + struct.unpack_from("<I", content, 12)[0]])


@pytest.mark.parametrize("kind", ["stl", "glb", "ply", "obj"])
def test_a_file_on_a_wire_is_a_mesh_everywhere(host, kind):
    graph = {"file": node("HostileFile", path="", format=kind), "load": node("HumanNormLoadMesh", file=["file", 0])}
    graph = exported(graph, ["file", 0], f"wired_{kind}")
    graph["render"] = node(
        "HumanNormRenderViews", mesh=["load", 0], views="front", part="full", framing="published", elevation=0.0,
        size=64,
    )  # fmt: skip
    graph["save"] = node("SaveImage", images=["render", 3 - 1], filename_prefix="tests/wired")
    entry = host.run(graph)
    path, _ = saved(host, entry)
    box = load_baked(path).mesh
    torch.testing.assert_close(box.vertices.amax(0) - box.vertices.amin(0), torch.tensor([1.0, 2.0, 0.5]))


def test_a_file_of_another_kind_is_refused_by_its_kind(host):
    (host.base / "input").mkdir(exist_ok=True)
    (host.base / "input" / "a.fbx").write_bytes(b"Kaydara")
    graph = exported({"file": node("HostileFile", path="a.fbx", format="fbx")}, ["file", 0], "never")
    entry = host.wait(host.queue(graph))
    assert "mesh: expected a 3D file of kind .glb" in host.error(entry), host.error(entry)


def test_maps_of_a_loaded_file_are_in_the_exported_one(host, dressed_up):
    (host.base / "input" / "3d").mkdir(parents=True, exist_ok=True)
    write_glb(host.base / "input" / "3d" / "person.glb", dressed_up, overwrite=True)
    graph = {"load": node("HumanNormLoadMesh", file="3d\\person.glb [input]")}
    entry = host.run(exported(graph, ["load", 0], "maps") | {"info": node("PreviewAny", source=["load", 1])})
    path, document = saved(host, entry)
    (material,) = document["materials"]
    assert {"normalTexture", "occlusionTexture", "emissiveTexture"} <= set(material)
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0.5
    assert (
        material["occlusionTexture"]["index"] == material["pbrMetallicRoughness"]["metallicRoughnessTexture"]["index"]
    )
    assert load_baked(path).material.metallic_roughness.shape == (64, 64, 3)
    assert "normal map 16 x 16" in entry["outputs"]["info"]["text"][0]


@pytest.mark.slow
def test_a_baked_copy_has_the_maps_where_they_were(dressed_up):
    """Smooth maps, so that a texel of the new layout is comparable with the place that it came from."""
    smooth = dressed_up.mesh.uvs.new_tensor([[0.2, 0.8], [0.4, 0.6]])
    picture = torch.stack([smooth.repeat_interleave(8, 0).repeat_interleave(8, 1)] * 3, -1)
    source = BakedMesh(dressed_up.mesh, material=Material(emissive=picture, metallic_roughness=1 - picture))
    baked = bake(source, ExportSettings(faces=100_000, texture_size=128))
    emissive, other = baked.material.emissive, baked.material.metallic_roughness
    torch.testing.assert_close(emissive + other, torch.ones_like(emissive), atol=1e-4, rtol=0)
    assert float(emissive.min()) == pytest.approx(0.2, abs=0.01) and float(emissive.max()) == pytest.approx(
        0.8, abs=0.01
    )


def hostile() -> dict[str, tuple[graphs.Graph, str]]:
    return {
        "a batch": (
            exported({"made": node("HostileTwoMeshes")}, ["made", 0], "never"),
            "mesh: expected one mesh, got a batch of 2",
        ),
        "an empty start": (
            {
                "made": node("HostileEmptyMesh"),
                "start": node(
                    "HumanNormGeometryStart", start_mesh=["made", 0], preset="quick", field="dense", resolution=32,
                    seed=0,
                ),
                "save": node("HumanNormSaveState", geometry=["start", 0], filename_prefix="tests/never"),
            },
            "start_mesh: mesh: expected vertices and faces, got 0 and 0",
        ),
        "a quad": (
            {
                "made": node("HostileQuad"),
                "rig": node("HumanNormRig", mesh=["made", 0], rig="mixamo"),
                "show": node("PreviewImage", images=["rig", 2]),
            },
            "mesh: expected a standing human, +Y up and facing +Z, got one",
        ),
        "a box": (
            {
                "made": node("HostileFile", path="", format="stl"),
                "pose": node(
                    "HumanNormPose", human=["made", 0], pose="sit", motion_file="", frame=0, up="by its joint names"
                ),
                "show": node("PreviewImage", images=["pose", 2]),
            },
            "mesh: expected a standing human, +Y up and facing +Z, got one",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", list(hostile()))
def test_what_is_no_human_or_no_mesh_is_refused_by_name(host, case):
    graph, said = hostile()[case]
    entry = host.wait(host.queue(graph))
    assert said in host.error(entry).splitlines()[0], host.error(entry)


def test_a_human_on_a_file_wire_is_rigged_and_moves(host, dressed_up):
    (host.base / "input" / "3d").mkdir(parents=True, exist_ok=True)
    write_glb(host.base / "input" / "3d" / "walker.glb", dressed_up, overwrite=True)
    graph = {
        "file": node("HostileFile", path="3d/walker.glb", format="glb"),
        "animate": node(
            "HumanNormAnimate", human=["file", 0], clip="idle", more_clips="", up="by its joint names", travel=False,
            film_size=64, filename_prefix="tests/walker",
        ),
        "load": node("HumanNormLoadMesh", file=["animate", 0]),
        "info": node("PreviewAny", source=["load", 1]),
    }  # fmt: skip
    entry = host.run(graph)
    assert "emissive 16 x 16" in entry["outputs"]["info"]["text"][0]
    assert changed(graph)["file"]["inputs"]["format"] == "glb"
