"""Types enforced while tests run, and what every test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

# Every function of the library is checked against its annotations (shapes, dtypes, classes) while tests run. The hook
# must be in place before the first `import humannorm...` of any test module.
# The conf admits an int where a float is annotated (PEP 484).
install_import_hook("humannorm", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

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
