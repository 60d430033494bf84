"""Makes `import humannorm` find the library beside this folder, without a place on sys.path.

ComfyUI loads a pack under a name made from its path, and the library is imported by its own. A path entry would also
offer the pack's `nodes`, `tests` and `tools` to everybody else.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

__all__ = ["PACKAGE", "register_library"]

PACKAGE = Path(__file__).resolve().parents[1] / "humannorm"


def register_library() -> None:
    """Put the library into `sys.modules`, unless some `humannorm` is there already."""
    if "humannorm" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "humannorm", PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["humannorm"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules["humannorm"]
        raise


register_library()
