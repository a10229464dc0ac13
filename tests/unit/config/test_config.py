"""Settings: environment before file before defaults; nothing unknown passes."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from twopm_kit import config
from twopm_kit.errors import ConfigError


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("CHAIN", "MODE", "DATA_DIR"):
        monkeypatch.delenv(f"TWOPM_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    config.reload()
    with monkeypatch.context():
        yield tmp_path
    monkeypatch.undo()
    config.reload()


def test_defaults():
    found = config.settings()
    assert (found.chain, found.mode, found.data_dir) == ("embedded", "learn", None)


def test_file_then_environment(clean, monkeypatch):
    (clean / "twopm.toml").write_text('chain = "anvil"\nmode = "full"\ndata_dir = "elsewhere"\n')
    found = config.reload()
    assert (found.chain, found.mode, found.data_dir) == ("anvil", "full", Path("elsewhere"))
    monkeypatch.setenv("TWOPM_MODE", "fast")
    assert config.reload().mode == "fast"
    assert config.settings().chain == "anvil"


def test_settings_are_read_once_and_frozen(monkeypatch):
    first = config.settings()
    monkeypatch.setenv("TWOPM_MODE", "fast")
    assert config.settings() is first
    with pytest.raises(ValidationError):
        first.mode = "full"
    assert config.reload().mode == "fast"


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("TWOPM_CHAIN", "")
    assert config.reload().chain == "embedded"


@pytest.mark.parametrize("target", ["embedded", "anvil", "http://127.0.0.1:8545", "https://node.example/rpc"])
def test_chain_targets(monkeypatch, target):
    monkeypatch.setenv("TWOPM_CHAIN", target)
    assert config.reload().chain == target


@pytest.mark.parametrize(
    ("name", "value", "words", "hint"),
    [
        ("TWOPM_CHAIN", "embeded", ["'embeded'", "anvil"], "write 'embedded'"),
        ("TWOPM_CHAIN", "ws://127.0.0.1:8546", ["ws://127.0.0.1:8546", "http"], "http://host:port"),
        ("TWOPM_MODE", "leran", ["'leran'", "'fast', 'learn' or 'full'"], "write 'learn'"),
        ("TWOPM_MODE", "42", ["'42'"], "TWOPM_MODE"),
        ("TWOPM_MOED", "fast", ["TWOPM_MOED", "TWOPM_MODE"], "write TWOPM_MODE"),
        ("TWOPM_ZZZZZZZZZ", "1", ["TWOPM_ZZZZZZZZZ"], "unset TWOPM_ZZZZZZZZZ"),
        ("twopm_moed", "fast", ["twopm_moed"], "write TWOPM_MODE"),
    ],
)
def test_bad_environment(monkeypatch, name, value, words, hint):
    monkeypatch.setenv(name, value)
    before = config.settings()
    with pytest.raises(ConfigError) as caught:
        config.reload()
    assert all(word in caught.value.message for word in words)
    assert hint in caught.value.hint
    assert config.settings() is before


@pytest.mark.parametrize(
    ("content", "words", "hint"),
    [
        ("chian = 'anvil'", ["'chian'", "chain, mode, data_dir"], "write 'chain'"),
        ("[tool]\nx = 1", ["'tool'"], "delete 'tool'"),
        ("chain = ", ["not TOML"], "correct"),
        ("mode = 3", ["'mode' is 3"], "correct"),
        ("chain = 7", ["'chain' is 7"], "correct"),
        ("data_dir = []", ["'data_dir' is []"], "correct"),
    ],
)
def test_bad_file(clean, content, words, hint):
    (clean / "twopm.toml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        config.reload()
    assert all(word in caught.value.message for word in words)
    assert hint in caught.value.hint


def test_a_file_that_is_not_text_is_named(clean):
    (clean / "twopm.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        config.reload()
    (clean / "twopm.toml").unlink()
    (clean / "twopm.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        config.reload()


@pytest.mark.parametrize(
    "target", ["https://user:pa55@node.example:8545/v3/k3y?token=k3y", "https://pa55@node.example/k3y"]
)
def test_keys_in_a_url_do_not_show(monkeypatch, target):
    monkeypatch.setenv("TWOPM_CHAIN", target)
    found = config.reload()
    assert found.chain == target
    for text in (str(found), repr(found)):
        assert "node.example" in text
        assert "pa55" not in text
        assert "k3y" not in text
    monkeypatch.setenv("TWOPM_CHAIN", target.replace("https", "wss"))
    with pytest.raises(ConfigError) as caught:
        config.reload()
    assert "k3y" not in str(caught.value)
    assert "pa55" not in str(caught.value)
