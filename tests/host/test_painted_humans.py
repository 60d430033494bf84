"""A sculpture painted from all sides at once, as `humannorm generate` does; what of the bundled model is not saved."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
import torch
from graphs import node
from PIL import Image
from server import Host

from humannorm.export import load_baked
from humannorm.export.skinned import read_skinned_glb

FACES = 7500


def test_a_painted_sculpture_wears_the_colours_that_are_asked_for_and_is_written_as_it_was_painted(host: Host):
    entry = host.run(graphs.painting())
    whole, coarse = (host.output(path) for path in entry["outputs"]["export"]["text"])
    baked = load_baked(whole)
    texture = baked.mesh.texture
    (picture,) = entry["outputs"]["save"]["images"]
    with Image.open(host.output(f"{picture['subfolder']}/{picture['filename']}")) as image:
        shown = torch.from_numpy(np.asarray(image.convert("RGB")).copy())
    assert int((shown - (255 * texture).round()).abs().max()) <= 1
    red, green, blue = texture.unbind(-1)
    assert float(((red > 2 * green) & (red > 2 * blue)).float().mean()) > 0.05  # a red t-shirt
    assert float((blue > 1.3 * red).float().mean()) > 0.05  # blue jeans
    assert coarse.name == f"{whole.stem}_lod1.glb" and coarse.stat().st_size < 500_000
    assert load_baked(coarse).mesh.num_faces <= FACES


def test_a_coarse_level_of_an_animation_moves(host: Host):
    graph = {
        "body": graphs.painting()["body"],
        "animate": node(
            "HumanNormAnimate", human=["body", 1], clip="walk", more_clips="", up="by its joint names", travel=False,
            film_size=64, filename_prefix="tests/levels", bind_pose="t-pose", levels_of_detail=2,
        ),
    }  # fmt: skip
    paths = [host.output(path) for path in host.run(graph)["outputs"]["animate"]["text"]]
    assert [path.name for path in paths] == [f"{paths[0].stem}{more}.glb" for more in ("", "_lod1", "_lod2")]
    for path in paths:
        found = read_skinned_glb(path)
        assert found.skin.joint_names[0] == "mixamorig:Hips" and [motion.name for motion in found.motions] == ["walk"]
        wide, tall, _ = (found.mesh.vertices.amax(0) - found.mesh.vertices.amin(0)).tolist()
        assert wide > 0.9 * tall  # bound in the T-pose
    assert all(path.stat().st_size < 500_000 for path in paths[1:])


@pytest.mark.parametrize(
    ("saver", "kind", "output"), [("CLIPSave", "clip", 3), ("VAESave", "vae", 4), ("ModelSave", "model", 2)]
)
def test_what_could_not_be_loaded_again_is_not_saved(host: Host, saver: str, kind: str, output: int):
    graph = {
        "models": node("HumanNormBundledModels"),
        "save": node(saver, **{kind: ["models", output]}, filename_prefix="tests/saved"),
    }
    said = host.error(host.wait(host.queue(graph)))
    assert f"{kind}: expected one of a size that ComfyUI's own loaders know, got the bundled small one" in said
