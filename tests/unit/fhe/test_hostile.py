"""What a server, a client or a thief of files tries, and what comes of it."""

import json
import struct
import subprocess
from dataclasses import replace
from threading import Barrier, Thread

import numpy as np
import pytest
import zstandard

from twopm_kit.errors import BudgetSpent, CiphertextError, CommitteeError
from twopm_kit.fhe import EncryptedFrame, KeyHolder
from twopm_kit.fhe.committee import Committee
from twopm_kit.fhe.engine import engine_for
from twopm_kit.fhe.evaluation import EvaluationKeys
from twopm_kit.fhe.flooding import QueryLedger, cover_noise, plan_flood
from twopm_kit.fhe.frames import computed_frame
from twopm_kit.fhe.parallel import _WORKER
from twopm_kit.fhe.raw import _payload, _wrapped, cipher_of, plaintext_of, secret_words

PHRASE = "correct horse battery staple"


# Ciphertexts that were made up to learn the key ---------------------------------------------------------


def _key_times(holder, factor, rows=1):
    """Frame whose last ciphertext, (0, factor), opens to the secret key; all others are honest."""
    like = holder.encrypt(np.zeros((rows * holder.engine.slots, 1)), bounds=1000.0)
    made = np.zeros((2, 1, holder.engine.profile.degree), np.uint64)
    made[1] = factor
    cipher = cipher_of(holder.engine, 0, like.scale, made)
    ciphers = [*like.drop_to(0).ciphers("x0")[1:], cipher]
    frame = computed_frame(like, [(like.heads[0], ciphers)], 0)
    return EncryptedFrame.from_bytes(frame.to_bytes(), holder)


def _key_slots(holder):
    secret = plaintext_of(holder.engine, 0, 1.0, secret_words(holder.engine, holder._secret)[:1])
    return np.array(holder.engine.encoder.decode_complex(secret)).real


@pytest.mark.parametrize("bits", [12, 16, 24, 40])
def test_a_frame_that_opens_to_the_key_is_refused_and_counted(holder, bits):
    frame = _key_times(holder, 1 << bits)
    assert np.corrcoef(_key_slots(holder), holder.decrypt(frame, flood=False)[:, 0])[0, 1] > 0.99
    used = holder.ledger.used
    with pytest.raises(CiphertextError, match=r"where its header leads to[\s\S]*made up to learn the key"):
        holder.decrypt(frame)
    assert holder.ledger.used == used + 1


@pytest.mark.parametrize("bits", [4, 7])
def test_a_frame_that_opens_to_little_of_the_key_is_drowned(holder, bits):
    opened = holder.decrypt(_key_times(holder, 1 << bits), precision=1e-12)[:, 0]
    assert abs(np.corrcoef(_key_slots(holder), opened)[0, 1]) < 0.1  # of 4,096 numbers: 6 deviations


def test_one_made_up_ciphertext_does_not_hide_among_many(holder):
    with pytest.raises(CiphertextError, match="where its header leads to"):
        holder.decrypt(_key_times(holder, 4000, rows=8), precision=1e-12)


def test_uneven_errors_of_rotations_are_flooded_by_what_is_seen(holder):
    """Key switching leaves an error of a hundred, in slot 0 of ten thousand; the header says 40."""
    like = holder.encrypt(np.zeros((holder.engine.slots, 1)))
    turned = holder.evaluator([1]).keys.rotate(like.ciphers("x0")[0], 1)
    frame = computed_frame(like, [(replace(like.heads[0], noise=40.0), [turned])], like.level)
    exact = holder.decrypt(frame, flood=False)
    noise = (holder.decrypt(frame, precision=1e-12) - exact).std()
    steps = noise * like.scale / (1024 * 40 * np.sqrt(holder.engine.slots))
    assert min(abs(steps / 4 - 1), abs(steps / 16 - 1)) < 0.1  # its size tells in which of few steps it is


def test_what_is_seen_changes_nothing_where_the_estimate_is_right(holder):
    plan = plan_flood(holder.engine, 2.0**44, 3.2, 1e-12, 100)
    own = plan.std / 1024
    assert cover_noise(plan, 0.0) is plan
    assert cover_noise(plan, 1.2 * own) is plan
    for seen, step in ((3.0, 4.0), (8.0, 16.0), (79.0, 64.0)):
        more = cover_noise(plan, seen * own)
        assert more.std == pytest.approx(step * plan.std)
        assert more.error == pytest.approx(step * plan.error)
        assert more.ratio_bits == pytest.approx(10.0 + np.log2(step / seen))
        assert more.statistical_bits == pytest.approx(plan.statistical_bits + 2 * np.log2(step / seen))
    assert cover_noise(plan, 81.0 * own) is None
    coarse = plan_flood(holder.engine, 2.0**44, 3.2, 1e-3, 100)
    assert cover_noise(coarse, 81.0 * own) is coarse


def test_a_committee_returns_no_frame_that_opens_to_the_key(holder):
    committee = Committee.deal(holder, 2, 3)
    committee.decrypt(_key_times(holder, 1 << 4))  # hidden by the members' noise
    with pytest.raises(CommitteeError, match="opened column 'x0' with an error of"):
        committee.decrypt(_key_times(holder, 1 << 24))


