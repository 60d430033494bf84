"""The page in a real browser: the figure stands where our own render has it, in the same colours."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from humannorm.body import load_body
from humannorm.cameras import orbit
from humannorm.checks import InputError
from humannorm.export import ExportSettings, export_mesh
from humannorm.export.page import write_page
from humannorm.images import load_png
from humannorm.mesh_io import load_mesh
from humannorm.rendering.passes import render

SIZE = 600  # pixels
AZIMUTH = 30.0


@pytest.mark.slow
def test_the_figure_in_a_browser_is_the_one_that_we_draw(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium or google-chrome")
    glb, page, picture = tmp_path / "human.glb", tmp_path / "index.html", tmp_path / "page.png"
    settings = ExportSettings(faces=3000, texture_size=128, height_m=1.75)
    export_mesh(glb, load_body().to_mesh(), settings, field=lambda points: (points * 0.5 + 0.5).clamp(0, 1))
    write_page(page, glb, "a <rainbow> person", "few faces")
    assert "<title>a &lt;rainbow&gt; person</title>" in page.read_text("utf-8")
    options = ["--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--hide-scrollbars"]
    options += ["--enable-unsafe-swiftshader", f"--window-size={SIZE},{SIZE}", "--virtual-time-budget=20000"]
    address = f"{page.as_uri()}#azimuth={AZIMUTH:g}&look=1"
    subprocess.run(
        [browser, *options, f"--screenshot={picture}", address], check=True, capture_output=True, timeout=240
    )
    shown = load_png(picture)[..., :3]
    assert shown.shape == (SIZE, SIZE, 3)

    mesh = load_mesh(glb)
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    centred = mesh.replace(vertices=mesh.vertices - (low + high) / 2)
    distance = 1.1 * float((high - low).norm()) / 2 / math.sin(math.radians(15))
    camera = orbit([AZIMUTH], elevation=math.degrees(0.09), distance=distance, fov_y=30.0)
    ours = render(centred, camera, (SIZE, SIZE), ("mask", "color"), background=tuple(shown[SIZE // 2, -1].tolist()))
    assert ours.mask is not None and ours.color is not None
    free = (slice(110, 540), slice(SIZE // 4, -SIZE // 4))  # of title and buttons
    covered = (shown - shown[SIZE // 2, -1]).abs().amax(-1)[free] > 0.02
    mask = ours.mask[0][free] > 0.5
    assert float((covered & mask).sum() / (covered | mask).sum()) > 0.96
    inside = torch.nn.functional.max_pool2d((~mask).float()[None], 5, 1, 2)[0] == 0
    difference = (shown - ours.color[0])[free][inside].abs().mean()
    assert float(difference) < 0.03


def test_only_a_glb_is_put_into_a_page(tmp_path: Path) -> None:
    file = tmp_path / "human.glb"
    file.write_bytes(b"o a human\nv 0 0 0\n")
    with pytest.raises(InputError, match=r"human\.glb: expected a GLB file"):
        write_page(tmp_path / "index.html", file, "a human")
    assert not (tmp_path / "index.html").exists()
