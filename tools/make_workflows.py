"""Write example_workflows/*.json and subgraphs/*.json, and their twins in API format under tests/nodes/api.

    python tools/make_workflows.py [--host URL [--renew]]

--host: also write tests/nodes/core_nodes.json, what the running ComfyUI says of its own nodes that we use. Those that
0.3.64 has are stored as it has them, so that the workflows open on both.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "nodes"))

from workflow_files import BYPASSED, DYNAMIC, NOTES, REROUTE, known_nodes, to_api, widgets  # noqa: E402

from humannorm.guidance.samplers import GUIDANCE_SCALES  # noqa: E402

PROMPT = "a young man in a red t-shirt and blue jeans, standing"
WORKFLOWS = ROOT / "example_workflows"
BLUEPRINTS = ROOT / "subgraphs"
COLUMN, GAP, LANE, TOP = 360, 60, 190, 60  # pixels on the canvas
SCALE = 0.62  # of the canvas at first, at least: both canvases draw text at it
CORNER, ROOM = (120, 120), (1770, 930)  # pixels of a 1920 x 1080 screen: where a workflow begins, and what it may fill
LINKED_TEXT = "(by wire)"  # in a text widget that a wire overrides
CORE = (
    "ApplyTextureToMesh", "BakeAmbientOcclusion", "BakeNormalMapFromMesh", "CheckpointLoaderSimple",
    "ControlNetApplyAdvanced", "ControlNetLoader", "DecimateMesh", "EmptyLatentImage", "ImageScaleBy", "KSampler",
    "LoraLoaderModelOnly", "Preview3D", "PreviewAny", "PreviewImage", "PrimitiveStringMultiline", "RemeshMesh",
    "SaveGLB", "UNETLoader", "UnwrapMesh", "VAEDecode",
)  # fmt: skip
COLORS = {"models": "#3f789e", "texts": "#b06634", "guidance": "#a1309b", "work": "#88aa88", "results": "#b58b2a"}
WEIGHTS, NETWORK = "https://huggingface.co/xanderhuang", "diffusion_pytorch_model.bin"
SD15 = (
    "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors"
)
VERSION = "0.1.0"

# What each workflow says of itself, in Markdown of six lines.
READ_ME = {
    "normal_maps_2d": """\
## A person in pictures: normals, colours, depth
The diffusion models behind HumanNorm, looked at in 2D. Press **Run**.
- *Person Sampler* dresses a body as the words have it and draws over that
- another pose or shape: wire *HumanNorm Body* into *body*
- larger pictures: published weights, as in *text_to_human_sd15*
""",
    "text_to_human": """\
## A sentence becomes a human
Write who it is into **Who is it?** and press **Run**: what `humannorm generate` does.
- body, hair and clothes come from the words; what was not understood stands on *Geometry Start*
- interrupt when you like: queued again, it goes on where it stopped
- the GLB in the output folder keeps this workflow: drop it here
""",
    "text_to_human_sd15": """\
## The same with the published weights
Five files, saved under the names that their loaders show, in `ComfyUI/models/`:
- `diffusion_models/humannorm/`: [normal](WEIGHTS/normal-adapted-sd1.5/tree/main/unet), \
[depth](WEIGHTS/depth-adapted-sd1.5/tree/main/unet) and [image](WEIGHTS/normal-aligned-sd1.5/tree/main/unet) model
- `controlnet/humannorm/`: [the ControlNet](WEIGHTS/controlnet-normal-sd1.5/tree/main); \
`checkpoints/`: [Stable Diffusion 1.5](SD15)
- other SD1.5 fine-tunes may take any model's place; a graphics card with 8 GB helps; preset *paper*: hours
""".replace("WEIGHTS", WEIGHTS).replace("SD15", SD15),
    "paint_my_mesh": """\
## Paint a mesh of your own
Runs as it is, on a mannequin. For yours: **upload a file** in *Load Mesh*.
- GLB, OBJ, PLY or STL, +Y up, facing +Z, roughly a standing person
- a 3D file or MESH of any other node goes into *own_mesh*
- height_m 0 in the exporter keeps your mesh's place and size
""",
    "paint_any_mesh": """\
## Paint any mesh from all sides at once
Runs as it is, on a mannequin. All views are sampled together and agree on one texture.
- your mesh: **upload a file** in *Load Mesh*, or wire a MESH or 3D file into *own_mesh*
- no person? framing *plain*, and *part_rule* published in the prompts
- *level* below 1 begins from the colours that the mesh has
- a picture of yours into *finished* is projected and stays
""",
    "paint_generated_mesh": """\
## Paint what another generator made
Wire any MESH or 3D file (Hunyuan3D, Trellis 2, ...) into **Your mesh here**.
- until then the mannequin is remeshed and painted
- *Remesh* keeps what lies within 0.5 of the middle: *scale* brings larger ones in
- *Remesh* and *Decimate* make a clean, even surface of it
- ComfyUI 0.33 or newer has these nodes
""",
    "remix": """\
## Ours and the host's nodes, mixed
- our prompts in the host's KSampler, along our normal maps
- a LoRA on the sculptor (bypassed: choose one, wake it with Ctrl+B)
- an *Empty Latent Image* counts 8 pixels to a latent one, the small
  model's VAE has 4: 256 x 256 gives 128 x 128
""",
    "remix_mesh": """\
## Ours and the host's mesh nodes, mixed
Decimated and unwrapped by ComfyUI, painted by ours on that layout.
- the normal map holds what decimation took
- all of them take and give the native MESH: put others between
- ComfyUI 0.33 or newer has these nodes
""",
    "edit": """\
## Other colours for a finished human, by its text
Run *text_to_human* first: the sculpture that it saved is loaded here.
- the same clothes in the colours of the new words, painted from all sides
- hands and face keep their skin; the shape stays
- to put it into other clothes: *edit_clothes*
""",
    "pose_and_animate": """\
## A human that moves
A painted human gets a skeleton, another pose, and clips: a skinned GLB for engines.
- *more_clips* takes more names, and BVH files of the input folder
- for a human that you have: *Load Mesh* with its GLB into *Rig*
- *levels_of_detail* writes coarser files beside it
""",
    "sculpt_in_a_pose": """\
