"""Keys by role: a ``KeyHolder`` owns the secret, an ``Evaluator`` is everything that others may have."""

import html
import math
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import tenseal.sealapi as seal

from twopm_kit.errors import CiphertextError, WrongKey
from twopm_kit.fhe.engine import FRESH_NOISE, Engine, engine_for, guard_fork, seal_words
from twopm_kit.fhe.evaluation import EvaluationKeys, make_keys
from twopm_kit.fhe.flooding import DEFAULT_BUDGET, DEFAULT_PRECISION, QueryLedger, flood_values
from twopm_kit.fhe.frames import (
    Chunk,
    EncryptedFrame,
    as_bytes,
    constants_frame,
    encrypt_table,
    rescale_noise,
    same_key,
)
from twopm_kit.fhe.keyfile import (
    SecretBundle,
    fingerprint_of,
    key_in,
    open_secret,
    pack_public,
    seal_secret,
    unpack_public,
)
from twopm_kit.fhe.layouts import COLUMNS, Layout
from twopm_kit.fhe.opening import check_worth, cover_seen, plan_floods, read_values
from twopm_kit.fhe.profiles import PROFILES, Profile
from twopm_kit.fhe.seal_io import as_path, check_foreign, dump, load_into, read_file, write_atomic
from twopm_kit.fhe.statistics import EncryptedStatistic
from twopm_kit.fhe.tables import Bounds, Data, Missing, check_table, rebuild
from twopm_kit.secrecy import KeptSecret

if TYPE_CHECKING:
    from twopm_kit.fhe.parallel import Source
    from twopm_kit.fhe.plan import Plan

__all__ = ["Evaluator", "KeyHolder"]


