"""Play an animated GLB in three.js inside a headless Chromium and keep screenshots.

    npm install three            # once, anywhere
    python tools/play_glb.py animated.glb --three node_modules/three --out DIR

One picture for each time of --times, by three's own GLTFLoader and AnimationMixer with software rendering. Exit status
1 when the page reports an error or shows nothing.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import itertools
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
from PIL import Image

PAGE = """<!doctype html><meta charset="utf-8"><style>body{margin:0}</style>
<script type="importmap">{"imports": {"three": "./three/build/three.module.js"}}</script>
<script type="module">
import * as THREE from 'three';
import {GLTFLoader} from './three/examples/jsm/loaders/GLTFLoader.js';
const time = parseFloat(new URLSearchParams(location.search).get('time'));
const name = new URLSearchParams(location.search).get('clip');
const renderer = new THREE.WebGLRenderer({antialias: true, preserveDrawingBuffer: true});
renderer.setSize(innerWidth, innerHeight);
document.body.appendChild(renderer.domElement);
const scene = new THREE.Scene();
scene.background = new THREE.Color(0xeeeeee);
scene.add(new THREE.HemisphereLight(0xffffff, 0x888888, 2.5));
const lamp = new THREE.DirectionalLight(0xffffff, 2);
lamp.position.set(1, 2, 3);
scene.add(lamp);
const gltf = await new GLTFLoader().loadAsync('./human.glb');
scene.add(gltf.scene);
const clip = name ? THREE.AnimationClip.findByName(gltf.animations, name) : gltf.animations[0];
if (!clip) throw new Error('no clip ' + name);
const mixer = new THREE.AnimationMixer(gltf.scene);
mixer.clipAction(clip).play();
mixer.setTime(time);
gltf.scene.updateMatrixWorld(true);
const box = new THREE.Box3().setFromObject(gltf.scene, true);
const middle = box.getCenter(new THREE.Vector3()), size = box.getSize(new THREE.Vector3()).length();
const camera = new THREE.PerspectiveCamera(35, innerWidth / innerHeight, size / 100, size * 10);
camera.position.copy(middle).add(new THREE.Vector3(0.95, 0.18, 1.45).multiplyScalar(size));
camera.lookAt(middle);
renderer.render(scene, camera);
document.title = 'played ' + clip.name;
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glb", type=Path)
    parser.add_argument("--three", type=Path, required=True, help="folder of the npm package three")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clip", default="", help="name of the animation (default: the first)")
    parser.add_argument("--times", default="0,0.25,0.5,0.75", help="seconds, parted by commas")
    parser.add_argument("--size", type=int, default=480, help="side of the pictures in pixels")
    args = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("chromium: expected it on the path, got none")
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copy(args.glb, root / "human.glb")
        (root / "index.html").write_text(PAGE, encoding="utf-8")
        (root / "three").symlink_to(args.three.resolve())
        handler = functools.partial(Quiet, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}/index.html?clip={args.clip}"
            pictures = [shot(browser, f"{address}&time={time}", args, time) for time in args.times.split(",")]
            server.shutdown()
    stages = [np.asarray(Image.open(picture).convert("RGB"), dtype=int) for picture in pictures]
    if min(int(stage.std()) for stage in stages) < 3:
        print("a picture shows nothing")
        return 1
    moved = [float(np.abs(after - before).mean()) for before, after in itertools.pairwise(stages)]
    print(f"{len(pictures)} pictures in {args.out}; mean change from one to the next {[round(m, 2) for m in moved]}")
    return 0


def shot(browser: str, address: str, args: argparse.Namespace, time: str) -> Path:
    picture = args.out / f"play_{time}.png"
    command = [
        browser, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", f"--window-size={args.size},{args.size}", "--virtual-time-budget=20000",
        "--enable-logging=stderr", f"--screenshot={picture.resolve()}", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "Error" in line]
    if errors or not picture.exists():
        raise SystemExit("\n".join(errors) or f"{browser} wrote no picture: {done.stderr[-500:]}")
    return picture


if __name__ == "__main__":
    raise SystemExit(main())