## A human made in a pose
The body is posed first; clothes, surface and cameras begin from there.
- the same posed body goes to *Words and guidance*, so that the close-ups
  look at its head and legs
- motion files: *upload a file* in *Pose*, then choose a frame
- to sculpt too: *Geometry Optimizer* behind *Geometry Start*
""",
    "edit_clothes": """\
## Other clothes for a finished human
Run *text_to_human* first: the painting that it saved is loaded here.
- say only what it wears from now on: all else keeps its colours
- what was understood stands on *What does it wear now?*
- again: load the painting that this one saved
- as `humannorm generate "a green hoodie" --edit RUN` does
""",
}


class Graph:
    """Nodes and links in the making: rows of columns from left to right, so that wires run in the gaps."""

    base = 0  # below the first node's number

    def __init__(self, known: dict[str, Any]) -> None:
        self.known = known
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []
        self._x, self._y, self._top, self._width, self._bottom = -GAP, TOP, TOP, 0, TOP
        self._lane = LANE

    def row(self, lane: int = LANE) -> None:
        """Begin under all that is there, with a lane between for wires."""
        self._lane = lane
        self._top = self._y = self._bottom + lane
        self._x, self._width = -GAP, 0

    def column(self, width: int = COLUMN) -> None:
        """Begin to the right of the last column, at the row's top."""
        self._x += self._width + GAP
        self._y, self._width = self._top, width

    def skip(self, height: int) -> None:
        """Leave room in the column, for wires that pass there."""
        self._y += height

    def add(self, kind: str, /, *, title: str | None = None, mode: int = 0, pictures: int = 0, **given: Any) -> int:
        """A node; given: widget values, or links as (node id, output number). pictures: pixels for a preview."""
        known = self.known[kind]
        linked = {name for name, value in given.items() if isinstance(value, tuple)}
        values: list[Any] = []
        for name, entry in widgets(known):
            if entry is None:
                values.append("fixed")
            elif name in given and name not in linked:
                values.append(given[name])
            elif name in linked and entry.get("multiline"):
                values.append(LINKED_TEXT)
            else:
                options = entry["options"] if isinstance(entry.get("options"), list) else []
                values.append(entry.get("default", options[0] if options else ""))
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
        long_texts = sum(60 for entry in known["inputs"] if entry.get("multiline"))
        sockets = len([entry for entry in known["inputs"] if entry["id"] not in spots])
        rows = max(sockets, len(known["outputs"])) + len(values)
        node_id = self._place(node, 40 + 24 * rows + long_texts + pictures)
        for name, value in given.items():
            if isinstance(value, tuple):
                self._link(value, node_id, name)
            elif name not in spots:
                raise ValueError(f"{kind} has no widget {name}")
        return node_id

    def add_graph(self, inner: Subgraph, /, *, title: str, **given: tuple[int, int]) -> int:
        """A node that stands for a whole graph; given: links to its inputs."""
        texts = {entry["name"] for entry in inner.inputs if entry["type"] == "STRING"}
        values = {name: "" for name in texts - set(given)}
        node = {
            "type": inner.id,
            "title": title,
            "inputs": [
                {"name": entry["name"], "type": entry["type"], "link": None}
                | ({"widget": {"name": entry["name"]}} if entry["name"] in values else {})
                for entry in inner.inputs
            ],
            "outputs": [{"name": entry["name"], "type": entry["type"], "links": []} for entry in inner.outputs],
            "properties": {
                "cnr_id": "humannorm",
                "ver": VERSION,
                "proxyWidgets": [["-1", name] for name in values],
            },
            "widgets_values": list(values.values()),
        }
        rows = max(len(inner.inputs) - len(values), len(inner.outputs))
        node_id = self._place(node, 40 + 24 * rows + 90 * len(values))
        for name, source in given.items():
            self._link(source, node_id, name)
        return node_id

    def passed(self, source: tuple[int, int], *corners: tuple[float, float]) -> tuple[int, int]:
        """A wire led past some corners; where it can be taken up."""
        kind = self._node(source[0])["outputs"][source[1]]["type"]
        for x, y in corners:
            socket = {"name": "", "type": "*", "link": None}
            node = {"type": REROUTE, "inputs": [socket], "outputs": [{"name": "", "type": kind, "links": []}]}
            node |= {"properties": {"showOutputText": False, "horizontal": False}, "pos": [x, y], "size": [75, 26]}
            node_id = self._append(node)
            self._link(source, node_id, "")
            source = (node_id, 0)
        return source

    def gap(self, width: int) -> None:
        """More room before the next column, for wires that turn there."""
        self._x += width - GAP

    def left(self) -> float:
        """Of the column."""
        return self._x

    def right(self) -> float:
        """Beside the last column."""
        return self._x + self._width + 20

    def lane(self) -> float:
        """Height of the first wire in the gap above this row."""
        return self._top - self._lane + 25

    def models(self, node_id: int, *files: tuple[str, str, str]) -> None:
        """What a loader needs, for the missing-model dialog: (name, url, directory)."""
        self._node(node_id)["properties"]["models"] = [
            {"name": name, "url": url, "directory": directory} for name, url, directory in files
        ]

    def _place(self, node: dict[str, Any], height: int) -> int:
        node_id = self._append({**node, "pos": [self._x, self._y], "size": [self._width, height]})
        self._y += height + GAP
        self._bottom = max(self._bottom, self._y - GAP)
        return node_id

    def _append(self, node: dict[str, Any]) -> int:
        node_id = self.base + len(self.nodes) + 1
        plain = {"id": node_id, "flags": {}, "order": len(self.nodes), "mode": 0, "properties": {}}
        self.nodes.append({**plain, **node})
        return node_id

    def _node(self, node_id: int) -> dict[str, Any]:
        return self.nodes[node_id - self.base - 1]

    def _link(self, source: tuple[int, int], node_id: int, name: str) -> None:
        output = self._node(source[0])["outputs"][source[1]]
        slot = next(at for at, entry in enumerate(self._node(node_id)["inputs"]) if entry["name"] == name)
        link_id = len(self.links) + 1
        self.links.append([link_id, source[0], source[1], node_id, slot, output["type"]])
        output["links"].append(link_id)
        self._node(node_id)["inputs"][slot]["link"] = link_id


