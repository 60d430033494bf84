"""Write workflows/*.json, and their twins in API format under tests/nodes/api.

    python tools/make_workflows.py [--host URL]

--host: also write tests/nodes/core_nodes.json, what the running ComfyUI says of its own nodes that we use.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "nodes"))

from workflow_files import BYPASSED, NOTES, known_nodes, to_api, widgets  # noqa: E402

from humannorm.guidance.samplers import GUIDANCE_SCALES  # noqa: E402

PROMPT = "a young man in a red t-shirt and blue jeans, standing"
COLUMN, GAP, TOP = 360, 40, 60  # pixels on the canvas
CORE = (
    "CLIPLoader", "ControlNetApplyAdvanced", "ControlNetLoader", "EmptyLatentImage", "ImageScaleBy", "KSampler",
    "Load3D", "LoraLoaderModelOnly", "Preview3D", "PreviewAny", "PreviewImage",
    "PrimitiveStringMultiline", "UNETLoader", "VAEDecode", "VAELoader",
)  # fmt: skip
COLORS = {"models": "#3f789e", "texts": "#b06634", "guidance": "#a1309b", "work": "#88aa88", "results": "#b58b2a"}
WEIGHTS = "https://huggingface.co/xanderhuang"
VERSION = "0.1.0"

# What each workflow says of itself, in Markdown.
READ_ME = {
    "normal_maps_2d": """\
## Normal and depth maps as pictures
The diffusion models behind HumanNorm, looked at in 2D: each view and body part has its own words. Press Run.

For larger pictures put the published weights in place of *Bundled Models*, as in the template *text_to_human_sd15*.
""",
    "text_to_human": """\
## A sentence becomes a human
Write who it is into *Who is it?* and press Run.

The bundled small model draws 128 x 128 pixels and runs on any CPU; what it knows of people is limited. For real
work open *text_to_human_sd15*.

Interrupt when you like: queueing again goes on where it stopped. The GLB is in the output folder and keeps this
workflow: drop it on the canvas.
""",
    "text_to_human_sd15": """\
## A sentence becomes a human, with the published weights
The weights of the paper's authors (SD1.5 class) through ComfyUI's own loaders. Every file in those repositories has
the same name: save each as the loader below names it. docs/comfyui.md has the table. Any other SD1.5 fine-tune may
stand in the place of any of the three.

A graphics card with 8 GB or more is advised. The preset *paper* is the published configuration: hours.
""",
    "paint_my_mesh": """\
## Paint a mesh of your own
Upload a GLB, OBJ or PLY with *Load 3D*: +Y up, looking along +Z, roughly a standing person. From the 3D packs a
TRIMESH comes in through *HumanNorm Trimesh to Mesh*.

The painted file has your mesh's own place and size if you set the exporter's height to 0.
""",
    "remix": """\
## Ours and the host's nodes, mixed
- our prompts in the host's own KSampler, following our normal maps through the host's own ControlNet node
- a LoRA on the sculptor (bypassed: choose one of yours and wake it with Ctrl+B)
- our pictures in image nodes

An *Empty Latent Image* counts 8 pixels to a latent one; the small model's VAE has 4: 256 x 256 gives 128 x 128.
""",
    "edit": """\
## Change a finished human by its text
Run *text_to_human* first: it saves a sculpture and a painting, which are loaded here. Change the words in
*Prompts*.

*begin* of the optimiser says how much may change: 0.3 a lot, 0.7 a little. The colours go on from the old ones
(*colors_of*).
""",
    "pose_and_animate": """\
## A human that moves, and one that is sculpted in a pose
A sculpture gets a skeleton (*Rig*), another pose (*Pose*) and clips (*Animate*): a skinned GLB in the output folder.
*more_clips* takes more names, and BVH files of the input folder.

In the last group a body is posed first and sculpted from there. The same posed body goes to *Guidance*, so that the
close-ups look at its head and legs.

For a painted human put *HumanNorm Load Mesh* with its GLB in the place of the sculpture.
""",
    "edit_clothes": """\
## Other clothes for a finished human
Run *text_to_human* first: it saves a sculpture and a painting, which are loaded here. Say the whole person again with
the new clothes, and switch on what may change. All else stays.

