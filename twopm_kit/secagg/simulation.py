"""A whole round in one process, every member for real: for study, tests and measurement."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import EncodingError, ProtocolError, RoundConfigError
from twopm_kit.secagg.aggregator import reconstruct_mask
from twopm_kit.secagg.boxes import BoxKey
from twopm_kit.secagg.config import Mode, RoundConfig
from twopm_kit.secagg.context import RoundContext
from twopm_kit.secagg.encoding import Decoded, Encoder
from twopm_kit.secagg.field import LIMBS, reduce_wide
from twopm_kit.secagg.graph import Graph
from twopm_kit.secagg.node import NodeSession
from twopm_kit.secagg.roster import Roster
from twopm_kit.secagg.vectors import VectorMessage

__all__ = ["RoundResult", "simulate"]

_STEPS = ("share", "submit", "unmask")


@dataclass(frozen=True, eq=False)
class RoundResult:
    """Outcome of a simulated round.

    Attributes
    ----------
    mean, sum : float64 array, shape (d,)
        Weighted mean and weighted sum over the survivors.
    weight : int
        Sum of the survivors' weights.
    survivors : tuple of int
        Indices of the members whose vector is in the sum.
    step : float
        Quantisation step of a value.
    groups : list of Decoded
        What was published: the sum of each group that has survivors.
    graph : Graph
        Who was whose neighbour, and the threshold.
    timings : dict
        Seconds: ``client`` (keys, shares, reading the neighbours' messages, encoding, masking and opening:
        median of one client), ``add`` (the aggregator adds up what arrives), ``unmask`` (when all have
        spoken, it checks shares and openings and removes the masks), ``commit`` (one client's KZG commitments
        and proofs, median; 0 where the mode has none).
    bytes : dict
        ``client_up``: bytes that one surviving client sends (share message, vector, opening), the median.
    """

    mean: npt.NDArray[np.float64]
    sum: npt.NDArray[np.float64]
    weight: int
    survivors: tuple[int, ...]
    step: float
    groups: list[Decoded]
    graph: Graph
    timings: dict[str, float]
    bytes: dict[str, int]

    def __repr__(self) -> str:
        return (
            f"RoundResult({self.mean.size} values, {len(self.survivors)} survivors, weight={self.weight}, "
            f"step={self.step:.3g})"
        )


class _Clock:
    """Seconds that each member, and the aggregator, spend on each kind of work."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, int], float] = {}

    @contextmanager
    def of(self, work: str, member: int = 0) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        self.seconds[work, member] = self.seconds.get((work, member), 0.0) + spent

    def median(self, work: str, members: Iterable[int]) -> float:
        return median(self.seconds.get((work, member), 0.0) for member in members)


def simulate(
    vectors: Sequence[npt.ArrayLike],
    weights: Sequence[int] | None = None,
    drop: Mapping[str, Iterable[int]] | Iterable[int] | None = None,
    config: RoundConfig | None = None,
    seed: int | None = None,
) -> RoundResult:
    """Run a whole round in this process; members exchange the bytes that they would send.

    Parameters
    ----------
    vectors : sequence of float arrays, each of shape (d,)
        One per member.
    weights : sequence of int, optional
        1 each if left out.
    drop : mapping or iterable of int, optional
        Members that leave, by index: ``{"share": [...], "submit": [...], "unmask": [...]}`` names the step
        that a member misses first; plain indices mean ``"submit"``.
    config : RoundConfig, optional
        Left out: clip at the largest absolute value, 16 bits (fewer if the weights need the room). With mode
        ``"commit"`` or ``"blob"`` every member also makes and sends KZG commitments, if the mode has them.
    seed : int, optional
        Repeats the random rounding. Keys, masks and noise are always fresh; keys and masks cancel.

    Raises
    ------
    EncodingError
        If vectors or weights are not such numbers, or not of one length.
    ProtocolError
        If `drop` names another step or member.
    RoundConfigError
        If the configuration is not for this many members.
    TooFewSurvivors
        If so many members leave that a threshold is missed.
    """
    vectors = _vectors(vectors)
    shares = [1] * len(vectors) if weights is None else _weights(weights)
    if len(shares) != len(vectors):
        raise EncodingError(
            f"{len(shares)} weights for {len(vectors)} vectors", hint="Pass one weight per vector."
        )
    gone = _drops(drop, len(vectors))
    config = _default_config(vectors, shares) if config is None else config
    if not isinstance(config, RoundConfig):
        raise RoundConfigError(
            f"config is {config!r}, a RoundConfig was expected", hint="Pass RoundConfig(clip=...)."
        )
    length = np.size(vectors[0])
    elements = Encoder(config, length).elements
    commits = config.mode != "auto" and config.mode_for(elements, blobs=True, bls=True) in (
        Mode.KZG,
        Mode.BLOB,
    )
    context = RoundContext(chain_id=31337, contract="0x" + "11" * 20, task_id=1, round=1)
    clock = _Clock()
    keys = {_address(i): BoxKey.generate() for i in range(len(vectors))}
    peers = {address: key.public for address, key in keys.items()}
    roster = Roster.of(config, peers)

    sessions, messages, announcements = {}, {}, []
    for i in _without(range(len(vectors)), gone["share"]):
        with clock.of("client", i):
            sessions[i] = NodeSession(context, config, _address(i), keys[_address(i)])
            message = sessions[i].share_message(peers)
            messages[_address(i)] = message.to_bytes()
        announcements.append(message.announcement)
    sums = np.zeros((config.groups, elements, LIMBS), np.int64)
    sent = {}
    for i in _without(sessions, gone["submit"]):
        rounding = None if seed is None else hashlib.sha256(f"rounding {seed} {i}".encode()).digest()[:16]
        with clock.of("client", i):
            sessions[i].receive(messages, announcements)
            encoder = Encoder(config, length, rounding_key=rounding)
            masked = sessions[i].mask(encoder.encode(vectors[i], shares[i], members=len(vectors)))
        sent[i] = masked.nbytes
        if commits:
            with clock.of("commit", i):
                sent[i] = len(VectorMessage.of(context, _address(i), masked).to_bytes())
        with clock.of("add"):
            sums[i % config.groups] += masked
    survivors = [_address(i) for i in sent]
    openings = {}
    for i in _without(sent, gone["unmask"]):
        with clock.of("client", i):
            openings[_address(i)] = sessions[i].open_shares(survivors).to_bytes()
    with clock.of("unmask"):
        unmasking = reconstruct_mask(
            context,
            config,
            members=peers,
            announcements=announcements,
            messages=messages,
            survivors=survivors,
            openings=openings,
            elements=elements,
        )
        summed = unmasking.unmask(reduce_wide(sums.reshape(-1, LIMBS)))
    groups = Encoder(config, length).decode_sections(summed, roster.group_counts(survivors))
    total, weight = np.sum([group.sum for group in groups], axis=0), sum(group.weight for group in groups)
    up = [len(messages[_address(i)]) + size for i, size in sent.items()]
    return RoundResult(
        mean=total / weight,
        sum=total,
        weight=weight,
        survivors=tuple(sent),
        step=config.step,
        groups=groups,
        graph=roster.graph,
        timings={
            "client": clock.median("client", sent),
            "add": clock.median("add", [0]),
            "unmask": clock.median("unmask", [0]),
            "commit": clock.median("commit", sent),
        },
        bytes={"client_up": int(median(up)) + int(median(map(len, openings.values())))},
    )


