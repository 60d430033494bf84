"""Graphs in API format, as small as they can be: few steps, coarse lattices, a quarter of the small model's pixels."""

from __future__ import annotations

import copy
from typing import Any

from server import Graph

PROMPT = "a young man in a red t-shirt and blue jeans, standing"


def node(class_type: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def prompts(kind: str) -> dict[str, Any]:
    return node("HumanNormPrompts", clip=["models", 3], prompt=PROMPT, negative="", kind=kind, part_rule="paper")


def guidance(model: int, texts: str, cfg: float, **more: Any) -> dict[str, Any]:
    return node(
        "HumanNormGuidance",
        model=["models", model],
        prompts=[texts, 0],
        vae=["models", 4],
        cfg=cfg,
        control_strength=1.0,
        resolution=64,
        **more,
    )


SAMPLING = {"seed": 3, "steps": 2, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal"}
SMALL = {"views_per_step": 1, "render_size": 64}  # of the optimisers


def sampler(class_type: str, model: int, texts: str, **more: Any) -> dict[str, Any]:
    """One of our samplers; model: output of the bundled models."""
    return node(
        class_type,
        **{"model": ["models", model], "prompts": [texts, 0], "vae": ["models", 4], "size": 64, **SAMPLING, **more},
    )


def painter(class_type: str, texture: str, steps: int, **more: Any) -> dict[str, Any]:
    """The texture optimiser or the refiner."""
    return node(
        class_type,
        texture=[texture, 0],
        guidance=["image_guidance", 0],
        preset="quick",
        steps=steps,
        seed=0,
        **SMALL,
        **more,
    )


def sculpting(steps: int = 2) -> Graph:
    """From the bundled models to a saved sculpture, by normal and depth guidance."""
    return {
        "models": node("HumanNormBundledModels"),
        "normal_prompts": prompts("normal"),
        "depth_prompts": prompts("depth"),
        "body": node(
            "HumanNormBody", sex=0.5, age=0.667, weight=0.5, muscle=0.5, height=0.5, proportions=0.5, pose="a-pose"
        ),
        "start": node("HumanNormGeometryStart", body=["body", 0], preset="quick", field="dense", resolution=32, seed=0),
        "normal_guidance": guidance(0, "normal_prompts", 10.0),
        "depth_guidance": guidance(1, "depth_prompts", 10.0),
        "sculpt": node(
            "HumanNormGeometryOptimizer",
            geometry=["start", 0],
            normal_guidance=["normal_guidance", 0],
            depth_guidance=["depth_guidance", 0],
            preset="quick",
            steps=steps,
            begin=0.0,
            end=1.0,
            seed=0,
            resolution=32,
            **SMALL,
        ),
        "save": node("HumanNormSaveState", geometry=["sculpt", 0], filename_prefix="tests/geometry"),
    }


def whole_human() -> Graph:
    """Every stage and every node but the trimesh converters and Load State."""
    graph = sculpting()
    graph |= {
        "image_prompts": prompts("image"),
        "image_guidance": guidance(2, "image_prompts", 7.5, control_net=["models", 5]),
        "paint_start": node(
            "HumanNormTextureStart", geometry=["sculpt", 0], preset="quick", field="preset", uv_size=256, seed=0
        ),
        "paint": painter("HumanNormTextureOptimizer", "paint_start", 2),
        "refine": painter(
            "HumanNormTextureRefiner",
            "paint",
            1,
            target_views=4,
            loss="published",
            perceptual_weight=1.0,
            vgg_weights="",
        ),
        "save_paint": node("HumanNormSaveState", texture=["refine", 0], filename_prefix="tests/texture"),
        "export": node(
            "HumanNormMeshExporter",
            texture=["refine", 0],
            format="glb",
            faces=1000,
            texture_size=128,
            height_m=1.75,
            filename_prefix="tests/human",
        ),
        "render": node(
            "HumanNormRenderViews",
            mesh=["export", 0],
            views="front,30",
            part="full",
            framing="bundled",
            elevation=0.0,
            size=64,
        ),
        "normals": sampler("HumanNormNormalSampler", 0, "normal_prompts", views="front,back", part="head"),
        "depths": sampler("HumanNormDepthSampler", 1, "depth_prompts", views="left", part="full"),
        "aligned": sampler(
            "HumanNormNormalAlignedSampler",
            2,
            "image_prompts",
            control_net=["models", 5],
            normal_maps=["normals", 0],
            views="front,back",
            part="head",
            strength=1.0,
        ),
    }
    for name, source in (("normals", 0), ("depths", 0), ("aligned", 0), ("render", 0), ("render", 2)):
        graph[f"save_{name}_{source}"] = node(
            "SaveImage", images=[name, source], filename_prefix=f"tests/{name}_{source}"
        )
    return graph


def painting() -> Graph:
    """A dressed start in the colours that the words ask for: the walk enters where it hardly changes them."""
    graph = sculpting()
    return {
        "models": graph["models"],
        "image_prompts": prompts("image"),
        "guidance": guidance(2, "image_prompts", 3.0, control_net=["models", 5]),
        "body": node(
            "HumanNormBody", sex=1.0, age=0.667, weight=0.5, muscle=0.5, height=0.5, proportions=0.5, pose="a-pose",
            person=PROMPT,
        ),
        "start": node(
            "HumanNormGeometryStart", body=["body", 0], preset="quick", field="dense", resolution=32, seed=0,
            hold_hands=True, hold_face=True, wears=PROMPT,
        ),
        "paint": node(
            "HumanNormMultiviewPainter", guidance=["guidance", 0], geometry=["start", 0], start_body=["body", 0],
            preset="quick", steps=10, level=0.1, framing="body", views=2, elevations="0", seed=0, texture_size=128,
            faces=60_000, skin="dark",
        ),
        "export": node(
            "HumanNormMeshExporter", texture=["paint", 1], format="glb", faces=60_000, texture_size=128,
            height_m=1.75, filename_prefix="tests/painted", levels_of_detail=1,
        ),
        "save": node("SaveImage", images=["paint", 3], filename_prefix="tests/painted_texture"),
    }  # fmt: skip


def changed(graph: Graph, **inputs: Any) -> Graph:
    """A copy with inputs exchanged, named `node__input`."""
    other = copy.deepcopy(graph)
    for name, value in inputs.items():
        where, _, which = name.rpartition("__")
        other[where]["inputs"][which] = value
    return other
