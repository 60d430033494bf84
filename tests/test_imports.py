"""Which room may call which, what an import costs, and that it says nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "humannorm"

# The ground floor: types and conventions that every room shares.
GROUND = frozenset(
    {
        "checks",
        "files",
        "schedules",
        "images",
        "mesh",
        "mesh_formats",
        "mesh_io",
        "mesh_standing",
        "cameras",
        "optimisation",
        "prompt_fitting",
        "prompts",
        "warp_runtime",
        "__version__",
    }
)
# Arrows point downwards only. A room may import itself and what stands here, nothing else.
MAY_IMPORT: dict[str, frozenset[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    "rendering": GROUND,  # knows nothing of diffusion
    "guidance": (GROUND - {"mesh", "mesh_formats", "mesh_io", "mesh_standing"}) | {"models"},  # knows nothing of meshes
    "distance": GROUND,
    "fields": GROUND,
    "body": GROUND,
    "geometry": GROUND | {"rendering", "guidance", "body", "distance", "fields"},
    "texture": GROUND | {"rendering", "guidance", "geometry", "distance", "fields"},
    "export": GROUND | {"rendering", "geometry", "body", "texture", "distance"},
    "rigging": GROUND | {"rendering", "geometry", "body", "export", "distance"},
    "models": GROUND,
    "training": GROUND | {"rendering", "body", "guidance", "models", "geometry"},
    # Reads the training data, runs the stages that it measures.
    "evaluation": GROUND | {"rendering", "guidance", "models", "training", "body", "geometry", "texture", "distance"},
    "request": GROUND | {"body", "geometry", "texture", "export", "models"},
    "stages": GROUND | {"request", "body", "geometry", "texture", "export", "rigging"},
    "pipeline": GROUND | {"request", "stages", "guidance", "geometry", "texture", "export"},
    "cluster": GROUND | {"request", "pipeline", "guidance", "export"},
    "cli": frozenset({"checks", "commands", "__version__"}),
    "__main__": frozenset({"cli"}),
    "__init__": frozenset({"pipeline"}),  # lazily, for `humannorm.generate`
}
ABOVE_ALL = "commands"  # the verbs may call every room

LIGHT_ROOMS = (GROUND - {"warp_runtime", "__version__"}) | {
    "body", "cli", "cluster", "commands", "distance", "evaluation", "export", "fields", "geometry", "guidance",
    "models", "pipeline", "rendering", "request", "rigging", "stages", "texture", "training",
}  # fmt: skip
HEAVY = (
    "comfy",
    "comfy_api",
    "warp",
    "diffusers",
    "transformers",
    "trimesh",
    "PIL",
    "matplotlib",
    "scipy",
    "nvdiffrast",
)


def rooms() -> list[str]:
    """Every module and package that stands directly in humannorm/."""
    names = {path.stem for path in PACKAGE.glob("*.py")}
    return sorted(names | {path.parent.name for path in PACKAGE.glob("*/__init__.py")})


def sources(room: str) -> list[Path]:
    single = PACKAGE / f"{room}.py"
    return [single] if single.exists() else sorted((PACKAGE / room).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, lazily or for type checking only included."""
    package = ["humannorm", *path.relative_to(PACKAGE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{stem}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("room", rooms())
def test_arrows_point_downwards_only(room):
    if room == ABOVE_ALL:
        return
    assert room in MAY_IMPORT, f"humannorm/{room} is new: say in MAY_IMPORT which rooms it may call"
    for path in sources(room):
        called = {name.split(".")[1] for name in imported_modules(path) if name.startswith("humannorm.")}
        upward = called - MAY_IMPORT[room] - {room}
        assert not upward, f"{path.relative_to(ROOT)} imports {sorted(upward)}"


def test_the_library_never_imports_its_host():
    for path in PACKAGE.rglob("*.py"):
        hosts = {name for name in imported_modules(path) if name.split(".")[0] in ("comfy", "comfy_api", "nodes")}
        assert not hosts, f"{path.relative_to(ROOT)} imports {sorted(hosts)}"


def test_warp_is_imported_in_one_place_only():
    for path in PACKAGE.rglob("*.py"):
        if path.name != "warp_runtime.py":
            direct = {name for name in imported_modules(path) if name.split(".")[0] == "warp"}
            assert not direct or path.name.startswith("warp_"), f"{path.relative_to(ROOT)} imports warp"


@pytest.fixture(scope="module")
def fresh() -> dict:
    """What a fresh interpreter reports of its imports; it must say nothing else."""
    code = f"""
import json, sys, time
import numpy, torch
start = time.process_time()
import humannorm
package = time.process_time()
import humannorm.cameras, humannorm.mesh, humannorm.rendering
seconds = [package - start, time.process_time() - start]
loaded = {{}}
for room in {sorted(LIGHT_ROOMS & set(rooms()))!r}:
    before = set(sys.modules)
    __import__(f"humannorm.{{room}}")
    loaded[room] = sorted({{name.split(".")[0] for name in set(sys.modules) - before}} & set({HEAVY!r}))
import humannorm.warp_runtime
print(json.dumps(dict(seconds=seconds, loaded=loaded)))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout.count("\n") == 1, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_importing_the_library_is_silent_and_loads_nothing_heavy(fresh):
    assert {room: heavy for room, heavy in fresh["loaded"].items() if heavy} == {}


def test_importing_humannorm_takes_less_than_a_third_of_a_second_beyond_torch(fresh):
    package, core = fresh["seconds"]
    assert package < 0.3 and core < 1.0
