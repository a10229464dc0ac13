"""A network as a short list of affine maps, polynomials and sums on flat vectors, in clear arithmetic.

A `Program` is in single-assignment form: each node has the number of its place in the list, and reads nodes
of smaller numbers only. Node 0 is the `Input`, the last node is the output. These four kinds of node are
everything that CKKS computes cheaply, so what a program says in float64 is what the encrypted run does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import ModuleRefused
from twopm_kit.fhe.tables import plain_array

__all__ = ["Add", "Affine", "Input", "Node", "Polynomial", "Program", "Ranges", "compose", "multiply"]

Array: TypeAlias = npt.NDArray[np.float64]

#: A bound leaves a quarter above the largest value seen, and six standard deviations around each mean.
_MARGIN: Final = 1.25
_DEVIATIONS: Final = 6.0
_SMALLEST_BOUND: Final = 2.0**-40
#: A square is completed only where its vertex is within this many times the range of the data; at higher
#: degrees a leading 1 may make x, and with it its precision, smaller by about this factor.
_FARTHEST_VERTEX: Final = 16.0


@dataclass(frozen=True, eq=False, slots=True)
class Input:
    """The encrypted vector.

    Parameters
    ----------
    width : int
        Values in a row.
    shape : tuple of int
        Shape of a row before it was flattened in C order; its product is `width`.
    """

    width: int
    shape: tuple[int, ...]

    @property
    def sources(self) -> tuple[int, ...]:
        """Nodes that are read."""
        return ()


@dataclass(frozen=True, eq=False, slots=True)
class Affine:
    """``matrix @ x + bias``.

    Parameters
    ----------
    source : int
        Node x.
    matrix : ndarray of float64, shape (o, i)
        Plain weights.
    bias : ndarray of float64, shape (o,)
        Plain offsets.
    """

    source: int
    matrix: Array
    bias: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", _frozen(self.matrix, "the matrix of an Affine"))
        object.__setattr__(self, "bias", _frozen(self.bias, "the bias of an Affine"))
        if self.matrix.ndim != 2 or self.bias.shape != self.matrix.shape[:1]:
            raise ModuleRefused(
                f"an Affine has a matrix of shape {self.matrix.shape} and a bias of shape {self.bias.shape}; "
                "expected (o, i) and (o,)",
                hint="reshape them",
            )

    @property
    def sources(self) -> tuple[int, ...]:
        """Nodes that are read."""
        return (self.source,)


@dataclass(frozen=True, eq=False, slots=True)
class Polynomial:
    """``Σ coefficients[k] · x^k``, element by element.

    Parameters
    ----------
    source : int
        Node x.
    coefficients : ndarray of float64, shape (degree + 1,) or (degree + 1, width)
        Low degree first; one set for all elements, or one for each. The highest row is not all zero
        unless the degree is 0.
    """

    source: int
    coefficients: Array

    def __post_init__(self) -> None:
        coefficients = np.asarray(self.coefficients, dtype=np.float64)
        if coefficients.ndim not in (1, 2) or coefficients.size == 0:
            raise ModuleRefused(
                f"a Polynomial has coefficients of shape {coefficients.shape}; expected (degree + 1,) or "
                "(degree + 1, width)",
                hint="pass the coefficients with the lowest degree first",
            )
        frozen = _frozen(_narrow(_trimmed(coefficients)), "a Polynomial's coefficients")
        object.__setattr__(self, "coefficients", frozen)

    @property
    def sources(self) -> tuple[int, ...]:
        """Nodes that are read."""
        return (self.source,)

    @property
    def degree(self) -> int:
        """Highest power of x."""
        return len(self.coefficients) - 1

    @property
    def is_square(self) -> bool:
        """Whether this is x² and nothing else."""
        return self.coefficients.ndim == 1 and self.coefficients.tolist() == [0.0, 0.0, 1.0]

    @property
    def is_monic(self) -> bool:
        """Whether the highest power has the coefficient 1 or -1 everywhere, which costs no multiplication."""
        return bool((np.abs(self.coefficients[-1]) == 1.0).all())

    @property
    def levels(self) -> int:
        """Multiplicative levels: ⌈log2 degree⌉, one more where a leading coefficient finds no free place.

        Multiplying by a coefficient takes a level, but runs beside the powers except along the longest chain
        of squarings, and there is slack on that chain unless the degree is a power of two.
        """
        if self.degree == 0:
            return 0
        chain = (self.degree - 1).bit_length()
        return chain + (1 << chain == self.degree and not self.is_monic)


@dataclass(frozen=True, eq=False, slots=True)
class Add:
    """``left + right``, two nodes of the same width.

    Parameters
    ----------
    left, right : int
        Nodes.
    """

    left: int
    right: int

    @property
    def sources(self) -> tuple[int, ...]:
        """Nodes that are read."""
        return (self.left, self.right)


Node: TypeAlias = Input | Affine | Polynomial | Add


class Ranges(NamedTuple):
    """How large the values of each node become on calibration data.

    Attributes
    ----------
    largest : ndarray of float64, shape (nodes,)
        Largest absolute value seen.
    bounds : ndarray of float64, shape (nodes,)
        Power of two that unseen rows of the same kind stay below: a quarter above `largest`, beyond six
        standard deviations from the mean of every element, and for a polynomial beyond what the bound of
        its argument allows. It comes from the data, not from worst-case interval arithmetic, which would be
        too large by orders of magnitude after two layers: rows unlike the calibration data may pass it.
    """

    largest: Array
    bounds: Array


class Program:
    """An immutable network of affine maps, polynomials and sums.

    Parameters
    ----------
    nodes : sequence of Node
        Node 0 is the only `Input`; each node reads earlier ones; the last one is the output.

    Raises
    ------
    ModuleRefused
        A node reads one that does not come before it, widths do not fit, or a number is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> square = Program([Input(2, (2,)), Polynomial(0, np.array([1.0, 0.0, 2.0]))])
    >>> square.run([[1.0, 3.0]]).tolist()
    [[3.0, 19.0]]
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes: Final[tuple[Node, ...]] = tuple(nodes)
        self.widths: Final = _widths(self.nodes)

    @property
    def input(self) -> Input:
        """The input node."""
        first = self.nodes[0]
        assert isinstance(first, Input)  # noqa: S101  (the constructor has checked it)
        return first

    @property
    def width(self) -> int:
        """Values in a row of the output."""
        return self.widths[-1]

    @property
    def depths(self) -> tuple[int, ...]:
        """Multiplicative levels that are spent when each node is known."""
        depths: list[int] = []
        for node in self.nodes:
            levels = 1 if isinstance(node, Affine) else node.levels if isinstance(node, Polynomial) else 0
            depths.append(max((depths[s] for s in node.sources), default=0) + levels)
        return tuple(depths)

    @property
    def depth(self) -> int:
        """Multiplicative levels from input to output."""
        return self.depths[-1]

    def run(self, X: npt.ArrayLike) -> Array:  # noqa: N803  (scikit-learn's name for a table of rows)
        """Output in clear.

        Parameters
        ----------
        X : array-like, shape (n, width) or (n, *shape)
            Rows.

        Returns
        -------
        ndarray of float64, shape (n, output width)

        Raises
        ------
        ModuleRefused
            X has another shape, or holds values that are not finite numbers.
        """
        return self.values(X)[-1]

    def values(self, X: npt.ArrayLike) -> list[Array]:  # noqa: N803
        """Value of every node in clear, as `run` computes them: one (n, width) array for each."""
        found: list[Array] = []
        for node in self.nodes:
            match node:
                case Input():
                    found.append(self._rows(X))
                case Affine(source, matrix, bias):
                    found.append(found[source] @ matrix.T + bias)
                case Polynomial(source, coefficients):
                    total = np.broadcast_to(coefficients[-1], found[source].shape)
                    for row in coefficients[-2::-1]:
                        total = total * found[source] + row
                    found.append(np.array(total))
                case Add(left, right):
                    found.append(found[left] + found[right])
        return found

    def ranges(self, X: npt.ArrayLike) -> Ranges:  # noqa: N803
        """How large each node becomes on the rows of X; see `Ranges`."""
        largest: list[float] = []
        reach: list[float] = []
        for node, value in zip(self.nodes, self.values(X), strict=True):
            peak = float(np.abs(value).max())
            spread = float((np.abs(value.mean(axis=0)) + _DEVIATIONS * value.std(axis=0)).max())
            bound = max(_MARGIN * peak, spread)
            if isinstance(node, Polynomial):
                powers = reach[node.source] ** np.arange(node.degree + 1)
                bound = max(bound, float((powers @ np.abs(node.coefficients)).max()))
            largest.append(peak)
            reach.append(bound)
        return Ranges(np.array(largest), 2.0 ** np.ceil(np.log2(np.maximum(reach, _SMALLEST_BOUND))))

    def simplified(self, X: npt.ArrayLike | None = None) -> "Program":  # noqa: N803
        """Return the same function in the fewest levels.

        Affine maps that follow one another become one, also through sums, so a residual branch costs no
        level of its own. Polynomials of degree 2 become pure squares between affine maps:
        a x² + b x + c = a (x + b/2a)² + c - b²/4a, where the map before takes √|a| and the shift, and the
        map after takes the sign and the rest. Where only one of the two exists, the leading coefficient still
        becomes 1 or -1; so do those of degrees 3 and 4. A polynomial that keeps another one has a leading
        coefficient of 0 somewhere, or one that is tiny on the calibration rows. What the output does not
        need is dropped. The one polynomial of degree 1 that can remain, x + constant, costs no level.

        Parameters
        ----------
        X : array-like, optional
            Calibration rows: polynomials whose leading term hardly counts on them are then left as they
            are. (x + v)² - v² with a large v, for example, would drown the signal in a large constant.
        """
        short = _Normal(self, None if X is None else self.values(X)).program()
        # only a value added to itself is cheaper as it was: the sum costs no level, a factor of 2 does
        return short if short.depth <= max(self.depth, 1) else self

    def _rows(self, values: npt.ArrayLike) -> Array:
        shape = self.input.shape
        try:
            rows = plain_array(values).astype(np.float64)
        except (TypeError, ValueError):  # ours are such too
            raise ModuleRefused(
                f"an object of type {type(values).__name__} that is not a table of numbers was passed",
                hint=f"pass an array of shape (n, {self.input.width})",
            ) from None
        if rows.ndim < 2 or rows.shape[1:] not in ((self.input.width,), shape) or len(rows) == 0:
            wanted = " or ".join(str(("n", *s)).replace("'", "") for s in {(self.input.width,), shape})
            raise ModuleRefused(
                f"rows of shape {rows.shape} were passed; expected {wanted}", hint="reshape the rows"
            )
        if not np.isfinite(rows).all():
            raise ModuleRefused("the rows hold values that are not finite", hint="fill or drop these values")
        return rows.reshape(len(rows), self.input.width)

    def __repr__(self) -> str:
        words = []
        for node in self.nodes[1:]:
            match node:
                case Affine(matrix=matrix):
                    words.append(f"affine {matrix.shape[0]}×{matrix.shape[1]}")
                case Polynomial():
                    words.append("square" if node.is_square else f"degree {node.degree}")
                case _:
                    words.append("add")
        steps = ", ".join(words) or "identity"
        return f"<Program {self.input.width} → {self.width}: {steps}; depth {self.depth}>"


