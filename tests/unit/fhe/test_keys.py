import contextlib
import copy
import os
import pickle
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tenseal.sealapi as seal
import zstandard

from twopm_kit.errors import BudgetSpent, CiphertextError, SecretRefused, WrongKey
from twopm_kit.fhe import EncryptedFrame, Evaluator, KeyHolder, LogisticRegression
from twopm_kit.fhe.flooding import plan_flood, secure_normal
from twopm_kit.fhe.seal_io import dump

PHRASE = "correct horse battery staple"


# Roles --------------------------------------------------------------------------------------------------


def test_wrong_key_names_both_fingerprints(holder, stranger, small):
    enc = holder.encrypt(small)
    for refused in (
        lambda: stranger.decrypt(enc),
        lambda: stranger.open_for_others(enc),
        lambda: stranger.opening_report(enc),
        lambda: stranger.evaluator().check(enc),
        lambda: EncryptedFrame.from_bytes(enc.to_bytes(), stranger),
        lambda: EncryptedFrame.from_bytes(enc.to_bytes(), stranger.evaluator()),
        lambda: EncryptedFrame.from_bytes(enc.to_bytes(), stranger.fingerprint),
    ):
        with pytest.raises(WrongKey) as caught:
            refused()
        assert holder.fingerprint in str(caught.value)
        assert stranger.fingerprint in str(caught.value)
    assert holder.evaluator().check(enc) is enc


def test_a_lie_about_the_key_is_noticed(holder, stranger):
    """Ciphertexts under one key with the fingerprint of another open to garbage, which is never returned."""
    enc = holder.encrypt(np.ones((1, 1)))
    enc.fingerprint = stranger.fingerprint
    for flood in (True, False):
        with pytest.raises(CiphertextError, match="far beyond its bound"):
            stranger.decrypt(enc, flood=flood)
    scores = LogisticRegression.from_plain([2.0]).decision_function(enc)
    with pytest.raises(CiphertextError, match="far beyond its bound"):
        stranger.decrypt(scores)


def test_evaluator_encrypts_for_the_holder(holder, small):
    evaluator = Evaluator.from_bytes(holder.evaluator().to_bytes())
    assert evaluator.fingerprint == holder.fingerprint
    assert not hasattr(evaluator, "decrypt")
    enc = evaluator.encrypt(small) + holder.encrypt(small)
    assert np.abs(holder.decrypt(enc) - 2 * small).max().max() <= 1e-6
    assert "public" in repr(evaluator)


def test_evaluator_file(holder, tmp_path):
    path = holder.evaluator().save(tmp_path / "hospital.pub")
    assert Evaluator.load(path).fingerprint == holder.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["hospital.pub"]


def test_changed_public_bundles_are_refused(holder, stranger):
    good = holder.evaluator().to_bytes()
    bad = [
        good[:10],
        good[:200],
        good[:-1],
        good + b"x",
        b"X" + good[1:],
        good.replace(holder.fingerprint.encode(), stranger.fingerprint.encode()),
        good.replace(b'"profile":"linear"', b'"profile":"train"'),
        good.replace(b'"params"', b'"Params"'),
        good[:8] + (1).to_bytes(2, "little") + good[10:],
        good[:8] + (3).to_bytes(2, "little") + good[10:],
        good[:20] + b"\xff" + good[21:],
    ]
    for at in np.random.default_rng(3).integers(0, len(good), 40):
        flipped = bytearray(good)
        flipped[at] ^= 1 << int(at % 8)
        bad.append(bytes(flipped))
    for content in bad:
        assert content != good
        with pytest.raises((CiphertextError, WrongKey)):
            Evaluator.from_bytes(content)


# Secrets ------------------------------------------------------------------------------------------------


def unpacked(content: bytes) -> bytes:
    """Every zstd stream inside the bytes, unpacked, behind the bytes themselves; more may follow a stream."""
    out = [content]
    for found in re.finditer(re.escape(zstandard.FRAME_HEADER), content):
        stream = zstandard.ZstdDecompressor().decompressobj()
        with contextlib.suppress(zstandard.ZstdError):  # four bytes that only look like a beginning
            out.append(stream.decompress(content[found.start() :]))
    return b"".join(out)


