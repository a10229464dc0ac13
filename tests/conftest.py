"""How tests share the cores: those of one file stay together, and so do all that start kernels."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
# Kernels that start side by side race for ports.
KERNELS = ("notebooks", "browser", "unit/notebook", "unit/display")


@pytest.hookimpl(tryfirst=True)  # before the plugin looks for groups
def pytest_collection_modifyitems(items):
    """Put every test into a group; ``twopm test`` gives each group to one process."""
    for item in items:
        place = item.path.relative_to(ROOT)
        starts_kernels = any(place.is_relative_to(folder) for folder in KERNELS)
        item.add_marker(pytest.mark.xdist_group("kernels" if starts_kernels else str(place)))