*strength*: 0.3 details, 0.5 garments, 0.8 almost anew. The pictures in the node show it after the change.
""",
}


class Workflow:
    """A canvas in the making: groups side by side, nodes under each other."""

    def __init__(self, name: str, known: dict[str, Any]) -> None:
        self.name, self.known = name, known
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self.groups: list[dict[str, Any]] = []
        self._x, self._y = 0, TOP

    def group(self, title: str, color: str) -> None:
        """Begin the next column."""
        if self.groups:
            self._close_group()
            self._x += COLUMN + 2 * GAP
        self._y = TOP
        self.groups.append({"id": len(self.groups) + 1, "title": title, "color": COLORS[color], "flags": {}})

    def opening(self, title: str, height: int = 240) -> None:
        """The first column, with the note that explains the workflow."""
        self.group(title, "models")
        self._place(
            {"type": "MarkdownNote", "inputs": [], "outputs": [], "widgets_values": [READ_ME[self.name]]}, height
        )
        self.nodes[-1] |= {"title": "Read me", "color": "#432", "bgcolor": "#653"}

    def _close_group(self) -> None:
        self.groups[-1]["bounding"] = [self._x - 20, TOP - 60, COLUMN + 40, max(self._y - TOP + 50, 100)]

    def add(self, kind: str, /, *, title: str | None = None, mode: int = 0, pictures: int = 0, **given: Any) -> int:
        """A node; given: widget values, or links as (node id, output number). pictures: pixels for a preview."""
        known = self.known[kind]
        values: list[Any] = []
        for name, entry in widgets(known):
            if entry is None:
                values.append("fixed")
            elif name in given and not isinstance(given[name], tuple):
                values.append(given[name])
            else:
                values.append(entry.get("default", entry["options"][0] if entry.get("options") else ""))
        spots = dict(widgets(known))
        node: dict[str, Any] = {
            "type": kind,
            "mode": mode,
            "inputs": [
                {"name": entry["id"], "type": entry["type"], "link": None}
                | ({"widget": {"name": entry["id"]}} if entry["id"] in spots else {})
                for entry in known["inputs"]
            ],
            "outputs": [{"name": output["name"], "type": output["type"], "links": []} for output in known["outputs"]],
            "widgets_values": values,
            "properties": {"Node name for S&R": kind}
            | (
                {"cnr_id": "humannorm", "ver": VERSION}
                if kind.startswith("HumanNorm")
                else {"cnr_id": "comfy-core", "ver": "0.3.64"}
            ),
        }
        if title is not None:
            node["title"] = title
        long_texts = sum(95 for entry in known["inputs"] if entry.get("multiline"))
        sockets = len([entry for entry in known["inputs"] if entry["id"] not in spots])
        rows = max(sockets, len(known["outputs"])) + len(values)
        node_id = self._place(node, 50 + 24 * rows + long_texts + pictures)
        for name, value in given.items():
            if isinstance(value, tuple):
                self._link(value, node_id, name)
            elif name not in spots:
                raise ValueError(f"{kind} has no widget {name}")
        return node_id

    def models(self, node_id: int, *files: tuple[str, str, str]) -> None:
        """What a loader needs, for the missing-model dialog: (name, url, directory)."""
        self._node(node_id)["properties"]["models"] = [
            {"name": name, "url": url, "directory": directory} for name, url, directory in files
        ]

    def save(self) -> None:
        self._close_group()
        document = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"humannorm/{self.name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": {"scale": 0.6, "offset": [60, 120]}},
            "version": 0.4,
        }
        _write(ROOT / "workflows" / f"{self.name}.json", document)
        _write(ROOT / "tests" / "nodes" / "api" / f"{self.name}.json", to_api(document, self.known))

    def _place(self, node: dict[str, Any], height: int) -> int:
        node_id = len(self.nodes) + 1
        self.nodes.append(
            {
                "id": node_id,
                "pos": [self._x, self._y],
                "size": [COLUMN, height],
                "flags": {},
                "order": len(self.nodes),
                "mode": 0,
                "properties": {},
                **node,
            }
        )
        self._y += height + GAP
        return node_id

    def _node(self, node_id: int) -> dict[str, Any]:
        return self.nodes[node_id - 1]

    def _link(self, source: tuple[int, int], node_id: int, name: str) -> None:
        output = self._node(source[0])["outputs"][source[1]]
        slot = next(at for at, entry in enumerate(self._node(node_id)["inputs"]) if entry["name"] == name)
        link_id = len(self.links) + 1
        self.links.append([link_id, source[0], source[1], node_id, slot, output["type"]])
        output["links"].append(link_id)
        self._node(node_id)["inputs"][slot]["link"] = link_id


def bundled(flow: Workflow) -> dict[str, tuple[int, int]]:
    """The bundled models by name."""
    node = flow.add("HumanNormBundledModels")
    return {name: (node, at) for at, name in enumerate(("normal", "depth", "image", "clip", "vae", "control"))}


def sd15(flow: Workflow) -> dict[str, tuple[int, int]]:
    """The published weights through the host's loaders."""
    found: dict[str, tuple[int, int]] = {}

    def load(name: str, kind: str, widget: str, folder: str, repository: str, file: str, **more: Any) -> None:
        saved_as = f"humannorm/{more.pop('saved_as', repository)}.safetensors"
        node = flow.add(kind, **{widget: saved_as}, **more)
        url = f"{WEIGHTS}/{repository}/resolve/main/{file}.safetensors"
        flow.models(node, (saved_as, url, folder))
        found[name] = (node, 0)

    network = "diffusion_pytorch_model"
    for name, repository in (
        ("normal", "normal-adapted-sd1.5"),
        ("depth", "depth-adapted-sd1.5"),
        ("image", "normal-aligned-sd1.5"),
    ):
        more = {"title": f"{name} model", "weight_dtype": "default"}
        load(name, "UNETLoader", "unet_name", "diffusion_models", repository, f"unet/{network}", **more)
    load("control", "ControlNetLoader", "control_net_name", "controlnet", "controlnet-normal-sd1.5", network)
    base = "normal-adapted-sd1.5"
    more = {"saved_as": "sd1.5-text-encoder", "type": "stable_diffusion", "device": "default"}
    load("clip", "CLIPLoader", "clip_name", "text_encoders", base, "text_encoder/model", **more)
    load("vae", "VAELoader", "vae_name", "vae", base, f"vae/{network}", saved_as="sd1.5-vae")
    return found


