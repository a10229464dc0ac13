"""JupyterLab is started on this machine only, with this environment's kernel."""

import json
import sys

import pytest
from traitlets import import_item

from twopm_kit.notebook import lab


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "JUPYTER_PATH"):
        monkeypatch.delenv(name, raising=False)
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    return notebooks, tmp_path / "build"


def test_it_listens_on_loopback_and_opens_no_browser_without_a_display(folders):
    command, _ = lab.lab_command(*folders)
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert "--ServerApp.ip=127.0.0.1" in command
    assert "--no-browser" in command


def test_it_opens_a_browser_where_there_is_a_display(folders, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    assert "--no-browser" not in lab.lab_command(*folders)[0]


def test_options_come_last_so_that_they_win(folders):
    assert lab.lab_command(*folders, options=["--ServerApp.port=1"])[0][-1] == "--ServerApp.port=1"


def test_it_begins_with_the_first_notebook(folders):
    assert not any("default_url" in word for word in lab.lab_command(*folders)[0])
    (folders[0] / lab.FIRST).touch()
    assert f"--LabApp.default_url=/lab/tree/{lab.FIRST}" in lab.lab_command(*folders)[0]


def test_the_environment_s_kernel_comes_first(folders, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", "other")
    _, environment = lab.lab_command(*folders)
    assert environment["JUPYTER_PATH"].split(":") == [str(folders[1]), "other"]
    kernel = json.loads((folders[1] / "kernels" / "python3" / "kernel.json").read_text())
    assert kernel["argv"][0] == sys.executable
    assert kernel["env"] == {}


def test_nobody_is_asked_for_news(folders):
    command, _ = lab.lab_command(*folders)
    assert "--LabApp.news_url=None" in command
    checker = next(word for word in command if "check_for_updates_class" in word).partition("=")[2]
    assert import_item(checker).__name__ == "NeverCheckForUpdate"
    settings = json.loads((folders[1] / "lab-settings" / "overrides.json").read_text())
    assert settings["@jupyterlab/apputils-extension:notification"] == {
        "fetchNews": "false",
        "checkForUpdates": False,
    }
