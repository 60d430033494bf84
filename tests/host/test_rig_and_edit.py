"""Rigging, posing, animating and editing through the HTTP API of a running ComfyUI; the workflows that show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import graphs
import pytest
import torch
from graphs import changed, node
from PIL import Image
from server import Host

from humannorm.body import load_body
from humannorm.export.skinned import read_skinned_glb
from humannorm.geometry.state import extract_mesh
from humannorm.geometry.state import load_state as load_geometry
from humannorm.texture.state import load_state as load_texture

API = Path(__file__).parents[1] / "nodes" / "api"


def limb(names: str, offsets: str) -> str:
    """A chain of joints of a motion file, straight on from its first."""
    words = zip(names.split(), offsets.split(","), strict=True)
    opened = [f"JOINT {name} {{ OFFSET {offset} CHANNELS 3 Zrotation Xrotation Yrotation " for name, offset in words]
    return "".join(opened) + "End Site { OFFSET 0 0 10 } " + "} " * len(opened)


def motion() -> str:
    """A Mixamo figure in a T-pose that lifts its left leg: 0, 30 and 60 degrees."""
    limbs = "".join(
        limb("LeftUpLeg LeftLeg LeftFoot".replace("Left", side), f"{9 * sign} 0 0,0 -42 0,0 -40 0")
        + limb(
            "LeftArm LeftForeArm LeftHand".replace("Left", side), f"{18 * sign} 50 0,{28 * sign} 0 0,{25 * sign} 0 0"
        )
        for side, sign in (("Left", 1), ("Right", -1))
    )
    root = "ROOT Hips { OFFSET 0 90 0 CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation "
    frames = "\n".join(f"0 90 0 0 0 0 0 {-angle} 0{' 0 0 0' * 11}" for angle in (0, 30, 60))
    return f"HIERARCHY {root}{limbs}}} MOTION Frames: 3 Frame Time: 0.1\n{frames}\n"


def posing(**pose: object) -> graphs.Graph:
    """A body rigged as if it were a finished human, posed, and moving."""
    straight = {"motion_file": "", "frame": 0, "up": "by its joint names"}
    return {
        "body": graphs.sculpting()["body"],
        "rig": node("HumanNormRig", mesh=["body", 1], rig="mixamo"),
        "pose": node("HumanNormPose", human=["rig", 0], **{"pose": "as it is", **straight, **pose}),
        "animate": node(
            "HumanNormAnimate",
            human=["rig", 0],
            clip="walk",
            more_clips="lift.bvh, sit",
            up="by its joint names",
            travel=False,
            film_size=64,
            filename_prefix="tests/moving",
        ),
        "views": node(
            "HumanNormRenderViews", mesh=["pose", 1], views="front", part="full", framing="published", elevation=0.0,
            size=64,
        ),
        "save": node("SaveImage", images=["views", 0], filename_prefix="tests/posed"),
        "save_film": node("SaveImage", images=["animate", 1], filename_prefix="tests/film"),
        "save_weights": node("SaveImage", images=["rig", 2], filename_prefix="tests/weights"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def motion_file(host: Host) -> None:
    (host.base / "input").mkdir(exist_ok=True)
    (host.base / "input" / "lift.bvh").write_text(motion(), encoding="utf-8")


@pytest.mark.usefixtures("motion_file")
def test_a_human_is_rigged_posed_and_animated(host):
    entry = host.run(posing(pose="sit", head_turn=30.0))
    (path,) = entry["outputs"]["animate"]["text"]
    found = read_skinned_glb(host.output(path))
    assert len(found.skin.joint_names) == 52
    assert [motion.name for motion in found.motions] == ["walk", "lift", "sit"]
    walk = found.motions[0].root_positions
    assert float((walk[-1] - walk[0]).norm()) < 1e-4  # in place
    document = host.output(path).read_bytes()
    assert b'"HumanNormAnimate' in document.replace(b"\\", b"")  # the graph is in the file
    shown = entry["outputs"]["animate"]["images"]
    films = [Image.open(host.output(f"{each['subfolder']}/{each['filename']}")) for each in shown]
    assert [film.n_frames for film in films] == [16, 2, 1] and films[0].size == (64, 64)
    assert len(entry["outputs"]["save_film"]["images"]) == 19
    assert len(entry["outputs"]["save_weights"]["images"]) == 4


@pytest.mark.usefixtures("motion_file")
def test_a_frame_of_a_motion_file_is_a_pose_and_the_rig_stays_in_the_cache(host):
    host.run(posing())
    entry = host.run(posing(motion_file="lift.bvh", frame=2))
    assert host.executed(entry) == {"pose", "views", "save"}


def test_a_sculpture_begins_in_a_pose_with_the_cameras_on_it(host):
    graph = graphs.sculpting()
    graph["pose"] = node(
        "HumanNormPose", body=["body", 0], pose="sit", motion_file="", frame=0, up="by its joint names", left_elbow=40.0
    )
    for name in ("normal_guidance", "depth_guidance"):
        graph[name]["inputs"]["body"] = ["pose", 0]
    graph = changed(graph, start__body=["pose", 0], save__filename_prefix="tests/sitting")
    (path,) = host.run(graph)["outputs"]["save"]["text"]
    heights = extract_mesh(load_geometry(host.output(path))).mesh.vertices[:, 1]
    sitting = load_body(pose="sit").in_working_box().vertices[:, 1]
    assert float(heights.max() - heights.min()) == pytest.approx(float(sitting.max() - sitting.min()), abs=0.16)


@pytest.fixture(scope="module")
def human(host: Host) -> tuple[str, str]:
    """Files of a saved sculpture and its painting."""
    entry = host.run(graphs.whole_human())
    return entry["outputs"]["save"]["text"][0], entry["outputs"]["save_paint"]["text"][0]


def editing(human: tuple[str, str], **parts: bool) -> graphs.Graph:
    """Other words for a saved human; two steps of each kind."""
    graph = {name: value for name, value in graphs.whole_human().items() if "prompts" in name or "guidance" in name}
    graph |= {
        "models": node("HumanNormBundledModels"),
        "geometry": node("HumanNormLoadState", file=human[0]),
        "texture": node("HumanNormLoadState", file=human[1]),
        "edit": node(
            "HumanNormEdit",
            geometry=["geometry", 0],
            texture=["texture", 1],
            normal_guidance=["normal_guidance", 0],
            image_guidance=["image_guidance", 0],
            **{part: parts.get(part, False) for part in ("head", "top", "bottom", "shoes", "hands")},
            strength=0.5,
            preset="quick",
            sculpt_steps=2,
            paint_steps=4,
            seed=1,
        ),
        "save": node("HumanNormSaveState", geometry=["edit", 0], filename_prefix="tests/edited_geometry"),
        "save_paint": node("HumanNormSaveState", texture=["edit", 1], filename_prefix="tests/edited_texture"),
    }
    graph["normal_prompts"]["inputs"]["prompt"] = graph["image_prompts"]["inputs"]["prompt"] = "a man in a green coat"
    del graph["depth_prompts"], graph["depth_guidance"]
    return graph


def test_an_edit_of_the_top_keeps_the_rest(host, human):
    entry = host.run(editing(human, top=True))
    geometry, texture = (host.output(entry["outputs"][name]["text"][0]) for name in ("save", "save_paint"))
    old, new = load_geometry(host.output(human[0])), load_geometry(geometry)
    old_color, new_color = load_texture(host.output(human[1])), load_texture(texture)
    assert new.hold is not None
    surface = extract_mesh(old).mesh.vertices
    held = new.hold.share_at(surface)
    kept, free = surface[held > 0.999], surface[held < 0.001]
    assert len(kept) > 50 and len(free) > 50  # of the few vertices that a coarse lattice gives
    with torch.no_grad():
        # What is kept is as exact as the old surface's own triangles.
        assert float(new.signed_distance(kept).abs().max()) < 1e-3
        assert float((old_color.field(kept) - new_color.field(kept)).abs().max()) < 1e-3
        assert float((old_color.field(free) - new_color.field(free)).abs().median()) > 1e-3
    assert not list(host.output("humannorm/unfinished").glob("*.safetensors"))
    assert len(entry["outputs"]["edit"]["images"]) == 4


def hostile(human: tuple[str, str]) -> dict[str, tuple[graphs.Graph, str]]:
    """Graphs that must be refused on the node, and what the node must say."""
    pose, edit = posing(), editing(human)
    no_words = changed(edit)
    del no_words["edit"]["inputs"]["image_guidance"]
    nothing = changed(edit)
    for name in ("geometry", "texture", "normal_guidance", "image_guidance"):
        del nothing["edit"]["inputs"][name]
    return {
        "body and human": (changed(pose, pose__body=["body", 0]), "body, human: expected just one of them"),
        "file outside": (changed(pose, pose__motion_file="../../etc/passwd.bvh"), "file: expected a place inside"),
        "frame of another film": (
            changed(pose, pose__motion_file="lift.bvh", pose__frame=3),
            "frame: expected 0 to 2, got 3",
        ),
        "no such clip": (changed(pose, animate__more_clips="fly"), "more_clips: expected walk, idle"),
        "climbing prefix": (
            changed(pose, animate__filename_prefix="../up"),
            "filename_prefix: expected a place inside",
        ),
        "words for no painting": (no_words, "image_guidance: expected it to be connected beside texture"),
        "nothing to edit": (nothing, "geometry, texture: expected at least one of them"),
    }


CASES = list(hostile(("", "")))


@pytest.mark.usefixtures("motion_file")
@pytest.mark.parametrize("case", CASES)
def test_hostile_values_are_refused_on_the_node(host, human, case):
    graph, said = hostile(human)[case]
    entry = host.wait(host.queue(graph))
    assert entry["status"]["status_str"] == "error"
    assert said in host.error(entry).splitlines()[0], host.error(entry)


def shipped(name: str) -> graphs.Graph:
    """A workflow as shipped, but for the number of steps, views and texels."""
    graph = json.loads((API / f"{name}.json").read_text("utf-8"))
    for part in graph.values():
        if part["class_type"] == "HumanNormMultiviewPainter":
            part["inputs"] |= {"steps": 2, "views": 2, "texture_size": 256}
    return graph


def written(entry: dict[str, Any]) -> list[str]:
    """3D files, from the output folder."""
    return [output["text"][0] for output in entry["outputs"].values() if output.get("3d")]


@pytest.mark.parametrize("name", ["pose_and_animate", "edit_clothes"])
def test_the_shipped_workflow_runs(host, name):
    graph = shipped(name)
    if name == "edit_clothes":  # what it loads another has made
        first = shipped("text_to_human")
        outputs = host.run(first)["outputs"]
        (at,) = (at for at, part in first.items() if "texture" in part["inputs"] and "SaveState" in part["class_type"])
        (load,) = (part for part in graph.values() if part["class_type"] == "HumanNormLoadState")
        load["inputs"]["file"] = outputs[at]["text"][0]
    files = written(host.run(graph))
    assert files and all(host.output(path).stat().st_size > 10_000 for path in files)