# Evaluation keys that end the process -------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(holder):
    return holder.evaluator([1, 2]).keys


def _switching_keys(payload, count=None, empty=0, digits=None):
    """Relinearisation keys with other counts: parameters, entries, then each entry's digits and keys."""
    entries, held = struct.unpack_from("<QQ", payload, 32)
    body = payload[48:]
    if digits is not None:
        body, held = body[: len(body) // held * digits], digits
    return _wrapped(
        payload[:32]
        + struct.pack("<Q", entries if count is None else count)
        + bytes(8 * empty)
        + struct.pack("<Q", held)
        + body
    )


def _foreign(keys, engine, relin=None, galois=None):
    made = EvaluationKeys(engine, relin or keys._relin_bytes, galois or keys._galois_bytes, keys.steps)
    return EvaluationKeys.from_bytes(engine, made.to_bytes())


def test_evaluation_keys_that_are_not_what_they_should_be_are_refused(holder, keys):
    engine = holder.engine
    (cipher,) = holder.encrypt(np.ones(3)).ciphers("x0")
    product, payload = engine.square(cipher), _payload(keys._relin_bytes)
    assert _foreign(keys, engine, _switching_keys(payload)).relinearize(product).size() == 2
    for relin in (
        keys._galois_bytes,
        _switching_keys(payload, count=2, empty=1),
        _switching_keys(payload, digits=1),
        _switching_keys(payload, count=1 << 40),
        _switching_keys(payload, count=0),
    ):
        with pytest.raises(CiphertextError, match="relinearisation keys"):
            _foreign(keys, engine, relin=relin).relinearize(product)
    with pytest.raises(CiphertextError, match="rotation keys"):
        _foreign(keys, engine, galois=keys._relin_bytes).rotate(cipher, 1)
    other = holder.evaluator([1, 3]).keys
    with pytest.raises(CiphertextError, match="not those that the bundle names"):
        _foreign(keys, engine, galois=other._galois_bytes).rotate(cipher, 1)


def test_evaluation_keys_unpack_to_no_more_than_keys_can_have():
    """Rotation keys of many megabytes are possible, but not out of a few bytes."""
    engine = engine_for("deep")
    front = _wrapped(b"")
    packed = zstandard.ZstdCompressor().compress(bytes(8 << 20))
    bomb = front[:5] + b"\x02" + front[6:8] + struct.pack("<Q", len(front) + len(packed)) + packed
    made = EvaluationKeys(engine, b"", bomb, range(1, 513))
    with pytest.raises(CiphertextError, match="unpacks to more than"):
        EvaluationKeys.from_bytes(engine, made.to_bytes())


# The ledger ---------------------------------------------------------------------------------------------


def test_a_name_that_was_lent_to_another_key_forgets_no_opening(small, tmp_path):
    path, away = tmp_path / "own.key", tmp_path / "away.key"
    own = KeyHolder.generate("linear")
    own.save(path, PHRASE)
    own.decrypt(own.encrypt(small))
    path.rename(away)
    KeyHolder.generate("linear").save(path, PHRASE)
    away.replace(path)
    assert KeyHolder.load(path, PHRASE).ledger.used == 3


def test_a_ledger_of_one_key_is_still_read(tmp_path):
    path = tmp_path / "ledger"
    path.write_text(json.dumps({"key": "a" * 32, "opened": 5}))
    ledger = QueryLedger()
    ledger.keep_at(path, "a" * 32)
    assert ledger.used == 5
    for bad in ('{"opened": 3}', '{"opened": {"a": -1}}', '{"opened": {"a": true}}', "[]"):
        path.write_text(bad)
        with pytest.raises(CiphertextError, match="damaged"):
            ledger.charge(1)


def test_openings_at_the_same_time_are_all_counted(tmp_path):
    ledgers = [QueryLedger(60), QueryLedger(60)]
    for ledger in ledgers:
        ledger.keep_at(tmp_path / "ledger", "a" * 32)
    start, spent = Barrier(4), []

    def open_some(ledger):
        start.wait()
        for _ in range(20):
            try:
                ledger.charge(1)
            except BudgetSpent:
                spent.append(1)

    threads = [Thread(target=open_some, args=(ledger,)) for ledger in ledgers * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spent) == 20
    assert max(ledger.used for ledger in ledgers) == 60


def test_a_ledger_whose_folder_is_gone_opens_nothing(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    ledger = QueryLedger()
    ledger.keep_at(folder / "ledger", "a" * 32)
    folder.rename(tmp_path / "moved")
    with pytest.raises(CiphertextError, match="cannot be kept"):
        ledger.charge(1)
    assert ledger.used == 0


# Worker processes ---------------------------------------------------------------------------------------


def test_workers_import_nothing_from_the_current_folder(tmp_path):
    (tmp_path / "hmac.py").write_text("raise SystemExit(7)")
    ended = subprocess.run(_WORKER, cwd=tmp_path, input=b"", capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