class Subgraph(Graph):
    """A graph in a node, with named sockets. Its numbers are none of the workflow's: newer canvases renumber those."""

    base = 100

    def __init__(self, known: dict[str, Any], name: str, description: str = "") -> None:
        super().__init__(known)
        self.name, self.description = name, description
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[dict[str, Any]] = []
        self.inner_links: list[dict[str, Any]] = []
        self.id = ""

    def take(self, name: str, kind: str, *sockets: tuple[int, str]) -> None:
        """An input that goes to sockets or widgets (node id, name) inside."""
        at = len(self.inputs)
        self.inputs.append({"id": self._uuid(f"in {name}"), "name": name, "type": kind, "linkIds": []})
        for node_id, socket in sockets:
            entries = self._node(node_id)["inputs"]
            slot = next(number for number, entry in enumerate(entries) if entry["name"] == socket)
            entries[slot]["link"] = self._inner_link(-10, at, node_id, slot, kind)
            self.inputs[at]["linkIds"].append(entries[slot]["link"])

    def give(self, name: str, source: tuple[int, int]) -> None:
        """An output of a node inside."""
        output = self._node(source[0])["outputs"][source[1]]
        at = len(self.outputs)
        link_id = self._inner_link(source[0], source[1], -20, at, output["type"])
        output["links"].append(link_id)
        entry = {"id": self._uuid(f"out {name}"), "name": name, "type": output["type"], "linkIds": [link_id]}
        self.outputs.append(entry)

    def definition(self, owner: str) -> dict[str, Any]:
        """As the canvas saves it. owner: the file that it is in."""
        self.id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"humannorm/{owner}/{self.name}"))
        links = [
            dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True))
            for link in self.links
        ]
        right = self._x + self._width
        return {
            "id": self.id,
            "version": 1,
            "state": {
                "lastGroupId": 0,
                "lastNodeId": self.base + len(self.nodes),
                "lastLinkId": len(self.links) + len(self.inner_links),
                "lastRerouteId": 0,
            },
            "revision": 0,
            "config": {},
            "name": self.name,
            "inputNode": {"id": -10, "bounding": [-240, TOP, 140, 40 + 20 * len(self.inputs)]},
            "outputNode": {"id": -20, "bounding": [right + GAP, TOP, 140, 40 + 20 * len(self.outputs)]},
            "inputs": self.inputs,
            "outputs": self.outputs,
            "widgets": [],
            "nodes": self.nodes,
            "groups": [],
            "links": links + self.inner_links,
            "extra": {},
            "category": "HumanNorm",
            "essentials_category": "3D",
            "description": self.description,
        }

    def _inner_link(self, origin: int, slot: int, target: int, place: int, kind: str) -> int:
        link_id = 1000 + len(self.inner_links)
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        self.inner_links.append(dict(zip(names, (link_id, origin, slot, target, place, kind), strict=True)))
        return link_id

    def _uuid(self, what: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"humannorm/{self.name}/{what}"))


class Workflow(Graph):
    """A canvas in the making, with groups around its nodes and a note that explains it."""

    def __init__(self, name: str, known: dict[str, Any]) -> None:
        super().__init__(known)
        self.name = name
        self.groups: list[dict[str, Any]] = []
        self.definitions: list[dict[str, Any]] = []
        self._first = 0

    def group(self, title: str, color: str, width: int = COLUMN) -> None:
        """Begin a group, and with it a column."""
        self._close_group()
        self.column(width)
        self._first = len(self.nodes)
        self.groups.append({"id": len(self.groups) + 1, "title": title, "color": COLORS[color], "flags": {}})

    def row(self, lane: int = LANE) -> None:
        self._close_group()
        super().row(lane)

    def opening(self, title: str, height: int = 250) -> None:
        """The first column, with the note that explains the workflow."""
        self.group(title, "models")
        text = READ_ME[self.name]
        self._place({"type": "MarkdownNote", "inputs": [], "outputs": [], "widgets_values": [text]}, height)
        self.nodes[-1] |= {"title": "Read me", "color": "#432", "bgcolor": "#653"}

    def holds(self, inner: Subgraph) -> Subgraph:
        """A graph that nodes of this one may stand for."""
        self.definitions.append(inner.definition(self.name))
        return inner

    def _close_group(self) -> None:
        if not self.groups or "bounding" in self.groups[-1]:
            return
        boxes = [(*node["pos"], *node["size"]) for node in self.nodes[self._first :] if node["type"] != REROUTE]
        left, top = min(box[0] for box in boxes) - 15, self._top - 85
        right = max(box[0] + box[2] for box in boxes) + 15
        bottom = max(box[1] + box[3] for box in boxes) + 20
        self.groups[-1]["bounding"] = [left, top, right - left, bottom - top]

    def document(self) -> dict[str, Any]:
        self._close_group()
        scale = self._scale()
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"humannorm/{self.name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            **({"definitions": {"subgraphs": self.definitions}} if self.definitions else {}),
            "config": {},
            "extra": {"ds": {"scale": scale, "offset": [pixels / scale for pixels in CORNER]}},
            "version": 0.4,
        }

    def _scale(self) -> float:
        """The largest up to 1 at which all of it is on the screen, but not so small that no text is drawn."""
        boxes = [group["bounding"] for group in self.groups]
        if not boxes:
            return SCALE
        ends = [max(box[axis] + box[axis + 2] for box in boxes) for axis in (0, 1)]
        return max(SCALE, min(1.0, *(round(room / end, 2) for room, end in zip(ROOM, ends, strict=True))))

    def save(self) -> None:
        document = self.document()
        _write(WORKFLOWS / f"{self.name}.json", document)
        _write(ROOT / "tests" / "nodes" / "api" / f"{self.name}.json", to_api(document, self.known))


def bundled(flow: Graph) -> dict[str, tuple[int, int]]:
    """The bundled models by name."""
    node = flow.add("HumanNormBundledModels")
    return {name: (node, at) for at, name in enumerate(("normal", "depth", "image", "clip", "vae", "control"))}


