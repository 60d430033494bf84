"""The sections of tools/check_card.sh, each of which says its result or why it was left out."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
NEEDED = ("pyproject.toml", "humannorm", "tests", "tools", "benchmarks")
WEIGHTS = "humannorm/models/bundled"
PROMPT = "a young woman with long brown hair, wearing a red t-shirt, blue jeans and white shoes"
SIZES, ROUNDS = (512, 1024), 20  # pixels; renders a figure


class LeftOutError(Exception):
    """Why a section has no result here."""


class Clock:
    """The minutes that all sections share."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="all sections together")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas (default: %(default)s)")
    parser.add_argument("--files", action="store_true", help="name the files that it needs, and end")
    parser.add_argument("--here", action="store_true", help="the one section of --only, in this process")
    args = parser.parse_args()
    if args.files:
        print(
            f"{' '.join(NEEDED)}   (without {WEIGHTS}: all sections but person)\n{WEIGHTS}   (the weights, for person)"
        )
        return 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = Clock(args.minutes)
    if args.here:
        try:
            print(SECTIONS[args.only](device, clock))
        except LeftOutError as why:
            print(f"left out: {why}")
        return 0
    print(f"# {machine(device)}", flush=True)
    return sum(not told(name, clock) for name in args.only.split(","))


def told(name: str, clock: Clock) -> bool:
    """One section in a process of its own: a card that has refused one kernel refuses all that follow in the same
    process. Whether it went well, or had a reason to be left out."""
    begin, well = time.monotonic(), True
    command = [sys.executable, __file__, "--here", "--only", name, "--minutes", str(clock.left / 60)]
    try:
        if clock.left < 10:
            raise subprocess.TimeoutExpired(command, 0)
        done = subprocess.run(command, capture_output=True, text=True, timeout=clock.left, check=False)
        well = done.returncode == 0
        said = done.stdout.strip() if well else f"FAILED\n\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    except subprocess.TimeoutExpired:
        said = "left out: the minutes are over"
    print(f"\n## {name} ({time.monotonic() - begin:.0f} s)\n\n{said}", flush=True)
    return well


def machine(device: torch.device) -> str:
    import warp

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no card that torch sees: the processor"
    memory = f", {torch.cuda.mem_get_info(device)[1] / 2**30:.0f} GiB" if device.type == "cuda" else ""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, warp {warp.config.version}"
    return f"{name}{memory}; {versions}; {time.strftime('%Y-%m-%d')}"


def tests(device: torch.device, clock: Clock) -> str:
    """Every kernel against its twin and against closed forms, values and gradients."""
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "device", "--ignore=tests/host", "tests"]
    try:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=max(10.0, clock.left),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LeftOutError("they did not end in the time that was left") from None
    lines = told_by_pytest(done.stdout)
    if done.returncode != 0:
        raise RuntimeError("\n".join(lines[-20:]) or done.stdout[-2000:] + done.stderr[-2000:])
    return f"{lines[-1]} on {device.type}"


def told_by_pytest(output: str) -> list[str]:
    """What failed, and the line that counts all, as in "3 passed, 1 skipped in 102.30s (0:01:42)"."""
    return [line for line in output.splitlines() if re.match(r"FAILED|ERROR|.* in \d+\.\d+s\b", line)]


def rendering(device: torch.device, clock: Clock) -> str:
    """Normal map and mask of the neutral adult, 27k faces, forward and backward, by every engine that is here."""
    from humannorm.rendering import available_engines

    rows = ["| pixels | engine | forward ms | with gradients ms | peak MiB |", "|---|---|---|---|---|"]
    engines = [name for name in available_engines() if name != "torch" and (name == "warp" or device.type == "cuda")]
    for size in SIZES:
        for engine in engines:
            rows.append("| " + " | ".join([str(size), engine, *timed_render(engine, size, device)]) + " |")
    return "\n".join(rows)


def timed_render(engine: str, size: int, device: torch.device) -> list[str]:
    rounds = ROUNDS if device.type == "cuda" else 2
    figures = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for gradients in (False, True):
        picture_and_gradient(engine, size, device, gradients)  # compiles
        begin = time.perf_counter()
        for _ in range(rounds):
            picture_and_gradient(engine, size, device, gradients)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        figures.append(f"{1000 * (time.perf_counter() - begin) / rounds:.1f}")
    peak = f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f}" if device.type == "cuda" else "-"
    return [*figures, peak]


