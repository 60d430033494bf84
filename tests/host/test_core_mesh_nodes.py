"""Every core 3D node of newer hosts that takes or gives MESH or FILE_3D, before and behind ours."""

from __future__ import annotations

from typing import Any

import graphs
import pytest
import trimesh
from graphs import node
from PIL import Image
from server import Host

VIEW = {
    "position": {"x": 0.0, "y": 1.0, "z": 4.0},
    "target": {"x": 0.0, "y": 0.9, "z": 0.0},
    "zoom": 1.0,
    "fov": 40.0,
    "cameraType": "perspective",
}
PLAIN = {
    "body": node(
        "HumanNormBody", sex=0.5, age=0.667, weight=0.5, muscle=0.5, height=0.5, proportions=0.5, pose="a-pose"
    ),
    "light": node("HumanNormMeshExporter", mesh=["body", 1], format="glb", faces=1500, texture_size=64, height_m=0.0,
                  filename_prefix="tests/core_source"),
}  # fmt: skip
OURS = {"mesh": ["light", 0], "file": ["light", 2]}  # outputs of the exporter
STATE = {
    "image": "core_seen.png",
    "mask": "core_seen.png",
    "normal": "core_seen.png",
    "recording": "",
    "camera_info": VIEW,
    "model_3d_info": [],
}

# What stands before core nodes whose own models are not at hand: made payloads of the kind that those give.
MADE = {
    "voxels": node("MadeVoxels"),
    "colored": node("MadeColoredVoxels"),
    "splats": node("MadeSplats"),
    "seen": node("MadeSeen"),
}
DEPTHS: dict[str, Any] = {"batch_index": 0, "decimation": 1, "discontinuity_threshold": 0.1, "texture": True}

# Node -> its inputs, by name of what of ours goes in; number of its output that is a MESH or a FILE_3D.
GIVES: dict[str, tuple[dict[str, Any], int]] = {
    "MeshToFile3D": ({"mesh": OURS["mesh"]}, 0),
    "RotateMesh": ({"mesh": OURS["mesh"], "mode": "quaternion", "mode.qw": 1.0, "mode.qx": 0.0, "mode.qy": 0.5,
                    "mode.qz": 0.0}, 0),
    "MergeMeshes": ({"meshes.mesh0": OURS["mesh"], "meshes.mesh1": OURS["mesh"]}, 0),
    "GetMeshInfo": ({"mesh": OURS["mesh"]}, 0),
    "DecimateMesh": ({"mesh": OURS["mesh"], "target_face_count": 500, "placement_mode": "midpoint"}, 0),
    "RemeshMesh": ({"mesh": OURS["mesh"], "resolution": 48, "sign_mode": "udf", "sign_mode.qef": False,
                    "sign_mode.drop_inverted_components": False, "sign_mode.drop_enclosed_components": False,
                    "band": 1.0, "project_back": 0.0, "fix_poles": False, "smooth_iters": 0,
                    "drop_small_components": 0.01, "precluster_max_verts": 1_000_000}, 0),
    "UnwrapMesh": ({"mesh": OURS["mesh"], "segmenter": "adaptive", "resolution": 256, "padding": 1,
                    "weld_distance": 0.0}, 0),
    "FillHoles": ({"mesh": OURS["mesh"], "max_perimeter": 0.03, "weld_epsilon_rel": 1e-5, "max_vertices": 16,
                   "fill_chains": False}, 0),
    "WeldVertices": ({"mesh": OURS["mesh"], "epsilon_rel": 1e-5, "epsilon_abs": 0.0}, 0),
    "MeshSmoothNormals": ({"mesh": OURS["mesh"], "crease_angle": 180.0}, 0),
    "ApplyTextureToMesh": ({"mesh": OURS["mesh"], "base_color": ["maps", 0], "occlusion": ["maps", 3],
                            "normal_map": ["maps", 4]}, 0),
    "Preview3DAdvanced": ({"model_3d": OURS["file"], "viewport_state": STATE, "width": 64, "height": 64}, 0),
    "Save3DAdvanced": ({"model_3d": OURS["file"], "viewport_state": STATE, "width": 64, "height": 64,
                        "filename_prefix": "tests/core_saved"}, 0),
    "Load3D": ({"model_file": "3d/core_ball.glb", "image": STATE, "width": 64, "height": 64}, 6),
    "Load3DAdvanced": ({"model_file": "3d/core_ball.glb", "viewport_state": STATE, "width": 64, "height": 64}, 0),
    "VoxelToMesh": ({"voxel": ["voxels", 0], "algorithm": "surface net", "threshold": 0.0}, 0),
    "VoxelToMeshBasic": ({"voxel": ["voxels", 0], "threshold": 0.0}, 0),
    "PaintMesh": ({"mesh": OURS["mesh"], "voxel_colors": ["colored", 0]}, 0),
    "SplatToMesh": ({"splat": ["splats", 0], "resolution": 64, "kernel": 5, "smooth": 0, "level": 0.4,
                     "min_component": 0, "min_opacity": 0.02, "color_sharpen": 2.0}, 0),
    "DA3GeometryToMesh": ({"da3_geometry": ["seen", 0], "confidence_threshold": 0.1, "use_sky_mask": True,
                           **DEPTHS}, 0),
    "MoGePointMapToMesh": ({"moge_geometry": ["seen", 1], **DEPTHS}, 0),
}  # fmt: skip
SHOWS: dict[str, tuple[dict[str, Any], int | None]] = {
    "BakeNormalMapFromMesh": ({"low_poly": OURS["mesh"], "high_poly": ["body", 1], "resolution": 64,
                               "cage_distance": 0.05, "ignore_backfaces": True}, 0),
    "BakeAmbientOcclusion": ({"low_poly": OURS["mesh"], "high_poly": ["body", 1], "resolution": 64, "samples": 4,
                              "max_distance": 0.5, "strength": 1.0, "bias": 0.01}, 0),
    "MeshTextureToImage": ({"mesh": OURS["mesh"]}, 4),
    "RenderMesh": ({"mesh": OURS["mesh"], "mode": "texture", "width": 64, "height": 64, "background": "#000000"}, 0),
    "RenderUVAtlas": ({"mesh": OURS["mesh"], "resolution": 64}, 0),
    "BakeTextureFromVoxel": ({"mesh": OURS["mesh"], "voxel_colors": ["colored", 0], "texture_size": 64,
                              "reference_mesh": ["body", 1]}, 0),
    "SaveGLB": ({"mesh": OURS["mesh"], "filename_prefix": "tests/core_glb"}, None),
    "Preview3D": ({"model_file": ["light", 1]}, None),
}  # fmt: skip
# Those that cannot be tried: their weights are not at hand, or they know splats and point clouds alone.
UNTRIED = {
    "VaeDecodeShapeTrellis", "File3DToSplat", "SplatToFile3D", "PreviewGaussianSplat", "SaveGaussianSplat",
    "PreviewPointCloud", "SavePointCloud",
}  # fmt: skip