def sd15(flow: Graph) -> dict[str, tuple[int, int]]:
    """The published weights through the host's loaders, with text encoder and VAE of Stable Diffusion 1.5."""
    found: dict[str, tuple[int, int]] = {}
    for name, repository in (
        ("normal", "normal-adapted-sd1.5"),
        ("depth", "depth-adapted-sd1.5"),
        ("image", "normal-aligned-sd1.5"),
    ):
        file = f"humannorm/{repository}.bin"
        found[name] = flow.add("UNETLoader", title=f"{name} model", unet_name=file, weight_dtype="default"), 0
        flow.models(found[name][0], (file, f"{WEIGHTS}/{repository}/resolve/main/unet/{NETWORK}", "diffusion_models"))
    flow.column(340)
    repository = "controlnet-normal-sd1.5"
    file = f"humannorm/{repository}.bin"
    found["control"] = flow.add("ControlNetLoader", control_net_name=file), 0
    flow.models(found["control"][0], (file, f"{WEIGHTS}/{repository}/resolve/main/{NETWORK}", "controlnet"))
    base = flow.add("CheckpointLoaderSimple", title="text encoder and VAE", ckpt_name=SD15.rpartition("/")[2])
    flow.models(base, (SD15.rpartition("/")[2], SD15, "checkpoints"))
    return found | {"clip": (base, 1), "vae": (base, 2)}


def person(flow: Graph, prompt: str = PROMPT) -> tuple[int, int]:
    """The person in one place."""
    return flow.add("PrimitiveStringMultiline", title="Who is it?", value=prompt), 0


