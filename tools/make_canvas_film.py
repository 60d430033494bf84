"""A film of a workflow on ComfyUI's real canvas, of screenshots: dropped, run, and its human turning in the viewer.

    python tools/make_canvas_film.py http://127.0.0.1:8188 docs/images/canvas.webp [--name text_to_human]

What the page shows is what the host draws; the arrow is put over it, a browser without a window has none. The run is
shortened to `MOST` pictures.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any

from check_canvas import CLOSE_UP, DROP, FIT, LOADED, PAUSE, READY, ROOT, VIEWER_BOX, VIEWERS, ask, open_browser
from PIL import Image

WINDOW, SHOWN = (1280, 720), (960, 540)  # pixels
PACE, MOST = 2.0, 40  # seconds of the run from picture to picture at least, pictures of it that are shown
MOMENT, RUNNING, TURNING, LAST = 700, 160, 90, 1500  # milliseconds that a picture stays
TURNS = 36  # pictures of a whole turn
QUALITY = 55
ARROW = """([x, y, label]) => {
  let arrow = document.getElementById('film-arrow');
  if (!arrow) {
    arrow = document.createElement('div');
    arrow.id = 'film-arrow';
    arrow.style = 'position:fixed;z-index:99999;pointer-events:none;font:14px sans-serif;color:white';
    document.body.append(arrow);
  }
  arrow.style.left = x + 'px';
  arrow.style.top = y + 'px';
  const chip = 'background:#3a6ea5;padding:4px 8px;border-radius:4px;margin:-4px 0 0 14px';
  arrow.innerHTML = '<svg width="22" height="30"><path d="M2 2v22l6-5 4 9 4-2-4-8h8z" fill="white" stroke="black"/>'
    + '</svg>' + (label ? `<div style="${chip}">${label}</div>` : '');
}"""
PAINTER = "() => window.app.graph._nodes.find(node => /Painter|Optimizer/.test(node.type)).id"
VIEW = "() => [window.app.canvas.ds.scale, ...window.app.canvas.ds.offset]"
LOOK = """([scale, x, y]) => {
  const canvas = window.app.canvas;
  canvas.ds.scale = scale;
  canvas.ds.offset = [x, y];
  canvas.setDirty(true, true);
}"""


class Film:
    """Pictures of a page with the time that each stays."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.pictures: list[Image.Image] = []
        self.times: list[int] = []

    def take(self, milliseconds: int) -> None:
        self.page.evaluate("window.app.canvas.draw(true, true)")
        self.page.wait_for_timeout(100)  # what stands over the canvas follows it
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        self.pictures.append(picture.resize(SHOWN, Image.Resampling.LANCZOS))
        self.times.append(milliseconds)

    def arrow(self, x: float, y: float, label: str = "") -> None:
        self.page.evaluate(ARROW, [x, y, label])

    def glide(self, end: list[float], pictures: int = 6) -> None:
        """Move the canvas's view, scale evenly in its logarithm."""
        begin = self.page.evaluate(VIEW)
        for number in range(1, pictures + 1):
            share = (1 - math.cos(math.pi * number / pictures)) / 2
            scale = begin[0] ** (1 - share) * end[0] ** share
            # What is in the window's middle moves on a line, as its scale does.
            along = share if end[0] == begin[0] else (1 / scale - 1 / begin[0]) / (1 / end[0] - 1 / begin[0])
            self.page.evaluate(LOOK, [scale, *(a + along * (b - a) for a, b in zip(begin[1:], end[1:], strict=True))])
            self.take(80)

    def thin(self, begin: int) -> None:
        """Keep at most `MOST` of the pictures since `begin`, evenly."""
        step = max(1, math.ceil((len(self.pictures) - begin) / MOST))
        self.pictures[begin:], self.times[begin:] = self.pictures[begin::step], self.times[begin::step]

    def save(self, path: Path) -> None:
        first, *rest = self.pictures
        first.save(path, save_all=True, append_images=rest, duration=self.times, loop=0, quality=QUALITY, method=4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="a running ComfyUI")
    parser.add_argument("out", type=Path, help="the film, WebP")
    parser.add_argument("--name", default="text_to_human", help="the workflow")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        browser = open_browser(playwright, profile, WINDOW)
        film = Film(browser.new_page())
        film.page.set_default_timeout(180_000)
        film.page.goto(args.url, wait_until="domcontentloaded", timeout=180_000)
        film.page.wait_for_function(READY)
        film.page.wait_for_timeout(3000)
        film.page.keyboard.press("Escape")  # the template browser of a first visit
        try:
            drop(film, args.name)
            run(film, args.url)
            turn(film)
        finally:  # what there is of it, if it takes too long on a busy machine
            if film.pictures:
                film.save(args.out)
        browser.close()
    size = args.out.stat().st_size
    print(f"{args.out}: {len(film.pictures)} pictures, {sum(film.times) / 1000:.0f} s, {size:,} bytes")
    return 0