def secret_needles(holder: KeyHolder) -> list[bytes]:
    """Pieces of the secret: as SEAL packs it, as words of each prime, and as small coefficients."""
    packed = dump(holder._secret)
    words = unpacked(packed)[len(packed) :]
    pieces = [packed[a : a + 24] for a in range(64, len(packed) - 24, 4096)]
    return pieces + [words[a : a + 16] for a in range(512, len(words) - 16, 4096)]


def test_public_bytes_hold_nothing_of_the_secret(holder, small):
    needles = secret_needles(holder)
    assert len(needles) > 80
    # the search does find a secret, also between other bytes and behind what only looks like a stream
    hidden = unpacked(b"before" + zstandard.FRAME_HEADER + b"\xff" + dump(holder._secret) + b"behind")
    assert all(n in hidden for n in needles)
    enc = holder.encrypt(small)
    scores = LogisticRegression.from_plain([1.0, 2.0, 3.0]).decision_function(enc)
    public_frame = holder.evaluator().encrypt(small)
    for content in (
        holder.evaluator().to_bytes(),
        enc.to_bytes(),
        scores.to_bytes(),
        public_frame.to_bytes(),
    ):
        haystack = unpacked(content)
        assert len(haystack) > len(content)
        assert not any(needle in haystack for needle in needles)


def test_key_file_is_encrypted(holder, tmp_path):
    content = holder.save(tmp_path / "own.key", PHRASE).read_bytes()
    assert not any(needle in unpacked(content) for needle in secret_needles(holder))
    assert PHRASE.encode() not in content


def test_holder_refuses_to_leave(holder):
    class Box:
        def __init__(self):
            self.inside = holder

    for way in (pickle.dumps, copy.copy, copy.deepcopy, lambda h: h.__reduce__(), lambda h: h.__getstate__()):
        with pytest.raises(SecretRefused, match=r"pickled or copied\n.*evaluator"):
            way(holder)
    for way in (pickle.dumps, copy.deepcopy):
        with (
            pytest.raises(SecretRefused)
            if way is copy.deepcopy
            else pytest.raises((SecretRefused, AttributeError))
        ):
            way(Box())
    with pytest.raises(SecretRefused):
        pickle.dumps([holder])


def test_holder_shows_no_secret(holder):
    for shown in (repr(holder), str(holder), holder._repr_html_(), f"{holder!r:>10}"):
        assert holder.fingerprint[:8] in shown
        assert "object at" not in shown


def test_frames_and_evaluators_reference_no_secret(holder, small):
    def slots_of(thing):
        return [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())] + list(
            getattr(thing, "__dict__", {}).values()
        )

    seen, todo = set(), [holder.encrypt(small), holder.evaluator()]
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        assert not isinstance(thing, (seal.SecretKey, seal.Decryptor, seal.KeyGenerator, KeyHolder))
        if isinstance(thing, (tuple, list)):
            todo += list(thing)
        elif type(thing).__module__.startswith("twopm_kit"):
            todo += slots_of(thing)
    assert len(seen) > 20


# Key files ----------------------------------------------------------------------------------------------


def test_key_file_round_trip(holder, small, tmp_path):
    enc = holder.encrypt(small)
    old_mask = os.umask(0)
    try:
        path = holder.save(tmp_path / "own.key", PHRASE)
    finally:
        os.umask(old_mask)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own.key", "own.key.ledger"]
    again = KeyHolder.load(path, PHRASE)
    assert again.fingerprint == holder.fingerprint
    assert again.ledger.used == holder.ledger.used
    assert np.abs(again.decrypt(enc) - small).max().max() <= 1e-6
    assert np.abs(holder.decrypt(again.encrypt(small)) - small).max().max() <= 1e-6


