"""A file that does not fit the memory a process may have streams through it; read at once it does not."""

import subprocess
import sys

CHILD = """
import resource, sys
from twopm_kit.vsies.sources import open_source
import pyarrow, tqdm.auto
used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
source = open_source(sys.argv[1], rows=16_384)
if sys.argv[2] == "chunks":
    total = rows = 0
    for chunk in source.chunks():
        rows += len(chunk)
        total += int(chunk.c3.sum())
        assert {str(dtype) for dtype in chunk.dtypes} == {"int64", "float64", "str"}
    print(rows, total)
else:
    print(len(source.read()))
"""


def test_sixty_megabytes_in_little_memory(tmp_path):
    block = b"1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0\n" * 20_000
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.write(",".join(f"c{at}" for at in range(20)).encode() + b"\n")
        for _ in range(75):
            file.write(block)
        file.write(b"1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9.5,word\n")
    assert path.stat().st_size > 60_000_000

    def child(how):
        command = [sys.executable, "-c", CHILD, str(path), how]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = child("chunks")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1500001", str(1500001 * 4)]
    assert child("read").returncode != 0
