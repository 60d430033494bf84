"""Run the workflows on a ComfyUI and write example_workflows/NAME.jpg from the pictures that their nodes show.

    python tools/make_thumbnails.py http://127.0.0.1:8188 [NAME ...] [--steps N]
    python tools/make_thumbnails.py --of HUMAN.glb[,...] [--of ...] NAME

The graphs are the twins in API format. `edit` and `edit_clothes` need the states that `text_to_human` saves;
`text_to_human_sd15` needs the published weights. --steps shortens every optimiser. --of: no ComfyUI, but files that a
workflow wrote, in a row; what may stand behind a comma says tools/make_registry_art.py.
"""

from __future__ import annotations

import argparse
import io
import json
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
API = ROOT / "tests" / "nodes" / "api"
SIDE, MOST = 512, 4  # pixels, pictures in it
# Nodes whose pictures say best what a workflow is for, best first.
SHOWN = (
    "HumanNormMultiviewPainter", "HumanNormTextureRefiner", "PreviewImage", "HumanNormAnimate", "HumanNormEdit",
    "HumanNormTextureOptimizer", "HumanNormGeometryOptimizer",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="a running ComfyUI")
    parser.add_argument("names", nargs="*", help="workflows (default: all)")
    parser.add_argument("--of", action="append", metavar="HUMAN.glb[,...]", help="a human of the picture")
    parser.add_argument("--steps", type=int, help="steps of every optimiser")
    args = parser.parse_intermixed_args()
    if args.of:
        save_row(ROOT / "example_workflows" / f"{args.url}.jpg", args.of)
        return 0
    for name in args.names or sorted(path.stem for path in API.glob("*.json")):
        begin = time.monotonic()
        graph = json.loads((API / f"{name}.json").read_text("utf-8"))
        for node in graph.values():
            if args.steps and node["class_type"].endswith(("Optimizer", "Refiner", "Edit")):
                node["inputs"] |= {name: args.steps for name in node["inputs"] if name.endswith("steps")}
        outputs = run(args.url, graph)
        save_thumbnail(ROOT / "example_workflows" / f"{name}.jpg", pictures(args.url, graph, outputs))
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
    return 0


def save_row(path: Path, humans: list[str]) -> None:
    """Humans side by side."""
    from make_registry_art import Figure, in_a_row

    from humannorm.images import to_pil

    to_pil(in_a_row([Figure.read(text) for text in humans], SIDE, SIDE)).save(path, quality=90)


def run(url: str, graph: dict[str, Any]) -> dict[str, Any]:
    """What the nodes showed, by node id."""
    request = urllib.request.Request(
        f"{url}/prompt", json.dumps({"prompt": graph}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        prompt_id = json.loads(answer.read())["prompt_id"]
    while True:
        time.sleep(1.0)
        with urllib.request.urlopen(f"{url}/history/{prompt_id}", timeout=60) as answer:
            entry = json.loads(answer.read()).get(prompt_id)
        if entry is not None:
            if entry["status"]["status_str"] != "success":
                raise SystemExit(json.dumps(entry["status"], indent=1))
            return dict(entry["outputs"])


def pictures(url: str, graph: dict[str, Any], outputs: dict[str, Any]) -> list[Any]:
    """The first pictures of the nodes that are shown, one row."""
    from PIL import Image

    found = []
    ordered = sorted(outputs, key=lambda node_id: (rank(graph[node_id]["class_type"]), int(node_id)))
    rows = [outputs[node_id]["images"] for node_id in ordered if outputs[node_id].get("images")]
    for place in (place for turn in range(MOST) for row in rows for place in row[turn : turn + 1]):
        query = urllib.parse.urlencode({name: place[name] for name in ("filename", "subfolder", "type")})
        with urllib.request.urlopen(f"{url}/view?{query}", timeout=60) as answer:
            found.append(Image.open(io.BytesIO(answer.read())).convert("RGB"))
    return found[:MOST]


def rank(kind: str) -> int:
    return SHOWN.index(kind) if kind in SHOWN else len(SHOWN)


def save_thumbnail(path: Path, images: list[Any]) -> None:
    """One or four of the pictures as a square; one that stands high is cut to its middle."""
    from PIL import Image, ImageOps

    chosen = images[:4] if len(images) >= 4 else images[:1]
    side = SIDE // 2 if len(chosen) == 4 else SIDE
    sheet = Image.new("RGB", (SIDE, SIDE))
    for number, image in enumerate(chosen):
        fitted = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
        sheet.paste(fitted, (side * (number % 2), side * (number // 2)))
    sheet.save(path, quality=90)


if __name__ == "__main__":
    raise SystemExit(main())
