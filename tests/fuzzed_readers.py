"""Every reader of files, a small file for it, and what broken copies of that file may lead to: a sentence, or a result.

What other nodes send over a workflow's wires is a file here too: JSON of the payload's fields.
`python tests/fuzzed_readers.py 20000` tries so many broken copies of each; `test_fuzzed_readers.py` a few in the gate.
Names of formats behind the number choose some, `--seed WORD` makes other copies.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import random
import re
import signal
import struct
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType, SimpleNamespace

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

LONGEST = 20  # seconds that one file may take on a busy machine
WIRE = ".wire"  # ending of files that stand for what comes over a workflow's wire
ODD_NUMBERS = ("0", "-1", "1e999", "nan", "-inf", "4294967296", "0.0000001", "1e30", "3.5", "", "x", "99999999999999")
ODD_VALUES = (None, True, -1, 0, 1, 2**31, 2**63, 1.5, 1e308, "", "x", [], {}, [1, 2], [None], {"a": 1}, [[1]])


@dataclass(frozen=True)
class Format:
    """A reader with a folder of files that it reads; the first is the one that is named, all may be broken."""

    name: str
    files: dict[str, bytes]
    read: Callable[[Path], object]


def broken(content: bytes, name: str, draw: random.Random) -> bytes:
    """A copy with some faults, as they come: cut off, bytes changed, pieces lost or doubled, numbers made odd."""
    if name.endswith(WIRE):  # what travels there is whole, but may be anything
        return _odd_json(content, draw) if draw.random() < 0.7 else broken(_odd_json(content, draw), name, draw)
    kinds: list[Callable[[bytes, random.Random], bytes]] = [_bits, _cut, _lost, _doubled, _swapped]
    if name.endswith((".glb", ".gltf", ".json")):
        kinds += [_odd_json] * 8
    if name.endswith(".safetensors"):
        kinds += [_odd_header] * 16
    if name.endswith((".bvh", ".obj", ".mtl", ".ply", ".gltf", ".json", ".txt")):
        kinds += [_odd_number] * 6 + [_lines] * 3
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        content = draw.choice(kinds)(content, draw)
    return content


def _bits(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 2, 8, 40))):
        if changed:
            changed[draw.randrange(len(changed))] = draw.choice((0, 255, 128, draw.randrange(256)))
    return bytes(changed)


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _lost(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + content[at + draw.choice((1, 4, 30)) :]


def _doubled(content: bytes, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(content) + 1), draw.choice((1, 8, 100))
    return content[: at + size] + content[at:]


def _swapped(content: bytes, draw: random.Random) -> bytes:
    a, b = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:a] + content[b:] + content[a:b]


def _odd_number(content: bytes, draw: random.Random) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not found:
        return content
    match = draw.choice(found)
    return content[: match.start()] + draw.choice(ODD_NUMBERS).encode() + content[match.end() :]


def _lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    at, to = draw.randrange(len(lines)), draw.randrange(len(lines))
    action = draw.randrange(3)
    if action == 0:
        del lines[at]
    elif action == 1:
        lines.insert(to, lines[at])
    else:
        lines[at], lines[to] = lines[to], lines[at]
    return b"\n".join(lines)


def _odd_json(content: bytes, draw: random.Random) -> bytes:
    """One value of the document, or of a GLB's, made another of any kind, lost, or put under another name."""
    if content[:4] != b"glTF":
        text = _changed_json(content, draw)
        return _bits(content, draw) if text is None else text
    length = struct.unpack_from("<I", content, 12)[0] if len(content) >= 16 else 0
    text = _changed_json(content[20 : 20 + length], draw)
    if text is None:
        return _bits(content, draw)
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + content[20 + length :]
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def _odd_header(content: bytes, draw: random.Random) -> bytes:
    """The same in the header of a safetensors file, mostly in the numbers of its state, which are JSON in that JSON."""
    length = struct.unpack_from("<Q", content)[0] if len(content) >= 8 else 0
    try:
        header = json.loads(content[8 : 8 + length])
        state = header["__metadata__"]["state"].encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        return _bits(content, draw)
    if draw.random() < 0.7:
        numbers = _changed_json(state, draw)
        header["__metadata__"]["state"] = (state if numbers is None else numbers).decode("utf-8", "replace")
        text: bytes | None = json.dumps(header).encode()
    else:
        text = _changed_json(content[8 : 8 + length], draw)
    if text is None:
        return _bits(content, draw)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def _changed_json(text: bytes, draw: random.Random) -> bytes | None:
    """None where it is no JSON."""
    try:
        document = json.loads(text)
    except (ValueError, UnicodeDecodeError, RecursionError):
        return None
    places = list(_places(document))
    if not places:
        return text
    holder, key = draw.choice(places)
    action = draw.randrange(4)
    if action == 0 and isinstance(holder, dict):
        del holder[key]
    elif action == 1:
        other, name = draw.choice(places)
        holder[key] = other[name]
    else:
        holder[key] = draw.choice(ODD_VALUES)
    try:
        return json.dumps(document).encode()
    except (ValueError, RecursionError):  # it holds itself now
        return text


