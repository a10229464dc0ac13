"""From a torch module to a `Program`: traced by torch.fx, every layer an affine map or a polynomial.

Whatever is linear in the rows (convolution, pooling, padding, permuting, indexing, joining) is turned into
its matrix by one rule: the unit vectors go through the layer itself, as one batch in float64, and come out as
the columns. What acts element by element (batch normalisation, products and sums with constants, powers,
polynomial activations) is collected as one polynomial for each element until something else needs the value.
"""

import copy
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from twopm_kit.errors import ModuleRefused
from twopm_kit.fhe.networks import program as steps
from twopm_kit.fhe.networks.activations import Polynomial
from twopm_kit.fhe.networks.calibration import NORMS, calibrated, reference
from twopm_kit.fhe.networks.program import Program
from twopm_kit.fhe.networks.refusals import UNKNOWN, bare, replacement

__all__ = ["trace"]

Array: TypeAlias = npt.NDArray[np.float64]

#: Stands for the number of rows, which a network must not depend on: a prime that no layer has by chance.
_ROWS: Final = 7919
_MOST_ENTRIES: Final = 2**26  # of one matrix: half a gigabyte
_MOST_POWER: Final = 4
_AGREEMENT: Final = 1e-5
_MOST_ROWS: Final = 1024  # that are looked at

_RANDOM: Final = "pass training=self.training, or make it a torch.nn.Dropout layer"
_PRODUCT: Final = "multiply by constants, or take powers of one value: products of two values are not planned"
_NO_FUNCTION: Final = "use a Polynomial activation fitted on the range of its inputs"

_DROPPED: Final = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_LINEAR: Final = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.ConstantPad1d,
    nn.ConstantPad2d,
    nn.ZeroPad1d,
    nn.ZeroPad2d,
    nn.ReflectionPad1d,
    nn.ReflectionPad2d,
    nn.ReplicationPad1d,
    nn.ReplicationPad2d,
    nn.PixelShuffle,
    nn.Upsample,
)
_SHAPING: Final = (nn.Flatten, nn.Unflatten)
_SHAPING_CALLS: Final = ("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten")
_DROPPED_CALLS: Final = ("contiguous", "clone", "detach", "float", "double", "to")
_DROPOUT_CALLS: Final = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alphadropout")
_JOINING_CALLS: Final = ("cat", "concat", "concatenate", "stack")
_LINEAR_CALLS: Final = frozenset(
    [bare(layer.__name__) for layer in _LINEAR]
    + ["pad", "mean", "sum", "permute", "transpose", "swapaxes", "movedim", "getitem", "flip", "roll"]
    + ["matmul", "mm", "einsum", "interpolate", *_JOINING_CALLS]
)
#: Arithmetic by the bare names of operators, functions and methods.
_ARITHMETIC: Final[Mapping[str, str]] = {
    **dict.fromkeys(("add", "iadd"), "add"),
    **dict.fromkeys(("sub", "subtract", "isub"), "sub"),
    "rsub": "rsub",
    **dict.fromkeys(("mul", "multiply", "imul"), "mul"),
    **dict.fromkeys(("div", "divide", "truediv", "truedivide", "itruediv"), "div"),
    **dict.fromkeys(("neg", "negative"), "neg"),
    **dict.fromkeys(("pow", "ipow"), "pow"),
    "square": "square",
}
_FAULTS: Final = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError)


