"""A private copy of the data folder that tests may damage."""

import shutil
from pathlib import Path

import pytest

from twopm_kit import config

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def repository():
    return REPOSITORY


@pytest.fixture
def data_copy(tmp_path, monkeypatch):
    copy = tmp_path / "data"
    shutil.copytree(REPOSITORY / "data", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("TWOPM_DATA_DIR", str(copy))
    config.reload()
    yield copy
    monkeypatch.delenv("TWOPM_DATA_DIR")
    config.reload()