def _places(document: object) -> Iterator[tuple[dict | list, str | int]]:
    keys = list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else []
    for key in keys:
        yield document, key
        yield from _places(document[key])


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """`TimeoutError` for what does not come back."""

    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(form: Format, folder: Path, draw: random.Random) -> str | None:
    """One broken copy read: None if all is well, else what went wrong. The copy stays in the folder."""
    from humannorm.checks import InputError

    named = draw.choice(list(form.files))
    for name, content in form.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(broken(content, name, draw) if name == named else content)
    try:
        with within(LONGEST), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            form.read(folder / next(iter(form.files)))
    except InputError as error:
        return None if str(error).strip() else "an InputError without words"
    except FileNotFoundError:
        return None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return traceback.format_exc()
    return None


def formats() -> dict[str, Format]:
    """All readers by name."""
    import transformers.models.clip.tokenization_clip  # noqa: F401 (its first import takes longer than a file may)

    from humannorm.body import load_body
    from humannorm.body.bvh import load_bvh
    from humannorm.body.joint_names import read_joint_table
    from humannorm.body.retarget import read_motion
    from humannorm.checks import InputError
    from humannorm.export import load_baked
    from humannorm.export.skinned import read_skinned_glb, surface_of_glb
    from humannorm.geometry.state import extract_mesh
    from humannorm.geometry.state import load_state as load_sculpture
    from humannorm.guidance.folders import load_tokenizer, model_folder, read_weights, weights_file
    from humannorm.guidance.synchronised import load_walk
    from humannorm.images import load_png
    from humannorm.mesh_io import load_mesh
    from humannorm.models import camera_plan
    from humannorm.pipeline import is_finished, prompt_of
    from humannorm.texture.state import load_state
    from humannorm.training.scans import find_scans

    body = load_body(pose="rest")
    sockets, viewer = _node_module("host_mesh"), _node_module("views")

    def motion(path: Path) -> object:
        return read_motion(load_bvh(path), body)

    def model(path: Path) -> object:
        folder = model_folder(path.parent.parent)
        return read_weights(weights_file(folder / "unet")), camera_plan(folder)

    def record(path: Path) -> object:
        is_finished(path.parent)
        return prompt_of(path.parent)

    def sculpture(path: Path) -> object:
        return extract_mesh(load_sculpture(path, torch.Generator()))

    def painting(path: Path) -> object:
        state = load_state(path, torch.Generator())
        return state.field.at(state.mesh.vertices)

    def wired_mesh(path: Path) -> object:
        return sockets.description_of(sockets.baked_from_host(_payload(json.loads(path.read_bytes()))))

    def wired_file(path: Path) -> object:
        said, content = json.loads(path.read_bytes()), path.with_name("a.glb").read_bytes()
        kind = said.get("format") if isinstance(said, dict) else said
        file = SimpleNamespace(format=kind, get_source=lambda: None, get_bytes=lambda: content)
        return sockets.baked_from_host(file, "model_3d")

    def wired_viewer(path: Path) -> object:
        said = json.loads(path.read_bytes())
        if not isinstance(said, dict):
            raise InputError("no payload at all")
        viewer.chosen_views(str(said.get("views")))
        mesh = viewer.as_in_viewer(body.to_mesh(), said.get("model_3d_info"))
        return mesh, viewer.viewer_camera(said.get("camera_info"))

    def refused_or(read: Callable[[Path], object], *others: Callable[[Path], object]) -> Callable[[Path], object]:
        def all_of(path: Path) -> object:
            for each in (read, *others):
                try:
                    each(path)
                except InputError:
                    continue
            return read(path)

        return all_of

    made = [
        Format("glb", {"a.glb": _glb()}, refused_or(load_mesh, surface_of_glb, load_baked)),
        Format("skinned glb", {"a.glb": _skinned()}, refused_or(load_mesh, surface_of_glb, read_skinned_glb)),
        Format("gltf", {"a.gltf": _gltf(), "a.bin": _square().tobytes()}, load_mesh),
        Format("obj", {"a.obj": _OBJ, "a.mtl": _MTL, "a.png": _png("RGB")}, load_mesh),
        Format("ply ascii", {"a.ply": _ply("ascii")}, load_mesh),
        Format("ply binary", {"a.ply": _ply("binary_little_endian")}, load_mesh),
        Format("stl", {"a.stl": _stl()}, load_mesh),
        Format("bvh", {"a.bvh": _BVH}, motion),
        Format("png", {"a.png": _png("RGBA")}, load_png),
        Format("png 16 bits", {"a.png": _png("I;16")}, load_png),
        Format("jpeg", {"a.jpg": _png("L", "JPEG")}, load_png),
        Format("texture state", {"state.safetensors": _texture_state()}, painting),
        Format("geometry state", {"state.safetensors": _geometry_state()}, sculpture),
        Format("walk", {"walk.safetensors": _walk()}, lambda path: load_walk(path, torch.Generator(), {"prompt": "a"})),
        Format("model folder", _model_files(), model),
        Format("tokenizer", {"tokenizer/vocab.json": b'{"a": 0, "b</w>": 1, "ab</w>": 2}',
               "tokenizer/merges.txt": b"#version: 0.2\na b</w>\n",
               "tokenizer/tokenizer_config.json": b'{"model_max_length": 77}'},
               lambda path: load_tokenizer(path.parent.parent)),
        Format("captions", {"captions.json": b'{"a.obj": {"caption": "a man", "front": 90}}', "a.obj": _OBJ,
               "b.obj": _OBJ, "b.txt": b"a woman\n"}, lambda path: find_scans(path.parent)),
        Format("run.json", {"run.json": b'{"format": "x", "request": {"prompt": "a man"}, "stages": {"sculpt": {}}}'},
               record),
        Format("joints.json", {"joints.json": b'{"file": "a.bvh", "joints": {"Hips": "root", "x": null}}'},
               read_joint_table),
        Format("workflow mesh", {f"payload{WIRE}": json.dumps(_MESH_PAYLOAD).encode()}, wired_mesh),
        Format("workflow 3d file", {f"payload{WIRE}": b'{"format": "glb"}', "a.glb": _glb()}, wired_file),
        Format("workflow viewer", {f"payload{WIRE}": json.dumps(_VIEWER_PAYLOAD).encode()}, wired_viewer),
    ]  # fmt: skip
    return {each.name: each for each in made}