def _address(index: int) -> bytes:
    return (index + 1).to_bytes(20, "big")


def _vectors(vectors: Sequence[npt.ArrayLike]) -> list[npt.NDArray[np.generic]]:
    """Return one array a member; arrays and rows of a matrix are not copied."""
    if isinstance(vectors, str | bytes | Mapping) or not isinstance(vectors, Iterable):
        raise EncodingError(
            f"vectors is a {type(vectors).__name__}, expected one vector per member",
            hint="Pass a list of arrays, or a matrix with one row per member.",
        )
    if hasattr(vectors, "to_numpy"):  # to walk over a frame is to walk over its columns' names
        vectors = vectors.to_numpy()
    try:
        found = [np.asarray(vector) for vector in vectors]
        found = [vector.astype(np.float64) if vector.dtype == object else vector for vector in found]
    except (RuntimeError, TypeError, ValueError) as fault:
        raise EncodingError(
            f"vectors hold what is no array: {fault}", hint="Pass one array of floats per member."
        ) from None
    if not found:
        raise EncodingError("no vector was given", hint="Pass one vector per member.")
    for member, vector in enumerate(found):
        if vector.ndim != 1 or vector.dtype.kind not in "biuf":
            raise EncodingError(
                f"vectors[{member}] is an array of {vector.dtype} with shape {vector.shape}, expected real "
                "numbers in one dimension",
                hint="Flatten every member's model to one array of floats.",
            )
    return found


def _weights(weights: Any) -> list[int]:
    """Return whole numbers; a fraction must not be cut off unnoticed."""
    listed = list(weights) if isinstance(weights, Iterable) and not isinstance(weights, str) else [weights]
    for weight in listed:
        whole = isinstance(weight, int | np.integer) and not isinstance(weight, bool)
        if not whole and not (isinstance(weight, float | np.floating) and float(weight).is_integer()):
            raise EncodingError(
                f"weights hold {weight!r}, expected whole numbers",
                hint="Scale the weights up to whole numbers, such as numbers of rows.",
            )
    return [int(weight) for weight in listed]


def _without(members: Iterable[int], gone: set[int]) -> list[int]:
    return [i for i in members if i not in gone]


def _drops(drop: Mapping[str, Iterable[int]] | Iterable[int] | None, members: int) -> dict[str, set[int]]:
    named = drop if isinstance(drop, Mapping) else {"submit": () if drop is None else drop}
    lists = {
        str(step): list(found) if isinstance(found, Iterable) and not isinstance(found, str) else [found]
        for step, found in named.items()
    }
    unknown = [step for step in lists if step not in _STEPS]
    strangers = [
        index
        for found in lists.values()
        for index in found
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < members
    ]
    if unknown or strangers:
        raise ProtocolError(
            f"drop names {unknown or strangers}, expected steps of {_STEPS} and members from "
            f"0 to {members - 1}",
            hint="Pass drop={'submit': [2]}, for example.",
        )
    return {step: {int(index) for index in lists.get(step, ())} for step in _STEPS}


def _default_config(vectors: Sequence[npt.ArrayLike], weights: list[int]) -> RoundConfig:
    members = max(len(vectors), 2)
    room = 30 - (members * max(1, *weights)).bit_length()
    largest = 0.0
    for vector in vectors:
        values = np.abs(np.asarray(vector, np.float64))
        largest = max(largest, float(np.max(values, initial=0.0, where=np.isfinite(values))))
    return RoundConfig(clip=largest or 1.0, value_bits=max(2, min(16, room)), max_clients=members)
