"""Polynomial activations: fitted where the data is, put in the place of ReLU and its kin, and fine-tuned.

A ciphertext can be added and multiplied, so an activation must be a polynomial. On a closed interval a
polynomial comes as close to any continuous function as its degree allows. Outside there is nothing that
holds it: its leading term grows like |x|^d whereas ReLU grows like |x| and a sigmoid stays below 1. An input
twice as far out as the interval reaches is off by a factor of 2^d in that term, the next polynomial takes
that to the power d again, and after a few layers the values overflow, in clear as well as encrypted.
Hence each polynomial here knows its interval, fitting takes the interval from calibration data with a margin,
and fine-tuning pulls inputs that leave it back inside.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm.auto import tqdm

from twopm_kit.errors import ModuleRefused
from twopm_kit.fhe.networks.calibration import calibrated, reference

__all__ = ["ACTIVATIONS", "Polynomial", "Replacement", "fine_tune", "fit", "replace_activations"]

Array: TypeAlias = npt.NDArray[np.float64]

#: Activations that a polynomial can stand in for.
ACTIVATIONS: Final = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Sigmoid,
    nn.LogSigmoid,
    nn.Tanh,
    nn.Hardtanh,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Softplus,
    nn.Softsign,
)
# Point-symmetric around 0 up to a constant: a quadratic has nothing to add to a line.
_ODD: Final = (nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Softsign)
_POOLS: Final[dict[type[nn.Module], type[nn.Module]]] = {
    nn.MaxPool1d: nn.AvgPool1d,
    nn.MaxPool2d: nn.AvgPool2d,
    nn.MaxPool3d: nn.AvgPool3d,
    nn.AdaptiveMaxPool1d: nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool2d: nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool3d: nn.AdaptiveAvgPool3d,
}
_DEGREES: Final = (2, 3, 4)
_POINTS: Final = 512  # of each kind: spread over the interval, and quantiles of the data
_NARROWEST: Final = 1e-3
_LARGEST_STEP: Final = 1.0  # norm that gradients are clipped to


class Polynomial(nn.Module):
    """Element-wise polynomial with trainable coefficients, meant for inputs in an interval.

    What is trained are the coefficients in u = (x - center) / half, which is within ±1 on the interval:
    there all powers are of the same size, so one learning rate suits them.

    Parameters
    ----------
    coefficients : sequence of float
        In x, low degree first; degree 1 to 4.
    low, high : float
        The interval.

    Raises
    ------
    ModuleRefused
        The degree is not 1 to 4, a number is not finite, or the interval is empty.
    """

    interval: torch.Tensor

    def __init__(self, coefficients: npt.ArrayLike, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        wanted = np.asarray(coefficients, dtype=np.float64)
        if wanted.ndim != 1 or not 2 <= len(wanted) <= max(_DEGREES) + 1 or not np.isfinite(wanted).all():
            raise ModuleRefused(
                f"coefficients of shape {wanted.shape} were passed; expected 2 to 5 finite numbers",
                hint="pass the coefficients with the lowest degree first: [0, 0, 1] is the square",
            )
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ModuleRefused(
                f"the interval is {low} to {high}; expected low < high", hint="pass low and high"
            )
        center, half = (low + high) / 2.0, (high - low) / 2.0
        scaled = _substituted(wanted, center, half)
        self.scaled = nn.Parameter(torch.tensor(scaled, dtype=torch.get_default_dtype()))
        self.register_buffer("interval", torch.tensor([low, high], dtype=torch.get_default_dtype()))

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return float(self.interval[0])

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return float(self.interval[1])

    @property
    def coefficients(self) -> Array:
        """Coefficients in x, low degree first: float64, shape (degree + 1,)."""
        center, half = (self.low + self.high) / 2.0, (self.high - self.low) / 2.0
        return _substituted(self.scaled.detach().double().numpy(), -center / half, 1.0 / half)

    def position(self, x: torch.Tensor) -> torch.Tensor:
        """Where inputs are in the interval: -1 and 1 are its ends."""
        low, high = self.interval[0], self.interval[1]
        return (2.0 * x - (low + high)) / (high - low)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Value for each element."""
        u = self.position(x)
        total = self.scaled[-1].expand_as(u)
        for k in range(len(self.scaled) - 2, -1, -1):
            total = total * u + self.scaled[k]
        return total

    def extra_repr(self) -> str:
        """Return what ``print(module)`` shows."""
        return f"degree={len(self.scaled) - 1}, interval=[{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True, slots=True)