def picture_and_gradient(
    engine: str, size: int, device: torch.device, gradients: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    from humannorm.body import load_body
    from humannorm.cameras import orbit
    from humannorm.mesh import Mesh
    from humannorm.rendering import render

    body = _kept(f"body {device}", lambda: load_body().to_mesh().to(device))
    vertices = body.vertices.clone().requires_grad_(gradients)
    passes = render(
        Mesh(vertices, body.faces), orbit([25.0]).to(device), (size, size), ("normal", "mask"), engine=engine
    )
    assert passes.normal is not None and passes.mask is not None
    if not gradients:
        return passes.normal.detach(), None
    (passes.normal.square().mean() + passes.mask.mean()).backward()
    return passes.normal.detach(), vertices.grad


def nvdiffrast(device: torch.device, clock: Clock) -> str:
    """Warp's picture and gradient beside nvdiffrast's."""
    if importlib.util.find_spec("nvdiffrast") is None:
        raise LeftOutError("nvdiffrast is not installed")
    if device.type != "cuda":
        raise LeftOutError("it runs on a card alone")
    (ours, gradient), (theirs, other) = (
        picture_and_gradient(name, 512, device, True) for name in ("warp", "nvdiffrast")
    )
    assert gradient is not None and other is not None
    alike = torch.nn.functional.cosine_similarity(gradient.flatten(), other.flatten(), dim=0)
    return f"picture: mean difference {float((ours - theirs).abs().mean()):.2e}; gradient: cosine {float(alike):.4f}"


def person(device: torch.device, clock: Clock) -> str:
    """A person by `quick` with the bundled model."""
    if not list((ROOT / WEIGHTS / "unet").glob("*.safetensors")):
        raise LeftOutError(f"no weights in {WEIGHTS}")
    return made("quick", "bundled", device, clock, {})


def standard(device: torch.device, clock: Clock) -> str:
    """A person by `standard`, cut short, with random networks of Stable Diffusion 1.5's size in half precision: what
    comes out is noise; what is shown is that the road runs, how long a step takes and in which memory."""
    if device.type != "cuda":
        raise LeftOutError("without a card a step takes minutes")
    with tempfile.TemporaryDirectory() as folder:
        count = random_networks(Path(folder), device)
        steps = {"sculpt_steps": 60, "paint_steps": 4}
        said = made("standard", folder, device, clock, steps)
    return f"{count / 1e6:.0f} million parameters; {steps['sculpt_steps']} steps of sculpting, 4 levels\n\n{said}"


def made(preset: str, models: str, device: torch.device, clock: Clock, steps: dict[str, int]) -> str:
    """A person in a folder that is thrown away: seconds of the stages, the networks' share, memory."""
    import humannorm

    class OverError(Exception):
        pass

    seen: list[Any] = []

    def watch(progress: Any) -> None:
        seen.append(progress)
        if clock.left < 5:
            raise OverError

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        try:
            record = humannorm.generate(
                PROMPT,
                out=Path(folder) / "human",
                preset=preset,
                models=models,
                device=device.type,
                callback=watch,
                **steps,
            )
        except OverError:
            raise LeftOutError(f"time was over in {seen[-1].stage}, step {seen[-1].step} of {seen[-1].steps}") from None
        measured = record["measured"]
    rows = [f"{stage}: {seconds:.1f} s" for stage, seconds in measured["seconds"].items()]
    painting = {name: round(seconds, 1) for name, seconds in measured.get("painting_seconds", {}).items()}
    rows += [f"painting, of it: {json.dumps(painting)}", f"resident memory: {measured['peak_memory_gb']:.2f} GB"]
    if device.type == "cuda":
        rows.append(f"memory of the card: {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB")
    return "\n".join(rows)


def random_networks(folder: Path, device: torch.device) -> int:
    """A diffusers folder as large as Stable Diffusion 1.5 with a ControlNet, freshly drawn, in half precision; how many
    parameters it has."""
    from diffusers import ControlNetModel

    from benchmarks.random_networks import SCHEDULER, parameter_count, random_sd15
    from humannorm.training.diffusion import save_folder

    torch.manual_seed(0)
    parts = random_sd15(device, half=True)
    parts["controlnet"] = ControlNetModel.from_unet(parts["unet"])
    save_folder(folder, scheduler_config=SCHEDULER, **parts)
    return parameter_count(*(parts[name] for name in ("unet", "vae", "text_encoder", "controlnet")))


_MADE: dict[str, Any] = {}


def _kept(name: str, make: Callable[[], Any]) -> Any:
    if name not in _MADE:
        _MADE[name] = make()
    return _MADE[name]


SECTIONS: dict[str, Callable[[torch.device, Clock], str]] = {
    "tests": tests,
    "rendering": rendering,
    "nvdiffrast": nvdiffrast,
    "person": person,
    "standard": standard,
}

if __name__ == "__main__":
    sys.exit(main())