def test_wrong_passphrase_and_damage(stranger, tmp_path):
    path = stranger.save(tmp_path / "own.key", PHRASE)
    for phrase in ("correct horse battery stable", "", PHRASE + " "):
        with pytest.raises(WrongKey, match="passphrase does not open"):
            KeyHolder.load(path, phrase)
    with pytest.raises(WrongKey, match="expected text"):
        KeyHolder.load(path, b"bytes")
    good = path.read_bytes()
    bad = [good[:5], good[:13], good[:400], good[:-1], good + b"\0", b"X" + good[1:]]
    bad += [good[:8] + (9).to_bytes(2, "little") + good[10:]]
    bad += [good.replace(b'"n":32768', b'"n":32769'), good.replace(b'"n":32768', b'"n":2')]
    bad += [good.replace(b'"nonce"', b'"Nonce"'), good.replace(b'"linear"', b'"train!"')]
    for at in (20, 60, 300, 500, 5000, len(good) - 3):
        flipped = bytearray(good)
        flipped[at] ^= 0x10
        bad.append(bytes(flipped))
    for content in bad:
        assert content != good
        path.write_bytes(content)
        with pytest.raises((CiphertextError, WrongKey)):
            KeyHolder.load(path, PHRASE)


def test_missing_files_and_folders(holder, small, tmp_path):
    for load in (EncryptedFrame.load, Evaluator.load, lambda path: KeyHolder.load(path, PHRASE)):
        with pytest.raises(CiphertextError, match="No such file"):
            load(tmp_path / "none")
        with pytest.raises(CiphertextError, match="directory"):
            load(tmp_path)
    for save in (
        holder.encrypt(small).save,
        holder.evaluator().save,
        lambda path: holder.save(path, PHRASE),
    ):
        with pytest.raises(CiphertextError, match="folder does not exist"):
            save(tmp_path / "none" / "x")


@pytest.mark.parametrize("phrase", ["", "short", b"long enough bytes", None, "\ud800" * 9])
def test_weak_passphrases_leave_no_file(holder, phrase, tmp_path):
    with pytest.raises(WrongKey):
        holder.save(tmp_path / "own.key", phrase)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_the_old_file(stranger, tmp_path, monkeypatch):
    path = stranger.save(tmp_path / "own.key", PHRASE)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CiphertextError, match=r"cannot be written: No space") as caught:
        stranger.save(path, "another good passphrase")
    assert f".{path.name}." not in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["own.key", "own.key.ledger"]


# Ledger -------------------------------------------------------------------------------------------------


def test_ledger_stops_at_its_budget(small, tmp_path):
    own = KeyHolder.generate("linear", budget=7)
    enc = own.encrypt(small)
    own.decrypt(enc)
    own.open_for_others(enc)
    assert (own.ledger.used, own.ledger.left) == (6, 1)
    with pytest.raises(BudgetSpent, match="6 of 7"):
        own.decrypt(enc)
    assert own.ledger.used == 6
    own.decrypt(enc, flood=False)
    assert own.ledger.used == 6
    path = own.save(tmp_path / "own.key", PHRASE)
    own.decrypt(enc["a"])
    again = KeyHolder.load(path, PHRASE)  # counted beside the key, after it was saved
    assert again.ledger.left == 0
    with pytest.raises(BudgetSpent):
        again.decrypt(enc["a"])
    assert "7 of 7" in repr(again.ledger)


def test_deleted_ledger_falls_back_to_the_key_file(small, tmp_path):
    own = KeyHolder.generate("linear", budget=9)
    own.decrypt(own.encrypt(small))
    path = own.save(tmp_path / "own.key", PHRASE)
    (tmp_path / "own.key.ledger").unlink()
    assert KeyHolder.load(path, PHRASE).ledger.used == 3
    (tmp_path / "own.key.ledger").write_text("{}")
    with pytest.raises(CiphertextError, match="ledger"):
        KeyHolder.load(path, PHRASE)


def test_two_sessions_with_one_key_share_the_count(small, tmp_path):
    own = KeyHolder.generate("linear", budget=5)
    enc = own.encrypt(small)
    path = own.save(tmp_path / "own.key", PHRASE)
    other = KeyHolder.load(path, PHRASE)
    own.decrypt(enc)
    other.decrypt(enc["a"])
    assert other.ledger.used == 4
    with pytest.raises(BudgetSpent):
        own.decrypt(enc[["a", "b"]])
    fresh = KeyHolder.generate("linear")  # another key in its place starts at its own count
    path.unlink()
    fresh.save(path, PHRASE)
    assert fresh.ledger.used == 0


@pytest.mark.parametrize("budget", [0, -1, 1.5, True, None, 1 << 63])
def test_bad_budgets(budget):
    with pytest.raises(CiphertextError, match="budget"):
        KeyHolder.generate("linear", budget=budget)


