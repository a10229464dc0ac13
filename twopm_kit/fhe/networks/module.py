"""``EncryptedModule``: a torch network that runs on encrypted frames, with its cost known before."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, ModuleRefused, ProfileError
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.engine import FRESH_NOISE, Engine, engine_for
from twopm_kit.fhe.flooding import DEFAULT_BUDGET, DEFAULT_PRECISION, plan_flood
from twopm_kit.fhe.frames import EncryptedFrame, computed_frame, rescale_noise
from twopm_kit.fhe.keys import Evaluator
from twopm_kit.fhe.layouts import COLUMNS, Layout, padded
from twopm_kit.fhe.networks.lower import Blocks, Columns, Lowered, widest
from twopm_kit.fhe.networks.program import Add, Affine, Polynomial, Program
from twopm_kit.fhe.networks.schedule import Place, Schedule, Seen, best_schedule, seen
from twopm_kit.fhe.plan import Plan
from twopm_kit.fhe.profiles import PROFILES, Profile
from twopm_kit.fhe.tables import plain_array

if TYPE_CHECKING:
    import torch

__all__ = ["EncryptedModule", "compile"]

_KEPT: Final = 6
#: Frames show bounds as powers of 4, and owners choose their own: this much above calibration may still fit.
_FAR: Final = 16.0


def compile(  # noqa: A001  (the name that users of torch expect)
    module: "torch.nn.Module",
    calibration: "torch.Tensor | npt.ArrayLike | pd.DataFrame",
    profile: str | Profile = "auto",
    *,
    names: Sequence[str] | None = None,
) -> "EncryptedModule":
    """Make a torch module ready for encrypted rows.

    Parameters
    ----------
    module : torch.nn.Module
        In eval mode; see ``networks.trace`` for what it may consist of.
    calibration : tensor, DataFrame or array-like, shape (n, ...)
        Some hundred training rows. They decide how large values become inside: rows that are unlike them
        may overflow, and then the result is noise.
    profile : str or Profile
        One of ``kit.fhe.PROFILES``, a parameter set of your own, or "auto": the smallest with enough levels
        and room.
    names : sequence of str, optional
        Names of the results; without them logit_0, logit_1, ….

    Returns
    -------
    EncryptedModule

    Raises
    ------
    ModuleRefused
        A layer cannot work on ciphertexts, or the network does not fit into the profile: names the step, and
        a profile that would do. Or names or columns are not what they have to be.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from twopm_kit.fhe import KeyHolder
    >>> rows = np.random.default_rng(0).normal(size=(64, 4))
    >>> net = compile(torch.nn.Linear(4, 2).eval(), calibration=rows)
    >>> holder = KeyHolder.generate(net.profile)
    >>> opened = holder.decrypt(net.predict(holder.encrypt(rows)))
    >>> bool(np.abs(opened - net.simulate(rows)).max() < 1e-4)
    True
    """
    from twopm_kit.fhe.networks.trace import trace  # torch is loaded only here

    columns = tuple(map(str, calibration.columns)) if isinstance(calibration, pd.DataFrame) else None
    if columns is not None and (twice := sorted({name for name in columns if columns.count(name) > 1})):
        raise ModuleRefused(
            f"the calibration rows have columns of one name: {', '.join(twice[:8])}",
            hint="rename them: columns are found by name in what is encrypted",
        )
    rows = np.array(plain_array(calibration))  # a copy: torch wants to be able to write
    if rows.dtype.kind in "biu":
        rows = rows.astype(np.float64)
    program = trace(module, rows)
    return EncryptedModule(program, rows, profile, names=names, columns=columns)


class EncryptedModule:
    """A network with plain weights that computes on encrypted rows. Made by ``kit.fhe.compile``.

    Many rows go in columns and need nothing more: ``net.predict(holder.encrypt(rows))``. Few rows go in
    blocks and need rotation keys, which the key holder makes once and everybody may have::

        server = holder.evaluator(rotations=net.rotations)
        scores = net.predict(holder.encrypt(one_row, layout=net.layout(1)), key=server)

    Parameters
    ----------
    program : Program
        What is computed.
    calibration : array-like, shape (n, width) or (n, *shape)
        Rows that decide how large values become.
    profile : str or Profile
        A profile, or "auto".
    names : sequence of str, optional
        Names of the results.
    columns : tuple of str, optional
        Names of the input columns; frames that come from tables must have them.

    Attributes
    ----------
    program : Program
        Affine maps, polynomials and sums.
    profile : str
        Encryption profile: ``KeyHolder.generate(net.profile)``.
    names : tuple of str
        Columns of the result.
    """

    def __init__(
        self,
        program: Program,
        calibration: npt.ArrayLike,
        profile: str | Profile = "auto",
        *,
        names: Sequence[str] | None = None,
        columns: tuple[str, ...] | None = None,
    ) -> None:
        self.program: Final = program
        self.names: Final = _names(names, program.width)
        self._columns = columns
        self._seen: Seen = seen(program, calibration)
        self._lowered: dict[_Kind, Lowered] = {}
        if profile == "auto":
            self._own: Profile = self._smallest()
        else:
            self._own = engine_for(profile).profile
            self._fitting(self._own)
        self.profile: Final = self._own.name

    # Plans -----------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """Plan for one row."""
        return self.plan_for(1)

    @property
    def rotations(self) -> frozenset[int]:
        """Rotations that one row needs keys for: ``holder.evaluator(rotations=net.rotations)``."""
        return self.plan.rotations

    def plan_for(self, rows: int, layout: Layout | None = None) -> Plan:
        """Plan for so many rows, in the layout that is fastest for them, or in another.

        Raises
        ------
        CiphertextError
            The layout cannot hold the network.
        """
        return self._lower(self._fresh(self._own, layout or self.layout(rows))).plan(_count(rows))

    def layout(self, rows: int) -> Layout:
        """Fastest layout for so many rows: ``holder.encrypt(X, layout=net.layout(len(X)))``.

        Blocks hold as many rows as there are, up to what the widest layer leaves room for.
        """
        count = _count(rows)
        most = self._own.slots // widest(self.program)
        if most < 1 or not self._schedule(self._own, blocks=True).fits:
            return COLUMNS
        choices = [Layout.blocks(min(padded(count), most)), COLUMNS]
        return min(choices, key=lambda layout: self.plan_for(count, layout).seconds)

    def describe(self) -> pd.DataFrame:
        """Tell what one row, one full block and full columns cost.

        Returns
        -------
        pandas.DataFrame
            Indexed by rows: layout, seconds, rows a second, bytes up and down a row, bytes of keys.
        """
        slots = self._own.slots
        counts = sorted({1, max(slots // widest(self.program), 1), slots})
        plans = [self.plan_for(count) for count in counts]
        table = {
            "layout": [f"blocks of {p.layout.samples}" if p.layout.samples else "columns" for p in plans],
            "seconds": [p.seconds for p in plans],
            "rows a second": [n / p.seconds for n, p in zip(counts, plans, strict=True)],
            "bytes up a row": [p.bytes_up / n for n, p in zip(counts, plans, strict=True)],
            "bytes down a row": [p.bytes_down / n for n, p in zip(counts, plans, strict=True)],
            "rotation keys": [len(p.rotations) for p in plans],
            "bytes of keys": [p.key_bytes for p in plans],
        }
        return pd.DataFrame(table, index=pd.Index(counts, name="rows"))

    def check(self, profile: str | Profile | None = None, rows: int = 1) -> pd.DataFrame:
        """Show that the network fits: levels, ranges, expected errors, bytes and seconds.

        Parameters
        ----------
        profile : str or Profile, optional
            Another one than the network was compiled for.
        rows : int
            Rows to plan for.

        Returns
        -------
        pandas.DataFrame
            One row for the input and one for each step: level and how many the profile has, largest value
            seen in calibration, bound that is planned for, largest value that there is room for, error of
            the computation and error that flooding makes of it if the value is opened there (both expected
            standard deviations), ciphertext bytes sent, seconds. Whoever shows a result to others has
            "flooded error" in the last row, the key owner's own eyes (``flood=False``) have "error".

        Raises
        ------
        ModuleRefused
            It does not fit: names the step, and a profile that would do.
        """
        own = self._own if profile is None else engine_for(profile).profile
        self._fitting(own)
        lowered = self._lower(self._fresh(own, self.layout(rows) if own == self._own else COLUMNS))
        plan, schedule = lowered.plan(_count(rows)), lowered.schedule
        last = len(schedule.places) - 1
        table = [
            (
                "input" if k == 0 else f"{k}: {plan.steps[k - 1].name}",
                place.level,
                own.levels,
                float(self._seen.largest[k]),
                float(self._seen.bounds[k]),
                float(self._seen.bounds[k]) * 2.0**place.room,
                place.error,
                _flooded_error(engine_for(own), place),
                {0: plan.bytes_up, last: plan.bytes_down}.get(k, 0),
                plan.steps[k - 1].seconds if k else 0.0,
            )
            for k, place in enumerate(schedule.places)
        ]
        names = [
            "step",
            "level",
            "levels",
            "largest seen",
            "bound",
            "room",
            "error",
            "flooded error",
            "bytes sent",
            "seconds",
        ]
        return pd.DataFrame(table, columns=names).set_index("step")

    # Running ---------------------------------------------------------------------------------------------

    def simulate(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:  # noqa: N803  (scikit-learn's name)
        """Compute the same function in clear.

        Parameters
        ----------
        X : array-like, shape (n, width) or (n, *shape)
            Rows.

        Returns
        -------
        ndarray of float64, shape (n, outputs)
        """
        return self.program.run(X)

    def predict(self, enc: EncryptedFrame, *, key: Evaluator | None = None) -> EncryptedFrame:
        """Compute on an encrypted frame.

        Parameters
        ----------
        enc : EncryptedFrame
            Fresh, n rows × one column for each input value (images flattened), in columns or in blocks.
        key : Evaluator, optional
            Public half of the frame's key, with the rotations that blocks need. Frames that were encrypted in
            this process bring one without rotations.

        Returns
        -------
        EncryptedFrame
            n rows × one column for each output.

        Raises
        ------
        CiphertextError
            Another shape, layout or packing, values far beyond calibration, or keys are missing: says which.
        ProfileError
            The frame's profile has not enough levels or room for the network.
        WrongKey
            The evaluator belongs to another key.
        """
        frame = self._accepted(enc)
        if key is not None:
            if not isinstance(key, Evaluator):
                raise CiphertextError(
                    f"a {type(key).__name__} was passed as key; expected an Evaluator",
                    hint="pass key=holder.evaluator(rotations=net.rotations)",
                )
            key.check(frame)
        noise = max(head.noise for head in frame.heads)
        profile = frame.engine.profile
        kind = _Kind(profile, frame.layout, max(frame.scales.values()), noise)
        if profile != self._own and not self._schedule(profile, blocks=frame.layout.kind == "blocks").fits:
            raise ProfileError(
                f"the frame uses profile {frame.profile!r}, which the network does not fit into",
                hint=f"encrypt with KeyHolder.generate({self.profile!r})",
            )
        lowered = self._lower(kind)
        if frame.level < lowered.schedule.start:
            raise CiphertextError(
                f"the frame is at level {frame.level}; the network needs {lowered.schedule.start}",
                hint="pass a freshly encrypted frame, and let the network do the scaling",
            )
        keys = None
        if lowered.needs_keys:
            keys = frame.keys() if key is None else key.keys
            if missing := lowered.rotations - keys.steps:
                raise CiphertextError(
                    f"{len(missing)} of {len(lowered.rotations)} rotation keys are missing",
                    hint="pass key=holder.evaluator(rotations=net.plan_for(rows).rotations), or encrypt in "
                    "columns, which need none",
                )
        blocks = [lowered.run(parts, keys) for parts in _inputs(frame, kind.scale)]
        place = lowered.schedule.places[-1]
        noise = _noise(frame.engine, place)
        bound = float(self._seen.bounds[-1])
        shared = frame.layout.kind == "blocks"
        columns = [
            (ColumnHeader(name, bound, place.scale, noise), [block[0 if shared else j] for block in blocks])
            for j, name in enumerate(self.names)
        ]
        return computed_frame(frame, columns, place.level)

    def _accepted(self, enc: EncryptedFrame) -> EncryptedFrame:
        if not isinstance(enc, EncryptedFrame):
            raise CiphertextError(
                f"a {type(enc).__name__} was passed; expected an EncryptedFrame",
                hint="encrypt it first: holder.encrypt(rows); in clear use simulate(rows)",
            )
        width = self.program.input.width
        if self._columns is not None and enc.source == "frame" and set(self._columns) <= set(enc.columns):
            frame = enc if tuple(enc.columns) == self._columns else enc[list(self._columns)]
        else:
            frame = enc
        if frame.shape[1] != width or frame.layout.kind == "sums" or frame.packing != "real":
            raise CiphertextError(
                f"a frame of {frame.shape[1]} columns in layout {frame.layout.kind!r}, packing "
                f"{frame.packing!r}, was passed; the network reads {width} columns, packing 'real'",
                hint="flatten each row and encrypt with holder.encrypt(rows, layout=net.layout(len(rows)))",
            )
        limit = _FAR * float(self._seen.bounds[0])
        beyond = [name for name, bound in frame.bounds.items() if bound > limit]
        if beyond:
            raise CiphertextError(
                f"column {beyond[0]!r} may hold values up to {frame.bounds[beyond[0]]:g}; in calibration "
                f"they stay below {float(self._seen.bounds[0]):g}, and results would overflow",
                hint="scale the rows as in training, or compile with calibration rows like these",
            )
        return frame

    # Fitting ---------------------------------------------------------------------------------------------

    def _fresh(self, profile: Profile, layout: Layout) -> "_Kind":
        """Tell what frames of rows like those of calibration are lowered for."""
        bound = profile.bound_for(float(self._seen.largest[0]))
        return _Kind(profile, layout, 2.0 ** profile.fresh_scale_bits(bound))

    def _lower(self, kind: "_Kind") -> Lowered:
        if kind not in self._lowered:
            blocks = kind.layout.kind == "blocks"
            engine = engine_for(kind.profile)
            if kind.layout.kind == "sums":
                raise CiphertextError("a network cannot read sums", hint="use net.layout(rows), or columns")
            if blocks and widest(self.program) * kind.layout.samples > engine.slots:
                raise CiphertextError(
                    f"the widest layer, padded to {widest(self.program)}, times {kind.layout.samples} rows "
                    f"does not fit into {engine.slots} slots",
                    hint="use net.layout(rows), or columns",
                )
            schedule = self._schedule(kind.profile, blocks=blocks, scale=kind.scale, noise=kind.noise)
            if not schedule.fits:
                raise self._refusal(schedule)
            while len(self._lowered) >= _KEPT:
                self._lowered.pop(next(iter(self._lowered)))
            self._lowered[kind] = Blocks(schedule, kind.layout.samples) if blocks else Columns(schedule)
        return self._lowered[kind]

    def _schedule(
        self, profile: Profile, *, blocks: bool, scale: float | None = None, noise: float = FRESH_NOISE
    ) -> Schedule:
        engine = engine_for(profile)
        return best_schedule(self.program, engine, self._seen, blocks=blocks, scale=scale, noise=noise)

    def _fitting(self, profile: Profile) -> Schedule:
        if profile.levels < 1:
            raise ModuleRefused(
                f"profile {profile.name!r} has no level, and a network needs {max(self.program.depth, 1)}",
                hint='use profile="auto"',
            )
        schedule = self._schedule(profile, blocks=False)
        if not schedule.fits:
            raise self._refusal(schedule)
        return schedule

    def _smallest(self) -> Profile:
        """Find the smallest profile that the network fits into."""
        nearest = None
        for profile in _by_size():
            if self._depth <= profile.levels:
                schedule = self._schedule(profile, blocks=False)
                if schedule.fits:
                    return profile
                nearest = schedule
        raise self._refusal(nearest or self._schedule(_by_size()[-1], blocks=False))

    @property
    def _depth(self) -> int:
        return max(self.program.depth, 1)

    def _refusal(self, schedule: Schedule) -> ModuleRefused:
        """Make the error for a schedule that does not fit: the step to blame, and a profile that would do."""
        profile = schedule.engine.profile
        others = [
            p.name
            for p in _by_size()
            if p != profile and p.levels >= self._depth and self._schedule(p, blocks=False).fits
        ]
        way = f"use profile={others[0]!r}, or " if others else ""
        if schedule.levels > profile.levels:
            deepest = next(
                k for k, p in enumerate(schedule.places) if schedule.start - p.level > profile.levels
            )
            return ModuleRefused(
                f"the network needs {schedule.levels} levels and profile {profile.name!r} has "
                f"{profile.levels}: they end at step {self._words(deepest)}",
                hint=f"{way}take a layer or an activation out, or activations of lower degree",
            )
        tight = schedule.tightest
        place, bound = schedule.places[tight], float(self._seen.bounds[tight])
        return ModuleRefused(
            f"step {self._words(tight)} reaches {float(self._seen.largest[tight]):g} in calibration and is "
            f"planned for {bound:g}; profile {profile.name!r} has room for {bound * 2.0**place.room:g} there",
            hint=f"{way}make values smaller there: scale the inputs, add batch normalisation before it, or "
            "train with weight decay",
        )

    def _words(self, number: int) -> str:
        match self.program.nodes[number]:
            case Affine(matrix=matrix):
                return f"{number} (affine {matrix.shape[0]}×{matrix.shape[1]})"
            case Polynomial(coefficients=coefficients):
                return f"{number} (polynomial of degree {len(coefficients) - 1})"
            case Add():
                return f"{number} (sum)"
            case _:
                return f"{number} (input)"

    def __repr__(self) -> str:
        return (
            f"<EncryptedModule {self.program.input.width} → {self.program.width}, depth "
            f"{self.program.depth}, profile {self.profile}>"
        )

    def _repr_html_(self) -> str:
        table = self.describe().reset_index().map(_shown).to_html(index=False, border=0)
        return f"<p><strong>{html.escape(repr(self)[1:-1])}</strong></p>{table}"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a program is lowered for."""

    profile: Profile
    layout: Layout
    scale: float
    noise: float = FRESH_NOISE