def drop(film: Film, name: str) -> None:
    page, label = film.page, f"{name}.json"
    text = (ROOT / "example_workflows" / f"{name}.json").read_text("utf-8")
    page.evaluate("window.app.graph.clear()")
    for number in range(6):
        film.arrow(1250 - 110 * number, 640 - 50 * number, label)
        film.take(120)
    page.evaluate(DROP, [name, text])
    page.wait_for_function(LOADED, arg=len(json.loads(text)["nodes"]))
    page.wait_for_timeout(3000)
    page.evaluate(FIT)
    page.wait_for_timeout(1500)
    film.arrow(700, 390)
    film.take(2 * MOMENT)


def run(film: Film, url: str) -> None:
    page = film.page
    before = set(ask(url, "/history"))
    button = page.get_by_role("button", name=re.compile(r"^(Run|Queue)( \(.*\))?$")).first
    box = button.bounding_box()
    goal = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for share in (0.4, 0.8, 1.0):
        film.arrow(*(a + share * (b - a) for a, b in zip((700, 390), goal, strict=True)))
        film.take(120)
    whole = page.evaluate(VIEW)
    button.click()
    film.take(MOMENT)
    film.arrow(-100, -100)
    page.mouse.move(600, 680)
    page.evaluate(CLOSE_UP, page.evaluate(PAINTER))
    near = page.evaluate(VIEW)
    page.evaluate(LOOK, whole)
    film.glide(near)
    page.evaluate(PAUSE, True)  # drawing by software all the time takes the processor that the run needs
    begin = len(film.pictures)
    while not set(ask(url, "/history")) - before:
        film.take(RUNNING)
        page.wait_for_timeout(1000 * PACE)
    film.thin(begin)
    page.evaluate(PAUSE, False)
    page.wait_for_timeout(2000)
    film.take(MOMENT)
    film.glide(whole)
    page.wait_for_timeout(4000)  # until the viewer has read the file
    film.take(MOMENT)


def turn(film: Film) -> None:
    page = film.page
    (viewer,) = page.evaluate(VIEWERS)
    whole = page.evaluate(VIEW)
    page.evaluate(CLOSE_UP, viewer)
    near = page.evaluate(VIEW)
    page.evaluate(LOOK, whole)
    film.glide(near)
    page.wait_for_timeout(3000)
    left, top, right, bottom = page.evaluate(VIEWER_BOX)
    x, y = (left + right) / 2, (top + bottom) / 2
    step = (bottom - top) / TURNS  # the viewer turns once for its height
    page.evaluate(PAUSE, True)  # the viewer draws all the time as it is
    page.mouse.move(x, y)
    page.mouse.down()
    for number in range(1, TURNS + 1):
        page.mouse.move(x + number * step, y)
        page.wait_for_timeout(250)
        film.take(TURNING)
    page.mouse.up()
    film.times[-1] = LAST


if __name__ == "__main__":
    raise SystemExit(main())