def trace(module: nn.Module, calibration: "torch.Tensor | npt.ArrayLike") -> Program:
    """Turn a torch module into a simplified `Program` and compare the two on the calibration rows.

    Dropout is dropped and batch normalisation computes with its running statistics, as in eval mode. The
    module stays as it is.

    Parameters
    ----------
    module : torch.nn.Module
        One tensor in, one tensor out; Linear, Conv, average pools, BatchNorm, Flatten, Dropout, residual
        sums, squares, powers up to 4, `Polynomial` activations, arithmetic with constants.
    calibration : tensor or array-like, shape (n, ...)
        Training rows, of which the first 1,024 count: they decide the shape, and the program must agree
        with the module on them.

    Returns
    -------
    Program
        On rows flattened in C order.

    Raises
    ------
    ModuleRefused
        A layer cannot work on ciphertexts, the calibration rows do not fit, or module and program differ by
        more than 1e-5 of the largest output; the message names the layer and what to use instead.
    """
    if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):
        raise ModuleRefused(
            f"a {type(module).__name__} was passed: its layers are compiled already and cannot be read",
            hint="pass the module as it was before torch.jit or torch.compile",
        )
    for name, part in module.named_modules() if isinstance(module, nn.Module) else ():
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            raise ModuleRefused(
                f"'{name}', a {type(part).__name__}, cannot work on ciphertexts: it looks whole numbers up",
                hint=str(replacement("embedding", layer=True)),
            )
        if isinstance(part, NORMS) and part.training:
            raise ModuleRefused(
                f"'{name}', a {type(part).__name__}, is in training mode: it would compute with the "
                "statistics of each batch, which nobody knows of encrypted rows",
                hint="call module.eval() first, so that it uses its running statistics",
            )
    rows = calibrated(module, calibration)[:_MOST_ROWS]
    settled = copy.deepcopy(module).eval()
    wanted = reference(settled, rows)
    clear = copy.deepcopy(settled).double()
    tracer = _Tracer()
    if tracer.is_leaf_module(clear, ""):
        clear = nn.Sequential(clear)  # a layer alone is traced as a layer
    try:
        graph = tracer.trace(clear)
    except (fx.proxy.TraceError, *_FAULTS) as fault:
        raise _untraceable(clear, tracer.deepest, fault) from fault
    traced = _Walk(clear, graph, tuple(rows.shape[1:])).program()
    program = traced.simplified(rows.numpy())
    _compare(program, rows, wanted)
    _compare(program, rows[:1], reference(settled, rows[:1]))  # one alone: rows must not see one another
    return program


def _compare(program: Program, rows: torch.Tensor, output: torch.Tensor) -> None:
    clear = output.double().numpy().reshape(len(rows), -1)
    found = program.run(rows.numpy())
    apart = float(np.abs(found - clear).max()) if found.shape == clear.shape else math.inf
    size = max(float(np.abs(clear).max()), 1e-30)
    if not apart <= _AGREEMENT * size:
        raise ModuleRefused(
            f"the traced program differs from the module by {apart / size:.1e} of the largest output on "
            f"{len(rows)} calibration row{'s' if len(rows) > 1 else ''}; allowed are {_AGREEMENT:.0e}",
            hint="make the module compute each row for itself, without randomness or state, in eval mode",
        )


