"""Types enforced while tests run, and what every test may use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder

import pytest
import torch
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

# Every function of the library is checked against its annotations (shapes, dtypes, classes) while tests run. The hook
# must be in place before the first `import humannorm...` of any test module.
# The conf admits an int where a float is annotated (PEP 484).
install_import_hook("humannorm", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


class _KernelModules(PathFinder):
    """Leaves `warp_*` modules alone: Warp reads a kernel's annotations itself, and they are no Python types."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        is_kernel_module = fullname.startswith("humannorm.") and fullname.rpartition(".")[2].startswith("warp_")
        return super().find_spec(fullname, path, target) if is_kernel_module else None


sys.meta_path.insert(0, _KernelModules)

torch.set_num_threads(min(torch.get_num_threads(), 2))


@pytest.fixture
def as_user() -> Iterator[None]:
    """Switch the annotation checks off, so that a bad input meets the library's own errors, as a user's would."""
    jaxtyping_config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
