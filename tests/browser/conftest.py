"""A real JupyterLab on a copy of the series, and an installed Chromium that looks at it."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import sync_playwright

from twopm_kit.notebook.files import read_notebook, write_notebook
from twopm_kit.notebook.lab import lab_command
from twopm_kit.notebook.manifest import load_series
from twopm_kit.notebook.parameters import parse_cell, tagged

ROOT = Path(__file__).parents[2]
SERIES = load_series(ROOT / "notebooks")
PICTURES = ROOT / "build" / "browser"
REQUIRED = ("00_start_here", "04_federated_rounds")

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
_START_SECONDS = 120
_RUN_SECONDS = 200
_VIEW = {"width": 1200, "height": 1500}


def until(true, seconds, what):
    """Poll until ``true()`` is, and return its value; fail after so many seconds."""
    end = time.monotonic() + seconds
    while not (value := true()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not after {seconds} s")
        time.sleep(0.2)
    return value


@pytest.fixture(scope="session")
def chromium_program():
    """The path of an installed Chromium; CI must have one."""
    for name in _BROWSERS:
        if found := shutil.which(name):
            return found
    missing = "there is no Chromium on PATH (Debian: apt-get install chromium)"
    if os.environ.get("CI", "").lower() in {"1", "true", "yes", "on"}:
        pytest.fail(f"CI must have a browser: {missing}")
    return pytest.skip(missing)


# Not for the session: as long as Playwright runs, asyncio.run() is refused to every other test.
@pytest.fixture(scope="module")
def chromium(chromium_program):
    """A headless browser."""
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_program, args=[*_QUIET, *root])
        yield browser
        browser.close()


def make_fast(path, entry):
    """Let a copied notebook do what it does in fast mode, and take its stored outputs out."""
    notebook = read_notebook(path)
    values = {"MODE": "fast", **entry.parameters.get("fast", {})}
    (index,) = tagged(notebook, "parameters")
    notebook.cells[index].source = "\n".join(
        f"{one.name}: {one.kind} = {values.get(one.name, one.default)!r}  # {one.help}"
        for one in parse_cell(notebook.cells[index].source)
    )
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    write_notebook(notebook, path)


class Lab:
    """A running JupyterLab: its address, its token, and the folder that it shows."""

    def __init__(self, url, token, folder):
        self.url = url
        self.token = token
        self.folder = folder

    @property
    def headers(self):
        return {"Authorization": f"token {self.token}"}


@pytest.fixture(scope="module")
def lab(chromium_program, tmp_path_factory):
    """JupyterLab as ``make lab`` starts it, on a copy of the notebooks, with private folders."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    shutil.copytree(SERIES.folder, folder, ignore=shutil.ignore_patterns(".*"))
    for entry in SERIES.entries:
        if (path := folder / f"{entry.name}.ipynb").exists():
            make_fast(path, entry)
    # Kernels are reached through files: a free TCP port could be taken by a test beside this one before the
    # kernel listens there. A file's address has to be short.
    by_files = "--KernelManager.transport=ipc"
    options = ("--no-browser", "--ServerApp.port=0", "--LabApp.default_url=/lab", by_files)
    command, inherited = lab_command(folder, home / "build", options=options)
    runtime = Path(tempfile.mkdtemp(prefix="lab-"))
    environment = {name: value for name, value in inherited.items() if not name.startswith("TWOPM_")}
    environment |= {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "TWOPM_MODE": "fast",
    }
    log = home / "lab.log"
    with log.open("wb") as words:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=words, stderr=words, start_new_session=True
        )
    try:
        yield until(lambda: _started(process, runtime, folder, log), _START_SECONDS, "JupyterLab")
    finally:
        _end(process)
        shutil.rmtree(runtime)


