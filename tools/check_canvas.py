"""Drop the shipped workflows on ComfyUI's real canvas in a headless Chromium, press Run, and take screenshots.

    python tools/check_canvas.py http://127.0.0.1:8188 OUT [NAME ...] [--steps N] [--no-run]

Needs playwright, Pillow and a Chromium. Fails where a node is missing, the console has an error that names this pack,
a run does not succeed, a 3D viewer shows nobody, or a painted person there is without colours. NAME_opened.png is the
canvas as it opens, NAME_dropped.png all of it. --steps shortens every optimiser, for a quick look.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
READY = "() => window.app && window.app.graph && Object.keys(window.LiteGraph.registered_node_types).length > 100"
DROP = """([name, text]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([text], name + '.json', {type: 'application/json'}));
  document.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""
LOADED = "count => window.app.graph._nodes.length === count"
MISSING = """() => window.app.graph._nodes.filter(
  node => node.has_errors || !(node.type in window.LiteGraph.registered_node_types)).map(node => node.type)"""
SHORTEN = """steps => window.app.graph._nodes.filter(node => /Optimizer|Refiner|Edit/.test(node.type)).forEach(
  node => node.widgets.filter(widget => /steps$/.test(widget.name)).forEach(widget => { widget.value = steps; }))"""
SET = """([name, value]) => window.app.graph._nodes.forEach(node => (node.widgets || [])
  .filter(widget => widget.name === name).forEach(widget => { widget.value = value; }))"""
PAUSE = "still => { window.app.canvas.pause_rendering = still; window.app.canvas.setDirty(true, true); }"
FIT = """() => {
  const canvas = window.app.canvas, boxes = window.app.graph._groups.map(group => group._bounding);
  const left = Math.min(...boxes.map(b => b[0])), top = Math.min(...boxes.map(b => b[1]));
  const right = Math.max(...boxes.map(b => b[0] + b[2])), bottom = Math.max(...boxes.map(b => b[1] + b[3]));
  const [side, bar] = [70, 90];  // what the side bar and the tool bar cover
  const [width, height] = [canvas.canvas.clientWidth - side, canvas.canvas.clientHeight - bar];
  canvas.ds.scale = 0.97 * Math.min(width / (right - left), height / (bottom - top));
  canvas.ds.offset = [side / canvas.ds.scale - left + (width / canvas.ds.scale - (right - left)) / 2,
                      bar / canvas.ds.scale - top];
  canvas.setDirty(true, true);
}"""

# The canvas node fills the window, with the mouse on it: the viewer draws only then.
CLOSE_UP = """id => {
  const canvas = window.app.canvas, node = window.app.graph.getNodeById(id);
  const [width, height] = [canvas.canvas.clientWidth, canvas.canvas.clientHeight];
  canvas.ds.scale = 0.8 * Math.min(width / node.size[0], height / node.size[1]);
  canvas.ds.offset = [width / canvas.ds.scale / 2 - node.pos[0] - node.size[0] / 2,
                      height / canvas.ds.scale / 2 - node.pos[1] - node.size[1] / 2];
  canvas.setDirty(true, true);
}"""
UPLOADER = "window.app.graph._nodes.find(node => node.type === 'HumanNormLoadMesh')"
# A triangle: what is uploaded need not be a human.
BOX = (b"solid box\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n"
       b"endsolid box\n")  # fmt: skip
