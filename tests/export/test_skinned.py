"""Skinned GLB files: the validator finds nothing, and what was written comes back."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import trimesh

from humannorm.body import load_body
from humannorm.body.rigs import load_rig
from humannorm.body.skeleton import axis_angle_to_matrix
from humannorm.body.skin_binding import JointMotion, SkinBinding
from humannorm.checks import InputError
from humannorm.export import BakedMesh, ExportSettings, bake, write_glb
from humannorm.export.skinned import read_skinned_glb, surface_of_glb, write_skinned_glb
from humannorm.mesh import Mesh

VALIDATE = """
const v = require('gltf-validator'), fs = require('fs');
v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1]))).then(r => console.log(JSON.stringify(r.issues)));
"""


@pytest.fixture(scope="module")
def skin() -> SkinBinding:
    body, rig = load_body(pose="a-pose"), load_rig("mixamo")
    return SkinBinding(rig.joint_names, rig.parents, rig.heads(body), rig.weight_joints, rig.weights)


@pytest.fixture(scope="module")
def surface() -> Mesh:
    return load_body(pose="a-pose").to_mesh(normalized=False)


@pytest.fixture(scope="module")
def motions(skin: SkinBinding) -> list[JointMotion]:
    """Two clips; the first turns one arm once round, so that quaternions change their sign on the way."""
    rotations = torch.eye(3).repeat(13, len(skin.parents), 1, 1)
    turns = torch.zeros(13, 3)
    turns[:, 2] = torch.linspace(0, 2 * torch.pi, 13)
    rotations[:, skin.joint_names.index("mixamorig:LeftArm")] = axis_angle_to_matrix(turns)
    path = skin.joints[0] + torch.linspace(0, 1, 13)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    still = torch.eye(3).repeat(2, len(skin.parents), 1, 1)
    return [JointMotion("turn", rotations, path, 0.1), JointMotion("still", still, path[:2], 0.5)]


def issues_of(path: Path) -> dict:
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True).returncode:
        pytest.skip("needs node and `npm install gltf-validator` (found through NODE_PATH)")
    done = subprocess.run([node, "-e", VALIDATE, str(path)], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def test_khronos_validator_finds_nothing(tmp_path, surface, skin, motions):
    issues = issues_of(write_skinned_glb(tmp_path / "human.glb", surface, skin, motions))
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def test_round_trip(tmp_path, surface, skin, motions):
    path = write_skinned_glb(tmp_path / "human.glb", surface, skin, motions, extras={"prompt": "a man"})
    found = read_skinned_glb(path)
    assert torch.equal(found.mesh.vertices, surface.vertices) and torch.equal(found.mesh.faces, surface.faces)
    assert found.skin.joint_names == skin.joint_names and found.skin.parents == skin.parents
    torch.testing.assert_close(found.skin.joints, skin.joints, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.skin.weights, skin.weights, atol=1e-6, rtol=0)
    used = skin.weights > 0
    assert torch.equal(found.skin.weight_joints[used], skin.weight_joints[used])
    assert not bool(found.skin.weight_joints[~used].any())  # empty slots name joint 0
    assert [motion.name for motion in found.motions] == ["turn", "still"]
    for theirs, ours in zip(found.motions, motions, strict=True):
        torch.testing.assert_close(theirs.rotations, ours.rotations, atol=1e-5, rtol=0)
        torch.testing.assert_close(theirs.root_positions, ours.root_positions, atol=1e-6, rtol=0)
        assert theirs.frame_time == pytest.approx(ours.frame_time)
    frame = [skin.transforms(motion)[4] for motion in (motions[0], found.motions[0])]
    moved = [one.moved(surface.vertices, transform) for one, transform in zip((skin, found.skin), frame, strict=True)]
    torch.testing.assert_close(moved[1], moved[0], atol=1e-5, rtol=0)
    assert trimesh.load_scene(path).extents[1] == pytest.approx(float(surface.vertices[:, 1].max()), rel=1e-4)


def test_quaternions_of_neighbouring_frames_do_not_flip(tmp_path, surface, skin, motions):
    path = write_skinned_glb(tmp_path / "human.glb", surface, skin, motions)
    from humannorm.export.gltf import GlbBuilder

    builder = GlbBuilder.parse(path.read_bytes())
    clip = builder.document["animations"][0]
    outputs = [clip["samplers"][c["sampler"]]["output"] for c in clip["channels"] if c["target"]["path"] == "rotation"]
    assert len(outputs) == 1  # joints that do not turn have no track
    turns = torch.from_numpy(builder.accessor(outputs[0]).copy())
    assert bool(((turns[1:] * turns[:-1]).sum(1) > 0.9).all())


@pytest.mark.slow
def test_a_textured_file_keeps_what_it_holds(tmp_path, surface, motions):
    """The skin goes into the file's own document: textures, normal map and notes stay byte for byte."""
    baked = bake(surface, ExportSettings(faces=1500, texture_size=64))
    source = write_glb(tmp_path / "plain.glb", baked, extras={"prompt": "x"})
    document, plain = surface_of_glb(source)
    assert torch.equal(plain.vertices, baked.mesh.vertices) and torch.equal(plain.faces, baked.mesh.faces)
    count = len(plain.vertices)
    one = torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1)
    skin = SkinBinding(("root",), (-1,), torch.zeros(1, 3), torch.zeros(count, 4, dtype=torch.int64), one)
    before = json.loads(json.dumps(document.document))
    path = write_skinned_glb(tmp_path / "human.glb", document, skin)
    from humannorm.export.gltf import GlbBuilder

    after = GlbBuilder.parse(path.read_bytes())
    for kind in ("images", "textures", "materials", "samplers", "asset"):
        assert after.document[kind] == before[kind]
    assert read_skinned_glb(path).motions == ()
    with pytest.raises(InputError, match="neither moved nor skinned"):
        surface_of_glb(path)
    issues = issues_of(path)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def test_hostile_inputs(tmp_path, surface, skin, motions):
    with pytest.raises(InputError, match=f"skin: expected weights for {len(surface.vertices)} vertices, got 3"):
        few = SkinBinding(skin.joint_names, skin.parents, skin.joints, skin.weight_joints[:3], skin.weights[:3])
        write_skinned_glb(tmp_path / "a.glb", surface, few)
    with pytest.raises(InputError, match="motions: expected a name of its own for each"):
        write_skinned_glb(tmp_path / "a.glb", surface, skin, [motions[0], motions[0]])
    whole = write_glb(tmp_path / "plain.glb", BakedMesh(surface)).read_bytes()
    (tmp_path / "cut.glb").write_bytes(whole[:1000])
    with pytest.raises(InputError, match="expected a whole GLB file"):
        surface_of_glb(tmp_path / "cut.glb")
    with pytest.raises(InputError, match="expected one skin, got 0"):
        read_skinned_glb(tmp_path / "plain.glb")
    assert {path.name for path in tmp_path.iterdir()} == {"plain.glb", "cut.glb"}
