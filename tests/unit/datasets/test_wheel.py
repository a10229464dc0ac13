"""A built wheel carries the tables, and an editable install does not copy them."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder


def _build(repository, folder, version):
    [path] = WheelBuilder(str(repository)).build(directory=str(folder), versions=[version])
    return Path(path)


def test_a_wheel_finds_its_own_data(repository, tmp_path):
    wheel = _build(repository, tmp_path, "standard")
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    names = {path.name for path in (installed / "twopm_kit" / "data").iterdir()}
    assert {"index.json", "wages.csv", "wages.toml"} <= names
    assert "make_data.py" not in names
    script = (
        "from twopm_kit import datasets as d; from twopm_kit.datasets.catalogue import folder;"
        "print(folder()); [d.load(name) for name in d.names()]"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    shown = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.strip() == str(installed / "twopm_kit" / "data")


def test_an_editable_install_leaves_the_data_where_it_is(repository, tmp_path):
    with zipfile.ZipFile(_build(repository, tmp_path, "editable")) as archive:
        assert not [name for name in archive.namelist() if name.startswith("twopm_kit/")]
