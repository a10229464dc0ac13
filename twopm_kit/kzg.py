"""KZG commitments to blobs with Ethereum's own ceremony (EIP-4844), and sums of them as the EVM makes them.

A blob is 131,072 bytes: 4,096 elements of F_r, 32 big-endian bytes each. Its commitment is one point of the
group G1 of BLS12-381, and the commitment to a sum of blobs is the sum of their commitments. Points travel in
two forms: 48 bytes compressed (blobs, proofs, versioned hashes) and 128 bytes (EIP-2537, what contracts add).
"""

import threading
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import ckzg

from twopm_kit.errors import DataError

__all__ = [
    "BLOB_BYTES",
    "BLOB_ELEMENTS",
    "GENERATOR",
    "INFINITY",
    "MODULUS",
    "add",
    "cell_proofs",
    "commit",
    "compress",
    "in_group",
    "linear_combination",
    "negate",
    "omega",
    "point_proof",
    "prove",
    "prove_at",
    "split",
    "trusted_setup",
    "uncompress",
    "verify",
    "verify_at",
    "verify_point",
    "versioned_hash",
]

#: Elements of one blob, and its size in bytes.
BLOB_ELEMENTS: Final = 4096
BLOB_BYTES: Final = 32 * BLOB_ELEMENTS
#: Order of the group: the modulus r of the elements.
MODULUS: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
#: The point at infinity, 128 bytes: the neutral element.
INFINITY: Final = bytes(128)
#: The generator of G1, 128 bytes: the commitment to a blob of ones.
GENERATOR: Final = bytes.fromhex(
    "0000000000000000000000000000000017f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac58"
    "6c55e83ff97a1aeffb3af00adb22c6bb0000000000000000000000000000000008b3f481e3aaa0f1a09e30ed741d8ae4"
    "fcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1"
)

