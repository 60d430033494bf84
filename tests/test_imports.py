"""Which room may call which, what an import costs, and that it says nothing."""

from __future__ import annotations

import ast
import functools
import json
import re
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
        "colours",
        "files",
        "labels",
        "schedules",
        "images",
        "mesh",
        "mesh_formats",
        "mesh_io",
        "mesh_standing",
        "working_box",
        "cameras",
        "optimisation",
        "optimiser_settings",
        "processor",
        "prompt_fitting",
        "prompts",
        "rings",
        "warp_runtime",
        "__version__",
    }
)
# Arrows point downwards only. A room may import itself, the ground floor and what stands here, and it does import that.
MAY_IMPORT: dict[str, frozenset[str]] = {
    **dict.fromkeys(GROUND, frozenset()),
    # Tools that know nothing of people or of diffusion.
    "rendering": frozenset(),
    "distance": frozenset(),
    "fields": frozenset(),
    # What a person is, and what a network is.
    "models": frozenset(),
    "body": frozenset(),
    "guidance": frozenset({"models"}),
    # What networks are shown of people.
    "controls": frozenset({"rendering", "body"}),
    # The stages.
    "geometry": frozenset({"rendering", "distance", "fields", "body", "guidance", "controls"}),
    "texture": frozenset({"rendering", "distance", "fields", "body", "guidance", "geometry", "controls"}),
    "export": frozenset({"rendering", "distance", "body"}),
    "rigging": frozenset({"rendering", "distance", "body", "export"}),
    # The assembly.
    "request": frozenset({"models", "body", "geometry", "texture", "export"}),
    "editing": frozenset({"body", "request"}),
    "stages": frozenset({"distance", "guidance", "body", "geometry", "texture", "export", "rigging", "request"}),
    "start_pictures": frozenset({"rendering", "body", "geometry", "texture", "request", "stages"}),
    "pipeline": frozenset({"guidance", "geometry", "texture", "export", "request", "editing", "stages"}),
    "cluster": frozenset({"guidance", "request", "pipeline"}),
    # Beside the road: how models are made, and how good they and the results are.
    "training": frozenset({"models", "body", "guidance"}),
    "evaluation": frozenset(
        {"rendering", "distance", "body", "guidance", "geometry", "texture", "training", "export"} | {"start_pictures"}
    ),
    # The doors.
    "cli": frozenset(),  # finds its verbs by name
    "__main__": frozenset({"cli"}),
    "__init__": frozenset({"pipeline"}),  # lazily, for `humannorm.generate`
}
NO_MESHES = frozenset(
    {"mesh", "mesh_formats", "mesh_io", "mesh_standing", "working_box"}
)  # guidance knows pictures and latents only
ABOVE_ALL = "commands"  # the verbs may call every room

LIGHT_ROOMS = (GROUND - {"warp_runtime", "__version__"}) | {
    "body", "cli", "cluster", "commands", "controls", "distance", "evaluation", "export", "fields", "geometry",
    "guidance", "models", "pipeline", "rendering", "request", "rigging", "texture", "training",
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


@functools.cache
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
    called: set[str] = set()
    for path in sources(room):
        names = {name.split(".")[1] for name in imported_modules(path) if name.startswith("humannorm.")} - {room}
        upward = names - MAY_IMPORT[room] - GROUND
        assert not upward, f"{path.relative_to(ROOT)} imports {sorted(upward)}"
        assert room != "guidance" or not names & NO_MESHES, f"{path.relative_to(ROOT)} knows meshes"
        called |= names
    unused = MAY_IMPORT[room] - called
    assert not unused, f"MAY_IMPORT lets humannorm/{room} import {sorted(unused)}, which it does not: take them out"


def test_the_page_of_the_architecture_says_the_same():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = dict(re.findall(r"^\| `(\w+)` \| .* \| ([^|]+) \|$", page, re.MULTILINE))
    said = {room: frozenset(re.findall(r"\w+", called)) for room, called in table.items() if room != ABOVE_ALL}
    unsaid = GROUND | {"cli", "__main__", "__init__"}
    assert said == {room: rooms for room, rooms in MAY_IMPORT.items() if room not in unsaid}
    ground = re.search(r"^ ground (.*?)```", page, re.MULTILINE | re.DOTALL)
    assert ground is not None and set(ground.group(1).split()) == GROUND - {"__version__"}


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
humannorm.body.load_body()
for_a_body = sorted({{"anny", "scipy", "trimesh", "warp"}} & set(sys.modules))
import humannorm.warp_runtime
print(json.dumps(dict(seconds=seconds, loaded=loaded, for_a_body=for_a_body)))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout.count("\n") == 1, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_importing_the_library_is_silent_and_loads_nothing_heavy(fresh):
    assert {room: heavy for room, heavy in fresh["loaded"].items() if heavy} == {}


@pytest.mark.slow
def test_a_body_needs_nothing_heavy(fresh):
    assert fresh["for_a_body"] == []


@pytest.mark.slow
def test_importing_humannorm_takes_less_than_a_third_of_a_second_beyond_torch(fresh):
    package, core = fresh["seconds"]
    assert package < 0.3 and core < 1.0


def test_tests_reach_for_no_private_names():
    """What a test needs is public: a name with an underscore may change without a word."""
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("humannorm", "benchmarks"):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                names = [] if owner in ("self", "cls", "torch") else [node.attr]
            private = [name for name in names if name.startswith("_") and not name.endswith("__")]
            assert not private, f"{path.relative_to(ROOT)}:{node.lineno} uses {private}"