def person(flow: Workflow, prompt: str = PROMPT) -> tuple[int, int]:
    """The person in one place."""
    return flow.add("PrimitiveStringMultiline", title="Who is it?", value=prompt), 0


def texts(
    flow: Workflow, clip: tuple[int, int], *kinds: str, prompt: str = PROMPT, who: tuple[int, int] | None = None
) -> dict[str, tuple[int, int]]:
    """A person, given in words or as another node's, as prompts of these kinds."""
    said = person(flow, prompt) if who is None else who
    return {
        kind: (flow.add("HumanNormPrompts", title=f"Prompts: {kind}", clip=clip, prompt=said, kind=kind), 0)
        for kind in kinds
    }


SMALL_CFG = {"normal": 6.0, "depth": 6.0, "image": 3.0}
"""Classifier-free guidance of the bundled model, as the preset `quick` has it."""
DRAWN_CFG = {**GUIDANCE_SCALES, "image": GUIDANCE_SCALES["color"]}
"""The same where its pictures are looked at in 2D: the defaults of `humannorm sample`."""
HELD = {"hold_hands": True, "hold_face": True}
"""The bundled model draws neither fingers nor faces yet, see the preset `quick`."""
PUBLISHED_CFG = {"normal": 50.0, "depth": 50.0, "image": 7.5}


def guides(
    flow: Workflow, models: dict[str, Any], said: dict[str, Any], cfg: Mapping[str, float], **more: tuple[int, int]
) -> dict[str, Any]:
    """HUMANNORM_GUIDANCE of every kind that there are prompts for. more: other links of each."""
    found = {}
    for kind, prompts in said.items():
        given: dict[str, Any] = {"control_net": models["control"]} if kind == "image" else {}
        node = flow.add(
            "HumanNormGuidance",
            title=f"Guidance: {kind}",
            model=models[kind],
            prompts=prompts,
            vae=models["vae"],
            cfg=cfg[kind],
            **given,
            **more,
        )
        found[kind] = (node, 0)
    return found


