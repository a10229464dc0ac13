"""A node's secrets at rest: they come back to their owner, in their own round, and to nobody else."""

import os
import pickle
import stat

import pytest

from twopm_kit import errors
from twopm_kit.federated.vault import Vault
from twopm_kit.secagg import BoxKey, NodeSession, RoundConfig, RoundContext
from twopm_kit.secagg.node import Stage

PHRASE = "seven quiet lakes"
KEY = bytes(range(32))
CONTRACT = "0x" + "c0" * 20
CONTEXT = RoundContext(1, CONTRACT, 3, 4)
ADDRESSES = ["0x" + f"{n:02x}" * 20 for n in (1, 2, 3)]
CONFIG = RoundConfig(clip=1.0)


def session_of(vault, context=CONTEXT, address=ADDRESSES[0], *, shared=True):
    """Return a session of a vault's node, and the message that it has sent."""
    own = vault.box_key()
    session = NodeSession(context, CONFIG, address, own)
    peers = {a: own.public if a == address else BoxKey.generate().public for a in ADDRESSES}
    return session, session.share_message(peers) if shared else None, peers


@pytest.fixture
def vault(tmp_path):
    return Vault(tmp_path / "node", key=KEY)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_the_box_key_is_the_same_after_a_restart(tmp_path):
    first = Vault(tmp_path, PHRASE).box_key()
    assert Vault(tmp_path, PHRASE).box_key().public == first.public
    assert Vault(tmp_path / "other", PHRASE).box_key().public != first.public


def test_a_killed_node_goes_on_with_the_same_message(vault, tmp_path):
    session, message, peers = session_of(vault)
    vault.save(session)
    found = Vault(tmp_path / "node", key=KEY).load(CONTEXT, ADDRESSES[0])
    assert found.stage is Stage.SHARED
    assert found.share_message(peers).to_bytes() == message.to_bytes()
    with pytest.raises(errors.ProtocolError, match="already dealt"):
        found.share_message(dict(list(peers.items())[:2]))


def test_a_killed_node_sends_the_same_masked_vector(vault, tmp_path):
    session, *_ = session_of(vault)
    vault.save(session, b"masked vector")
    again = Vault(tmp_path / "node", key=KEY)
    assert again.message(CONTEXT, ADDRESSES[0]) == b"masked vector"
    assert again.load(CONTEXT, ADDRESSES[0]).stage is Stage.SHARED
    again.save(session)
    assert again.message(CONTEXT, ADDRESSES[0]) == b""
    assert again.message(CONTEXT, ADDRESSES[1]) == b""


def test_a_message_does_not_go_with_the_state_of_another_step(vault, tmp_path):
    session, *_ = session_of(vault)
    saved = []
    for message in (b"first message", b"other message"):
        vault.save(session, message)
        [path] = (tmp_path / "node").glob("*.state")
        saved.append(path.read_bytes())
    first, second = saved
    kept = 12 + len(b"first message") + 16
    path.write_bytes(first[:-kept] + second[-kept:])
    for call in (vault.load, vault.message):
        with pytest.raises(errors.TamperedMessage):
            call(CONTEXT, ADDRESSES[0])


def test_what_was_not_saved_is_not_there(vault):
    session, *_ = session_of(vault)
    assert vault.load(CONTEXT, ADDRESSES[0]) is None
    vault.save(session)
    assert vault.load(RoundContext(1, CONTRACT, 3, 5), ADDRESSES[0]) is None
    assert vault.load(CONTEXT, ADDRESSES[1]) is None


def test_files_are_for_their_owner_alone_and_hold_no_secret_in_clear(vault, tmp_path):
    session, *_ = session_of(vault)
    vault.save(session)
    vault.save(session)
    assert stat.S_IMODE((tmp_path / "node").stat().st_mode) == 0o700
    found = files(tmp_path)
    assert len(found) == 3
    secrets = [
        bytes(session._seed),
        bytes(session._mask_secret),
        vault.box_key()._private.private_bytes_raw(),
    ]
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not any(secret in path.read_bytes() for secret in secrets)


@pytest.mark.parametrize("other", [{"passphrase": "another phrase"}, {"key": KEY}])
def test_another_passphrase_does_not_open_it(tmp_path, other):
    Vault(tmp_path, PHRASE).box_key()
    before = [path.read_bytes() for path in files(tmp_path)]
    with pytest.raises(errors.WrongKey):
        Vault(tmp_path, **other)
    assert [path.read_bytes() for path in files(tmp_path)] == before


