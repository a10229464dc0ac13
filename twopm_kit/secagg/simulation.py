"""A whole round in one process, every member for real: for study, tests and measurement."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import EncodingError, ProtocolError
from twopm_kit.secagg.aggregator import reconstruct_mask
from twopm_kit.secagg.boxes import BoxKey
from twopm_kit.secagg.config import RoundConfig
from twopm_kit.secagg.context import RoundContext
from twopm_kit.secagg.encoding import Encoder
from twopm_kit.secagg.field import total
from twopm_kit.secagg.node import NodeSession

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
    timings : dict
        Seconds: ``client`` (share, receive, encode and mask: median of one client), ``unmask`` (whole).
    bytes : dict
        ``client_up``: bytes that one surviving client sends (share message, vector, opening), the median.
    """

    mean: npt.NDArray[np.float64]
    sum: npt.NDArray[np.float64]
    weight: int
    survivors: tuple[int, ...]
    step: float
    timings: dict[str, float]
    bytes: dict[str, int]

    def __repr__(self) -> str:
        return (
            f"RoundResult({self.mean.size} values, survivors={self.survivors}, weight={self.weight}, "
            f"step={self.step:.3g})"
        )


def simulate(
    vectors: Sequence[npt.ArrayLike],
    weights: Sequence[int] | None = None,
    drop: Mapping[str, Iterable[int]] | Iterable[int] | None = None,
    config: RoundConfig | None = None,
    seed: int | None = None,
) -> RoundResult:
    """Run a whole round in this process.

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
        Left out: clip at the largest absolute value, 16 bits (fewer if the weights need the room).
    seed : int, optional
        Repeats the random rounding. Keys and masks are always fresh: they cancel in the result.

    Raises
    ------
    TooFewSurvivors
        If so many members leave that a threshold is missed.
    """
    if not len(vectors):
        raise EncodingError("no vector was given", hint="Pass one vector per member.")
    arrays = [np.asarray(vector, np.float64) for vector in vectors]
    shares = [1] * len(arrays) if weights is None else [int(weight) for weight in weights]
    if len(shares) != len(arrays):
        raise EncodingError(
            f"{len(shares)} weights for {len(arrays)} vectors", hint="Pass one weight per vector."
        )
    gone = _drops(drop, len(arrays))
    config = _default_config(arrays, shares) if config is None else config
    context = RoundContext(chain_id=31337, contract="0x" + "11" * 20, task_id=1, round=1)
    sessions = []
    boxes = {}
    for index in range(len(arrays)):
        key, address = BoxKey.generate(), (index + 1).to_bytes(20, "big")
        boxes[address] = key.public
        sessions.append(NodeSession(context, config, address, key))
    client: dict[int, float] = dict.fromkeys(range(len(arrays)), 0.0)

    messages = {}
    for i in _without(range(len(arrays)), gone["share"]):
        start = time.perf_counter()
        messages[i] = sessions[i].share_message(boxes)
        client[i] += time.perf_counter() - start
    announcements = [message.announcement for message in messages.values()]
    submitted = {}
    encoders = {}
    for i in _without(messages, gone["submit"]):
        rounding = None if seed is None else hashlib.sha256(f"rounding {seed} {i}".encode()).digest()[:16]
        encoders[i] = Encoder(config, arrays[0].size, rounding_key=rounding)
        start = time.perf_counter()
        sessions[i].receive(messages.values(), announcements)
        submitted[i] = sessions[i].mask(encoders[i].encode(arrays[i], shares[i]))
        client[i] += time.perf_counter() - start
    survivors = [sessions[i].address for i in submitted]
    openings = [sessions[i].open_shares(survivors) for i in _without(submitted, gone["unmask"])]
    start = time.perf_counter()
    unmasking = reconstruct_mask(
        context,
        config,
        members=boxes,
        announcements=announcements,
        messages=messages.values(),
        survivors=survivors,
        openings=openings,
        elements=Encoder(config, arrays[0].size).elements,
    )
    summed = unmasking.unmask(total(submitted.values()))
    seconds = time.perf_counter() - start
    decoded = Encoder(config, arrays[0].size).decode(summed, len(submitted))
    up = [len(messages[i].to_bytes()) + submitted[i].nbytes for i in submitted]
    return RoundResult(
        mean=decoded.mean,
        sum=decoded.sum,
        weight=decoded.weight,
        survivors=tuple(submitted),
        step=decoded.step,
        timings={"client": median(client[i] for i in submitted), "unmask": seconds},
        bytes={"client_up": int(median(up)) + int(median(len(o.to_bytes()) for o in openings))},
    )


def _without(members: Iterable[int], gone: set[int]) -> list[int]:
    return [i for i in members if i not in gone]


def _drops(drop: Mapping[str, Iterable[int]] | Iterable[int] | None, members: int) -> dict[str, set[int]]:
    if isinstance(drop, Mapping):
        steps = {str(step): set(indices) for step, indices in drop.items()}
    else:
        steps = {"submit": set(drop or ())}
    unknown = steps.keys() - set(_STEPS)
    strangers = set().union(*steps.values()) - set(range(members)) if steps else set()
    if unknown or strangers:
        raise ProtocolError(
            f"drop names {sorted(unknown) or sorted(strangers)}, expected steps of {_STEPS} and members from "
            f"0 to {members - 1}",
            hint="Pass drop={'submit': [2]}, for example.",
        )
    return {step: steps.get(step, set()) for step in _STEPS}


def _default_config(vectors: list[npt.NDArray[np.float64]], weights: list[int]) -> RoundConfig:
    members = max(len(vectors), 2)
    room = 30 - (members * max(1, *weights)).bit_length()
    largest = max(float(np.max(np.abs(v[np.isfinite(v)]), initial=0.0)) for v in vectors)
    return RoundConfig(clip=largest or 1.0, value_bits=max(2, min(16, room)), max_clients=members)