def multiply(left: Array, right: Array) -> Array:
    """Coefficients of the product of two polynomials for each element; shapes (d + 1, w) and (e + 1, w)."""
    product = np.zeros((len(left) + len(right) - 1, left.shape[1]))
    for k, row in enumerate(left):
        product[k : k + len(right)] += row * right
    return product


def compose(outer: Array, inner: Array) -> Array:
    """Coefficients of ``outer(inner(x))``, element by element; shapes (d + 1, w) and (e + 1, w)."""
    total = outer[-1:]
    for row in outer[-2::-1]:
        total = multiply(total, inner)
        total[0] += row
    return _trimmed(total)


def _trimmed(coefficients: Array) -> Array:
    """Drop the highest powers that no element has."""
    used = np.flatnonzero(coefficients.reshape(len(coefficients), -1).any(axis=1))
    return coefficients[: (used[-1] + 1 if len(used) else 1)]


def _narrow(coefficients: Array) -> Array:
    """One set of coefficients where every element has the same."""
    if coefficients.ndim == 2 and (coefficients == coefficients[:, :1]).all():
        return coefficients[:, 0]
    return coefficients


def _frozen(values: npt.ArrayLike, what: str) -> Array:
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ModuleRefused(f"{what} holds numbers that are not finite", hint="train the network again")
    array.flags.writeable = False
    return array