# Flooding -----------------------------------------------------------------------------------------------


def test_secure_normal_is_normal():
    x = secure_normal(200_001)
    assert x.shape == (200_001,)
    assert abs(x.mean()) < 0.02
    assert abs(x.std() - 1) < 0.02
    assert abs((np.abs(x) < 1).mean() - 0.6827) < 0.01
    assert not np.array_equal(x, secure_normal(200_001))


def test_flooding_is_as_large_as_it_says(holder):
    x = np.zeros((4096, 1))
    enc = holder.encrypt(x)
    for precision in (1e-6, 1e-3):
        said = holder.opening_report(enc, precision=precision)["noise (std)"].iloc[0]
        seen = holder.decrypt(enc, precision=precision) - holder.decrypt(enc, flood=False)
        assert 0.9 < seen.std() / said < 1.1
        assert np.abs(seen).max() <= precision * 1.1


def test_own_error_estimate_is_honest(holder, cancer):
    """What a frame says of its error is at least what is measured."""
    frame, _, fitted = cancer
    x = np.resize(frame.to_numpy(), (4096, 30))
    model = LogisticRegression.from_sklearn(fitted)
    for enc, clear in (
        (holder.encrypt(x), x),
        (holder.evaluator().encrypt(x), x),
        (model.decision_function(holder.encrypt(x)), x @ fitted.coef_.T + fitted.intercept_),
        (holder.encrypt(x) * 0.3 + holder.encrypt(x), 1.3 * x),
    ):
        measured = (holder.decrypt(enc, flood=False) - clear).std(axis=0)
        said = np.array([h.noise * 64 / h.scale for h in enc.heads])  # 64 = sqrt(N/2)
        assert (measured < 1.5 * said + 1e-13).all()


def test_noise_that_a_header_understates_does_not_lower_the_flood(holder, small):
    engine = holder.engine
    low = plan_flood(engine, 2.0**30, 0.0, 1e-9, 100)
    assert low.ratio_bits >= 10
    assert low == plan_flood(engine, 2.0**30, 3.2, 1e-9, 100)


def test_flood_holds_its_least_ratio_where_precision_asks_too_much():
    own = KeyHolder.generate("train")
    report = own.opening_report(own.encrypt(np.ones(2)))
    assert report["noise / error (bits)"].iloc[0] >= 10
    assert report["largest error"].iloc[0] > 1e-6


@pytest.mark.parametrize("precision", [0.0, -1.0, np.nan, np.inf])
def test_bad_precision(holder, small, precision):
    used = holder.ledger.used
    with pytest.raises(CiphertextError, match="precision"):
        holder.decrypt(holder.encrypt(small), precision=precision)
    assert holder.ledger.used == used


# The attack ---------------------------------------------------------------------------------------------


def words(array, count):
    return np.array([array[i] for i in range(count)], dtype=object)


def recovered_share(holder: KeyHolder, cipher, slots) -> float:
    """Share of the secret key's words that follow from a ciphertext and the values that it was opened to.

    Encode the opened values again: that is m + e exactly when all digits were given. Then c0 + c1·s = m + e
    modulo the first prime is a linear equation for every word of s (Li and Micciancio, EUROCRYPT 2021).
    """
    engine = holder.engine
    n, q = engine.profile.degree, engine.primes[0]
    again = engine.encode(np.asarray(slots), float(cipher.scale), engine.level_of(cipher))
    m = words(again.dyn_array(), n)
    flat = cipher.dyn_array()
    size = n * (engine.level_of(cipher) + 1)
    c0 = words(flat, n)
    c1 = np.array([flat[size + i] for i in range(n)], dtype=object)
    secret = words(holder._secret.data().dyn_array(), n)
    guess = np.array([(int(a) - int(b)) * pow(int(c), -1, q) % q for a, b, c in zip(m, c0, c1, strict=True)])
    return float((guess == secret).mean())