def texts(flow: Graph, clip: tuple[int, int], *kinds: str, who: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """A person in another node's words as prompts of these kinds."""
    return {
        kind: (flow.add("HumanNormPrompts", title=f"Prompts: {kind}", clip=clip, prompt=who, kind=kind), 0)
        for kind in kinds
    }


HELD = {"hold_hands": True, "hold_face": True}
"""The bundled model draws neither fingers nor faces yet, see the preset `quick`."""


def words(
    flow: Workflow,
    *kinds: str,
    body: bool = False,
    name: str = "Words and guidance",
    controlled: tuple[str, ...] = ("image",),
) -> Subgraph:
    """The graph that makes HUMANNORM_GUIDANCE of each kind of a person's text, as a node of the workflow. controlled:
    those that have the ControlNet."""
    inner = Subgraph(flow.known, name, "A person's text as guidance of each kind, view- and body-aware.")
    inner.column()
    prompts = {kind: inner.add("HumanNormPrompts", title=f"Prompts: {kind}", kind=kind) for kind in kinds}
    inner.column()
    guides = {
        kind: inner.add("HumanNormGuidance", title=f"Guidance: {kind}", prompts=(prompts[kind], 0)) for kind in kinds
    }
    for node_id in prompts.values():  # the text comes from outside
        places = [place for place, _ in widgets(flow.known["HumanNormPrompts"])]
        inner._node(node_id)["widgets_values"][places.index("prompt")] = LINKED_TEXT
    inner.take("person", "STRING", *((node_id, "prompt") for node_id in prompts.values()))
    for kind in kinds:
        inner.take(f"{kind}_model", "MODEL", (guides[kind], "model"))
    inner.take("clip", "CLIP", *((node_id, "clip") for node_id in prompts.values()))
    inner.take("vae", "VAE", *((node_id, "vae") for node_id in guides.values()))
    shown = [(guides[kind], "control_net") for kind in kinds if kind in controlled]
    if shown:
        inner.take("control_net", "CONTROL_NET", *shown)
    if body:
        inner.take("body", "HUMANNORM_BODY", *((node_id, "body") for node_id in guides.values()))
    for kind in kinds:
        inner.give(f"{kind}_guidance", (guides[kind], 0))
    return flow.holds(inner)


def _texts_graph(flow: Workflow, *kinds: str) -> Subgraph:
    """Prompts of each kind of a person's text, as a node of the workflow."""
    inner = Subgraph(flow.known, "Words", "A person's text as prompts of each kind, view- and body-aware.")
    inner.column()
    made = {kind: inner.add("HumanNormPrompts", title=f"Prompts: {kind}", kind=kind) for kind in kinds}
    inner.take("person", "STRING", *((node_id, "prompt") for node_id in made.values()))
    inner.take("clip", "CLIP", *((node_id, "clip") for node_id in made.values()))
    for kind, node_id in made.items():
        inner.give(f"{kind}_prompts", (node_id, 0))
    return flow.holds(inner)


def guides(
    flow: Workflow, inner: Subgraph, models: dict[str, Any], who: tuple[int, int], **more: tuple[int, int]
) -> dict[str, tuple[int, int]]:
    """A node of the graph of `words`, wired; its outputs by kind."""
    given = {"person": who, "clip": models["clip"], "vae": models["vae"], **more}
    names = [entry["name"] for entry in inner.inputs]  # in their order: links are numbered as they come
    given |= {name: models[name.removesuffix("_model")] for name in names if name.endswith("_model")}
    if "control_net" in names:
        given["control_net"] = models["control"]
    node = flow.add_graph(inner, title=inner.name, **given)
    return {entry["name"].removesuffix("_guidance"): (node, at) for at, entry in enumerate(inner.outputs)}


def painted_person(
    flow: Workflow, who: tuple[int, int], column: int, group: str, width: int
) -> tuple[int, tuple[int, int], int]:
    """A dressed start of the words, painted from all sides at once: the start, the body and the painter."""
    flow.group("2 Model and words", "models", column)
    models = bundled(flow)
    body = flow.add("HumanNormBody", person=who), 0
    flow.column(column)
    guide = guides(flow, words(flow, "image"), models, who)
    start = flow.add("HumanNormGeometryStart", body=body, wears=who, **HELD)
    flow.group(group, "work", width)
    painted = flow.add(
        "HumanNormMultiviewPainter",
        guidance=guide["image"],
        geometry=(start, 0),
        start_body=body,
        pictures=300,
        **ALL_VIEWS,
    )
    return start, body, painted


def text_to_human(flow: Workflow) -> None:
    flow.opening("1 Who is it?")
    start, _, painted = painted_person(flow, person(flow), 320, "3 Painted from all sides", 360)
    flow.group("4 The human", "results", 320)
    saved = flow.add("HumanNormMeshExporter", texture=(painted, 1), faces=PAINTED_FACES, texture_size=1024)
    flow.add("HumanNormSaveState", geometry=(start, 0), filename_prefix="humannorm/geometry")
    prefix = "humannorm/texture"
    flow.add("HumanNormSaveState", title="Keep the painting", texture=(painted, 1), filename_prefix=prefix)
    flow.column(500)
    flow.add("Preview3D", model_file=(saved, 1), pictures=420)


WOMAN, MAN = "a young woman in a red sweater and black leggings", "a man in a blue sweater and black jeans"
"""In clothes that lie close: what a bare mannequin can be painted in."""
PAINTED_FACES = 120_000
ALL_VIEWS: dict[str, Any] = {"level": 0.5, "texture_size": 1024, "faces": PAINTED_FACES}
"""As the preset `quick` of `humannorm generate`."""


def text_to_human_sd15(flow: Workflow) -> None:
    flow.opening("1 Who is it?")
    who = person(flow)
    flow.group("2 Models", "models", 340)
    models = sd15(flow)
    body = flow.add("HumanNormBody", person=who)
    flow.column(320)
    guide = guides(flow, words(flow, "normal", "depth", "image"), models, who)
    drop = flow.right()
    flow.skip(20)
    start = flow.add("HumanNormGeometryStart", body=(body, 0), preset="standard", wears=who)
    flow.gap(140)
    flow.group("3 Sculpt", "work", 440)
    sculpt = flow.add(
        "HumanNormGeometryOptimizer",
        geometry=(start, 0),
        normal_guidance=guide["normal"],
        depth_guidance=guide["depth"],
        preset="standard",
        pictures=200,
    )
    end = flow.right()
    flow.gap(140)
    flow.group("Keep the sculpture", "results", 340)
    flow.add("HumanNormSaveState", geometry=(sculpt, 0), filename_prefix="humannorm/geometry")
    flow.row(LANE - 30)
    lane = flow.lane() - 15
    sculpture = flow.passed((sculpt, 0), (end, lane), (-160, lane))
    pictures = flow.passed(guide["image"], (drop, lane + 25), (-160, lane + 25))
    stood = flow.passed((body, 0), (drop + 50, lane + 50), (-160, lane + 50))
    flow.group("Painted from all sides", "work", 440)
    painted = flow.add(
        "HumanNormMultiviewPainter",
        guidance=pictures,
        geometry=sculpture,
        start_body=stood,
        preset="standard",
        level=0.75,
        texture_size=2048,
    )
    flow.group("The human", "results", 320)
    saved = flow.add("HumanNormMeshExporter", texture=(painted, 1), faces=100_000, texture_size=2048)
    prefix = "humannorm/texture"
    flow.add("HumanNormSaveState", title="Keep the painting", texture=(painted, 1), filename_prefix=prefix)
    flow.column(500)
    flow.add("Preview3D", model_file=(saved, 1), pictures=420)


def paint_my_mesh(flow: Workflow) -> None:
    flow.opening("1 Your mesh")
    mesh = flow.add("HumanNormLoadMesh", pictures=70)
    who = person(flow, f"{MAN}, standing")
    painted_mesh(flow, who, (mesh, 0), "humannorm/painted", faces=50_000)


def painted_mesh(
    flow: Workflow, who: tuple[int, int], mesh: tuple[int, int], prefix: str, faces: int, columns: int = 1
) -> None:
    """From a mesh of a person and words to a painted file. columns: of model and words."""
    flow.group("2 Model and words", "models", 300)
    models = bundled(flow)
    if columns == 2:
        flow.column(300)
    guide = guides(flow, words(flow, "image"), models, who)
    flow.group("3 Painted from all sides", "work", 340)
    painted = flow.add("HumanNormMultiviewPainter", guidance=guide["image"], own_mesh=mesh, pictures=340)
    flow.group("4 The result", "results", 500)
    file = {"faces": faces, "texture_size": 1024, "filename_prefix": prefix}
    saved = flow.add("HumanNormMeshExporter", texture=(painted, 1), **file)
    flow.add("Preview3D", model_file=(saved, 1), pictures=420)


def paint_any_mesh(flow: Workflow) -> None:
    flow.opening("1 Your mesh")
    mesh = flow.add("HumanNormLoadMesh", pictures=70)
    who = person(flow, f"{WOMAN}, standing")
    flow.group("2 Model and words", "models", 300)
    models = bundled(flow)
    flow.column(300)
    guide = guides(flow, words(flow, "image"), models, who)
    flow.group("3 Painted from all sides", "work", 340)
    painted = flow.add("HumanNormMultiviewPainter", guidance=guide["image"], own_mesh=(mesh, 0), pictures=340)
    flow.group("4 The result", "results", 340)
    file = {"faces": 50_000, "texture_size": 1024, "filename_prefix": "humannorm/painted_any"}
    saved = flow.add("HumanNormMeshExporter", texture=(painted, 1), **file)
    flow.add("PreviewImage", title="The texture", images=(painted, 3), pictures=300)
    flow.column(500)
    flow.add("Preview3D", model_file=(saved, 1), pictures=420)


def paint_generated_mesh(flow: Workflow) -> None:
    flow.opening("1 Another generator's mesh")
    # Generators make meshes one unit tall; of the mannequin's 1.8 the host's Remesh would cut head and feet off.
    mesh = flow.add("HumanNormLoadMesh", title="Your mesh here", scale=0.5, pictures=70)
    who = person(flow, f"{MAN}, standing")
    flow.group("Made even by ComfyUI's own nodes", "work", 320)
    even = flow.add("RemeshMesh", mesh=(mesh, 0), resolution=160, sign_mode="udf")
    light = flow.add("DecimateMesh", mesh=(even, 0), target_face_count=30_000, placement_mode="midpoint")
    painted_mesh(flow, who, (light, 0), "humannorm/painted_generated", faces=30_000)


MADE = {"normal": "normal maps", "image": "pictures", "depth": "depth maps"}


def normal_maps_2d(flow: Workflow) -> None:
    flow.opening("1 Who is it?")
    who = person(flow)
    flow.group("2 Model and words", "models", 340)
    models = bundled(flow)
    kinds = ("normal", "image", "depth")
    inner = words(flow, *kinds, controlled=kinds)
    guides = flow.add_graph(
        inner,
        title=inner.name,
        person=who,
        **{f"{kind}_model": models[kind] for kind in kinds},
        clip=models["clip"],
        vae=models["vae"],
        control_net=models["control"],
    )
    drawn = {}
    for title, part, shown in (("Whole", "full", kinds), ("Heads", "head", kinds[:2])):
        flow.group(f"{'3' if title == 'Whole' else '4'} {title}", "work", 340)
        for kind in shown:
            drawn[f"{title}: {MADE[kind]}"] = flow.add(
                "HumanNormPersonSampler",
                title=f"{title}: {MADE[kind]}",
                guidance=(guides, kinds.index(kind)),
                part=part,
                seed=3,
            )
    flow.group("5 Front, left, back, right", "results", 380)
    for number, (title, node_id) in enumerate(drawn.items()):
        if number == 3:
            flow.column(380)
        flow.add("PreviewImage", title=title, images=(node_id, 0), pictures=300)


def remix(flow: Workflow) -> None:
    flow.opening("1 Who is it?", 260)
    who = person(flow)
    flow.group("2 Model and words", "models", 340)
    models = bundled(flow)
    before = flow.right()
    flow.column(300)
    inner = _texts_graph(flow, "normal", "image")
    node = flow.add_graph(inner, title=inner.name, person=who, clip=models["clip"])
    said = {"normal": (node, 0), "image": (node, 1)}
    turn = flow.right()
    flow.group("3 Normal maps", "work", 320)
    normals = flow.add(
        "HumanNormNormalSampler",
        model=models["normal"],
        prompts=said["normal"],
        vae=models["vae"],
        views="front",
        seed=4,
    )
    picked = flow.add("HumanNormPickPrompt", prompts=said["image"], part="full", view="front")
    flow.group("4 The host's sampler", "work", 320)
    applied = flow.add(
        "ControlNetApplyAdvanced",
        positive=(picked, 0),
        negative=(picked, 1),
        control_net=models["control"],
        image=(normals, 0),
    )
    larger = flow.add("ImageScaleBy", image=(normals, 0), upscale_method="lanczos", scale_by=3.0)
    empty = flow.add("EmptyLatentImage", width=256, height=256, batch_size=1)
    flow.column(320)
    sampled = flow.add(
        "KSampler",
        model=models["image"],
        positive=(applied, 0),
        negative=(applied, 1),
        latent_image=(empty, 0),
        seed=4,
        steps=20,
        cfg=GUIDANCE_SCALES["color"],
        sampler_name="euler",
        scheduler="normal",
    )
    decoded = flow.add("VAEDecode", samples=(sampled, 0), vae=models["vae"])
    flow.group("Along our normals", "results", 340)
    flow.add("PreviewImage", title="By KSampler", images=(decoded, 0), pictures=180)
    flow.add("PreviewImage", title="Enlarged by an image node", images=(larger, 0), pictures=200)
    flow.row()
    lane = flow.lane()
    texts_ = flow.passed(said["normal"], (turn, lane), (-160, lane))
    vae = flow.passed(models["vae"], (before, lane + 26), (-160, lane + 26))
    model = flow.passed(models["normal"], (before + 90, lane + 52), (-160, lane + 52))
    _sculpted_with_a_lora(flow, model, texts_, vae)


def _sculpted_with_a_lora(
    flow: Workflow, model: tuple[int, int], texts_: tuple[int, int], vae: tuple[int, int]
) -> None:
    """A place for a LoRA before the sculptor, and what it sculpts."""
    flow.group("5 A LoRA on the sculptor", "guidance", 320)
    lora = flow.add(
        "LoraLoaderModelOnly",
        mode=BYPASSED,
        model=model,
        lora_name="choose one.safetensors",
        strength_model=0.8,
    )
    body = flow.add("HumanNormBody", height=0.7, muscle=0.8)
    flow.column(340)
    guide = flow.add("HumanNormGuidance", model=(lora, 0), prompts=texts_, vae=vae)
    start = flow.add("HumanNormGeometryStart", body=(body, 0))
    flow.column(440)
    sculpt = flow.add(
        "HumanNormGeometryOptimizer", geometry=(start, 0), normal_guidance=(guide, 0), steps=60, pictures=280
    )
    flow.group("6 Rendered", "results", 320)
    render = flow.add("HumanNormRenderViews", geometry=(sculpt, 0), framing="bundled", views="front,45,90,180")
    flow.column(420)
    flow.add("PreviewImage", title="Normals", images=(render, 0), pictures=210)
    flow.add("PreviewImage", title="Depth", images=(render, 1), pictures=210)


def remix_mesh(flow: Workflow) -> None:
    flow.opening("1 A mesh and words")
    loaded = flow.add("HumanNormLoadMesh", title="Your mesh, or the mannequin", pictures=70)
    who = person(flow, f"{WOMAN}, standing")
    flow.group("2 Model and words", "models", 300)
    models = bundled(flow)
    guide = guides(flow, words(flow, "image"), models, who)
    flow.group("3 Lighter, a new layout", "work", 300)
    light = flow.add("DecimateMesh", mesh=(loaded, 0), target_face_count=4000, placement_mode="midpoint")
    laid = flow.add("UnwrapMesh", mesh=(light, 0), segmenter="adaptive", resolution=1024, padding=2)
    flow.group("4 Painted and baked on that layout", "work", 340)
    file = {"layout": "own", "texture_size": 1024, "pictures": 215}
    painted = flow.add("HumanNormMultiviewPainter", guidance=guide["image"], own_mesh=(laid, 0), **file)
    flow.column(320)
    bumps = flow.add("BakeNormalMapFromMesh", low_poly=(laid, 0), high_poly=(loaded, 0), resolution=512)
    shade = flow.add("BakeAmbientOcclusion", low_poly=(laid, 0), high_poly=(loaded, 0), resolution=512, samples=16)
    worn = flow.add(
        "ApplyTextureToMesh", mesh=(laid, 0), base_color=(painted, 3), occlusion=(shade, 0), normal_map=(bumps, 0)
    )
    flow.group("5 Back to ours, and out", "results", 320)
    saved = flow.add(
        "HumanNormMeshExporter", mesh=(worn, 0), faces=4000, texture_size=1024, filename_prefix="humannorm/remixed"
    )
    flow.add("SaveGLB", mesh=(worn, 0), filename_prefix="humannorm/host_saved", pictures=220)  # has a viewer
    flow.column(480)
    flow.add("Preview3D", model_file=(saved, 1), pictures=480)


def edit(flow: Workflow) -> None:
    flow.opening("1 A saved sculpture")
    geometry = flow.add("HumanNormLoadState", title="Sculpture", file="humannorm/geometry_00001_.safetensors")
    who = person(flow, "a young man in a green t-shirt and black jeans, standing")
    flow.group("2 New words", "models", 300)
    models = bundled(flow)
    body = flow.add("HumanNormBody", title="The body of the same words", person=who)
    flow.column(300)
    guide = guides(flow, words(flow, "image"), models, who)
    flow.group("3 Painted again", "work", 360)
    painted = flow.add(
        "HumanNormMultiviewPainter",
        guidance=guide["image"],
        geometry=(geometry, 0),
        start_body=(body, 0),
        pictures=300,
        **ALL_VIEWS,
    )
    flow.group("4 The human", "results", 320)
    file = {"faces": PAINTED_FACES, "texture_size": 1024, "filename_prefix": "humannorm/edited"}
    saved = flow.add("HumanNormMeshExporter", texture=(painted, 1), **file)
    flow.column(500)
    flow.add("Preview3D", model_file=(saved, 1), pictures=420)


def pose_and_animate(flow: Workflow) -> None:
    flow.opening("1 Who is it?")
    who = person(flow, f"{WOMAN}, standing")
    _, body, painted = painted_person(flow, who, 300, "3 Paint and rig", 320)
    rig = flow.add("HumanNormRig", mesh=(painted, 0), start_body=body)
    flow.group("4 Pose and animate", "results", 340)
    walks = flow.add("HumanNormAnimate", human=(rig, 0), clip="walk", more_clips="wave", pictures=320)
    sits = flow.add("HumanNormPose", title="Repose it", human=(rig, 0), pose="sit", head_turn=25.0)
    flow.column(460)
    flow.add("Preview3D", model_file=(walks, 0), pictures=460)
    flow.add("PreviewImage", title="In another pose", images=(sits, 2), pictures=320)
    flow.add("PreviewImage", title="Whose joint moves what", images=(rig, 2), pictures=300)


def sculpt_in_a_pose(flow: Workflow) -> None:
    flow.opening("1 Who is it?")
    who = person(flow, f"{WOMAN}, fighting")
    body = flow.add("HumanNormBody", person=who)
    flow.group("2 How it stands", "texts", 320)
    models = bundled(flow)
    posed = flow.add("HumanNormPose", title="Pose the body", body=(body, 0), pose="fight", head_turn=15.0), 0
    flow.group("3 Its clothes and words", "models", 320)
    guide = guides(flow, words(flow, "image", body=True), models, who, body=posed)
    start = flow.add("HumanNormGeometryStart", body=posed, wears=who, **HELD)
    flow.group("4 Painted from all sides", "work", 340)
    painted = flow.add(
        "HumanNormMultiviewPainter",
        guidance=guide["image"],
        geometry=(start, 0),
        start_body=posed,
        pictures=300,
        **ALL_VIEWS,
    )
    flow.group("5 The human", "results", 500)
    file = {"faces": PAINTED_FACES, "texture_size": 1024, "filename_prefix": "humannorm/posed"}
    saved = flow.add("HumanNormMeshExporter", texture=(painted, 1), **file)
    flow.add("Preview3D", model_file=(saved, 1), pictures=420)


def edit_clothes(flow: Workflow) -> None:
    flow.opening("1 A saved human")
    painting = flow.add("HumanNormLoadState", title="Painting", file="humannorm/texture_00001_.safetensors")
    change = flow.add("HumanNormChangeClothes", title="What does it wear now?", texture=(painting, 1), pictures=90)
    who = change, 0
    flow.group("2 Model and words", "models", 320)
    models = bundled(flow)
    flow.column(320)
    guide = guides(flow, words(flow, "image"), models, who)
    start = flow.add("HumanNormGeometryStart", body=(change, 1), wears=who, **HELD)
    flow.group("3 The rest keeps its colours", "work", 360)
    painted = flow.add(
        "HumanNormMultiviewPainter",
        guidance=guide["image"],
        geometry=(start, 0),
        start_body=(change, 1),
        kept=(painting, 1),
        pictures=300,
        **ALL_VIEWS,
    )
    flow.group("4 The changed human", "results", 320)
    file = {"faces": PAINTED_FACES, "texture_size": 1024, "filename_prefix": "humannorm/other_clothes"}
    saved = flow.add("HumanNormMeshExporter", texture=(painted, 1), **file)
    prefix = "humannorm/texture"
    flow.add("HumanNormSaveState", title="Keep the painting", texture=(painted, 1), filename_prefix=prefix)
    flow.column(500)
    flow.add("Preview3D", model_file=(saved, 1), pictures=420)


WORKFLOW_BUILDERS = (
    text_to_human, text_to_human_sd15, normal_maps_2d, paint_my_mesh, paint_any_mesh, paint_generated_mesh, remix,
    remix_mesh, edit, edit_clothes, pose_and_animate, sculpt_in_a_pose,
)  # fmt: skip


def blueprint_sculpt(known: dict[str, Any]) -> Subgraph:
    """A person's guidance to a surface."""
    inner = Subgraph(known, "Sculpt (HumanNorm)", "Sculpts a human from a body by normal and depth guidance.")
    inner.column()
    body = inner.add("HumanNormBody")
    start = inner.add("HumanNormGeometryStart", body=(body, 0), **HELD)
    inner.column()
    sculpt = inner.add("HumanNormGeometryOptimizer", geometry=(start, 0), pictures=320)
    inner.take("normal_guidance", "HUMANNORM_GUIDANCE", (sculpt, "normal_guidance"))
    inner.take("depth_guidance", "HUMANNORM_GUIDANCE", (sculpt, "depth_guidance"))
    inner.take("wears", "STRING", (start, "wears"))
    for name, at in (("geometry", 0), ("mesh", 1), ("views", 2)):
        inner.give(name, (sculpt, at))
    return inner


def blueprint_paint(known: dict[str, Any]) -> Subgraph:
    """A surface and image guidance to a painted file."""
    inner = Subgraph(known, "Paint (HumanNorm)", "Paints a sculpture from all sides at once, to a GLB.")
    inner.column()
    painted = inner.add("HumanNormMultiviewPainter", pictures=320, **ALL_VIEWS)
    inner.column()
    saved = inner.add("HumanNormMeshExporter", texture=(painted, 1), faces=PAINTED_FACES, texture_size=1024)
    inner.take("geometry", "HUMANNORM_GEOMETRY", (painted, "geometry"))
    inner.take("start_body", "HUMANNORM_BODY", (painted, "start_body"))
    inner.take("image_guidance", "HUMANNORM_GUIDANCE", (painted, "guidance"))
    inner.give("texture", (painted, 1))
    inner.give("mesh", (saved, 0))
    inner.give("path", (saved, 1))
    return inner


def blueprint_text_to_human(known: dict[str, Any]) -> Subgraph:
    """A sentence to a painted file, on the bundled model."""
    inner = Subgraph(known, "Text to human (HumanNorm)", "A sentence becomes a textured human, on the bundled model.")
    inner.column()
    models = bundled(inner)
    body = inner.add("HumanNormBody")
    inner.column()
    prompts = inner.add("HumanNormPrompts", clip=models["clip"], kind="image")
    guide = inner.add(
        "HumanNormGuidance",
        model=models["image"],
        prompts=(prompts, 0),
        vae=models["vae"],
        control_net=models["control"],
    )
    start = inner.add("HumanNormGeometryStart", body=(body, 0), **HELD)
    inner.column()
    painted = inner.add(
        "HumanNormMultiviewPainter",
        guidance=(guide, 0),
        geometry=(start, 0),
        start_body=(body, 0),
        pictures=320,
        **ALL_VIEWS,
    )
    inner.column()
    saved = inner.add("HumanNormMeshExporter", texture=(painted, 1), faces=PAINTED_FACES, texture_size=1024)
    inner.take("person", "STRING", (prompts, "prompt"), (body, "person"), (start, "wears"))
    inner.give("path", (saved, 1))
    inner.give("mesh", (saved, 0))
    inner.give("geometry", (start, 0))
    inner.give("texture", (painted, 1))
    return inner


def save_blueprint(inner: Subgraph, known: dict[str, Any]) -> None:
    """A file that the canvas lists among its nodes: one node that stands for the graph."""
    flow = Workflow(inner.name, known)
    flow.holds(inner)
    flow.column(320)
    node_id = flow.add_graph(inner, title=inner.name)
    node = flow.nodes[node_id - 1]
    texts = [entry["name"] for entry in inner.inputs if entry["type"] == "STRING"]
    node["widgets_values"] = [PROMPT if name == "person" else "" for name in texts]
    _write(BLUEPRINTS / f"{inner.name}.json", flow.document())


def core_nodes(url: str) -> dict[str, Any]:
    """What the running host says of those of its own nodes that it has of ours to use."""
    from freeze_nodes import describe

    with urllib.request.urlopen(f"{url}/object_info", timeout=60) as answer:
        everything = json.loads(answer.read())
    found = {}
    for name in CORE:
        if name not in everything:
            continue
        info = everything[name]
        info["input"] = {group: _plain(entries) for group, entries in info["input"].items()}
        found[name] = describe(info)
        for entry in found[name]["inputs"]:
            if entry["id"].endswith("_name"):
                entry["options"] = "host"  # lists of the host's own
    return found


def _plain(entries: dict[str, Any]) -> dict[str, Any]:
    """Inputs in one form: lists of choices as COMBO, and behind a dynamic list the widgets of its first choice."""
    plain: dict[str, Any] = {}
    for name, (kind, *more) in entries.items():
        options = more[0] if more else {}
        if isinstance(kind, list):  # the older form
            kind, options = "COMBO", {**options, "options": kind}
        plain[name] = [kind, options]
        if kind == DYNAMIC:
            first = options["options"][0]
            plain[name] = [DYNAMIC, {"options": [first["key"]], "default": first["key"]}]
            for inner, entry in {**first["inputs"].get("required", {}), **first["inputs"].get("optional", {})}.items():
                plain[f"{name}.{inner}"] = entry
    return plain


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", metavar="URL", help="a running ComfyUI: of its nodes, those that are not stored yet")
    parser.add_argument("--renew", action="store_true", help="and those that are")
    args = parser.parse_args()
    if args.host:
        sys.path.insert(0, str(Path(__file__).parent))
        stored = ROOT / "tests" / "nodes" / "core_nodes.json"
        known_before = json.loads(stored.read_text("utf-8"))
        kept = {name: known_before[name] for name in CORE if name in known_before}
        _write(stored, {**kept, **core_nodes(args.host)} if args.renew else {**core_nodes(args.host), **kept})
    known = known_nodes()
    for build in WORKFLOW_BUILDERS:
        flow = Workflow(build.__name__, known)
        build(flow)
        flow.save()
        print(f"{build.__name__}: {len(flow.nodes)} nodes, {sum(node['type'] in NOTES for node in flow.nodes)} note")
    for blueprint in (blueprint_text_to_human, blueprint_sculpt, blueprint_paint):
        save_blueprint(blueprint(known), known)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
