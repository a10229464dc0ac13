"""What hostile provers, nodes, files and neighbours try with the data service, and how it ends for them."""

import base64
import gzip
import re
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from twopm_kit import kzg
from twopm_kit.errors import ProofRefused, SchemaError, SourceError, StoreError, TwoPMError
from twopm_kit.vsies import Field, Schema, Standard
from twopm_kit.vsies.proofs import CommittedColumn, prove_range, prove_total
from twopm_kit.vsies.proofs.polynomials import ROWS
from twopm_kit.vsies.sources import open_source
from twopm_kit.vsies.storage.ipfs import IPFSPlace
from twopm_kit.vsies.workplace import Workplace

# A table of two numbers; one byte of its description contradicts another, and Arrow's C++ gives up on it.
CONTRADICTION = base64.b85decode(
    "P(e~L6#x}16)Y?j1Qh@k1{DSz7zhFY00000000;W0RR9100000762#+0ssI2000007zhCX00000000pY00002000040RaF20"
    "000000IC20000002KroEHwZa26JO*Wo=;<0ss{TB?1@$VE`5c85|iLCIB221Q{g;02vqoVHE%t1Qx0R7ODXz2s{`F0ssI200"
    "0007zhCX00000000&MC<p=o00000000;W0RR91000005fK0x92Ec+02KlNJShelCIAEg000)M0Tu)%2o|aV04N}EVRCVGWpp"
    "iLaBwYQa&m8XAa-SPb7^mGATl;CFfK6}92@`u0IUE208l|vF#"
)


def beside(rows, value, others, low, high):
    """Commit to one value in each row, and to another one where no rows are."""
    offsets = np.full(ROWS, others - low, dtype=np.int64)
    offsets[:rows] = value - low
    return CommittedColumn(offsets, rows, low, high)


# Proofs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "others", "rows"),
    [(0, 10, 10, 1), (-10, 10, -1, 2047), (3, 9, 4, 1000), (-9, -3, -9, 1024)],
)
def test_places_that_are_no_rows_cannot_count(low, high, others, rows):
    with pytest.raises(ProofRefused, match="does not hold"):
        prove_range(beside(rows, high, others, low, high)).verify()
    prove_range(beside(rows, high, min(max(low, 0), high), low, high)).verify()


def test_a_total_is_worth_nothing_without_its_range():
    column = beside(1, 1_000_000, 0, 0, 10)
    total = prove_total(column, 999_999, 1_000_010)
    with pytest.raises(ProofRefused):
        total.verify(prove_range(CommittedColumn.commit([5], 0, 10)))
    true = CommittedColumn.commit([5], 0, 10)
    prove_total(true, 5, 6).verify(prove_range(true))


def test_secret_blobs_are_not_kept():
    kzg._commit.cache_clear()
    column = CommittedColumn.commit([41, 42], 0, 100)
    prove_range(column)
    prove_total(column, 0, 100)
    assert kzg._commit.cache_info().currsize == 0


# Storage ---------------------------------------------------------------------------------------------------


class Squeezed(BaseHTTPRequestHandler):
    """A node whose answers are small on the wire and huge when they are unpacked."""

    body = gzip.compress(bytes(1 << 26))

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_words):
        pass


def test_answers_of_a_node_are_not_unpacked():
    with ThreadingHTTPServer(("127.0.0.1", 0), Squeezed) as node:
        Thread(target=node.serve_forever, daemon=True).start()
        held = IPFSPlace(f"http://127.0.0.1:{node.server_port}").read("0x00/manifest.json", 100_000)
        node.shutdown()
    assert held == Squeezed.body[:100_001]


def test_a_folder_that_others_write_to_is_no_workplace(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "names.key").write_bytes(bytes(32))
    with pytest.raises(StoreError, match="others may write"):
        Workplace(shared)


# Texts and files of strangers -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["low", "high", "resolution"])
def test_numbers_beyond_floats_are_refused(key):
    text = Schema("s", [Field("a", "float", low=0.0, high=1.0, resolution=0.5)]).to_json()
    with pytest.raises(SchemaError, match="finite"):
        Schema.from_json(re.sub(f'"{key}":[0-9.]+', f'"{key}":{10**400}', text))


@pytest.mark.parametrize("key", ["mean", "std"])
def test_figures_beyond_floats_are_refused(key):
    schema = Schema("s", [Field("a", "float", standard="zscore")])
    text = Standard.fit(schema, pd.DataFrame({"a": [1.0, 2.0, 4.0]})).to_json()
    with pytest.raises(SchemaError, match="finite"):
        Standard.from_json(re.sub(f'"{key}":[0-9.]+', f'"{key}":{10**400}', text))


def test_a_parquet_file_does_not_end_the_process(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(CONTRADICTION)
    words = "import sys; from twopm_kit.vsies.sources import open_source; open_source(sys.argv[1])"
    done = subprocess.run(  # in a process of its own, as this one would not outlive the fault either
        [sys.executable, "-c", words, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "SourceError" in done.stderr


@pytest.mark.parametrize(
    ("mark", "shift"), [(b"PK\x01\x02", 6), (b"PK\x01\x02", 8), (b"PK\x01\x02", 10), (b"PK\x03\x04", 0)]
)
def test_archives_of_another_kind_are_refused(tmp_path, mark, shift):
    """Versions, flags and methods that no reader knows, and members that are not where they should be."""
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3))
    content = bytearray(path.read_bytes())
    content[content.index(mark) + shift] = 0x63
    path.write_bytes(content)
    with pytest.raises(SourceError):
        open_source(path).read()


def test_archives_changed_at_any_place_give_one_kind_of_error(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(3), y=np.arange(3.0))
    assert zipfile.is_zipfile(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            open_source(path).read()
        except TwoPMError:
            continue