def _node_module(name: str) -> ModuleType:
    """A module of `nodes/` that needs the host in some of its functions only."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "nodes" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


def _payload(fields: object) -> object:
    """What may come over a MESH wire: rectangular lists as tensors, all else as it is."""
    if not isinstance(fields, dict):
        return fields

    def value(given: object) -> object:
        if not isinstance(given, list):
            return given
        try:
            return torch.tensor(given)
        except (TypeError, ValueError, RuntimeError):
            return given

    return SimpleNamespace(**{str(name): value(given) for name, given in fields.items()})


_MESH_PAYLOAD = {
    "vertices": [[[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]], "faces": [[[0, 1, 2], [0, 2, 3]]],
    "vertex_counts": [4], "face_counts": [2], "uvs": [[[0.0, 0], [1, 0], [1, 1], [0, 1]]],
    "vertex_colors": [[[1.0, 0, 0, 1]] * 4], "normals": [[[0.0, 0, 1]] * 4], "tangents": [[[1.0, 0, 0, 1]] * 4],
    "texture": [[[[1.0, 0, 0]] * 2] * 2], "normal_map": [[[[0.5, 0.5, 1]]]], "metallic_roughness": [[[[1.0, 0.5, 0]]]],
    "emissive": [[[[0.0, 0, 0]]]], "occlusion_in_mr": True, "unlit": False,
    "material": {"base_color_factor": [1.0, 0.5, 1, 1], "metallic_factor": 0.5, "roughness_factor": -1,
                 "emissive_factor": [0, 0, 1], "emissive_strength": 2.0, "normal_scale": 1.0, "occlusion_strength": 1,
                 "double_sided": True},
}  # fmt: skip
_VIEWER_PAYLOAD = {
    "views": "front,left,30", "camera_info": {"position": {"x": 1, "y": 1.5, "z": 3},
                                              "target": {"x": 0, "y": 1, "z": 0}, "zoom": 1,
                                              "cameraType": "perspective", "fov": 35},
    "model_3d_info": [{"position": {"x": 0, "y": 0, "z": 0}, "quaternion": {"x": 0, "y": 0, "z": 0, "w": 1},
                       "scale": {"x": 1, "y": 1, "z": 1}}],
}  # fmt: skip


def _square() -> np.ndarray:
    return np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)


def _png(mode: str, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12), np.uint8)
    picture = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels)
    (picture if mode == "I;16" else picture.convert(mode)).save(stream, format=kind)
    return stream.getvalue()


def _glb() -> bytes:
    """A textured square with vertex colours, a texture transform, normalised and sparse accessors, an instance."""
    picture = _png("RGB")
    pieces = [
        _square().tobytes(), (_square()[:, :2] * 65535).astype("<u2").tobytes(), bytes(range(0, 160, 10)),
        np.array([0, 1, 2, 0, 2, 3], "<u2").tobytes(), picture, np.array([[0, 0, 0], [2, 0, 0]], "<f4").tobytes(),
        b"\x01\0\0\0" + np.array([1, 0, 1], "<f4").tobytes(),
    ]  # fmt: skip
    views, data = [], b""
    for piece in pieces:
        data += b"\0" * (-len(data) % 4)
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": len(piece)})
        data += piece

    def accessor(view: int, kind: int, count: int, shape: str, **more: object) -> dict:
        return {"bufferView": view, "componentType": kind, "count": count, "type": shape, **more}

    sparse = {
        "count": 1,
        "indices": {"bufferView": 6, "componentType": 5121},
        "values": {"bufferView": 6, "byteOffset": 4},
    }
    info = {"index": 0, "extensions": {"KHR_texture_transform": {"offset": [0.5, 0], "scale": [3, 2], "rotation": 1}}}
    document = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0, 1]}], "bufferViews": views,
        "buffers": [{"byteLength": len(data)}],
        "nodes": [{"mesh": 0, "children": [2], "translation": [1, 2, 3], "rotation": [0, 0, 0, 1], "scale": [1, -1, 1]},
                  {"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 4}}}},
                  {"mesh": 0, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 4, 4, 4, 1]}],
        "accessors": [accessor(0, 5126, 4, "VEC3", sparse=sparse), accessor(1, 5123, 4, "VEC2", normalized=True),
                      accessor(2, 5121, 4, "VEC4", normalized=True), accessor(3, 5123, 6, "SCALAR"),
                      accessor(5, 5126, 2, "VEC3")],
        "images": [{"mimeType": "image/png", "bufferView": 4}], "samplers": [{"wrapS": 33648, "wrapT": 10497}],
        "textures": [{"source": 0, "sampler": 0}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": info, "baseColorFactor": [0.5, 1, 1, 1]}}],
        "meshes": [{"weights": [0.5], "primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1, "COLOR_0": 2},
                    "indices": 3, "material": 0, "mode": 4, "targets": [{"POSITION": 0}]}]}],
    }  # fmt: skip
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    data += b"\0" * (-len(data) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def _skinned() -> bytes:
    """What `write_skinned_glb` writes of a square on two joints, with a clip."""
    import tempfile

    from humannorm.body.skin_binding import JointMotion, SkinBinding
    from humannorm.export.skinned import write_skinned_glb
    from humannorm.mesh import Mesh

    mesh = Mesh(torch.from_numpy(_square()), torch.tensor([[0, 1, 2], [0, 2, 3]]))
    joints = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    weights = torch.tensor([[1.0, 0, 0, 0]] * 4)
    skin = SkinBinding(("a", "b"), (-1, 0), torch.tensor([[0.0, 0, 0], [0, 1, 0]]), joints, weights)
    turn = torch.eye(3).repeat(2, 2, 1, 1)
    turn[1, 1] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.glb"
        write_skinned_glb(path, mesh, skin, [JointMotion("wave", turn, torch.zeros(2, 3), 0.1)])
        return path.read_bytes()


def _gltf() -> bytes:
    document = {
        "asset": {"version": "2.0"}, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "buffers": [{"byteLength": 48, "uri": "a.bin"}, {"byteLength": 6, "uri": "data:;base64,AAABAAIA"}],
        "bufferViews": [{"buffer": 0, "byteLength": 48, "byteStride": 12}, {"buffer": 1, "byteLength": 6}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
                      {"bufferView": 1, "componentType": 5123, "count": 3, "type": "SCALAR"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "mode": 5}]}],
    }  # fmt: skip
    return json.dumps(document).encode()


_OBJ = b"""mtllib a.mtl
v 0 0 0 1 0 0
v 1 0 0 0 1 0
v 1 1 0 0 0 1
v 0 1 0 1 1 1
vt 0 0
vt 3 0
vt 3 2
vn 0 0 1
usemtl a
f 1/1/1 2/2/1 3/3/1
usemtl b
f -4//-1 -2//-1 -1//-1
"""
_MTL = b"newmtl a\nKd 1 0 0\nmap_Kd -s 2 2 1 -o 0.5 0 -clamp on a.png\nnewmtl b\nKd 0 1 0\n"


def _ply(form: str) -> bytes:
    head = f"ply\nformat {form} 1.0\ncomment TextureFile a.png\nelement vertex 4\n"
    head += "".join(f"property float {name}\n" for name in ("x", "y", "z", "s", "t"))
    head += "".join(f"property ushort {name}\n" for name in ("red", "green", "blue"))
    head += "element face 2\nproperty list uchar int vertex_indices\nproperty uchar red\nend_header\n"
    if form == "ascii":
        rows = [f"{x:g} {y:g} {z:g} {x:g} {y:g} 65535 100 0" for x, y, z in _square()]
        return (head + "\n".join(rows) + "\n3 0 1 2 9\n4 0 2 3 1 9\n").encode()
    rows = np.zeros(4, [(name, "<f4") for name in "xyzst"] + [(name, "<u2") for name in "rgb"])
    for at, name in enumerate("xyz"):
        rows[name] = _square()[:, at]
    faces = (
        b"\x03" + np.array([0, 1, 2], "<i4").tobytes() + b"\x09\x03" + np.array([0, 2, 3], "<i4").tobytes() + b"\x09"
    )
    return head.encode() + rows.tobytes() + faces


def _stl() -> bytes:
    triangles = np.zeros(2, [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")])
    triangles["corners"] = _square()[np.array([[0, 1, 2], [0, 2, 3]])]
    return b"binary".ljust(80) + np.array([2], "<u4").tobytes() + triangles.tobytes()


def _bvh() -> bytes:
    """A figure of fourteen joints, two frames."""
    lines: list[str] = ["HIERARCHY"]

    def joint(name: str, offset: str, inner: list[str], word: str = "JOINT") -> list[str]:
        channels = "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
        channels = channels if word == "ROOT" else "3 Zrotation Xrotation Yrotation"
        inner = inner or ["End Site", "{", "OFFSET 0 0 0", "}"]
        return [f"{word} {name}", "{", f"OFFSET {offset}", f"CHANNELS {channels}", *inner, "}"]

    limbs: list[str] = []
    arms: list[str] = []
    for side, x in (("Left", 1), ("Right", -1)):
        limbs += joint(
            f"{side}UpLeg", f"{9 * x} -5 0", joint(f"{side}Leg", "0 -40 0", joint(f"{side}Foot", "0 -40 0", []))
        )
        arms += joint(f"{side}Arm", f"{12 * x} 10 0", joint(f"{side}ForeArm", f"{28 * x} 0 0", []))
    lines += joint("Hips", "0 90 0", [*limbs, *joint("Spine", "0 20 0", arms)], "ROOT")
    count = 6 + 3 * 11
    rows = [" ".join(["0 90 0"] + [f"{(k * number) % 7}" for k in range(count - 3)]) for number in (0, 1)]
    return "\n".join([*lines, "MOTION", "Frames: 2", "Frame Time: 0.033", *rows, ""]).encode()


_BVH = _bvh()


def _texture_state() -> bytes:
    import dataclasses
    import tempfile

    from humannorm.mesh import Mesh
    from humannorm.texture.fields import UvColorSettings
    from humannorm.texture.settings import preset
    from humannorm.texture.state import save_state, start_state

    uvs = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]])
    mesh = Mesh(torch.from_numpy(_square()), torch.tensor([[0, 1, 2], [0, 2, 3]]), uvs=uvs)
    settings = dataclasses.replace(preset("quick"), field=UvColorSettings(4))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        save_state(start_state(mesh, settings, torch.Generator().manual_seed(0)), path)
        return path.read_bytes()


def _geometry_state() -> bytes:
    """A ball in a dense field, labelled, with a hold, a record and targets."""
    import dataclasses
    import tempfile

    import trimesh

    from humannorm.distance.signed_distance import SignedDistance
    from humannorm.geometry.fields import DenseFieldSettings
    from humannorm.geometry.fitting import FitSettings
    from humannorm.geometry.holding import Hold
    from humannorm.geometry.labelled import LabelledSurface
    from humannorm.geometry.losses import SdfRecord
    from humannorm.geometry.settings import preset
    from humannorm.geometry.start import StartMesh
    from humannorm.geometry.state import save_state, start_state
    from humannorm.guidance.targets import TargetCache
    from humannorm.mesh import Mesh
    from humannorm.schedules import constant

    ball = trimesh.creation.icosphere(1, 0.6)
    mesh = Mesh(torch.tensor(ball.vertices, dtype=torch.float32), torch.tensor(ball.faces).long())
    settings = dataclasses.replace(
        preset("quick"), field=DenseFieldSettings((4, 8)), active_levels=constant(2), resolution=constant(12),
        fit=FitSettings(steps=20, points=256, pool=1000),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    start = StartMesh(mesh, SignedDistance(mesh.vertices, mesh.faces), ())
    state = dataclasses.replace(
        start_state(start, settings, generator)[0],
        labelled=LabelledSurface(mesh, torch.zeros(len(mesh.faces), dtype=torch.int64)),
        hold=Hold(mesh, torch.zeros(3, 3, 3), 12),
        record=SdfRecord(torch.zeros(2, 3), torch.zeros(2)),
        history=torch.zeros(2, 6),
        targets={"normal": TargetCache.empty("a man", 1, 4, torch.zeros(4, 2, 2))},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        save_state(state, path, generator)
        return path.read_bytes()


def _walk() -> bytes:
    import tempfile

    from humannorm.guidance.synchronised import Walk, save_walk

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.safetensors"
        save_walk(path, Walk(torch.zeros(1, 4, 2, 2), 3), torch.Generator(), {"prompt": "a"})
        return path.read_bytes()


def _model_files() -> dict[str, bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.safetensors"
        save_file({"a.weight": torch.zeros(2, 3), "b.bias": torch.ones(2)}, path)
        weights = path.read_bytes()
    configs = {
        "unet": {"in_channels": 4, "cross_attention_dim": 32, "sample_size": 8, "block_out_channels": [32, 64]},
        "vae": {"latent_channels": 4, "sample_size": None, "block_out_channels": [32, 32]},
        "text_encoder": {"hidden_size": 32},
    }
    plan = {"camera_plan": {"crops": []}}
    return {
        "unet/config.json": json.dumps(configs["unet"]).encode(),
        "unet/diffusion_pytorch_model.safetensors": weights,
        "unet/diffusion_pytorch_model.bin": b"\x80\x02}q\x00.",
        "vae/config.json": json.dumps(configs["vae"]).encode(),
        "text_encoder/config.json": json.dumps(configs["text_encoder"]).encode(),
        "tokenizer/vocab.json": b"{}",
        "scheduler/scheduler_config.json": b'{"prediction_type": "epsilon", "num_train_timesteps": 1000}',
        "model_card.json": json.dumps(plan).encode(),
    }


def main(count: int, only: list[str], seed: str = "") -> int:
    """So many broken copies of every format; the faults, and their number."""
    import tempfile

    faults = 0
    for name, form in formats().items():
        if only and name not in only:
            continue
        draw, seen = random.Random(f"{seed}{name}"), set()
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                fault = attempt(form, Path(folder), draw)
                if fault is not None:
                    faults += 1
                    last = fault.strip().splitlines()[-1]
                    if last not in seen:
                        seen.add(last)
                        print(f"{name} {number}: {fault if len(seen) < 4 else last}", flush=True)
        print(f"{name}: {count} broken copies, {len(seen)} kinds of fault", flush=True)
    return faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("only", nargs="*")
    parser.add_argument("--seed", default="")
    arguments = parser.parse_args()
    sys.exit(min(main(arguments.count, arguments.only, arguments.seed), 1))