def test_another_key_does_not_open_it(vault, tmp_path):
    with pytest.raises(errors.WrongKey):
        Vault(tmp_path / "node", key=bytes(32))


@pytest.mark.parametrize(
    "secret",
    [{}, {"passphrase": PHRASE, "key": KEY}, {"passphrase": "short"}, {"key": b"short"}, {"key": "x" * 32}],
)
def test_secrets_that_protect_nothing_are_refused(tmp_path, secret):
    with pytest.raises(errors.WrongKey) as raised:
        Vault(tmp_path / "node", **secret)
    assert raised.value.hint
    assert not (tmp_path / "node").exists()


def test_every_altered_byte_is_noticed(vault, tmp_path):
    session, *_ = session_of(vault)
    vault.save(session)
    for path in files(tmp_path):
        honest = path.read_bytes()
        places = [*range(0, len(honest), max(1, len(honest) // 40)), len(honest) - 1]
        altered = [honest[:p] + bytes([honest[p] ^ 1]) + honest[p + 1 :] for p in places]
        for content in [*altered, honest[:-1], honest + b"x", b""]:
            path.write_bytes(content)
            with pytest.raises((errors.TamperedMessage, errors.WrongKey)):
                Vault(tmp_path / "node", key=KEY).load(CONTEXT, ADDRESSES[0])
        path.write_bytes(honest)
    assert vault.load(CONTEXT, ADDRESSES[0]) is not None


@pytest.mark.parametrize(
    ("context", "address"),
    [
        (RoundContext(1, CONTRACT, 3, 5), ADDRESSES[0]),
        (RoundContext(1, CONTRACT, 4, 4), ADDRESSES[0]),
        (RoundContext(2, CONTRACT, 3, 4), ADDRESSES[0]),
        (RoundContext(1, "0x" + "c1" * 20, 3, 4), ADDRESSES[0]),
        (CONTEXT, ADDRESSES[1]),
    ],
    ids=["round", "task", "chain", "contract", "account"],
)
def test_a_state_does_not_open_in_the_place_of_another(vault, tmp_path, context, address):
    mine, *_ = session_of(vault)
    other, *_ = session_of(vault, context, address)
    vault.save(mine)
    [own] = (tmp_path / "node").glob("*.state")
    content = own.read_bytes()
    own.unlink()
    vault.save(other)
    [place] = (tmp_path / "node").glob("*.state")
    place.write_bytes(content)
    with pytest.raises(errors.TamperedMessage):
        vault.load(context, address)


def test_finished_rounds_are_forgotten_and_others_kept(vault, tmp_path):
    contexts = [RoundContext(1, CONTRACT, 3, n) for n in (2, 3, 11)] + [RoundContext(1, CONTRACT, 33, 1)]
    for context in contexts:
        vault.save(session_of(vault, context)[0])
    vault.forget(contexts[1])
    assert [vault.load(c, ADDRESSES[0]) is None for c in contexts] == [True, True, False, False]
    vault.forget(contexts[1])
    assert vault.box_key().public == Vault(tmp_path / "node", key=KEY).box_key().public


@pytest.mark.parametrize("fault", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_state(vault, tmp_path, monkeypatch, fault):
    session, *_ = session_of(vault)
    vault.save(session)
    before = {path: path.read_bytes() for path in files(tmp_path)}

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace" if fault == "replace" else "os.fsync", full)
        with pytest.raises(errors.StoreError, match="No space left"):
            vault.save(session)
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


@pytest.mark.parametrize("name", ["vault", "box.key"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_read(tmp_path, name, make):
    Vault(tmp_path, key=KEY).box_key()
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises((errors.StoreError, errors.TamperedMessage)):
        Vault(tmp_path, key=KEY).box_key()


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StoreError, match="cannot be made"):
        Vault(tmp_path / "file" / "node", key=KEY)


def test_it_tells_nothing_and_does_not_travel(vault):
    assert repr(vault).startswith("Vault('")
    assert vault._key.hex() not in repr(vault)
    with pytest.raises(errors.SecretRefused):
        pickle.dumps(vault)