def _widths(nodes: tuple[Node, ...]) -> tuple[int, ...]:
    hint = "list the Input first, and each node after the ones that it reads"
    if not nodes or not isinstance(nodes[0], Input) or any(isinstance(n, Input) for n in nodes[1:]):
        raise ModuleRefused("a program has its only Input in the first place", hint=hint)
    widths: list[int] = []
    for place, node in enumerate(nodes):
        if not all(0 <= source < place for source in node.sources):
            raise ModuleRefused(
                f"node {place} reads {node.sources}; only nodes before it are known", hint=hint
            )
        given = [widths[source] for source in node.sources]
        match node:
            case Input(width, shape):
                fits = width > 0 and width == int(np.prod(shape))
                width = width if fits else 0
            case Affine(matrix=matrix):
                fits, width = given == [matrix.shape[1]], matrix.shape[0]
            case Polynomial(coefficients=coefficients):
                fits, width = coefficients.ndim == 1 or given == [coefficients.shape[1]], given[0]
            case Add():
                fits, width = given[0] == given[1], given[0]
        if not fits:
            raise ModuleRefused(
                f"node {place}, {type(node).__name__}, does not fit the widths {given} of what it reads",
                hint="make the widths agree",
            )
        widths.append(width)
    return tuple(widths)


# The normal form ----------------------------------------------------------------------------------------
#
# An atom is the input or a polynomial of degree 2 or more. Every other value is a form: a sum of plain
# matrices times atoms, plus a plain vector. A matrix that acts element by element is kept as its diagonal.