def whole_human(
    flow: Workflow, models: dict[str, Any], preset: str, cfg: Mapping[str, float], file: dict[str, Any]
) -> None:
    """Texts to a GLB in the viewer."""
    flow.group("2 Who", "texts")
    who = person(flow)
    said = texts(flow, models["clip"], "normal", "depth", "image", who=who)
    flow.group("3 Guidance", "guidance")
    guide = guides(flow, models, said, cfg)
    body = flow.add("HumanNormBody")
    flow.group("4 Sculpt", "work")
    sculpt = sculpture(flow, guide, body, {**(HELD if preset == "quick" else {}), "wears": who}, preset=preset)
    flow.add(
        "HumanNormSaveState", title="Save the sculpture", geometry=(sculpt, 0), filename_prefix="humannorm/geometry"
    )
    flow.group("5 Paint", "work")
    start = {"geometry": (sculpt, 0), "preset": preset, "prompts": said["image"]}
    fine = paint(flow, guide["image"], start, preset=preset)
    flow.add("HumanNormSaveState", title="Save the painting", texture=(fine, 0), filename_prefix="humannorm/texture")
    flow.group("6 The human", "results")
    export(flow, (fine, 0), **file)
    render = flow.add("HumanNormRenderViews", texture=(fine, 0), views="front,30,90,180")
    previewed(flow, "Normals", (render, 0), 240)


def sculpture(flow: Workflow, guide: dict[str, Any], body: int, start_with: Mapping[str, Any], **widgets: Any) -> int:
    """A field on a body and its optimiser, which share their widgets' values; the optimiser's node."""
    start = flow.add("HumanNormGeometryStart", body=(body, 0), **start_with, **widgets)
    return flow.add(
        "HumanNormGeometryOptimizer",
        geometry=(start, 0),
        normal_guidance=guide["normal"],
        depth_guidance=guide["depth"],
        pictures=300,
        **widgets,
    )


def paint(flow: Workflow, guide: tuple[int, int], start: dict[str, Any], **widgets: Any) -> int:
    """A colour field and both painters, which share their widgets' values; the refiner's node."""
    done = flow.add("HumanNormTextureStart", **start)
    for kind in ("HumanNormTextureOptimizer", "HumanNormTextureRefiner"):
        done = flow.add(kind, texture=(done, 0), guidance=guide, pictures=300, **widgets)
    return done


def export(flow: Workflow, painting: tuple[int, int], **settings: Any) -> int:
    """A file and its viewer; the exporter's node."""
    saved = flow.add("HumanNormMeshExporter", texture=painting, **settings)
    flow.add("Preview3D", model_file=(saved, 1), pictures=400)
    return saved


def previewed(flow: Workflow, title: str, images: tuple[int, int], pictures: int = 280) -> None:
    flow.add("PreviewImage", title=title, images=images, pictures=pictures)


def normal_maps_2d(flow: Workflow) -> None:
    flow.opening("1 Models", 200)
    models = bundled(flow)
    flow.group("2 Texts", "texts")
    said = texts(flow, models["clip"], "normal", "depth")
    flow.group("3 Whole body", "work")
    for kind, node in (("normal", "HumanNormNormalSampler"), ("depth", "HumanNormDepthSampler")):
        drawn = flow.add(node, model=models[kind], prompts=said[kind], vae=models["vae"], cfg=DRAWN_CFG[kind], seed=1)
        previewed(flow, f"{kind}: front, left, back, right", (drawn, 0))
    flow.group("4 Head", "work")
    drawn = flow.add(
        "HumanNormNormalSampler",
        model=models["normal"],
        prompts=said["normal"],
        vae=models["vae"],
        cfg=DRAWN_CFG["normal"],
        part="head",
        seed=1,
    )
    previewed(flow, "heads: front, left, back, right", (drawn, 0))
    flow.group("5 Their words", "results")
    for part, view in (("full", "front"), ("full", "back"), ("head", "left")):
        picked = flow.add("HumanNormPickPrompt", title=f"{part}, {view}", prompts=said["normal"], part=part, view=view)
        flow.add("PreviewAny", source=(picked, 2), pictures=60)


def text_to_human(flow: Workflow) -> None:
    flow.opening("1 Models", 300)
    whole_human(flow, bundled(flow), "quick", SMALL_CFG, {"faces": 20_000, "texture_size": 1024})


def text_to_human_sd15(flow: Workflow) -> None:
    flow.opening("1 Models", 260)
    whole_human(flow, sd15(flow), "standard", PUBLISHED_CFG, {"faces": 100_000, "texture_size": 2048})