class Replacement:
    """What `replace_activations` put in the place of a layer.

    Parameters
    ----------
    layer : str
        Path in the module.
    was, now : str
        Types.
    low, high : float or None
        Interval of a polynomial.
    error : float or None
        Root of the mean squared difference over the calibration data, before fine-tuning.
    note : str
        What the user should know.
    """

    layer: str
    was: str
    now: str
    low: float | None = None
    high: float | None = None
    error: float | None = None
    note: str = ""


def fit(
    function: Callable[[Array], npt.ArrayLike],
    data: npt.ArrayLike,
    degree: int = 2,
    *,
    margin: float = 0.1,
) -> tuple[Array, float, float]:
    """Coefficients of a polynomial that follows a function where data lies.

    Weighted least squares in the Chebyshev basis: half of the weight is on the data, as quantiles, half on
    Chebyshev nodes of the whole interval, so the fit is best where inputs are and still sound at the ends.

    Parameters
    ----------
    function : callable
        From a float64 array to one of the same shape.
    data : array-like
        Inputs that really occur.
    degree : int
        2, 3 or 4.
    margin : float
        The interval goes this share of the width beyond the data on both sides.

    Returns
    -------
    coefficients : ndarray of float64, shape (degree + 1,)
        In x, low degree first.
    low, high : float
        The interval.
    """
    values = np.asarray(data, dtype=np.float64).ravel()
    low, high = float(values.min()), float(values.max())
    # data that hardly varies still gets an interval around it that arithmetic can work with
    spare = max(margin * (high - low), _NARROWEST * max(1.0, abs(low), abs(high)))
    low, high = low - spare, high + spare
    center, half = (low + high) / 2.0, (high - low) / 2.0
    nodes = np.cos(np.pi * (np.arange(_POINTS) + 0.5) / _POINTS)
    quantiles = (np.quantile(values, (np.arange(_POINTS) + 0.5) / _POINTS) - center) / half
    u = np.concatenate([nodes, quantiles])
    basis = np.polynomial.chebyshev.chebvander(u, degree)
    wanted = np.asarray(function(center + half * u), dtype=np.float64)
    series = np.linalg.lstsq(basis, wanted, rcond=None)[0]
    # rounding must not pass for a leading coefficient
    series[np.abs(series) < 1e-9 * np.abs(series).max()] = 0.0
    powers = np.zeros(degree + 1)
    found = np.polynomial.chebyshev.cheb2poly(series)
    powers[: len(found)] = found
    return _substituted(powers, -center / half, 1.0 / half), low, high