def _inputs(frame: EncryptedFrame, scale: float) -> list[list[Any]]:
    """Ciphertexts of each block of rows, all at one scale."""
    if frame.layout.kind == "blocks":
        return [[cipher] for cipher in frame.ciphers(frame.columns[0])]
    engine, columns = frame.engine, []
    for head in frame.heads:
        more = round(math.log2(scale / head.scale))
        found = frame.ciphers(head.name)
        columns.append([engine.raise_scale(c, more) for c in found] if more else found)
    return [list(parts) for parts in zip(*columns, strict=True)]


def _noise(engine: Engine, place: Place) -> float:
    """Error of a coefficient as results state it: a power of two, which tells nothing of the data."""
    return 2.0 ** math.ceil(math.log2(place.error * place.scale / math.sqrt(engine.slots)))


def _flooded_error(engine: Engine, place: Place) -> float:
    """Tell the standard deviation of the noise that ``decrypt`` adds at a place unless told otherwise."""
    noise = max(_noise(engine, place), rescale_noise(engine)) if place.level < engine.profile.levels else 0.0
    return plan_flood(engine, place.scale, noise, DEFAULT_PRECISION, DEFAULT_BUDGET).std


def _by_size() -> list[Profile]:
    return sorted((p for p in PROFILES.values() if p.levels), key=lambda p: (p.degree, p.levels, sum(p.bits)))


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _names(names: object, width: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"logit_{k}" for k in range(width))
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise ModuleRefused(
            f"names={names!r} was passed; expected a list of names",
            hint="pass one different name for each result, in a list",
        )
    given = tuple(map(str, names))
    if len(set(given)) != width or len(given) != width:
        raise ModuleRefused(
            f"{len(given)} names ({len(set(given))} different) were passed for {width} results",
            hint="pass one different name for each result",
        )
    return given


def _count(rows: int) -> int:
    if type(rows) is not int or rows < 1:
        raise CiphertextError(f"a plan for {rows!r} rows was asked for", hint="pass a whole number above 0")
    return rows