def _started(process, runtime, folder, log):
    """Return the lab when its server says where it is; it chooses port and token by itself."""
    if process.poll() is not None:
        pytest.fail(f"JupyterLab ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    with contextlib.suppress(OSError, ValueError):
        said = json.loads((runtime / f"jpserver-{process.pid}.json").read_text())
        return Lab(said["url"].rstrip("/"), said["token"], folder)
    return None


def _end(process):
    """End the server and whatever it has started; kernels have process groups of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for left in [*family, process]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                left.kill()
        psutil.wait_procs(family, 10)
    process.wait(10)


class LabPage:
    """One notebook, open in JupyterLab, with its kernel."""

    def __init__(self, lab, page, name):
        self.lab = lab
        self.page = page
        self.name = name
        self.path = lab.folder / f"{name}.ipynb"
        self.asked = []
        self._pictures = 0
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self):
        place = f"{self.lab.url}/lab/workspaces/{self.name}/tree/{self.path.name}"
        self.page.goto(f"{place}?token={self.lab.token}", timeout=_START_SECONDS * 1000)
        # The page calls itself idle before it has a kernel; Run All would then ask for one.
        until(lambda: self._connected() and self.idle(), _START_SECONDS, f"{self.name}: the kernel")

    def sessions(self):
        """Return what the server knows about this notebook's kernels."""
        answer = self.page.context.request.get(f"{self.lab.url}/api/sessions", headers=self.lab.headers)
        return [session for session in answer.json() if session["path"] == self.path.name]

    def _connected(self):
        kernels = [session["kernel"] for session in self.sessions()]
        return any(one["connections"] and one["execution_state"] == "idle" for one in kernels)

    def idle(self):
        """Tell whether the page says that the kernel rests and that no cell waits for it."""
        resting = self.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').count()
        return resting and not self.page.locator(".jp-InputPrompt", has_text="[*]").count()

    def menu(self, *items):
        """Click through the menu bar."""
        self.page.get_by_role("menuitem", name=items[0], exact=True).click()
        for item in items[1:]:
            self.page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()

    def run_all(self):
        """Run all cells through the menu, and wait until all have run or one has failed."""
        self.menu("Run", "Run All Cells")
        until(self._has_run, _RUN_SECONDS, f"{self.name}: run all")

    def _has_run(self):
        """Ask the page first, then the file: only the file tells of cells that the page does not draw."""
        if not self.idle():
            return False
        notebook = self.save()
        code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
        failed = any(output.output_type == "error" for cell in code for output in cell.outputs)
        return failed or all(cell.execution_count for cell in code)

    def save(self):
        """Save through the menu and return what the file holds."""
        until(self._saved, 60, f"{self.name}: save")
        return read_notebook(self.path)

    def _saved(self):
        """Ask the lab to save, and tell whether it did: it ignores who asks while it still saves."""
        place = f"/api/contents/{self.path.name}"
        with contextlib.suppress(PlaywrightTimeout):
            with self.page.expect_response(
                lambda it: it.request.method == "PUT" and place in it.url, timeout=5_000
            ) as saved:
                self.menu("File", "Save Notebook")
            assert saved.value.ok, saved.value.status_text
            return True
        return False

    def picture(self, locator=None):
        """Keep a picture of the window, or of one element, under build/browser."""
        self._pictures += 1
        path = PICTURES / f"{self.name}-{self._pictures:02}.png"
        (locator or self.page).screenshot(path=path)

    def look_through(self):
        """Scroll from top to bottom as a reader does, and keep pictures of the parts.

        What is far from the window may not have been drawn before; a picture waits until it is.
        """
        scroller = self.page.locator(".jp-Notebook .jp-WindowedPanel-outer")
        here = -1
        scroller.evaluate("it => it.scrollTo(0, 0)")
        while (now := scroller.evaluate("it => it.scrollTop")) != here:
            here = now
            self.picture(scroller)
            scroller.evaluate("it => it.scrollBy(0, it.clientHeight - 60)")

    def show(self, locator):
        """Scroll to an element as a reader does, and wait until the page has drawn it."""
        locator.evaluate("it => it.scrollIntoView({block: 'center'})")
        drawn = "it => it.checkVisibility({contentVisibilityAuto: true})"
        until(lambda: locator.evaluate(drawn), 30, f"{self.name}: an element that can be seen")

    def theme(self, name):
        """Choose a theme through the menu, and wait until it is there."""
        self.menu("Settings", "Theme", name)
        self.page.locator(f'body[data-jp-theme-name="{name}"]').wait_for(state="attached")

    def close(self):
        """Close the page and end its kernel."""
        context = self.page.context
        for session in self.sessions():
            context.request.delete(f"{self.lab.url}/api/sessions/{session['id']}", headers=self.lab.headers)
        context.close()

    def strangers(self):
        """Return the addresses beyond the lab that the page has asked for something."""
        own = urlsplit(self.lab.url).netloc
        return [url for url in self.asked if urlsplit(url).netloc not in {"", own}]


def present():
    """Return the names to test: what the manifest lists and the folder has, and the required ones."""
    return [entry.name for entry in SERIES.entries if SERIES.path(entry).exists() or entry.name in REQUIRED]


@pytest.fixture(scope="module", params=present())
def ran(request, lab, chromium):
    """A notebook of which all cells have run in the browser."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for old in PICTURES.glob("*.png"):
        if re.fullmatch(rf"{re.escape(request.param)}-\d+\.png", old.name):
            old.unlink()
    context = chromium.new_context(viewport=_VIEW)
    opened = LabPage(lab, context.new_page(), request.param)
    try:
        opened.open()
        opened.run_all()
        opened.look_through()
        yield opened
    except BaseException:
        opened.picture()
        raise
    finally:
        opened.close()