def paint_my_mesh(flow: Workflow) -> None:
    flow.opening("1 Your mesh")
    viewer = flow.add("Load3D", model_file="3d/person.glb", pictures=300)
    mesh = flow.add("HumanNormLoadMesh", file=(viewer, 2))
    flow.group("2 Model and texts", "texts")
    models = bundled(flow)
    said = texts(flow, models["clip"], "image", prompt="an old woman in a long green coat, standing")
    guide = guides(flow, models, said, SMALL_CFG)
    flow.group("3 Paint", "work")
    fine = paint(flow, guide["image"], {"own_mesh": (mesh, 0)})
    flow.group("4 The painted mesh", "results")
    saved = export(flow, (fine, 0), faces=50_000, texture_size=1024, filename_prefix="humannorm/painted")
    flow.add("HumanNormMeshToTrimesh", title="For the 3D packs", mesh=(saved, 0))


def remix(flow: Workflow) -> None:
    flow.opening("1 Models and texts", 260)
    models = bundled(flow)
    said = texts(flow, models["clip"], "normal", "image")
    flow.group("2 Normal maps", "work")
    normals = flow.add(
        "HumanNormNormalSampler",
        model=models["normal"],
        prompts=said["normal"],
        vae=models["vae"],
        cfg=DRAWN_CFG["normal"],
        views="front",
        seed=4,
    )
    larger = flow.add("ImageScaleBy", image=(normals, 0), upscale_method="lanczos", scale_by=3.0)
    previewed(flow, "Enlarged by an image node", (larger, 0))
    flow.group("3 The host's sampler", "work")
    picked = flow.add("HumanNormPickPrompt", prompts=said["image"], part="full", view="front")
    applied = flow.add(
        "ControlNetApplyAdvanced",
        positive=(picked, 0),
        negative=(picked, 1),
        control_net=models["control"],
        image=(normals, 0),
    )
    empty = flow.add("EmptyLatentImage", width=256, height=256, batch_size=1)
    sampled = flow.add(
        "KSampler",
        model=models["image"],
        positive=(applied, 0),
        negative=(applied, 1),
        latent_image=(empty, 0),
        seed=4,
        steps=20,
        cfg=DRAWN_CFG["image"],
        sampler_name="euler",
        scheduler="normal",
    )
    decoded = flow.add("VAEDecode", samples=(sampled, 0), vae=models["vae"])
    previewed(flow, "By KSampler, along our normals", (decoded, 0))
    flow.group("4 A LoRA on the sculptor", "guidance")
    lora = flow.add(
        "LoraLoaderModelOnly",
        mode=BYPASSED,
        model=models["normal"],
        lora_name="choose one.safetensors",
        strength_model=0.8,
    )
    guide = flow.add("HumanNormGuidance", model=(lora, 0), prompts=said["normal"], vae=models["vae"], cfg=6.0)
    body = flow.add("HumanNormBody", height=0.7, muscle=0.8)
    start = flow.add("HumanNormGeometryStart", body=(body, 0))
    sculpt = flow.add(
        "HumanNormGeometryOptimizer", geometry=(start, 0), normal_guidance=(guide, 0), steps=60, pictures=300
    )
    flow.group("5 Rendered", "results")
    render = flow.add("HumanNormRenderViews", geometry=(sculpt, 0), framing="bundled", views="front,45,90,180")
    previewed(flow, "Normals", (render, 0))
    previewed(flow, "Depth", (render, 1))


def edit(flow: Workflow) -> None:
    flow.opening("1 A saved human")
    geometry = flow.add("HumanNormLoadState", title="Sculpture", file="humannorm/geometry_00001_.safetensors")
    texture = flow.add("HumanNormLoadState", title="Painting", file="humannorm/texture_00001_.safetensors")
    flow.group("2 New words", "texts")
    models = bundled(flow)
    said = texts(flow, models["clip"], "normal", "image", prompt="a young man in a green coat and blue jeans, standing")
    flow.group("3 Guidance", "guidance")
    guide = guides(flow, models, said, SMALL_CFG)
    flow.group("4 Sculpt on", "work")
    sculpt = flow.add(
        "HumanNormGeometryOptimizer", geometry=(geometry, 0), normal_guidance=guide["normal"], begin=0.5, pictures=300
    )
    flow.group("5 Paint on", "work")
    fine = paint(flow, guide["image"], {"geometry": (sculpt, 0), "colors_of": (texture, 1)}, steps=60)
    flow.group("6 The changed human", "results")
    export(flow, (fine, 0), faces=20_000, texture_size=1024, filename_prefix="humannorm/edited")


