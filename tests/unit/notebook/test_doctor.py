"""The doctor explains what is wrong instead of falling ill itself."""

import pytest

from twopm_kit import config
from twopm_kit.notebook.doctor import examine


@pytest.fixture
def anew(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "_cache", [])  # settings are read anew, and the old ones come back
    return tmp_path


def states(findings):
    return {finding.name: finding for finding in findings}


def test_a_slip_in_the_settings_is_told_with_its_remedy(anew):
    (anew / "twopm.toml").write_text('chian = "embedded"\n')
    found = states(examine(None))
    assert found["settings"].state == "missing"
    assert "chian" in found["settings"].found
    assert "write 'chain'" in found["settings"].remedy


def test_a_chain_that_is_set_and_silent_is_missing(anew, monkeypatch):
    monkeypatch.setenv("TWOPM_CHAIN", "http://127.0.0.1:1")
    found = states(examine(None))
    assert found["chain set"].state == "missing"
    assert found["chain set"].remedy
    assert found["chain embedded"].state == "ok"