def replace_activations(
    module: nn.Module,
    calibration: "torch.Tensor | npt.ArrayLike",
    degree: int = 2,
    *,
    margin: float = 0.1,
) -> nn.Module:
    """Copy of a module with polynomials for its activations, and average pools for its max pools.

    Layers are replaced in the order in which they run, each on the inputs that it gets once those before it
    are replaced. Each polynomial follows its activation on the range of those inputs and a margin around;
    outside it diverges, because nothing holds a polynomial there (see this module's introduction). Accuracy
    comes back with `fine_tune`.

    Parameters
    ----------
    module : torch.nn.Module
        Trained; it stays as it is.
    calibration : tensor or array-like, shape (n, ...)
        Training rows; a few hundred are enough.
    degree : int
        2 costs one level of depth, 3 and 4 cost two. Use 3 for sigmoid and tanh, which no quadratic follows
        better than a line does.
    margin : float
        Share of the width of the range, on both sides.

    Returns
    -------
    torch.nn.Module
        In the mode of `module`; its ``report_`` is a tuple of `Replacement`.

    Raises
    ------
    ModuleRefused
        The calibration rows do not fit, the degree is not 2, 3 or 4, or a layer has no replacement.
    """
    if degree not in _DEGREES:
        raise ModuleRefused(
            f"degree {degree!r} was passed; expected 2, 3 or 4", hint="use 2, and 3 for sigmoid and tanh"
        )
    if not (math.isfinite(margin) and margin >= 0.0):
        raise ModuleRefused(f"margin {margin!r} was passed; expected 0 or more", hint="leave it at 0.1")
    rows = calibrated(module, calibration)
    modes = {name: part.training for name, part in module.named_modules()}
    changed = copy.deepcopy(module).eval()
    report = []
    for name, part in list(changed.named_modules()):
        if type(part) in _POOLS:
            pool, note = _average(name, part)
            changed = _placed(changed, part, pool)
            report.append(Replacement(name, type(part).__name__, type(pool).__name__, note=note))
    for name, part in _in_order(changed, rows):
        inputs = _inputs(changed, part, rows)
        coefficients, low, high = fit(_function(name, part), inputs, degree, margin=margin)
        polynomial = Polynomial(coefficients, low, high).to(rows.dtype)
        with torch.no_grad():
            sample = torch.from_numpy(inputs).to(rows.dtype)
            error = float((polynomial(sample) - part(sample)).square().mean().sqrt())
        note = (
            "a quadratic is hardly better than a line here: use degree=3"
            if degree == 2 and isinstance(part, _ODD)
            else ""
        )
        changed = _placed(changed, part, polynomial)
        report.append(
            Replacement(name, type(part).__name__, f"Polynomial of degree {degree}", low, high, error, note)
        )
    for name, part in changed.named_modules():
        part.training = modes.get(name, modes[""])
    changed.report_ = tuple(report)  # type: ignore[assignment]
    return changed