def skip_without(host: Host, name: str) -> None:
    if name not in host.get("/object_info"):
        pytest.skip(f"this host has no {name}")


def around(inputs: dict[str, Any]) -> graphs.Graph:
    """Ours, and what else the inputs are wired to."""
    sources = {value[0] for value in inputs.values() if isinstance(value, list) and len(value) == 2}
    others = {"maps": node("MeshTextureToImage", mesh=OURS["mesh"]), **MADE}
    return PLAIN | {name: made for name, made in others.items() if name in sources}


def test_every_core_3d_node_is_known(host):
    """A newer host's further node is to be tried too."""
    known = host.get("/object_info")
    if "MeshToFile3D" not in known:
        pytest.skip("this host has no 3D nodes to speak of")

    def kinds(name: str) -> set[str]:
        inputs = [entry[0] for group in known[name]["input"].values() for entry in group.values()]
        return {kind for value in (*inputs, *known[name]["output"]) for kind in str(value).split(",")}

    found = {
        name
        for name, info in known.items()
        if info["python_module"].startswith(("nodes", "comfy_extras."))
        and any(kind == "MESH" or kind.startswith("FILE_3D") for kind in kinds(name))
    }
    assert found - UNTRIED == set(GIVES) | set(SHOWS)


@pytest.mark.parametrize("name", list(GIVES))
def test_what_a_core_node_makes_of_ours_comes_back(host, name):
    skip_without(host, name)
    inputs, output = GIVES[name]
    if name.startswith("Load3D"):
        if "Load3DAdvanced" not in host.get("/object_info"):
            pytest.skip("this host's loader gives no file")
        (host.base / "input" / "3d").mkdir(parents=True, exist_ok=True)
        trimesh.creation.icosphere(5).export(host.base / "input" / "3d" / "core_ball.glb")
        Image.new("RGBA", (64, 64)).save(host.base / "input" / "core_seen.png")
    graph = around(inputs) | {"core": node(name, **inputs)}
    graph["back"] = node(
        "HumanNormMeshExporter", mesh=["core", output], format="glb", faces=1500, texture_size=64, height_m=0.0,
        filename_prefix=f"tests/core_{name}",
    )  # fmt: skip
    entry = host.run(graph)
    (path,) = entry["outputs"]["back"]["text"]
    assert host.output(path).stat().st_size > 5_000


@pytest.mark.parametrize("name", list(SHOWS))
def test_a_core_node_shows_ours(host, name):
    skip_without(host, name)
    inputs, output = SHOWS[name]
    graph = around(inputs) | {"core": node(name, **inputs)}
    if output is not None:
        graph["show"] = node("PreviewImage", images=["core", output])
    entry = host.run(graph)
    assert entry["outputs"]["show" if output is not None else "core"]


def test_a_viewers_framing_is_rendered_by_ours(host):
    skip_without(host, "Load3DAdvanced")
    viewer = node("Load3DAdvanced", model_file="none", viewport_state=STATE, width=64, height=64)
    graph = PLAIN | {"core": viewer}
    graph["render"] = node(
        "HumanNormRenderViews", mesh=["light", 0], views="front", part="full", framing="published", elevation=0.0,
        size=64, camera_info=["core", 2], model_3d_info=["core", 1],
    )  # fmt: skip
    graph["save"] = node("SaveImage", images=["render", 0], filename_prefix="tests/framed")
    entry = host.run(graph)
    assert len(entry["outputs"]["save"]["images"]) == 1