class _Tracer(fx.Tracer):
    """Symbolic tracer that knows in which layer it failed."""

    def __init__(self) -> None:
        super().__init__()
        self.deepest: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep our polynomials whole, as torch's own layers are."""
        return isinstance(m, Polynomial) or bool(super().is_leaf_module(m, module_qualified_name))

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace a layer, and remember its path if that fails."""
        try:
            return super().call_module(m, forward, args, kwargs)
        except (fx.proxy.TraceError, *_FAULTS):
            if self.deepest is None:
                self.deepest = self.path_of_module(m)
            raise


def _untraceable(module: nn.Module, path: str | None, fault: Exception) -> ModuleRefused:
    owner = module.get_submodule(path or "")
    where = f"'{path}', a {type(owner).__name__}," if path else f"the forward of {type(owner).__name__}"
    return ModuleRefused(
        f"{where} has control flow that depends on its input, or hands it to code outside of torch "
        f"({_words(fault)}): under encryption nobody can look",
        hint="compute the same for every row, without if, while, int(), len() or numpy on tensors",
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Value:
    """A polynomial, element by element, of a node of the program, with the shape of a row."""

    base: int
    shape: tuple[int, ...]
    coefficients: Array  # (degree + 1, width)


class _Walk:
    """Goes through the graph once and writes the nodes of the program."""

    def __init__(self, module: nn.Module, graph: fx.Graph, shape: tuple[int, ...]) -> None:
        self._module = module
        self._graph = graph
        self._shape = shape
        self._nodes: list[steps.Node] = [steps.Input(math.prod(shape), shape)]
        self._node: fx.Node | None = None

    def program(self) -> Program:
        known: dict[fx.Node, Any] = {}
        taken = False
        for node in self._graph.nodes:
            self._node = node
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            match node.op:
                case "placeholder":
                    known[node] = args[0] if taken and args else self._plain(0, self._shape)
                    taken = True
                case "get_attr":
                    known[node] = _attribute(self._module, str(node.target))
                case "output":
                    if not isinstance(args[0], _Value):
                        raise self._refused("returns something that does not depend on the input", UNKNOWN)
                    self._settled(args[0], last=True)
                case _:
                    known[node] = self._computed(node, args, kwargs)
        return Program(self._nodes)

    # Layers and calls -----------------------------------------------------------------------------------

    def _computed(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        work = self._layer if node.op == "call_module" else self._call
        if _values((args, kwargs)):
            return work(node.target, args, kwargs)
        try:
            with torch.no_grad():
                return work(node.target, *_doubled((args, kwargs)))
        except _FAULTS as fault:
            raise self._refused(f"does not work on constants in float64: {_words(fault)}", UNKNOWN) from fault

    def _layer(self, path: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self._module.get_submodule(str(path))
        given = [*args, *kwargs.values()]
        if not _values(given):
            return layer(*args, **kwargs)
        hint = replacement(bare(type(layer).__name__), layer=True)
        if hint is not None:
            raise self._refused("cannot work on ciphertexts", hint)
        value = given[0]
        if len(given) > 1 or not isinstance(value, _Value):
            raise self._refused("takes more than one tensor", UNKNOWN)
        if isinstance(layer, Polynomial):
            return self._composed(layer.coefficients[:, np.newaxis], value)
        if isinstance(layer, NORMS):
            if layer.running_mean is None:
                raise self._refused(
                    "has no running statistics", "make it with track_running_stats=True and train again"
                )
            return self._elementwise(layer, value)
        if isinstance(layer, _DROPPED):
            return value
        if isinstance(layer, _SHAPING):
            return self._reshaped(layer, value)
        if isinstance(layer, _LINEAR):
            return self._affine(lambda parts: layer(parts[0]), [value])
        raise self._refused("is not known to work on ciphertexts", UNKNOWN)

    def _call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = bare(target if isinstance(target, str) else getattr(target, "__name__", str(target)))

        def apply(*given: Any, **named: Any) -> Any:
            if isinstance(target, str):
                return getattr(given[0], target)(*given[1:], **named)
            return target(*given, **named)

        values = _values((args, kwargs))
        if not values:
            return apply(*args, **kwargs)
        hint = replacement(name, layer=False)
        if hint is not None:
            raise self._refused("cannot work on ciphertexts", hint)
        if name in ("getattr", "size", "dim", "ndimension", "numel"):
            return self._described(apply, args, kwargs)
        if name in _DROPPED_CALLS:
            return values[0]
        if name in _DROPOUT_CALLS:
            if kwargs.get("training", args[2] if len(args) > 2 else True):
                raise self._refused("drops values in eval mode too", _RANDOM)
            return values[0]
        if name in _SHAPING_CALLS:
            return self._reshaped(lambda x: apply(x, *args[1:], **kwargs), values[0])
        if name in _ARITHMETIC:
            return self._arithmetic(_ARITHMETIC[name], args, kwargs)
        if name == "batchnorm" and len(values) == 1:
            if kwargs.get("training", args[5] if len(args) > 5 else False):
                raise self._refused(
                    "normalises by the statistics of the batch", "pass training=self.training"
                )
            return self._elementwise(lambda x: apply(x, *_doubled(args[1:]), **_doubled(kwargs)), values[0])
        if name in _LINEAR_CALLS:
            if len(values) > 1 and name not in _JOINING_CALLS:
                raise self._refused("multiplies two encrypted values", _PRODUCT)
            return self._filled(apply, args, kwargs)
        raise self._refused("is not known to work on ciphertexts", UNKNOWN)

    def _described(self, apply: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Shape of a value, with the stand-in for the number of rows."""
        found = apply(_outline(args[0]), *args[1:], **kwargs)
        if isinstance(found, torch.Tensor):
            raise self._refused(f"reads the attribute {args[1]!r}", UNKNOWN)
        return found

    def _filled(self, apply: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Affine map of a call, whose encrypted arguments are filled in in order of appearance."""

        def called(parts: list[torch.Tensor]) -> Any:
            rest = iter(parts)
            filled = _mapped((args, kwargs), lambda leaf: next(rest) if isinstance(leaf, _Value) else leaf)
            given, named = _doubled(filled)
            return apply(*given, **named)

        return self._affine(called, _values((args, kwargs)))

    # Arithmetic -----------------------------------------------------------------------------------------

    def _arithmetic(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Value:
        operands = [*args, *(kwargs[key] for key in ("other", "exponent") if key in kwargs)]
        if set(kwargs) - {"other", "exponent", "alpha"}:
            raise self._refused(f"has the option {', '.join(kwargs)}", UNKNOWN)
        left, right = operands[0], operands[1] if len(operands) > 1 else None
        if name == "rsub":
            name, left, right = "sub", right, left
        match name:
            case "neg":
                return self._product(left, -1.0)
            case "square":
                return self._power(left, 2)
            case "pow":
                if not isinstance(left, _Value) or isinstance(right, _Value):
                    raise self._refused("has an encrypted exponent", _NO_FUNCTION)
                return self._power(left, right)
            case "add" | "sub":
                factor = kwargs.get("alpha", 1.0) * (-1.0 if name == "sub" else 1.0)
                scaled = isinstance(right, _Value)
                return self._sum(left, self._product(right, factor) if scaled else right * factor)
            case "div" if isinstance(right, _Value):
                raise self._refused("divides by an encrypted value", _NO_FUNCTION)
            case "div":
                assert isinstance(left, _Value)  # noqa: S101  (one of the two is encrypted)
                constant = self._constant(right, left.shape)
                if not constant.all():
                    raise self._refused("divides by 0", "divide by other numbers")
                return _Value(left.base, left.shape, left.coefficients / constant)
            case _:
                return self._product(left, right)

    def _sum(self, left: Any, right: Any) -> _Value:
        if not isinstance(left, _Value):
            left, right = right, left
        assert isinstance(left, _Value)  # noqa: S101  (one of the two is encrypted)
        if not isinstance(right, _Value):
            coefficients = left.coefficients.copy()
            coefficients[0] += self._constant(right, left.shape)
            return _Value(left.base, left.shape, coefficients)
        if left.shape != right.shape:
            raise self._refused(
                f"adds rows of shapes {left.shape} and {right.shape}", "bring both to the same shape first"
            )
        if left.base == right.base:
            total = np.zeros((max(len(left.coefficients), len(right.coefficients)), math.prod(left.shape)))
            for one in (left, right):
                total[: len(one.coefficients)] += one.coefficients
            return _Value(left.base, left.shape, total)
        return self._plain(self._append(steps.Add(self._settled(left), self._settled(right))), left.shape)

    def _product(self, left: Any, right: Any) -> _Value:
        if not isinstance(left, _Value):
            left, right = right, left
        assert isinstance(left, _Value)  # noqa: S101  (one of the two is encrypted)
        if not isinstance(right, _Value):
            return _Value(left.base, left.shape, left.coefficients * self._constant(right, left.shape))
        if left.base != right.base or left.shape != right.shape:
            raise self._refused("multiplies two different encrypted values", _PRODUCT)
        if left is right:
            return self._power(left, 2)
        product = steps.multiply(left.coefficients, right.coefficients)
        if len(product) - 1 > _MOST_POWER:
            raise self._refused(f"makes a polynomial of degree {len(product) - 1}", _PRODUCT)
        return _Value(left.base, left.shape, product)

    def _power(self, value: _Value, exponent: Any) -> _Value:
        number = exponent.item() if isinstance(exponent, torch.Tensor) and exponent.numel() == 1 else exponent
        if not isinstance(number, int | float) or number not in range(1, _MOST_POWER + 1):
            raise self._refused(f"takes the power {exponent!r}", "use the powers 1, 2, 3 and 4")
        return self._composed(np.eye(int(number) + 1)[:, -1:], value)

    def _composed(self, outer: Array, value: _Value) -> _Value:
        """Polynomial of a value, of its base if the degree stays small."""
        if (len(outer) - 1) * (len(value.coefficients) - 1) > _MOST_POWER:
            value = self._plain(self._settled(value), value.shape)
        width = value.coefficients.shape[1]
        wide = np.array(np.broadcast_to(outer, (len(outer), width)))
        return _Value(value.base, value.shape, steps.compose(wide, value.coefficients))

    def _constant(self, given: Any, shape: tuple[int, ...]) -> Array:
        """Constant for each element of a row."""
        try:
            tensor = torch.as_tensor(given, dtype=torch.float64).detach()
            found: Array = tensor.expand(1, *shape).reshape(-1).numpy()
        except _FAULTS:
            raise self._refused(
                f"takes a constant that does not fit rows of shape {shape}",
                "use a number, or a tensor with one value for each element, the same for all rows",
            ) from None
        return found

    # Nodes ----------------------------------------------------------------------------------------------

    def _affine(self, layer: Callable[[list[torch.Tensor]], Any], values: list[_Value]) -> _Value:
        """Affine map: its columns are what the layer makes of the unit vectors."""
        at_zero = self._applied(layer, [torch.zeros(1, *v.shape, dtype=torch.float64) for v in values], 1)
        shape = tuple(at_zero.shape[1:])
        bias = at_zero.reshape(-1).numpy()
        parts = []
        for number, value in enumerate(values):
            width = math.prod(value.shape)
            if width * len(bias) > _MOST_ENTRIES:
                raise self._refused(
                    f"makes a matrix of {len(bias)} × {width}, of which no ciphertext could hold a vector",
                    "make the input smaller, or start with a pool or a stride",
                )
            inputs = [torch.zeros(width, *v.shape, dtype=torch.float64) for v in values]
            inputs[number] = torch.eye(width, dtype=torch.float64).reshape(width, *value.shape)
            columns = self._applied(layer, inputs, width).reshape(width, -1).numpy()
            offset = bias if number == 0 else np.zeros_like(bias)
            parts.append(self._append(steps.Affine(self._settled(value), (columns - bias).T, offset)))
        total = parts[0]
        for part in parts[1:]:
            total = self._append(steps.Add(total, part))
        return self._plain(total, shape)

    def _elementwise(self, layer: Callable[[torch.Tensor], Any], value: _Value) -> _Value:
        """Line for each element."""
        both = torch.stack([torch.zeros(value.shape), torch.ones(value.shape)]).double()
        at_zero, at_one = self._applied(lambda parts: layer(parts[0]), [both], 2).reshape(2, -1).numpy()
        return self._composed(np.stack([at_zero, at_one - at_zero]), value)

    def _applied(
        self, layer: Callable[[list[torch.Tensor]], Any], inputs: list[torch.Tensor], rows: int
    ) -> Any:
        try:
            with torch.no_grad():
                found = layer(inputs)
        except _FAULTS as fault:
            raise self._refused(f"does not take rows of this shape: {_words(fault)}", UNKNOWN) from fault
        if not isinstance(found, torch.Tensor) or found.ndim < 2 or len(found) != rows:
            raise self._refused("mixes rows", "keep the first axis, the rows, apart")
        return found.double()

    def _reshaped(self, layer: Callable[[torch.Tensor], Any], value: _Value) -> _Value:
        """Other shape of the same elements, in the same order."""
        try:
            shape = tuple(layer(_outline(value)).shape)
        except _FAULTS:
            shape = ()
        if shape[:1] != (_ROWS,) or len(shape) < 2:
            raise self._refused(
                f"does not keep apart any number of rows of shape {value.shape}",
                "leave the first axis as it is: x.flatten(1), or x.view(x.size(0), -1)",
            )
        return _Value(value.base, shape[1:], value.coefficients)

    def _plain(self, node: int, shape: tuple[int, ...]) -> _Value:
        width = math.prod(shape)
        return _Value(node, shape, np.stack([np.zeros(width), np.ones(width)]))

    def _settled(self, value: _Value, *, last: bool = False) -> int:
        """Node that has the value; the last one of the list where that is asked."""
        c = value.coefficients
        if (
            len(c) == 2
            and not c[0].any()
            and (c[1] == 1.0).all()
            and not (last and value.base != len(self._nodes) - 1)
        ):
            return value.base
        return self._append(steps.Polynomial(value.base, c))

    def _append(self, node: steps.Node) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _refused(self, why: str, hint: str) -> ModuleRefused:
        """Error that names the layer, or the call and the layer that it is in."""
        node = self._node
        assert node is not None  # noqa: S101  (there is nothing to refuse before the first node)
        if node.op == "call_module":
            layer = self._module.get_submodule(str(node.target))
            return ModuleRefused(f"'{node.target}', a {type(layer).__name__}, {why}", hint=hint)
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path = str(stack[-1][0]) if stack else ""
        owner = type(self._module.get_submodule(path)).__name__
        place = f"in '{path}', a {owner}," if path else f"in the forward of {owner}"
        called = getattr(node.target, "__name__", str(node.target))
        return ModuleRefused(f"{called} {place} {why}", hint=hint)


def _words(fault: Exception) -> str:
    return str(fault).strip().split("\n", maxsplit=1)[0]


def _outline(value: _Value) -> torch.Tensor:
    """Tensor of the value's shape that holds nothing."""
    return torch.empty((_ROWS, *value.shape), device="meta")


def _attribute(module: nn.Module, path: str) -> Any:
    found = operator.attrgetter(path)(module)
    return found.detach() if isinstance(found, torch.Tensor) else found


def _mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Apply a function to the leaves of nested arguments."""
    if isinstance(tree, torch.Size):
        return tree
    if isinstance(tree, tuple | list):
        return type(tree)(_mapped(item, change) for item in tree)
    if isinstance(tree, Mapping):
        return {key: _mapped(item, change) for key, item in tree.items()}
    return change(tree)


def _values(tree: Any) -> list[_Value]:
    found: list[_Value] = []
    _mapped(tree, lambda leaf: found.append(leaf) if isinstance(leaf, _Value) else None)
    return found


def _doubled(tree: Any) -> Any:
    """Constants in float64, as everything else is here."""

    def change(leaf: Any) -> Any:
        return leaf.detach().double() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf

    return _mapped(tree, change)