VIEWERS = "() => window.app.graph._nodes.filter(node => node.type === 'Preview3D').map(node => node.id)"
# Corners of the 3D picture (WebGL, or a copy of it) nearest to the middle of the window.
VIEWER_BOX = """() => {
  const far = box => Math.hypot((box.left + box.right - innerWidth) / 2, (box.top + box.bottom - innerHeight) / 2);
  const boxes = [...document.querySelectorAll('canvas')]
    .filter(canvas => canvas.id !== 'graph-canvas' && !/minimap/.test(canvas.className))
    .map(canvas => canvas.getBoundingClientRect()).filter(box => box.width > 50).sort((a, b) => far(a) - far(b));
  return boxes.length ? [boxes[0].left, boxes[0].top, boxes[0].right, boxes[0].bottom] : null;
}"""
COLORED = 0.05  # least share of it that is no grey, of a painted person
SOMEBODY = 0.2  # least share of the viewer's middle that is not background: lines of its floor are far less


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="a running ComfyUI")
    parser.add_argument("out", type=Path, help="folder for the screenshots")
    parser.add_argument("names", nargs="*", help="workflows (default: all)")
    parser.add_argument("--steps", type=int, help="steps of every optimiser")
    parser.add_argument(
        "--set", action="append", default=[], metavar="WIDGET=NUMBER", help="a widget of all nodes that have it"
    )
    parser.add_argument("--no-run", action="store_true", help="only drop and look")
    parser.add_argument("--seconds", type=float, default=1800, help="longest run")
    parser.add_argument("--viewer-seconds", type=float, default=300, help="longest loading of a 3D viewer")
    args = parser.parse_intermixed_args()
    from playwright.sync_api import sync_playwright

    args.out.mkdir(parents=True, exist_ok=True)
    names = args.names or sorted(path.stem for path in (ROOT / "example_workflows").glob("*.json"))
    failed = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        browser = open_browser(playwright, profile, (1920, 1080))
        for name in names:
            faults = check(browser.new_page(), name, args)
            print(f"{name}: {'; '.join(faults) or 'good'}", flush=True)
            failed += faults
        browser.close()
    return 1 if failed else 0


def open_browser(playwright: Any, profile: str, window: tuple[int, int]) -> Any:
    """The system's Chromium without a screen. window: width and height, pixels."""
    return playwright.chromium.launch_persistent_context(
        profile,
        executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
        headless=True,
        args=list(FLAGS),
        viewport=dict(zip(("width", "height"), window, strict=True)),
    )


def check(page: Any, name: str, args: argparse.Namespace) -> list[str]:
    """Faults of one workflow; its screenshots are in the folder."""
    text = (ROOT / "example_workflows" / f"{name}.json").read_text("utf-8")
    errors: list[str] = []
    page.set_default_timeout(180_000)  # a busy machine draws slowly
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(f"{error}\n{error.stack}"))
    page.goto(args.url, wait_until="domcontentloaded", timeout=180_000)
    page.wait_for_function(READY, timeout=180_000)
    page.wait_for_timeout(3000)
    page.keyboard.press("Escape")  # the template browser of a first visit
    page.evaluate(DROP, [name, text])
    page.wait_for_function(LOADED, arg=len(json.loads(text)["nodes"]), timeout=60_000)
    page.wait_for_timeout(3000)
    faults = [f"missing {kind}" for kind in page.evaluate(MISSING)]
    page.screenshot(path=args.out / f"{name}_opened.png")
    page.evaluate(FIT)
    page.wait_for_timeout(1500)
    page.screenshot(path=args.out / f"{name}_dropped.png")
    faults += check_prompt(page, name)
    faults += check_upload(page)
    if not args.no_run:
        if args.steps:
            page.evaluate(SHORTEN, args.steps)
        for setting in args.set:
            widget, _, number = setting.partition("=")
            page.evaluate(SET, [widget, float(number)])
        faults += run(page, args)
        page.wait_for_timeout(3000)
        page.screenshot(path=args.out / f"{name}_done.png")
        if not faults:
            faults += look_at_viewers(page, name, args, painted="HumanNormTexture" in text)
    ours = [error for error in errors if "humannorm" in error.lower()]
    (args.out / f"{name}_console.txt").write_text("\n".join(errors), encoding="utf-8")
    page.close()
    return faults + [f"console: {error[:300]}" for error in ours]


def check_prompt(page: Any, name: str) -> list[str]:
    """Does the canvas send the graph that the twin in API format has, with the graphs inside of nodes unfolded?"""
    twin = json.loads((ROOT / "tests" / "nodes" / "api" / f"{name}.json").read_text("utf-8"))
    sent = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    if set(sent) != set(twin):
        return [f"prompt: nodes {sorted(set(sent) ^ set(twin))} are not in both"]
    return [
        f"prompt: {node_id}.{place} is {sent[node_id]['inputs'].get(place)!r}, expected {value!r}"
        for node_id, node in twin.items()
        for place, value in node["inputs"].items()
        if sent[node_id]["inputs"].get(place) != value
    ]