class Evaluator:
    """The public half: whoever has it can encrypt *for* the key holder, multiply and rotate ciphertexts.

    Computing on frames with plain weights needs no key at all. Nothing in here is secret.

    Parameters
    ----------
    engine : Engine
        Parameters and arithmetic.
    public : bytes
        Public key as SEAL writes it.
    keys : EvaluationKeys
        For products and rotations.
    """

    __slots__ = ("_encryptor", "_engine", "_public", "fingerprint", "keys")

    def __init__(self, engine: Engine, public: bytes, keys: EvaluationKeys) -> None:
        key = seal.PublicKey()
        # two polynomials at the level above all, with the key-switching prime
        check_foreign(public, engine.max_chunk_bytes + 2 * 8 * engine.profile.degree, "a public key")
        with seal_words("reading a public key"):
            load_into(key, engine.context, public)
            self._encryptor = seal.Encryptor(engine.context, key)
        self._engine = engine
        self._public = public
        self.fingerprint = fingerprint_of(engine.params_hash, public)
        #: What products and rotations of ciphertexts need.
        self.keys: Final = keys

    @property
    def profile(self) -> str:
        """Name of the encryption profile."""
        return self._engine.profile.name

    def encrypt(
        self,
        data: Data,
        *,
        bounds: Bounds | None = None,
        packing: str = "real",
        layout: Layout = COLUMNS,
        missing: Missing = "refuse",
    ) -> EncryptedFrame:
        """Encrypt for the key holder; whoever encrypts cannot read it back.

        Ciphertexts are about twice as large as those that ``KeyHolder.encrypt`` makes. Parameters and errors
        are the same.
        """
        table = check_table(data, self._engine.profile, bounds, missing)

        def encrypt(plain: Any) -> Chunk:
            return Chunk(cipher=self._encrypt(plain))

        return encrypt_table(self, table, encrypt, packing=packing, layout=layout, noise=self._fresh_noise)

    def encrypt_constants(self, values: npt.NDArray[np.float64], bound: float) -> EncryptedFrame:
        """Encrypt numbers up to ``bound``, each in every slot of a ciphertext of its own; see `KeyHolder`."""
        table = check_table(values.reshape(1, -1), self._engine.profile, bound)
        return constants_frame(self, table, self._encrypt, noise=self._fresh_noise)

    def _encrypt(self, plain: Any) -> Any:
        guard_fork()
        cipher = seal.Ciphertext()
        with seal_words("encrypting"):
            self._encryptor.encrypt(plain, cipher)
        return cipher

    @property
    def _fresh_noise(self) -> float:
        engine = self._engine
        # With a key-switching prime SEAL encrypts above it and divides it away: rounding is what is left.
        switching = len(engine.profile.bits) > 1
        return rescale_noise(engine) if switching else FRESH_NOISE * math.sqrt(4 * engine.profile.degree / 3)

    @property
    def engine(self) -> Engine:
        """Parameters and arithmetic; no key."""
        return self._engine

    def encrypt_to(self, source: "Source", path: str | Path, **options: Any) -> Path:
        """Encrypt a table of any length into a container file, block by block; can be taken up again.

        Options and errors are those of `twopm_kit.fhe.parallel.encrypt_to`: ``columns``, ``bounds``,
        ``packing``, ``missing``, ``n_jobs``, ``progress``, ``resume``.
        """
        from twopm_kit.fhe.parallel import encrypt_to

        return encrypt_to(self, source, path, **options)

    def check(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Return the frame when it is under this key.

        Raises
        ------
        WrongKey
            Names both fingerprints.
        """
        same_key(self.fingerprint, _frame(enc).fingerprint, "checking a frame")
        return enc

    def to_bytes(self) -> bytes:
        """Public bundle: profile, parameters hash, fingerprint, public key, evaluation keys."""
        return pack_public(self.profile, self._engine.params_hash, self._public, self.keys.to_bytes())

    @classmethod
    def from_bytes(cls, content: bytes) -> "Evaluator":
        """Read a public bundle from anybody.

        Raises
        ------
        CiphertextError
            Damaged, changed, of another version, or not what its fingerprint says.
        """
        profile, fingerprint, public, keys = unpack_public(as_bytes(content, "a public key bundle"))
        engine = engine_for(profile)
        evaluator = cls(engine, public, EvaluationKeys.from_bytes(engine, keys))
        same_key(evaluator.fingerprint, fingerprint, "reading a public key bundle")
        return evaluator

    def save(self, path: str | Path) -> Path:
        """Write the public bundle, whole or not at all; returns the path."""
        target = as_path(path)
        write_atomic(target, self.to_bytes())
        return target

    @classmethod
    def load(cls, path: str | Path) -> "Evaluator":
        """Read a public bundle file."""
        return cls.from_bytes(read_file(path, "a public key bundle"))

    def __repr__(self) -> str:
        return (
            f"<Evaluator profile {self.profile}, key {self.fingerprint[:8]}…, {len(self.keys.steps)} "
            "rotations: public>"
        )

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise CiphertextError("an Evaluator cannot be pickled or copied", hint="send .to_bytes() or a path")


class KeyHolder(KeptSecret):
    """Owner of a secret key: encrypts, decrypts, and lets nobody else have the key.

    Make one with `generate` or `load`. It refuses to be pickled or copied and never prints the key. What
    others need is in `evaluator`.

    Notes
    -----
    Whoever sees a ciphertext and its full-precision decryption can compute the secret key (Li and Micciancio,
    EUROCRYPT 2021): the decryption is the value plus an error that is linear in the key. `decrypt` therefore
    adds Gaussian noise from a stream cipher, at least 1024 times the ciphertext's own error, and counts the
    ciphertexts it opens in `ledger`.

    Three things to know. The noise is as large as ``precision`` allows: 1e-6 leaves about 20 binary digits of
    a value near 1. The proof that covers every conceivable attacker (CRYPTO 2022) asks for more: see
    `opening_report`, and pass a coarser ``precision`` where results go to people you do not trust. And
    flooding protects against those who follow the protocol and look at what they see. Against made-up
    ciphertexts there is one check: a real number has no imaginary part, so what is there after decryption is
    error. Where there is more of it than the frame announces, more noise is added; where there is far more,
    nothing is opened. In frames with packing "complex" and in sums nothing of the kind can be seen, and a
    frame says itself what it is: open only what comes from computations that you know.
    """

    _holds = "a secret key"
    _instead = "give .evaluator() to others, or keep the key with .save(path, passphrase)"

    __slots__ = (
        "__weakref__",
        "_decryptor",
        "_encryptor",
        "_engine",
        "_evaluators",
        "_public",
        "_secret",
        "fingerprint",
        "ledger",
    )

    def __init__(self, engine: Engine, secret: Any, public: bytes, ledger: QueryLedger) -> None:
        self._engine = engine
        self._secret = secret
        self._public = public
        self._evaluators: dict[frozenset[int], Evaluator] = {}
        self._encryptor = seal.Encryptor(engine.context, secret)
        self._decryptor = seal.Decryptor(engine.context, secret)
        self.fingerprint = fingerprint_of(engine.params_hash, public)
        self.ledger = ledger

    @classmethod
    def generate(cls, profile: str | Profile = "linear", *, budget: int = DEFAULT_BUDGET) -> "KeyHolder":
        """Make a new key.

        Parameters
        ----------
        profile : str or Profile
            A name out of ``kit.fhe.PROFILES``, or a parameter set of your own.
        budget : int
            How many ciphertexts the key may open for others.

        Raises
        ------
        ProfileError
            Unknown profile.
        """
        engine = engine_for(profile)
        if type(budget) is not int or not 0 < budget < 1 << 63:
            raise CiphertextError(f"budget {budget!r} was passed", hint="pass a whole number above 0")
        with seal_words("generating a key"):
            generator = seal.KeyGenerator(engine.context)
            secret, public = generator.secret_key(), seal.PublicKey()
            generator.create_public_key(public)
            return cls(engine, secret, dump(public), QueryLedger(budget))

    @property
    def profile(self) -> str:
        """Name of the encryption profile."""
        return self._engine.profile.name

    @property
    def engine(self) -> Engine:
        """Parameters and arithmetic; no key."""
        return self._engine

    def evaluator(self, rotations: Iterable[int] = ()) -> Evaluator:
        """Make the public half, to give to others.

        Parameters
        ----------
        rotations : iterable of int
            Slots to rotate by, that there shall be keys for: a network's plan names its own
            (``net.plan.rotations``). Each key has some hundred kilobytes.

        Raises
        ------
        CiphertextError
            Not whole numbers.
        """
        guard_fork()
        try:
            steps = frozenset(operator.index(step) % self._engine.slots for step in rotations)
        except TypeError:
            raise CiphertextError(
                f"rotations of type {type(rotations).__name__} were passed; expected whole numbers",
                hint="pass net.rotations, or numbers of slots such as [1, 2, 4]",
            ) from None
        if steps not in self._evaluators:
            keys = make_keys(self._engine, self._secret, steps)
            self._evaluators[steps] = Evaluator(self._engine, self._public, keys)
        return self._evaluators[steps]

    # Encrypting ------------------------------------------------------------------------------------------

    def encrypt(
        self,
        data: Data,
        *,
        bounds: Bounds | None = None,
        packing: str = "real",
        layout: Layout = COLUMNS,
        plan: "Plan | None" = None,
        missing: Missing = "refuse",
    ) -> EncryptedFrame:
        """Encrypt a table: one feature a ciphertext, rows in the slots. The index is not kept.

        Parameters
        ----------
        data : pandas.DataFrame, or array-like of shape (n, d) or (n,)
            Numbers, booleans, and in a frame text or categories, which become one column of 0 and 1 for
            each category (at most 64, public). Whole numbers, truth values and categories come back as such.
        bounds : float or mapping of column name to float, optional
            Public upper limits of the absolute values. Without them each column gets the next power of 4,
            which tells a server the size class of its largest value and nothing else.
        packing : str
            "complex" puts two rows into a slot, which halves bytes and time of linear work on many rows.
        layout : Layout
            Where values sit: columns are for many rows; blocks, all features of a few rows in one
            ciphertext, for answers without delay.
        plan : Plan, optional
            What is to be computed (``net.plan_for(rows)``): gives the layout, and the frame's evaluator
            gets the rotation keys that it needs.
        missing : str or sequence of str
            "mask" takes missing values and encrypts, beside each column whose dtype can have any, which are
            there; names do so for these columns only.

        Returns
        -------
        EncryptedFrame
            At the profile's highest level.

        Raises
        ------
        SchemaError
            Empty, neither numbers nor categories, missing or infinite, or beyond the range: names column, row
            and limit. Nothing has been encrypted then.
        CiphertextError
            Unknown layout, packing or plan.
        """
        from twopm_kit.fhe.plan import Plan

        guard_fork()
        if not (plan is None or isinstance(plan, Plan)):
            raise CiphertextError(
                f"an object of type {type(plan).__name__} was passed as plan; expected a Plan",
                hint="pass plan=net.plan_for(rows), or leave it out",
            )
        table = check_table(data, self._engine.profile, bounds, missing)

        def encrypt(plain: Any) -> Chunk:
            with seal_words("encrypting"):
                return Chunk(content=dump(self._encryptor.encrypt_symmetric(plain)))

        evaluator = self.evaluator(plan.rotations if plan else ())
        if plan is None:
            return encrypt_table(evaluator, table, encrypt, packing=packing, layout=layout)
        # what is planned meets plain weights first
        return encrypt_table(evaluator, table, encrypt, packing=packing, layout=plan.layout, products=False)

    def encrypt_constants(self, values: npt.NDArray[np.float64], bound: float) -> EncryptedFrame:
        """Encrypt numbers, each in every slot of a ciphertext of its own: weights that are to meet columns.

        Parameters
        ----------
        values : ndarray of float64, shape (d,)
            Finite numbers up to ``bound``.
        bound : float
            Their public bound.

        Returns
        -------
        EncryptedFrame
            As many rows as there are slots × d columns. Made for this process: as bytes its ciphertexts are
            twice as large as those of `encrypt`.

        Raises
        ------
        SchemaError
            A number is not finite, or above the bound.
        """
        table = check_table(values.reshape(1, -1), self._engine.profile, bound)

        def encrypt(plain: Any) -> Any:
            guard_fork()
            cipher = seal.Ciphertext()
            with seal_words("encrypting"):
                self._encryptor.encrypt_symmetric(plain, cipher)
            return cipher

        return constants_frame(self.evaluator(), table, encrypt, noise=FRESH_NOISE)

    def encrypt_to(self, source: "Source", path: str | Path, **options: Any) -> Path:
        """Encrypt a table of any length into a container file, block by block; can be taken up again.

        Options and errors are those of `twopm_kit.fhe.parallel.encrypt_to`: ``columns``, ``bounds``,
        ``packing``, ``missing``, ``n_jobs``, ``progress``, ``resume``.
        """
        from twopm_kit.fhe.parallel import encrypt_to

        return encrypt_to(self, source, path, **options)

    # Decrypting ------------------------------------------------------------------------------------------

    @overload
    def decrypt(
        self, enc: EncryptedFrame, *, flood: bool = ..., precision: float = ...
    ) -> pd.DataFrame | npt.NDArray[np.float64]: ...

    @overload
    def decrypt(
        self, enc: EncryptedStatistic, *, flood: bool = ..., precision: float = ...
    ) -> pd.DataFrame | pd.Series: ...

    def decrypt(
        self,
        enc: EncryptedFrame | EncryptedStatistic,
        *,
        flood: bool = True,
        precision: float = DEFAULT_PRECISION,
    ) -> pd.DataFrame | pd.Series | npt.NDArray[np.float64]:
        """Values of a frame or a statistic: safe to show when flooded, which is the default.

        Parameters
        ----------
        enc : EncryptedFrame or EncryptedStatistic
            Under this key.
        flood : bool
            False gives the full precision, **for the key owner's eyes only**: shown to anybody, it gives the
            key away. It is not counted in the ledger.
        precision : float
            Largest error that flooding adds to a value; larger is safer. It is exceeded where the
            ciphertext's own error, as of products in profiles of small scale, takes more noise to hide:
            `opening_report` tells how much. Beyond 1/64 of a column's bound nothing is opened, unless
            ``precision`` asks for that much.

        Returns
        -------
        pandas.DataFrame or ndarray of float64, shape (n, d)
            A frame when a frame was encrypted, else an array; of a statistic what pandas would give.

        Raises
        ------
        WrongKey
            Under another key; names both fingerprints.
        CiphertextError
            The values are far beyond their bounds, or their error far beyond the one that was announced:
            damaged, made up, or not what the header says. Or safe noise would drown them.
        BudgetSpent
            The ledger has no openings left.
        """
        guard_fork()
        if isinstance(enc, EncryptedStatistic):
            opened = None if enc.sums is None else self._values(enc.sums, flood, precision)
            return enc.finish(*(opened or (None,)))
        whole = _frame(enc).unfolded()
        values, errors = self._values(whole, flood, precision)
        return rebuild(tuple(whole.columns), values, enc.source, tuple(whole.kinds.values()), errors)

    def _values(
        self, enc: EncryptedFrame, flood: bool, precision: float
    ) -> tuple[npt.NDArray[np.float64], tuple[float, ...]]:
        """Values of every column, and the largest error of each."""
        same_key(self.fingerprint, enc.fingerprint, "decrypting")
        floods = plan_floods(enc, precision, self.ledger.budget)
        if flood:
            check_worth(enc, floods, precision)
            self.ledger.charge(enc.n_ciphertexts)
        values, seen = read_values(enc, self._open_cipher)
        if flood:
            floods = cover_seen(enc, floods, seen)
            for j, plan in enumerate(floods):
                values[:, j] = flood_values(values[:, j], plan)
        return values, tuple(plan.error for plan in floods)

    def _open_cipher(self, cipher: Any) -> Any:
        plain = seal.Plaintext()
        with seal_words("decrypting"):
            self._decryptor.decrypt(cipher, plain)
        return plain

    def open_for_others(
        self, enc: EncryptedFrame, *, precision: float = DEFAULT_PRECISION
    ) -> pd.DataFrame | npt.NDArray[np.float64]:
        """Flooded values, under a name that says what they are for; see `decrypt`."""
        return self.decrypt(enc, flood=True, precision=precision)

    def opening_report(self, enc: EncryptedFrame, *, precision: float = DEFAULT_PRECISION) -> pd.DataFrame:
        """Tell what opening a frame would cost in precision and what it would be worth in security.

        Returns
        -------
        pandas.DataFrame
            One row a column: standard deviation and largest error of the noise, log2 of noise over the
            ciphertext's own error, and statistical security in bits of the worst-case proof over the whole
            budget (see `twopm_kit.fhe.flooding.Flood`). Where decryption shows more error than the frame
            announces, more noise is added than is told here.
        """
        same_key(self.fingerprint, _frame(enc).fingerprint, "reporting on a frame")
        plans = plan_floods(enc, precision, self.ledger.budget)
        rows = [(p.std, p.error, round(p.ratio_bits, 1), round(p.statistical_bits, 1)) for p in plans]
        names = ["noise (std)", "largest error", "noise / error (bits)", "proof (bits)"]
        return pd.DataFrame(rows, columns=names, index=pd.Index(enc.columns, name="column"))

    # Keeping ---------------------------------------------------------------------------------------------

    def save(self, path: str | Path, passphrase: str) -> Path:
        """Write the key, sealed with a passphrase (scrypt, AES-256-GCM), mode 600, whole or not at all.

        Openings are counted from now on in ``<path>.ledger`` beside it.

        Raises
        ------
        WrongKey
            The passphrase is too short, or the file holds another key, which would be lost.
        CiphertextError
            The file is there and is no key file.
        """
        guard_fork()
        target = as_path(path)
        if target.exists() and (other := key_in(read_file(target, "a key file"))) != self.fingerprint:
            raise WrongKey(
                f"{target.name} holds the key {other[:8]}…, not {self.fingerprint[:8]}…: it would be lost",
                hint="save under another name, or move the old key file away",
            )
        with seal_words("writing a secret key"):
            secret = dump(self._secret)
        bundle = SecretBundle(
            self.profile, secret, self._public, self.ledger.budget, self.ledger.used, self.fingerprint
        )
        write_atomic(target, seal_secret(bundle, self._engine.params_hash, passphrase), mode=0o600)
        self.ledger.keep_at(_ledger_path(target), self.fingerprint)
        return target

    @classmethod
    def load(cls, path: str | Path, passphrase: str) -> "KeyHolder":
        """Read a key file.

        Raises
        ------
        WrongKey
            Wrong passphrase, or the file was changed.
        CiphertextError
            Not a key file, or of another version.
        """
        source = as_path(path)
        bundle = open_secret(read_file(source, "a key file"), passphrase)
        if bundle.profile not in PROFILES:
            raise CiphertextError(
                f"the key uses the profile {bundle.profile!r}, which this kit does not have",
                hint=f"use one of: {', '.join(PROFILES)}",
            )
        engine = engine_for(bundle.profile)
        secret = seal.SecretKey()
        with seal_words("reading a secret key"):
            load_into(secret, engine.context, bundle.secret)
            holder = cls(engine, secret, bundle.public, QueryLedger(bundle.budget, bundle.used))
        same_key(holder.fingerprint, bundle.fingerprint, "reading a key file")
        holder.ledger.keep_at(_ledger_path(source), holder.fingerprint)
        return holder

    # Showing ---------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<KeyHolder profile {self.profile}, key {self.fingerprint[:8]}…: keep it to yourself>"

    def _repr_html_(self) -> str:
        return (
            f"<p><strong>KeyHolder</strong>: profile {html.escape(self.profile)}, key {self.fingerprint}, "
            f"{self.ledger.used} of {self.ledger.budget} openings used. The secret key is not shown.</p>"
        )


def _frame(enc: object) -> EncryptedFrame:
    if not isinstance(enc, EncryptedFrame):
        raise CiphertextError(
            f"a {type(enc).__name__} was passed; expected an EncryptedFrame",
            hint="pass its .sums"
            if isinstance(enc, EncryptedStatistic)
            else "read files with EncryptedFrame.load(path)",
        )
    return enc


def _ledger_path(path: Path) -> Path:
    return path.with_name(path.name + ".ledger")
