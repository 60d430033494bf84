"""Files: what was written is read back, by us, by trimesh and by Khronos' validator; nothing half, nothing unasked."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import torch
import trimesh

from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.export import (
    BakedMesh,
    ExportSettings,
    bake,
    export_mesh,
    with_materials,
    write_glb,
    write_obj,
    write_ply,
)
from humannorm.export.gltf import GlbBuilder
from humannorm.export.writers import LABEL_NAMES
from humannorm.labels import LABELS
from humannorm.mesh import Mesh
from humannorm.mesh_io import load_mesh

VALIDATE = """
const validator = require('gltf-validator'), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])), {maxIssues: 20})
  .then(report => console.log(JSON.stringify(report.issues)));
"""


@pytest.fixture(scope="module")
def baked(sphere, colorful) -> BakedMesh:
    return bake(sphere, ExportSettings(faces=2000, texture_size=128, occlusion=True, height_m=1.75), colorful)


def chunks(path: Path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert kind == b"JSON" and size % 4 == 0
    return json.loads(content[20 : 20 + size]), content[28 + size :]


def test_glb_round_trip(tmp_path, baked):
    extras = {"prompt": "a woman, \u00fcber alles \U0001f9d1", "workflow": json.dumps({"nodes": []})}
    path = write_glb(tmp_path / "human.glb", baked, extras=extras)
    mesh = load_mesh(path)
    assert torch.equal(mesh.faces, baked.mesh.faces) and torch.equal(mesh.vertices, baked.mesh.vertices)
    torch.testing.assert_close(mesh.uvs, baked.mesh.uvs, atol=1e-6, rtol=0)
    torch.testing.assert_close(mesh.normals, baked.mesh.normals, atol=1e-5, rtol=0)
    torch.testing.assert_close(mesh.texture, baked.mesh.texture, atol=0.51 / 255, rtol=0)
    document, _ = chunks(path)
    assert document["asset"]["extras"] == extras
    (material,) = document["materials"]
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert material["pbrMetallicRoughness"]["roughnessFactor"] == 1
    assert {"normalTexture", "occlusionTexture"} <= set(material) and "doubleSided" not in material
    assert set(document["meshes"][0]["primitives"][0]["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0", "TANGENT"}


def labels_in(path: Path) -> list[str] | None:
    """Names of the labels of a file's vertices, as any reader of glTF finds them."""
    builder = GlbBuilder.parse(path.read_bytes(), str(path))
    mesh = builder.document["meshes"][0]
    number = mesh["primitives"][0]["attributes"].get("_LABEL")
    return None if number is None else [mesh["extras"][LABEL_NAMES][int(at)] for at in builder.accessor(number)]


def test_labels_survive_in_a_glb_and_other_readers_do_not_mind(tmp_path, baked):
    labels = torch.arange(baked.mesh.num_vertices) % len(LABELS)
    path = write_glb(tmp_path / "labelled.glb", dataclasses.replace(baked, labels=labels))
    assert labels_in(path) == [LABELS[number] for number in labels.tolist()]
    assert load_mesh(path).num_faces == baked.mesh.num_faces
    assert labels_in(write_glb(tmp_path / "plain.glb", baked)) is None


def test_trimesh_reads_the_glb(tmp_path, baked):
    scene = trimesh.load_scene(write_glb(tmp_path / "human.glb", baked))
    (geometry,) = scene.geometry.values()
    assert len(geometry.faces) == baked.mesh.num_faces
    assert geometry.visual.material.baseColorTexture.size == (128, 128)
    assert geometry.visual.material.normalTexture.size == (128, 128)
    assert scene.extents[1] == pytest.approx(1.75, rel=1e-4)