# BLS12-381's base field; the curve is y² = x³ + 4.
_P: Final = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
_B: Final = 4
# 7 generates the multiplicative group of F_r, so this has order 4096 (EIP-4844, PRIMITIVE_ROOT_OF_UNITY).
_ROOT: Final = pow(7, (MODULUS - 1) // BLOB_ELEMENTS, MODULUS)
_INDEX_BITS: Final = BLOB_ELEMENTS.bit_length() - 1

# The three highest bits of a compressed point: compressed, infinity, and y is the larger of the two roots.
_COMPRESSED: Final = 1 << 383
_AT_INFINITY: Final = 1 << 382
_LARGER: Final = 1 << 381

_lock = threading.Lock()
_loaded: list[Any] = []


def trusted_setup() -> Any:
    """Give the set-up of Ethereum's KZG ceremony, as ``ckzg`` wants it; read once a process (1.5 s).

    The ceremony's points come with ``eth_account``, which needs them to sign blob transactions.
    """
    with _lock:
        if not _loaded:
            _loaded.append(ckzg.load_trusted_setup(str(_setup_file()), 0))
        return _loaded[0]


def _setup_file() -> Path:
    # looked up without importing the package, which takes longer than all that is imported here
    spec = find_spec("eth_account")
    folder = Path(str(spec.origin)).parent if spec is not None else Path()
    path = folder / "typed_transactions" / "blob_transactions" / "kzg_trusted_setup.txt"
    if not path.is_file():
        raise DataError(
            "the points of Ethereum's KZG ceremony are not where eth_account keeps them",
            hint="install the versions of requirements.lock",
        )
    return path


# Blobs ----------------------------------------------------------------------------------------------------


def split(words: bytes) -> list[bytes]:
    """Cut big-endian 32-byte words into blobs; the last one is filled up with zeros.

    Parameters
    ----------
    words : bytes
        One or more words, each below r.

    Returns
    -------
    list of bytes
        ceil(words / 4096) blobs.
    """
    if not isinstance(words, bytes) or not words or len(words) % 32:
        raise DataError(
            f"expected one or more words of 32 bytes, got {_size(words)}",
            hint="Pass field elements as bytes.",
        )
    return [
        words[start : start + BLOB_BYTES].ljust(BLOB_BYTES, b"\0")
        for start in range(0, len(words), BLOB_BYTES)
    ]


def commit(blob: bytes, *, keep: bool = True) -> bytes:
    """Commit to a blob.

    Parameters
    ----------
    blob : bytes
        131,072 bytes.
    keep : bool
        Whether to remember blob and commitment: pass False for a secret blob, which would outlive its owner.

    Returns
    -------
    bytes
        48 bytes.

    Raises
    ------
    DataError
        If it is not 131,072 bytes, or an element is not below r; the message gives its index.
    """
    return _commit(_blob(blob)) if keep else _commit.__wrapped__(_blob(blob))


def prove(blob: bytes, commitment: bytes) -> bytes:
    """Prove that a commitment is the one to a blob (EIP-4844's blob proof), 48 bytes, for `verify`."""
    return _prove(_blob(blob), _exactly(commitment, 48, "a commitment"))


# A message is committed to when it is made and again when it is sent; the second time costs nothing.
@lru_cache(maxsize=64)
def _commit(blob: bytes) -> bytes:
    try:
        return bytes(ckzg.blob_to_kzg_commitment(blob, trusted_setup()))
    except (RuntimeError, ValueError):
        raise _not_in_field(blob) from None


@lru_cache(maxsize=64)
def _prove(blob: bytes, commitment: bytes) -> bytes:
    try:
        return bytes(ckzg.compute_blob_kzg_proof(blob, commitment, trusted_setup()))
    except (RuntimeError, ValueError):
        if not in_group(commitment):
            raise DataError(
                "the commitment is no point of the group", hint="Pass what kzg.commit returned."
            ) from None
        raise _not_in_field(blob) from None


def verify(blobs: Sequence[bytes], commitments: Sequence[bytes], proofs: Sequence[bytes]) -> bool:
    """Tell whether each commitment is the one to its blob, all in one check.

    Contents may be hostile: an element that is not below r, or a commitment or proof that is no point of the
    group, gives False. Sizes and counts are the caller's to check.

    Raises
    ------
    DataError
        If the three lists differ in length, or an entry has another size.
    """
    if not len(blobs) == len(commitments) == len(proofs):
        raise DataError(
            f"got {len(blobs)} blobs, {len(commitments)} commitments and {len(proofs)} proofs",
            hint="Pass one commitment and one proof for each blob.",
        )
    for blob, commitment, proof in zip(blobs, commitments, proofs, strict=True):
        _blob(blob)
        _exactly(commitment, 48, "a commitment")
        _exactly(proof, 48, "a proof")
    try:
        return bool(
            ckzg.verify_blob_kzg_proof_batch(
                b"".join(blobs), b"".join(commitments), b"".join(proofs), trusted_setup()
            )
        )
    except (RuntimeError, ValueError):
        return False


def omega(index: int) -> int:
    """Give the point at which EIP-4844 evaluates element `index` of a blob: ω to the bit-reversed index."""
    if not isinstance(index, int) or not 0 <= index < BLOB_ELEMENTS:
        raise DataError(
            f"a blob has no element {index!r}", hint=f"Pass a whole number from 0 to {BLOB_ELEMENTS - 1}."
        )
    return pow(_ROOT, int(f"{index:0{_INDEX_BITS}b}"[::-1], 2), MODULUS)


def point_proof(blob: bytes, index: int) -> tuple[bytes, bytes]:
    """Prove what one element of a blob is, for the point evaluation precompile (0x0a).

    Returns
    -------
    tuple of bytes
        The proof (48 bytes) and the element (32 bytes, big-endian).
    """
    return prove_at(blob, omega(index))


def prove_at(blob: bytes, point: int) -> tuple[bytes, bytes]:
    """Prove what the polynomial of a blob is at any point below r; as `point_proof`."""
    at = _element(point)
    try:
        proof, value = ckzg.compute_kzg_proof(_blob(blob), at, trusted_setup())
    except (RuntimeError, ValueError):
        raise _not_in_field(blob) from None
    return bytes(proof), bytes(value)


def verify_point(commitment: bytes, index: int, value: bytes, proof: bytes) -> bool:
    """Tell whether element `index` of the blob behind a commitment is `value` (32 bytes, big-endian)."""
    return verify_at(commitment, omega(index), value, proof)


def verify_at(commitment: bytes, point: int, value: bytes, proof: bytes) -> bool:
    """Tell whether the polynomial behind a commitment has this value (32 bytes) at a point below r."""
    at = _element(point)
    _exactly(commitment, 48, "a commitment")
    _exactly(value, 32, "an element")
    _exactly(proof, 48, "a proof")
    try:
        return bool(ckzg.verify_kzg_proof(commitment, at, value, proof, trusted_setup()))
    except (RuntimeError, ValueError):
        return False


def cell_proofs(blob: bytes) -> list[bytes]:
    """Make the 128 proofs of a blob's cells (EIP-7594), which public networks want with a transaction."""
    try:
        _, proofs = ckzg.compute_cells_and_kzg_proofs(_blob(blob), trusted_setup())
    except (RuntimeError, ValueError):
        raise _not_in_field(blob) from None
    return [bytes(proof) for proof in proofs]


def versioned_hash(commitment: bytes) -> bytes:
    """Give what ``blobhash`` shows to a contract: 0x01, then 31 bytes of the commitment's SHA-256."""
    return b"\x01" + sha256(_exactly(commitment, 48, "a commitment")).digest()[1:]


# Points ---------------------------------------------------------------------------------------------------


def in_group(commitment: bytes) -> bool:
    """Tell whether 48 bytes are a point of the group (on the curve, and of order r)."""
    _exactly(commitment, 48, "a point")
    nothing, infinity = bytes(32), compress(INFINITY)
    try:
        # every point that ckzg reads is checked in full, whatever the proof is worth
        ckzg.verify_kzg_proof(commitment, nothing, nothing, infinity, trusted_setup())
    except (RuntimeError, ValueError):
        return False
    return True


def uncompress(commitment: bytes) -> bytes:
    """Turn 48 bytes into 128: 16 zero bytes and x, 16 zero bytes and y (EIP-2537).

    Raises
    ------
    DataError
        If they are no point of the curve in canonical form. Whether it is in the group tells `in_group`.
    """
    value = int.from_bytes(_exactly(commitment, 48, "a compressed point"), "big")
    x = value & (_LARGER - 1)
    if value & _AT_INFINITY:
        if value == _COMPRESSED | _AT_INFINITY:
            return INFINITY
    elif value & _COMPRESSED and x < _P:
        square = (x * x * x + _B) % _P
        y = pow(square, (_P + 1) // 4, _P)
        if y * y % _P == square:
            return _pack((x, _P - y if (2 * y > _P) != bool(value & _LARGER) else y))
    raise DataError("these 48 bytes are no point of the curve", hint="Refuse them and name their sender.")


def compress(point: bytes) -> bytes:
    """Turn 128 bytes into 48: x, and in its highest bits which of the two y it is."""
    where = _unpack(point)
    if where is None:
        return (_COMPRESSED | _AT_INFINITY).to_bytes(48, "big")
    x, y = where
    return (x | _COMPRESSED | (_LARGER if 2 * y > _P else 0)).to_bytes(48, "big")


def add(*points: bytes) -> bytes:
    """Add points of 128 bytes, as the precompile 0x0b does; no points give `INFINITY`.

    Raises
    ------
    DataError
        If one of them is no point of the curve.
    """
    total: tuple[int, int] | None = None
    for point in points:
        total = _sum(total, _unpack(point))
    return _pack(total)


def negate(point: bytes) -> bytes:
    """Give the point that adds up with `point` to `INFINITY`; 128 bytes each."""
    where = _unpack(point)
    return _pack(where and (where[0], _P - where[1]))


def linear_combination(points: Sequence[bytes], scalars: Sequence[int]) -> bytes:
    """Add multiples of points of 128 bytes, as the precompile 0x0c does.

    Parameters
    ----------
    points : sequence of bytes
        128 bytes each.
    scalars : sequence of int
        One for each point; taken modulo r.

    Raises
    ------
    DataError
        If a point is not one of the group, or the two differ in length.
    """
    if len(points) != len(scalars):
        raise DataError(f"got {len(points)} points and {len(scalars)} scalars", hint="Pass one for each.")
    rows = []
    for point in points:
        if not in_group(compress(point)):
            raise DataError("a point is not in the group", hint="Refuse it and name its sender.")
        where = _unpack(point)
        rows.append(_small_multiples(where))
    total: _Jacobian = None
    # all points share the doublings (Straus 1964); four bits of every scalar at a time
    numbers = [scalar % MODULUS for scalar in scalars]
    for digit in range(252, -1, -4):
        for _ in range(4):
            total = _doubled(total)
        for row, number in zip(rows, numbers, strict=True):
            total = _added(total, row[number >> digit & 15])
    if total is None:
        return INFINITY
    x, y, z = total
    inverse = pow(z, -1, _P)
    return _pack((x * inverse * inverse % _P, y * inverse * inverse * inverse % _P))


# Jacobian coordinates: x / z² and y / z³, without a division for each step; None is the point at infinity.
_Jacobian = tuple[int, int, int] | None


def _small_multiples(where: tuple[int, int] | None) -> list[_Jacobian]:
    one: _Jacobian = None if where is None else (*where, 1)
    out: list[_Jacobian] = [None]
    for _ in range(15):
        out.append(_added(out[-1], one))
    return out


def _doubled(point: _Jacobian) -> _Jacobian:
    if point is None:
        return None
    x, y, z = point
    y2 = y * y % _P
    s = 4 * x * y2 % _P
    m = 3 * x * x % _P
    x3 = (m * m - 2 * s) % _P
    return x3, (m * (s - x3) - 8 * y2 * y2) % _P, 2 * y * z % _P


def _added(left: _Jacobian, right: _Jacobian) -> _Jacobian:
    if left is None or right is None:
        return right if left is None else left
    x1, y1, z1 = left
    x2, y2, z2 = right
    z1z1, z2z2 = z1 * z1 % _P, z2 * z2 % _P
    u1, u2 = x1 * z2z2 % _P, x2 * z1z1 % _P
    s1, s2 = y1 * z2 * z2z2 % _P, y2 * z1 * z1z1 % _P
    if u1 == u2:
        return _doubled(left) if s1 == s2 else None
    h, r = u2 - u1, s2 - s1
    h2 = h * h % _P
    h3, v = h * h2 % _P, u1 * h2 % _P
    x3 = (r * r - h3 - 2 * v) % _P
    return x3, (r * (v - x3) - s1 * h3) % _P, z1 * z2 * h % _P


def _sum(left: tuple[int, int] | None, right: tuple[int, int] | None) -> tuple[int, int] | None:
    # affine addition: one inversion (30 µs) is all that it costs; None is the point at infinity
    if left is None or right is None:
        return right if left is None else left
    (x1, y1), (x2, y2) = left, right
    if x1 == x2:
        if (y1 + y2) % _P == 0:
            return None
        slope = 3 * x1 * x1 * pow(2 * y1, -1, _P) % _P
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, _P) % _P
    x3 = (slope * slope - x1 - x2) % _P
    return x3, (slope * (x1 - x3) - y1) % _P


def _pack(point: tuple[int, int] | None) -> bytes:
    if point is None:
        return INFINITY
    return point[0].to_bytes(64, "big") + point[1].to_bytes(64, "big")


def _unpack(point: bytes) -> tuple[int, int] | None:
    if _exactly(point, 128, "a point") == INFINITY:
        return None
    x, y = int.from_bytes(point[:64], "big"), int.from_bytes(point[64:], "big")
    if x >= _P or y >= _P or (y * y - x * x * x - _B) % _P:
        raise DataError(
            "these 128 bytes are no point of the curve", hint="Refuse them and name their sender."
        )
    return x, y


# Checks ---------------------------------------------------------------------------------------------------


def _size(value: object) -> str:
    return f"{len(value):,} bytes" if isinstance(value, bytes) else type(value).__name__


def _exactly(value: bytes, size: int, what: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise DataError(f"{what} has {size} bytes, got {_size(value)}", hint="Check the size before.")
    return value


def _element(value: int) -> bytes:
    if not isinstance(value, int) or not 0 <= value < MODULUS:
        raise DataError(
            f"a point of evaluation is a whole number below r, got {value!r}", hint="Take it modulo r."
        )
    return value.to_bytes(32, "big")


def _blob(blob: bytes) -> bytes:
    if not isinstance(blob, bytes) or len(blob) != BLOB_BYTES:
        raise DataError(
            f"a blob has {BLOB_BYTES:,} bytes, got {_size(blob)}",
            hint="Cut and pad the data with kzg.split.",
        )
    return blob


def _not_in_field(blob: bytes) -> DataError:
    for index in range(BLOB_ELEMENTS):
        if int.from_bytes(blob[32 * index : 32 * index + 32], "big") >= MODULUS:
            return DataError(
                f"element {index} of the blob is not below the modulus r",
                hint="Commit to field elements only: 32 big-endian bytes each, below r.",
            )
    return DataError("the blob cannot be committed to", hint="Pass 4,096 field elements.")
