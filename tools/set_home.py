"""Writes the address that a repository has into pyproject.toml: its links, and the registry's icon and banner.

    python tools/set_home.py https://github.com/OWNER/NAME [--file pyproject.toml]

The sources name no address, since they may live anywhere; the publishing workflow runs this first. Run twice, it leaves
the later address.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", metavar="URL")
    parser.add_argument("--file", type=Path, default=ROOT / "pyproject.toml")
    args = parser.parse_args()
    args.file.write_text(with_home(args.file.read_text("utf-8"), args.home.rstrip("/")), encoding="utf-8")


def with_home(project: str, home: str) -> str:
    """The text of a pyproject.toml with the links of the repository at `home`."""
    if not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+", home):
        raise SystemExit(f"URL: expected https://HOST/OWNER/NAME, got {home!r}")
    links = {
        "project.urls": {
            "Repository": home,
            "Documentation": f"{home}/tree/main/docs",
            "Changelog": f"{home}/blob/main/CHANGELOG.md",
            "Bug Tracker": f"{home}/issues",
        },
        "tool.comfy": {
            "Icon": f"{home}/raw/main/docs/images/icon.png",
            "Banner": f"{home}/raw/main/docs/images/banner.png",
        },
    }
    for table, entries in links.items():
        lines = "".join(f'{key if " " not in key else repr(key)} = "{url}"\n' for key, url in entries.items())
        for key in entries:
            project = re.sub(rf"^['\"]?{key}['\"]? = .*\n", "", project, flags=re.MULTILINE)
        project, found = re.subn(rf"^\[{re.escape(table)}\]\n", rf"\g<0>{lines}", project, flags=re.MULTILINE)
        assert found == 1, f"pyproject.toml: no table [{table}]"
    return project


if __name__ == "__main__":
    main()