@pytest.mark.parametrize("kind", ["textured", "jpeg", "materials", "vertex colours", "bare and open"])
def test_khronos_validator_finds_nothing(tmp_path, baked, ball, kind):
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True).returncode:
        pytest.skip("needs node and `npm install gltf-validator` (found through NODE_PATH)")
    if kind == "vertex colours":
        subject = BakedMesh(ball.replace(colors=ball.vertices / 2 + 0.5))
    elif kind == "bare and open":
        subject = BakedMesh(Mesh(ball.vertices, ball.faces[:100]))
    elif kind == "materials":
        subject = with_materials(baked, torch.ones(64, 64, dtype=torch.uint8), {"skin": "metal"})
    else:
        subject = baked
    path = write_glb(
        tmp_path / "human.glb", subject, extras={"prompt": "x"}, image_format="jpeg" if kind == "jpeg" else "png"
    )
    done = subprocess.run([node, "-e", VALIDATE, str(path)], capture_output=True, text=True, timeout=120, check=True)
    issues = json.loads(done.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


@pytest.mark.parametrize("name", ["human", "ein Mensch \u00e4", "\u4eba"])
def test_obj_round_trip(name, tmp_path, baked):
    files = write_obj(tmp_path / f"{name}.obj", baked)
    endings = (".obj", ".mtl", ".png", "_normal.png", "_occlusion.png")
    assert {file.name for file in files} == {name + ending for ending in endings}
    mesh = load_mesh(tmp_path / f"{name}.obj")
    assert mesh.num_faces == baked.mesh.num_faces
    torch.testing.assert_close(mesh.vertices[mesh.faces], baked.mesh.vertices[baked.mesh.faces], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(mesh.uvs[mesh.faces], baked.mesh.uvs[baked.mesh.faces], atol=1e-6, rtol=0)
    torch.testing.assert_close(mesh.texture, baked.mesh.texture, atol=0.51 / 255, rtol=0)


def test_obj_with_vertex_colours(tmp_path, ball):
    write_obj(tmp_path / "a.obj", BakedMesh(ball.replace(colors=ball.vertices / 2 + 0.5)))
    mesh = load_mesh(tmp_path / "a.obj")
    assert mesh.colors is not None
    torch.testing.assert_close(mesh.colors[mesh.faces], (ball.vertices / 2 + 0.5)[ball.faces], atol=1 / 255, rtol=0)


def test_ply_and_glb_round_trip_of_vertex_colours(tmp_path, ball):
    subject = BakedMesh(ball.replace(colors=ball.vertices / 2 + 0.5))
    for path in (write_ply(tmp_path / "a.ply", subject), write_glb(tmp_path / "a.glb", subject)):
        mesh = load_mesh(path)
        assert torch.equal(mesh.vertices, ball.vertices) and torch.equal(mesh.faces, ball.faces)
        torch.testing.assert_close(mesh.colors, subject.mesh.colors, atol=1.5 / 255, rtol=0)


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_existing_files_are_replaced_only_when_asked(tmp_path, ball, suffix):
    path = tmp_path / f"human.{suffix}"
    path.write_text("precious", "utf-8")
    settings = ExportSettings(faces=200, texture_size=64)
    with pytest.raises(InputError, match=r"exists \(overwrite=True replaces it\)"):
        export_mesh(path, ball, settings)
    assert path.read_text("utf-8") == "precious" and [p.name for p in tmp_path.iterdir()] == [path.name]
    export_mesh(path, ball, settings, overwrite=True)
    assert load_mesh(path).num_faces <= 200


def test_an_obj_does_not_replace_a_picture_beside_it(tmp_path, baked):
    (tmp_path / "human.png").write_text("precious", "utf-8")
    with pytest.raises(InputError, match="human.png, which exists"):
        write_obj(tmp_path / "human.obj", baked)
    assert [p.name for p in tmp_path.iterdir()] == ["human.png"]


def test_a_failed_write_leaves_nothing_and_the_old_file(tmp_path, baked, monkeypatch):
    path = tmp_path / "human.glb"
    path.write_text("precious", "utf-8")

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(OSError, match="No space left"):
        write_glb(path, baked, overwrite=True)
    assert path.read_text("utf-8") == "precious" and [p.name for p in tmp_path.iterdir()] == ["human.glb"]


@pytest.mark.usefixtures("as_user")
def test_hostile_inputs(tmp_path, ball, baked):
    with pytest.raises(InputError, match="format: expected one of glb, obj, ply, got 'fbx'"):
        export_mesh(tmp_path / "human.fbx", ball)
    with pytest.raises(InputError, match="path: expected a file ending in .glb"):
        write_glb(tmp_path / "human.ply", baked)
    with pytest.raises(InputError, match="texture_size: expected 16 to 8192, got 16384"):
        export_mesh(tmp_path / "a.glb", ball, ExportSettings(texture_size=16384))
    with pytest.raises(InputError, match="faces: expected 4 to"):
        export_mesh(tmp_path / "a.glb", ball, ExportSettings(faces=0))
    with pytest.raises(InputError, match="extras: expected strings by name, got int"):
        write_glb(tmp_path / "a.glb", baked, extras={"seed": 3})
    broken = ball.replace(vertices=ball.vertices * float("nan"))
    for suffix in ("glb", "obj", "ply"):
        with pytest.raises(InputError, match="vertices: expected finite values"):
            export_mesh(tmp_path / f"a.{suffix}", broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command(tmp_path, ball, colorful, capsys):
    source = write_ply(tmp_path / "in.ply", BakedMesh(ball.replace(colors=colorful(ball.vertices))))
    out = tmp_path / "out"
    words = ["export", str(source), "--faces", "200", "--texture-size", "128", "--height", "1.6", "--out", str(out)]
    assert main(words) == 0
    assert [p.name for p in out.iterdir()] == ["in.glb"] and "in.glb" in capsys.readouterr().out
    mesh = load_mesh(out / "in.glb")
    assert mesh.num_faces <= 200 and mesh.texture is not None
    assert float(mesh.vertices[:, 1].max() - mesh.vertices[:, 1].min()) == pytest.approx(1.6, rel=1e-5)
    assert main(words) == 1
    assert "exists" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert main(["export", str(source), "--format", "obj", "--texture-size", "64", "--out", str(out)]) == 0
    assert (out / "in.obj").exists() and (out / "in.mtl").exists() and (out / "in.png").exists()