def fine_tune(
    module: nn.Module,
    data: Any,
    epochs: int = 5,
    *,
    lr: float = 2e-3,
    batch_size: int = 64,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    penalty: float = 100.0,
    seed: int = 0,
    progress: bool = True,
) -> nn.Module:
    """Copy of a module, trained a little further so that it gets used to its polynomials.

    Adam with a cosine schedule and clipped gradients. A polynomial diverges outside its interval, so the
    loss also counts how far inputs of each `Polynomial` are outside: Σ max(|u| - 1, 0)², averaged over
    elements, where u is the position in the interval.

    Parameters
    ----------
    module : torch.nn.Module
        As `replace_activations` returns it; it stays as it is.
    data : pair (X, y), or an iterable of such batches
        Training rows; a pair is shuffled and cut into batches, a loader is used as it is.
    epochs : int
        Passes over the data.
    lr : float
        Largest learning rate.
    batch_size : int
        Rows a step, for a pair.
    loss : callable, optional
        ``loss(output, y)``; cross-entropy for whole y, mean squared error for real y.
    penalty : float
        Weight of inputs outside of intervals.
    seed : int
        The same seed on the same data gives the same module.
    progress : bool
        Show a bar.

    Returns
    -------
    torch.nn.Module
        In eval mode; its ``history_`` has for each epoch the ``loss`` and ``outside``, the
        share of inputs outside of their interval, summed over polynomials.

    Raises
    ------
    ModuleRefused
        The data does not fit, or training diverged.
    """
    whole = all(isinstance(n, int) and n > 0 for n in (epochs, batch_size))
    real = all(isinstance(v, int | float) for v in (lr, penalty))
    if not whole or not real or not lr > 0.0 or not penalty >= 0.0:
        raise ModuleRefused(
            f"epochs={epochs!r}, batch_size={batch_size!r}, lr={lr!r}, penalty={penalty!r} were passed",
            hint="pass whole epochs and batch_size ≥ 1, lr > 0 and penalty ≥ 0",
        )
    tuned = copy.deepcopy(module).train()
    kind = next((p.dtype for p in tuned.parameters()), None)
    if kind is None:
        raise ModuleRefused("the module has no parameters to train", hint="pass a module with layers")
    pair = _pair(tuned, data)
    if pair is not None and loss is None:
        _check_labels(tuned, *pair)
    outside: list[torch.Tensor] = []
    hooks = [
        part.register_forward_pre_hook(lambda p, x: outside.append((p.position(x[0]).abs() - 1.0).relu()))
        for part in tuned.modules()
        if isinstance(part, Polynomial)
    ]
    optimizer = torch.optim.Adam(tuned.parameters(), lr=lr)
    history = []
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bar = tqdm(range(epochs), desc="fine-tuning", unit="epoch", leave=False, disable=not progress)
            for epoch in bar:
                optimizer.param_groups[0]["lr"] = lr * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
                sums, rows = np.zeros(2), 0
                for x, y in data if pair is None else _cut(*pair, batch_size):
                    outside.clear()
                    found = (loss or _loss)(tuned(x.to(kind)), y)
                    _step(optimizer, found + penalty * _mean([o.square() for o in outside]))
                    beyond = _mean([(o > 0).to(kind) for o in outside])
                    sums += len(x) * np.array([found.item(), beyond.item()])
                    rows += len(x)
                if rows == 0:
                    raise ModuleRefused("the loader gave no batch", hint="pass one that can be read again")
                history.append(dict(zip(("loss", "outside"), (sums / rows).tolist(), strict=True)))
    finally:
        for hook in hooks:
            hook.remove()
    tuned.eval()
    tuned.history_ = tuple(history)  # type: ignore[assignment]
    return tuned


def _mean(parts: list[torch.Tensor]) -> torch.Tensor:
    """Sum over layers of the mean over elements."""
    return torch.stack([part.mean() for part in parts]).sum() if parts else torch.zeros(())


def _step(optimizer: torch.optim.Optimizer, total: torch.Tensor) -> None:
    if not bool(torch.isfinite(total)):
        raise ModuleRefused(
            "fine-tuning diverged: inputs left the intervals of the polynomials",
            hint="lower lr, or replace the activations with a larger margin",
        )
    optimizer.zero_grad()
    torch.autograd.backward(total)
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], _LARGEST_STEP)
    optimizer.step()


def _substituted(coefficients: Array, shift: float, factor: float) -> Array:
    """Coefficients of p(shift + factor·x)."""
    total = np.zeros(len(coefficients))
    for row in coefficients[::-1]:
        moved = shift * total
        moved[1:] += factor * total[:-1]
        moved[0] += row
        total = moved
    return total


def _average(name: str, pool: nn.Module) -> tuple[nn.Module, str]:
    settings: Any = pool
    if type(pool).__name__.startswith("Adaptive"):
        return _POOLS[type(pool)](settings.output_size), "averages instead of maxima"
    if settings.dilation not in (1, (1, 1), (1, 1, 1)) or settings.return_indices:
        raise ModuleRefused(
            f"'{name}', a {type(pool).__name__} with dilation or return_indices, has no average counterpart",
            hint="use AvgPool2d or a convolution with a stride, and train the network again",
        )
    kept = (settings.kernel_size, settings.stride, settings.padding, settings.ceil_mode)
    return _POOLS[type(pool)](*kept), "averages instead of maxima"


def _placed(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put a layer in the place of another, wherever that one is used; return the root."""
    if root is old:
        return new
    for part in list(root.modules()):
        for name, child in list(part._modules.items()):  # named_children leaves a second name out
            if child is old:
                setattr(part, name, new)
    return root


def _in_order(module: nn.Module, rows: torch.Tensor) -> list[tuple[str, nn.Module]]:
    """Activations in the order of their first call."""
    names: dict[nn.Module, str] = {
        part: name for name, part in module.named_modules() if isinstance(part, ACTIVATIONS)
    }
    called: dict[nn.Module, None] = {}
    hooks = [part.register_forward_pre_hook(lambda p, _: called.setdefault(p)) for part in names]
    try:
        reference(module, rows)
    finally:
        for hook in hooks:
            hook.remove()
    return [(names[part], part) for part in called]


def _inputs(module: nn.Module, part: nn.Module, rows: torch.Tensor) -> Array:
    """Everything that a layer gets while the module runs on the calibration rows."""
    seen: list[torch.Tensor] = []
    hook = part.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().flatten()))
    try:
        reference(module, rows)
    finally:
        hook.remove()
    return torch.cat(seen).double().numpy()


def _function(name: str, part: nn.Module) -> Callable[[Array], npt.ArrayLike]:
    if isinstance(part, nn.PReLU) and part.num_parameters > 1:
        raise ModuleRefused(
            f"'{name}', a PReLU with {part.num_parameters} slopes, is not one function",
            hint="use ReLU or a PReLU with one slope",
        )
    clear = copy.deepcopy(part).double()

    def function(x: Array) -> npt.ArrayLike:
        with torch.no_grad():
            found: torch.Tensor = clear(torch.from_numpy(x.copy()))
        return found.numpy()

    return function


def _pair(module: nn.Module, data: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Tensors of a pair (X, y); nothing for a loader."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        if isinstance(data, torch.Tensor | np.ndarray | tuple) or not isinstance(data, Iterable):
            raise ModuleRefused(
                f"an object of type {type(data).__name__} was passed as data; expected (X, y) or a loader",
                hint="pass (X, y) with one label or value in y for each row of X",
            )
        return None
    x = calibrated(module, data[0])
    given = data[1] if isinstance(data[1], torch.Tensor) else np.array(data[1])
    if isinstance(given, np.ndarray) and given.dtype.kind not in "biuf":
        raise ModuleRefused(
            f"y has dtype {given.dtype}; expected whole numbers for classes, or real values",
            hint="number the classes from 0: numpy.unique(y, return_inverse=True)[1]",
        )
    y = torch.as_tensor(given)
    if y.ndim == 0 or len(x) != len(y):
        raise ModuleRefused(
            f"X has {len(x)} rows and y has shape {tuple(y.shape)}", hint="pass one y for each row of X"
        )
    return x, y


def _check_labels(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Refuse labels that are no output's number, and values that are not one for each output."""
    outputs = reference(copy.deepcopy(module).eval(), x[:1])[0]
    if y.is_floating_point():
        if y[0].numel() != outputs.numel():
            raise ModuleRefused(
                f"y has {y[0].numel()} values a row and the module {outputs.numel()} outputs",
                hint="pass whole numbers for classes, or one value for each output",
            )
        return
    first, last = int(y.long().min()), int(y.long().max())
    if not 0 <= first <= last < len(outputs):
        raise ModuleRefused(
            f"y has classes from {first} to {last}; the module has outputs for 0 to {len(outputs) - 1}",
            hint="number the classes from 0, or pass real values for a regression",
        )


def _cut(x: torch.Tensor, y: torch.Tensor, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    order = torch.randperm(len(x))
    for start in range(0, len(x), size):
        part = order[start : start + size]
        if len(part) > 1 or len(x) == 1:  # one row alone has no variance for batch normalisation
            yield x[part], y[part]


def _loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross-entropy for whole y, mean squared error for real y."""
    if not y.is_floating_point():
        return nn.functional.cross_entropy(output, y.long())
    return nn.functional.mse_loss(output, y.to(output.dtype).reshape(output.shape))