@dataclass(slots=True)
class _Form:
    terms: dict[int, Array]  # atom -> (o, i) matrix, or (o,) diagonal
    bias: Array

    def __add__(self, other: "_Form") -> "_Form":
        terms = dict(self.terms)
        for atom, factor in other.terms.items():
            terms[atom] = _plus(terms[atom], factor) if atom in terms else factor
        return _Form({a: f for a, f in terms.items() if f.any()}, self.bias + other.bias)

    def mapped(self, matrix: Array, bias: Array) -> "_Form":
        """Return ``matrix @ self + bias``; the matrix may be a diagonal."""
        terms = {atom: _diagonal(_times(matrix, factor)) for atom, factor in self.terms.items()}
        moved = matrix * self.bias if matrix.ndim == 1 else matrix @ self.bias
        return _Form({a: f for a, f in terms.items() if f.any()}, moved + bias)


@dataclass(slots=True)
class _Atom:
    form: _Form  # what the polynomial is taken of; of the input: nothing
    coefficients: Array  # (degree + 1, width)
    reach: float  # largest |x| seen in calibration; infinite without


class _Normal:
    """Brings a program into its normal form and writes it down again."""

    def __init__(self, program: Program, values: list[Array] | None) -> None:
        self._input = program.input
        width = self._input.width
        self._atoms = [_Atom(_Form({}, np.zeros(width)), np.zeros((1, width)), np.inf)]
        forms: list[_Form] = []
        for node in program.nodes:
            match node:
                case Input():
                    forms.append(_Form({0: np.ones(width)}, np.zeros(width)))
                case Affine(source, matrix, bias):
                    forms.append(forms[source].mapped(_diagonal(matrix), bias))
                case Add(left, right):
                    forms.append(forms[left] + forms[right])
                case Polynomial(source, coefficients):
                    reach = np.inf if values is None else float(np.abs(values[source]).max())
                    forms.append(self._polynomial(forms[source], coefficients, reach))
        self._output = forms[-1]
        self._drop_unused()
        self._depths = [0]  # of the atoms that are in their final shape
        for atom in range(1, len(self._atoms)):
            self._normalise(atom)
            final = self._atoms[atom]
            self._depths.append(self._depth(final.form) + Polynomial(0, final.coefficients).levels)

    def _polynomial(self, form: _Form, coefficients: Array, reach: float) -> _Form:
        width = len(form.bias)
        wide = np.array(
            np.broadcast_to(coefficients.reshape(len(coefficients), -1), (len(coefficients), width))
        )
        if len(wide) == 1 or not form.terms:
            constant = compose(wide, form.bias[np.newaxis])[0]
            return _Form({}, constant)
        if len(wide) == 2:
            return form.mapped(wide[1], wide[0])
        atom, factor = next(iter(form.terms.items()))
        if len(form.terms) == 1 and factor.ndim == 1:
            # an element-wise map before the polynomial is part of it: that saves the map's level
            wide = compose(wide, np.stack([form.bias, factor]))
            reach = (reach + float(np.abs(form.bias).max())) / float(np.abs(factor).max())
            form = _Form({atom: np.ones(width)}, np.zeros(width))
            if len(wide) < 3:
                return self._polynomial(form, wide, reach)
        self._atoms.append(_Atom(form, wide, reach))
        return _Form({len(self._atoms) - 1: np.ones(width)}, np.zeros(width))

    def _drop_unused(self) -> None:
        used = set(self._output.terms) | {0}
        for atom in range(len(self._atoms) - 1, 0, -1):
            if atom in used:
                used |= set(self._atoms[atom].form.terms)
        place = {atom: new for new, atom in enumerate(sorted(used))}
        self._atoms = [self._atoms[atom] for atom in place]
        for form in self._forms():
            form.terms = {place[atom]: factor for atom, factor in form.terms.items()}

    def _forms(self) -> list[_Form]:
        return [*(atom.form for atom in self._atoms), self._output]

    def _depth(self, form: _Form, *, scaled: bool = False) -> int:
        return max(self._depths[a] + (scaled or not _is_identity(f)) for a, f in form.terms.items())

    def _normalise(self, number: int) -> None:
        """Move what a polynomial multiplies by into the affine maps around it."""
        atom = self._atoms[number]
        c, lead, form = atom.coefficients, atom.coefficients[-1], atom.form
        degree = len(c) - 1
        before = self._depth(form, scaled=True) == self._depth(form)
        users = [f for f in self._forms() if number in f.terms]
        after = not any(_is_identity(f.terms[number]) for f in users)
        if not lead.all() or self._faint(atom):
            return
        ones, nothing = np.ones_like(lead), np.zeros_like(lead)
        # new atom of scale·x + shift; old atom = sign · new atom + rest
        scale, shift, sign, rest = ones, nothing, ones, nothing
        monic = (np.abs(lead) == 1.0).all()
        if before or not (monic or after or degree % 2):
            # without a map on either side an even power takes one more level anyhow: spend it on a map
            sign = np.sign(lead)
            scale = np.abs(lead) ** (1.0 / degree)
            if degree % 2:
                scale, sign = scale * sign, ones
            if degree == 2:
                vertex = c[1] / (2.0 * lead)
                shift = scale * vertex
                rest = c[0] - lead * vertex**2
                c = np.stack([rest * sign, nothing, ones])
            else:
                c = sign * c / scale ** np.arange(degree + 1)[:, np.newaxis]
                c[-1] = 1.0
                rest = sign * c[0]
        elif after:
            sign, rest = lead, c[0].copy()
            c = c / lead
        else:
            return
        if after:
            c[0] = 0.0
        else:
            c, sign, rest = sign * c, ones, nothing
        atom.coefficients = c
        atom.form = form.mapped(scale, shift)
        for user in users:
            factor = user.terms[number]
            user.bias = user.bias + (factor * rest if factor.ndim == 1 else factor @ rest)
            user.terms[number] = factor * sign

    @staticmethod
    def _faint(atom: _Atom) -> bool:
        """Whether the leading term is so small on the data that a leading 1 would drown the rest in noise."""
        c, degree = atom.coefficients, len(atom.coefficients) - 1
        if not 0.0 < atom.reach < np.inf:
            return False
        falls = atom.reach ** np.arange(1 - degree, 0)[:, np.newaxis]
        others = (np.abs(c[1:-1]) * falls).max(axis=0)
        most = 2.0 * _FARTHEST_VERTEX if degree == 2 else _FARTHEST_VERTEX**degree
        return bool((others > most * np.abs(c[-1])).any())

    def program(self) -> Program:
        """Write the normal form down as a program."""
        nodes: list[Node] = [self._input]
        places = {0: 0}
        for number, atom in enumerate(self._atoms[1:], start=1):
            source = self._write(atom.form, nodes, places)
            nodes.append(Polynomial(source, atom.coefficients))
            places[number] = len(nodes) - 1
        self._write(self._output, nodes, places)  # it needs all the others, so it is the last
        return Program(nodes)

    def _write(self, form: _Form, nodes: list[Node], places: dict[int, int]) -> int:
        """Append what a form needs; return the place of its value."""

        def append(node: Node) -> int:
            nodes.append(node)
            return len(nodes) - 1

        def added(sources: list[int]) -> int:
            total = sources[0]
            for source in sources[1:]:
                total = append(Add(total, source))
            return total

        width, bias = len(form.bias), form.bias
        if not form.terms:
            return append(Affine(0, np.zeros((width, self._input.width)), bias))
        groups: list[tuple[Array, list[int]]] = []
        for atom, factor in form.terms.items():
            for known, sources in groups:
                if known.shape == factor.shape and np.array_equal(known, factor):
                    sources.append(places[atom])  # one map of a sum, rather than a sum of equal maps
                    break
            else:
                groups.append((factor, [places[atom]]))
        parts = []
        for factor, sources in groups:
            part = added(sources)
            if not _is_identity(factor):
                matrix = np.diag(factor) if factor.ndim == 1 else factor
                part = append(Affine(part, matrix, bias))
                bias = np.zeros(width)
            parts.append(part)
        total = added(parts)
        return append(Polynomial(total, np.stack([bias, np.ones(width)]))) if bias.any() else total


def _is_identity(factor: Array) -> bool:
    return factor.ndim == 1 and bool((factor == 1.0).all())


def _diagonal(matrix: Array) -> Array:
    """Keep a diagonal matrix as its diagonal."""
    if matrix.ndim == 1 or matrix.shape[0] != matrix.shape[1]:
        return matrix
    diagonal = np.diagonal(matrix)
    if np.count_nonzero(matrix) > np.count_nonzero(diagonal):
        return matrix
    return diagonal.copy()


def _times(left: Array, right: Array) -> Array:
    """Product of two matrices, each of which may be a diagonal."""
    if left.ndim == 1:
        return left * right if right.ndim == 1 else left[:, np.newaxis] * right
    return left * right if right.ndim == 1 else left @ right


def _plus(left: Array, right: Array) -> Array:
    if left.ndim == right.ndim:
        return _diagonal(left + right)
    return (np.diag(left) if left.ndim == 1 else left) + (np.diag(right) if right.ndim == 1 else right)
