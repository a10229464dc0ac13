"""What the tests of storage share: reference vectors, objects of any size, and a real S3 server."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "vectors.json").read_text())
SLICE = 262_144


def make_object(size):
    """The bytes that make_vectors.mjs makes, too."""
    return hashlib.shake_128(f"object of {size} bytes".encode()).digest(size)


@pytest.fixture(scope="session")
def objects():
    return make_object


@pytest.fixture(params=VECTORS, ids=lambda vector: str(vector["size"]))
def vector(request):
    return request.param


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory):
    """An S3 server on this machine: rclone serving a folder with one bucket."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    rclone = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert rclone, "rclone is missing: install the packages of requirements.lock"
    command = [
        rclone,
        "serve",
        "s3",
        "--addr",
        "127.0.0.1:0",
        "--auth-key",
        "kit,kit-secret-key",
        str(folder),
    ]
    environment = os.environ | {"RCLONE_CONFIG": str(folder / "none.conf")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            address = None
            while address is None:
                line = server.stderr.readline()
                assert line, "rclone ended before it served"
                address = re.search(r"http://127\.0\.0\.1:\d+", line)
            yield address.group(), folder / "bucket"
        finally:
            server.terminate()


@pytest.fixture
def s3(s3_server, monkeypatch):
    address, folder = s3_server
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "kit")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "kit-secret-key")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder
