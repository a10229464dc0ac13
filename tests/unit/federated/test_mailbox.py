"""Messages between parties: whole or not there, of a known kind and size, whatever lies in the folder."""

import os
from pathlib import Path

import pytest

from twopm_kit import errors
from twopm_kit.federated import Mailbox
from twopm_kit.federated.mailbox import MOST_BYTES
from twopm_kit.secagg import RoundContext

CONTEXT = RoundContext(1, "0x" + "11" * 20, 1, 1)
SENDER = "0x" + "aB" * 20


@pytest.fixture(params=["memory", "file"])
def mailbox(request, tmp_path):
    return Mailbox(f"file://{tmp_path}" if request.param == "file" else None)


@pytest.fixture
def on_disk(tmp_path):
    """Return a mailbox in a folder, and the path of a message in it."""
    mailbox = Mailbox(f"file://{tmp_path}")
    mailbox.put(CONTEXT, "shares", SENDER, b"honest")
    [path] = [p for p in tmp_path.rglob("*") if p.is_file()]
    return mailbox, path


@pytest.mark.parametrize("kind", MOST_BYTES)
def test_every_kind_is_delivered(mailbox, kind):
    mailbox.put(CONTEXT, kind, SENDER, b"first")
    mailbox.put(CONTEXT, kind, SENDER, b"")
    assert mailbox.get(CONTEXT, kind, SENDER.lower()) == b""
    mailbox.put(CONTEXT, kind, SENDER, kind.encode())
    assert mailbox.get(CONTEXT, kind, SENDER) == kind.encode()


def test_a_vector_of_a_million_parameters_is_delivered(mailbox):
    payload = os.urandom(4 << 20)
    mailbox.put(CONTEXT, "vector", SENDER, payload)
    assert mailbox.get(CONTEXT, "vector", SENDER) == payload


def test_a_message_is_where_it_was_left_only(mailbox):
    mailbox.put(CONTEXT, "shares", SENDER, b"x")
    others = [
        (RoundContext(1, CONTEXT.contract, 1, 2), "shares", SENDER),
        (RoundContext(2, CONTEXT.contract, 1, 1), "shares", SENDER),
        (CONTEXT, "openings", SENDER),
        (CONTEXT, "shares", "0x" + "cd" * 20),
    ]
    for place in others:
        with pytest.raises(errors.StoreError, match="no message"):
            mailbox.get(*place)


@pytest.mark.parametrize("kind", ["shares", "openings"])
def test_too_large_messages_are_refused_on_both_sides(tmp_path, kind):
    mailbox = Mailbox(f"file://{tmp_path}")
    with pytest.raises(errors.StoreError, match="readers take bytes"):
        mailbox.put(CONTEXT, kind, SENDER, bytes(MOST_BYTES[kind] + 1))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    mailbox.put(CONTEXT, kind, SENDER, bytes(MOST_BYTES[kind]))
    [path] = [p for p in tmp_path.rglob("*") if p.is_file()]
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(errors.StoreError, match="at most"):
        mailbox.get(CONTEXT, kind, SENDER)


def test_a_reader_that_knows_the_size_reads_no_more(mailbox):
    mailbox.put(CONTEXT, "vector", SENDER, bytes(100))
    assert mailbox.get(CONTEXT, "vector", SENDER, most=100) == bytes(100)
    with pytest.raises(errors.StoreError, match="at most 99 bytes"):
        mailbox.get(CONTEXT, "vector", SENDER, most=99)


def test_a_file_that_grows_while_it_is_read_is_refused(on_disk, monkeypatch):
    mailbox, path = on_disk
    honest = mailbox._fs.info

    def info_then_grow(name):
        found = honest(name)
        path.write_bytes(bytes(MOST_BYTES["shares"] + 9))
        return found

    monkeypatch.setattr(mailbox._fs, "info", info_then_grow)
    with pytest.raises(errors.StoreError, match="at most"):
        mailbox.get(CONTEXT, "shares", SENDER)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: Path(path).symlink_to("/dev/zero")])
def test_what_is_no_file_neither_stops_nor_holds_the_reader(on_disk, make):
    mailbox, path = on_disk
    path.unlink()
    make(path)
    with pytest.raises(errors.StoreError):
        mailbox.get(CONTEXT, "shares", SENDER)


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StoreError, match="cannot be stored"):
        Mailbox(f"file://{tmp_path}/file/below").put(CONTEXT, "shares", SENDER, b"x")


@pytest.mark.parametrize(
    ("kind", "sender", "payload"),
    [
        ("letters", SENDER, b""),
        ("../shares", SENDER, b""),
        ("shares", "0x../../../etc", b""),
        ("shares", "node-1", b""),
        ("shares", SENDER, "text"),
    ],
)
def test_what_is_no_message_is_refused(mailbox, kind, sender, payload):
    with pytest.raises(errors.TwoPMError) as raised:
        mailbox.put(CONTEXT, kind, sender, payload)
    assert raised.value.hint


def test_no_half_message_stays_behind(on_disk):
    mailbox, path = on_disk
    mailbox.put(CONTEXT, "shares", SENDER, b"again")
    assert [p.name for p in path.parent.iterdir()] == [path.name]
