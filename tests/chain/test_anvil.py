"""The anvil process: found, started, shared, and always ended."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import twopm_kit as kit
from twopm_kit.chain import anvil as anvil_module
from twopm_kit.errors import AnvilMissing, ChainUnavailable

pytestmark = pytest.mark.anvil


def _gone(url):
    """Wait until nobody answers at the URL."""
    for _ in range(200):
        try:
            kit.chain.connect(url, timeout=1).close()
        except ChainUnavailable:
            return True
        time.sleep(0.02)
    return False


def test_two_anvils_do_not_disturb_each_other(anvil):
    with kit.chain.connect("anvil") as second:
        assert second.url != anvil.url
        second.mine(5)
        assert anvil.block_number == 0


def test_closing_ends_the_process(anvil):
    url = anvil.url
    anvil.close()
    assert _gone(url)


def test_a_forgotten_connection_ends_its_process(anvil):
    forgotten = kit.chain.connect("anvil")
    url = forgotten.url
    del forgotten
    gc.collect()
    assert _gone(url)


@pytest.mark.parametrize("end", ["pass", "os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_the_process_ends_with_its_owner(anvil, end):
    script = f"""
        import os, sys
        import twopm_kit as kit
        chain = kit.chain.connect("anvil")
        print(chain.url, flush=True)
        {end}
    """
    owner = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    url = owner.stdout.strip()
    assert url.startswith("http://127.0.0.1:")
    assert _gone(url)


def test_a_missing_anvil_is_named_with_the_command_that_installs_it(monkeypatch, tmp_path):
    launcher = tmp_path / "anvil"
    launcher.write_text("#!/usr/bin/env node\n")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(AnvilMissing, match="no anvil binary") as caught:
        kit.chain.connect("anvil")
    assert anvil_module.INSTALL in caught.value.hint
    assert "@foundry-rs/anvil@1.7.1" in anvil_module.INSTALL


def test_a_missing_anvil_skips_tests_but_fails_ci(monkeypatch, tmp_path, excuse):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("CI", "false")
    with pytest.raises(pytest.skip.Exception, match="npm install"):
        excuse()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI must have anvil"):
        excuse()


def test_a_binary_on_the_path_is_preferred(monkeypatch, tmp_path):
    binary = tmp_path / "anvil"
    binary.write_bytes(b"\x7fELF")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert anvil_module.find_anvil() == binary


def test_the_npm_package_is_searched(monkeypatch, tmp_path):
    inside = "anvil/node_modules/@foundry-rs/anvil-linux-arm64/bin/anvil"
    binary = tmp_path / "lib/node_modules/@foundry-rs" / inside
    binary.parent.mkdir(parents=True)
    binary.write_bytes(b"\x7fELF")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert anvil_module.find_anvil() == binary


def test_a_binary_that_does_not_start_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(anvil_module, "find_anvil", lambda: Path("/bin/false"))
    with pytest.raises(ChainUnavailable, match="did not answer"):
        kit.chain.connect("anvil")


def test_going_back_waits_until_the_pool_is_empty(anvil):
    """A transaction that is mined but still in the pool would make the next number one too high."""
    alice = anvil.account("alice", fund=kit.chain.ETHER)
    transfer = {"to": alice.address, "data": "0x", "value": 0, "gas": 21_000, "nonce": 0, "type": 2}
    fees = {"chainId": anvil.chain_id, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 0}
    before = anvil.snapshot()
    anvil.control("evm_setAutomine", False)
    raw, _ = alice.sign_transaction(transfer | fees)
    anvil.control("eth_sendRawTransaction", raw)
    mining = threading.Timer(0.3, anvil.mine)
    mining.start()
    before.revert()
    numbers = [anvil.control("eth_getTransactionCount", alice.address, at) for at in ("latest", "pending")]
    mining.join()
    assert numbers == ["0x0", "0x0"]