def check_upload(page: Any) -> list[str]:
    """Where there is a button to upload a mesh, does a file through it become the list's choice? Put back after."""
    if not page.evaluate(f"{UPLOADER} !== undefined"):
        return []
    name = "check_canvas_box.stl"
    with page.expect_file_chooser(timeout=60_000) as chooser:
        page.evaluate(f"{UPLOADER}.widgets.find(each => each.name === 'upload a file').callback()")
    chooser.value.set_files({"name": name, "mimeType": "model/stl", "buffer": BOX})
    chosen = f"{UPLOADER}.widgets.find(each => each.name === 'file')"
    before = page.evaluate(f"{chosen}.options.values[0]")
    try:
        page.wait_for_function(f"() => /check_canvas_box.*stl$/.test({chosen}.value)", timeout=60_000)
    except Exception as error:
        return [f"upload: the file was not chosen ({error})"]
    page.evaluate(f"value => {{ {chosen}.value = value }}", before)
    return []


def run(page: Any, args: argparse.Namespace) -> list[str]:
    """Press Run and wait for the end."""
    before = set(ask(args.url, "/history"))
    begin = time.monotonic()
    page.get_by_role("button", name=re.compile(r"^(Run|Queue)( \(.*\))?$")).first.click()
    page.mouse.move(700, 1000)  # off the button, whose hint would lie on the picture
    page.wait_for_timeout(5000)
    window = page.viewport_size
    page.evaluate(PAUSE, True)  # drawing by software takes the processor that the run needs
    page.set_viewport_size({"width": 64, "height": 64})
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        new = {key: value for key, value in ask(args.url, "/history").items() if key not in before}
        if new:
            (entry,) = new.values()
            page.set_viewport_size(window)
            page.evaluate(PAUSE, False)
            print(f"run: {time.monotonic() - begin:.0f} s", flush=True)
            if entry["status"]["status_str"] == "success":
                return []
            errors = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
            return [f"run: {errors[0]['node_type']}: {errors[0]['exception_message']}" if errors else "run: no success"]
        page.wait_for_timeout(1000)
    return [f"run: not done in {args.seconds:.0f} s"]


def look_at_viewers(page: Any, name: str, args: argparse.Namespace, painted: bool) -> list[str]:
    """Wait until every 3D viewer shows somebody in its middle, with colours if `painted`; pictures of them are in the
    folder."""
    faults = []
    for node_id in page.evaluate(VIEWERS):
        page.evaluate(CLOSE_UP, node_id)
        end = time.monotonic() + args.viewer_seconds
        filled = 0.0
        while filled < SOMEBODY and time.monotonic() < end:
            page.wait_for_timeout(2000)
            corners = page.evaluate(VIEWER_BOX)
            if corners is not None:
                page.mouse.move((corners[0] + corners[2]) / 2 + filled, (corners[1] + corners[3]) / 2)
                filled = middle_filled(page.screenshot(), corners)
        picture = page.screenshot(path=args.out / f"{name}_viewer_{node_id}.png")
        if filled < SOMEBODY:
            faults.append(f"viewer {node_id}: nobody in it after {args.viewer_seconds:.0f} s")
        elif painted and middle_colored(picture, corners) < COLORED:
            faults.append(f"viewer {node_id}: somebody without colours: textures are blocked or lost")
    return faults


def middle_filled(png: bytes, corners: list[float]) -> float:
    """Share of the middle fifth of a part of a picture that has not the colour of the part's edge."""
    part = seen(png, corners)
    around = part.getpixel((part.width // 40, part.height // 2))
    middle = middle_of(part)
    colors = middle.getcolors(middle.width * middle.height)
    filled = sum(count for count, color in colors if max(abs(a - b) for a, b in zip(color, around, strict=True)) > 24)
    return filled / (middle.width * middle.height)


def middle_colored(png: bytes, corners: list[float]) -> float:
    """Share of the same part that is no grey."""
    middle = middle_of(seen(png, corners))
    colors = middle.getcolors(middle.width * middle.height)
    return sum(count for count, color in colors if max(color) - min(color) > 24) / (middle.width * middle.height)


def seen(png: bytes, corners: list[float]) -> Any:
    """Part of a picture."""
    from PIL import Image

    left, top, right, bottom = (round(corner) for corner in corners)
    return Image.open(io.BytesIO(png)).convert("RGB").crop((left, top, right, bottom))


def middle_of(part: Any) -> Any:
    width, height = part.width // 5, part.height // 5
    return part.crop((2 * width, 2 * height, 3 * width, 3 * height))


def ask(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}{path}", timeout=60) as answer:
        return json.loads(answer.read())


if __name__ == "__main__":
    sys.exit(main())
