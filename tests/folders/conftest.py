"""A site, as a fixture."""

from pathlib import Path

import pytest

from .site import Site


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    """Return a root with one instance on it."""
    return await Site.make(tmp_path / "root")