def test_key_recovery_works_on_raw_decryptions_and_fails_on_flooded_ones(cancer):
    own = KeyHolder.generate("linear")
    frame, _, fitted = cancer
    enc = own.encrypt(frame["mean radius"].to_numpy())
    scores = LogisticRegression.from_sklearn(fitted).decision_function(own.encrypt(frame))
    for target, name in ((enc, "x0"), (scores, "score")):
        cipher = target.ciphers(name)[0]
        plain = seal.Plaintext()
        seal.Decryptor(own.engine.context, own._secret).decrypt(cipher, plain)
        raw = np.array(own.engine.encoder.decode_complex(plain))
        assert recovered_share(own, cipher, raw) > 0.99
        # the same attacker gets the flooded values, and the untouched rest as a present
        flooded = raw.copy()
        flooded.real[: target.n_rows] = np.asarray(own.decrypt(target)).ravel()
        assert recovered_share(own, cipher, flooded) < 0.01
        # averaging over many openings does not undo flooding
        mean = np.mean([np.asarray(own.decrypt(target)).ravel() for _ in range(200)], axis=0)
        flooded.real[: target.n_rows] = mean
        assert recovered_share(own, cipher, flooded) < 0.01


# Processes ----------------------------------------------------------------------------------------------

FORKED = """
    import os, signal, sys, time
    import numpy as np
    from twopm_kit.errors import ForkRefused
    from twopm_kit.fhe import EncryptedFrame, KeyHolder, LogisticRegression
    from twopm_kit.fhe.engine import engine_for

    holder = KeyHolder.generate("linear")
    enc = holder.encrypt(np.ones((3, 2)))
    content = enc.to_bytes()
    model = LogisticRegression.from_plain([1.0, 2.0])
    child = os.fork()
    if child == 0:
        attempts = [
            lambda: holder.encrypt(np.ones(2)),
            lambda: holder.decrypt(enc),
            lambda: holder.evaluator(),
            lambda: holder.save("never.key", "long enough phrase"),
            lambda: model.decision_function(enc),
            lambda: enc + enc,
            lambda: enc * 0.5,
            lambda: EncryptedFrame.from_bytes(content),
            lambda: KeyHolder.generate("linear"),
            lambda: engine_for("train"),
        ]
        refused = 0
        for attempt in attempts:
            try:
                attempt()
            except ForkRefused as error:
                refused += "spawn" in error.hint
        del holder, enc, model
        sys.exit(0 if refused == len(attempts) else 1)
    for _ in range(200):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            sys.exit(os.waitstatus_to_exitcode(status))
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    sys.exit(99)
"""


def test_forked_workers_are_refused_and_do_not_hang(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKED)],
        cwd=tmp_path,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.iterdir()) == []


def test_spawned_workers_compute_on_paths(holder, small, tmp_path):
    source = holder.encrypt(small).save(tmp_path / "rows.ct")
    code = f"""
        from twopm_kit.fhe import EncryptedFrame, LogisticRegression
        enc = EncryptedFrame.load({str(source)!r})
        scores = LogisticRegression.from_plain([1.0, 2.0, 3.0], 0.5).decision_function(enc)
        scores.save({str(tmp_path / "out.ct")!r})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
    scores = holder.decrypt(EncryptedFrame.load(tmp_path / "out.ct", holder))
    assert np.abs(scores["score"] - (small @ [1.0, 2.0, 3.0] + 0.5)).max() <= 1e-6


def test_nothing_is_left_in_shared_memory(holder, small, tmp_path):
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    before = set(folder.iterdir())
    holder.decrypt(EncryptedFrame.from_bytes(holder.encrypt(small).to_bytes()))
    assert not {path for path in set(folder.iterdir()) - before if "seal" in path.name}


def test_machines_without_nameless_memory(holder, small, monkeypatch):
    monkeypatch.setattr("twopm_kit.fhe.seal_io._HAS_MEMFD", False)
    back = holder.decrypt(EncryptedFrame.from_bytes(holder.encrypt(small).to_bytes()))
    assert np.abs(back - small).max().max() <= 1e-6


def test_a_key_file_is_not_written_over_by_another_key(holder, stranger, tmp_path):
    path = holder.save(tmp_path / "a.key", "correct horse battery")
    before = path.read_bytes()
    with pytest.raises(WrongKey, match="would be lost"):
        stranger.save(path, "correct horse battery")
    assert path.read_bytes() == before
    holder.save(path, "another good passphrase")
    other = tmp_path / "notes.txt"
    other.write_text("no key")
    with pytest.raises(CiphertextError):
        holder.save(other, "correct horse battery")
    assert other.read_text() == "no key"