def pose_and_animate(flow: Workflow) -> None:
    flow.opening("1 Models", 320)
    models = bundled(flow)
    flow.group("2 Who", "texts")
    who = "a young woman in a red sweater and black leggings"
    said = texts(flow, models["clip"], "normal", "depth", prompt=f"{who}, standing")
    body = flow.add("HumanNormBody", sex=0.9)
    flow.group("3 Sculpt", "work")
    sculpt = sculpture(flow, guides(flow, models, said, SMALL_CFG), body, HELD)
    flow.group("4 Rig", "work")
    rig = flow.add("HumanNormRig", mesh=(sculpt, 1), start_body=(body, 0), rig="mixamo")
    previewed(flow, "Whose joint moves what", (rig, 2), 240)
    sits = flow.add("HumanNormPose", title="Repose it", human=(rig, 0), pose="sit", head_turn=25.0)
    previewed(flow, "In another pose", (sits, 2), 240)
    flow.group("5 Animate", "results")
    walks = flow.add("HumanNormAnimate", human=(rig, 0), clip="walk", more_clips="wave", pictures=300)
    flow.add("Preview3D", model_file=(walks, 0), pictures=400)
    flow.group("6 Or sculpt in a pose", "work")
    fights = texts(flow, models["clip"], "normal", "depth", prompt=f"{who}, fighting")
    posed = flow.add("HumanNormPose", title="Pose the body", body=(body, 0), pose="fight", head_turn=15.0)
    sculpture(flow, guides(flow, models, fights, SMALL_CFG, body=(posed, 0)), posed, HELD)


def edit_clothes(flow: Workflow) -> None:
    flow.opening("1 A saved human", 260)
    geometry = flow.add("HumanNormLoadState", title="Sculpture", file="humannorm/geometry_00001_.safetensors")
    texture = flow.add("HumanNormLoadState", title="Painting", file="humannorm/texture_00001_.safetensors")
    flow.group("2 New words", "texts")
    models = bundled(flow)
    who = "a young man in a green sweater and blue jeans, standing"
    said = texts(flow, models["clip"], "normal", "depth", "image", prompt=who)
    flow.group("3 Guidance", "guidance")
    guide = guides(flow, models, said, SMALL_CFG)
    flow.group("4 Edit", "work")
    edited = flow.add(
        "HumanNormEdit",
        geometry=(geometry, 0),
        texture=(texture, 1),
        **{f"{kind}_guidance": guide[kind] for kind in guide},
        top=True,
        sculpt_steps=80,
        paint_steps=120,
        pictures=400,
    )
    flow.group("5 The changed human", "results")
    export(flow, (edited, 1), faces=20_000, texture_size=1024, filename_prefix="humannorm/other_clothes")
    previewed(flow, "Before", (edited, 2), 240)


WORKFLOWS = (
    normal_maps_2d, text_to_human, text_to_human_sd15, paint_my_mesh, remix, edit, pose_and_animate, edit_clothes,
)  # fmt: skip


def core_nodes(url: str) -> dict[str, Any]:
    """What the running host says of its own nodes."""
    from freeze_nodes import describe

    with urllib.request.urlopen(f"{url}/object_info", timeout=60) as answer:
        everything = json.loads(answer.read())
    found = {}
    for name in CORE:
        info = everything[name]
        for group in info["input"].values():
            for key, value in group.items():  # the older form of combos
                if isinstance(value[0], list):
                    group[key] = ["COMBO", {**(value[1] if len(value) > 1 else {}), "options": value[0]}]
                elif len(value) == 1:
                    group[key] = [value[0], {}]
        found[name] = describe(info)
        for entry in found[name]["inputs"]:
            if entry["id"].endswith("_name") or entry["id"] == "model_file":
                entry["options"] = "host"  # files or lists of the host's own
    return found


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", metavar="URL", help="a running ComfyUI")
    args = parser.parse_args()
    if args.host:
        sys.path.insert(0, str(Path(__file__).parent))
        _write(ROOT / "tests" / "nodes" / "core_nodes.json", core_nodes(args.host))
    known = known_nodes()
    for build in WORKFLOWS:
        flow = Workflow(build.__name__, known)
        build(flow)
        flow.save()
        print(f"{build.__name__}: {len(flow.nodes)} nodes, {sum(node['type'] in NOTES for node in flow.nodes)} note")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
