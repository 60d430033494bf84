"""What is shipped, and what it asks for."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_requirements_txt_is_equal_to_the_dependencies():
    assert (ROOT / "requirements.txt").read_text("utf-8").splitlines() == PROJECT["project"]["dependencies"]


def test_torch_and_numpy_are_whatever_the_host_brings():
    assert {"torch", "numpy"} <= set(PROJECT["project"]["dependencies"])
    for extra in [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]:
        assert not [requirement for requirement in extra if re.search("==|<|~=|!=", requirement.split(";")[0])]


def test_extras_and_metadata():
    project = PROJECT["project"]
    assert set(project["optional-dependencies"]) == {"train", "evaluate", "ray", "docs", "bench", "test", "dev"}
    assert project["requires-python"] == ">=3.10" and project["license"] == "Apache-2.0"
    assert PROJECT["tool"]["comfy"]["requires-comfyui"] == ">=0.3.64"
    assert project["scripts"] == {"humannorm": "humannorm.cli:main"}


def test_version_is_said_once_and_truly(tmp_path, monkeypatch):
    import importlib.metadata

    import humannorm

    assert PROJECT["project"]["version"] == humannorm.__version__
    assert f'"{humannorm.__version__}"' not in (ROOT / "humannorm" / "__init__.py").read_text("utf-8")
    # Where the sources stand alone, as in an installed package, its metadata say it.
    monkeypatch.setattr(humannorm, "__file__", str(tmp_path / "humannorm" / "__init__.py"))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} installed")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\nversion = "9"\n', encoding="utf-8")
    assert humannorm.__version__ == "humannorm installed"


def test_the_links_of_a_home_are_written_once():
    tool = runpy.run_path(str(ROOT / "tools" / "set_home.py"))
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    written = tool["with_home"](tool["with_home"](text, "https://example.org/old/place"), "https://example.org/a/b")
    project = tomllib.loads(written)
    assert project["project"]["urls"]["Repository"] == "https://example.org/a/b"
    assert project["project"]["urls"]["Bug Tracker"] == "https://example.org/a/b/issues"
    for name in ("Icon", "Banner"):
        assert (ROOT / project["tool"]["comfy"][name].split("/raw/main/")[1]).is_file()
    assert "old/place" not in written
    with pytest.raises(SystemExit, match="expected https://HOST/OWNER/NAME, got 'a/b'"):
        tool["with_home"](text, "a/b")


def test_icon_and_banner_have_the_sizes_that_the_registry_asks_for():
    def size(name: str) -> tuple[int, int]:
        with Image.open(ROOT / "docs" / "images" / name) as picture:
            return picture.size

    assert size("icon.png") == (400, 400)
    width, height = size("banner.png")
    assert width * 9 == height * 21


def test_the_registrys_archive_leaves_out_what_does_not_run_and_keeps_the_rest():
    lines = (ROOT / ".comfyignore").read_text("utf-8").splitlines()
    left_out = [line for line in lines if line and not line.startswith("#")]
    assert all(line.startswith("/") for line in left_out)  # not web/docs/
    needed = {"humannorm", "nodes", "web", "locales", "example_workflows", "subgraphs", "__init__.py", "pyproject.toml"}
    assert not needed & {line.strip("/") for line in left_out}


def test_licence_is_the_whole_apache_text():
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
    assert (ROOT / "NOTICE").read_text("utf-8").strip()


def test_sources_are_ascii():
    for path in [*ROOT.glob("humannorm/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("nodes/**/*.py")]:
        assert path.read_bytes().isascii(), path


def test_aliases_of_annotations_are_types():
    """A quoted one is not found again by what checks types under Python 3.10, once it stands in a tuple[...]."""
    for path in ROOT.glob("humannorm/**/*.py"):
        assert not re.search(r': TypeAlias = "', path.read_text("utf-8")), path


@pytest.mark.parametrize("ending", ["5 passed in 9.31s", "352 passed, 9 skipped in 946.31s (0:15:46)"])
def test_the_card_check_finds_the_line_that_counts_the_tests(ending):
    tool = runpy.run_path(str(ROOT / "tools" / "check_card.py"))
    assert tool["told_by_pytest"](f"....  [100%]\nFAILED tests/a.py::b\n{ending}\n") == ["FAILED tests/a.py::b", ending]


def test_kernel_modules_are_the_only_ones_the_type_checker_skips():
    skipped = [table["module"] for table in PROJECT["tool"]["mypy"]["overrides"] if table.get("ignore_errors")]
    kernels = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in ROOT.glob("humannorm/*/**/warp_*.py")
        if "wp.kernel" in path.read_text("utf-8")
    }
    assert {module for table in skipped for module in table} == kernels


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    shipped = [path for path in ROOT.glob("humannorm/**/*") if path.is_file() and "__pycache__" not in path.parts]
    for path in [*shipped, *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"))]:
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(path)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {str(path.relative_to(ROOT)) for path in shipped} <= packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)
    assert {name.split("/")[0] for name in packed} == {"humannorm", wheel.name.split("-py3")[0] + ".dist-info"}
