import subprocess
import sys

import numpy as np
import pytest

from twopm_kit.errors import FHEError, ModuleRefused
from twopm_kit.fhe.networks.program import Add, Affine, Input, Polynomial, Program, compose, multiply

RNG = np.random.default_rng(7)
X = RNG.normal(size=(50, 6))


def affine(source, rows, columns):
    return Affine(source, RNG.normal(size=(rows, columns)), RNG.normal(size=rows))


def same(program, wanted_depth, x=X):
    """Check that simplifying keeps the function and reaches a depth; return the simplified program."""
    short = program.simplified()
    assert short.depth == wanted_depth <= program.depth
    clear = program.run(x)
    assert np.abs(short.run(x) - clear).max() <= 1e-11 * np.abs(clear).max()
    again = short.simplified()
    assert [type(node) for node in again.nodes] == [type(node) for node in short.nodes]
    assert again.depth == short.depth
    return short


def kinds(program):
    return [type(node).__name__ for node in program.nodes]


def test_the_arithmetic_is_the_one_that_it_says():
    first, second = affine(0, 4, 6), affine(2, 4, 4)
    program = Program([Input(6, (2, 3)), first, Polynomial(1, [1.0, -2.0, 0.5, 0.25]), second, Add(3, 1)])
    h = X @ first.matrix.T + first.bias
    wanted = (1.0 - 2.0 * h + 0.5 * h**2 + 0.25 * h**3) @ second.matrix.T + second.bias + h
    assert np.allclose(program.run(X), wanted, rtol=1e-12)
    assert np.array_equal(program.run(X.reshape(50, 2, 3)), program.run(X))
    assert program.depths == (0, 1, 3, 4, 4)
    assert program.width == 4
    assert repr(program) == "<Program 6 → 4: affine 4×6, degree 3, affine 4×4, add; depth 4>"


def test_a_program_cannot_be_changed():
    matrix = np.eye(6)
    program = Program([Input(6, (6,)), Affine(0, matrix, np.zeros(6))])
    matrix[0, 0] = 5.0
    assert program.nodes[1].matrix[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        program.nodes[1].matrix[0, 0] = 5.0
    with pytest.raises(AttributeError):
        program.nodes[1].source = 3


def test_affine_maps_in_a_row_become_one():
    program = Program([Input(6, (6,)), affine(0, 5, 6), affine(1, 4, 5), affine(2, 3, 4)])
    assert kinds(same(program, 1)) == ["Input", "Affine"]


def test_identities_and_unused_nodes_go():
    identity = Affine(0, np.eye(6), np.zeros(6))
    lost = Polynomial(0, [0.0, 0.0, 1.0])
    program = Program([Input(6, (6,)), identity, lost, Polynomial(1, [0.0, 1.0]), affine(3, 2, 6)])
    assert kinds(same(program, 1)) == ["Input", "Affine"]
    assert kinds(same(Program([Input(6, (6,)), identity]), 0)) == ["Input"]


@pytest.mark.parametrize(
    "coefficients",
    [
        [0.3, -1.2, 0.7],
        [0.3, -1.2, -0.7],
        np.stack([RNG.normal(size=5), RNG.normal(size=5), RNG.uniform(0.5, 2, 5) * [1, -1, 1, 1, -1]]),
    ],
    ids=["positive", "negative", "for each element"],
)
def test_a_quadratic_between_affine_maps_becomes_a_pure_square(coefficients):
    program = Program([Input(6, (6,)), affine(0, 5, 6), Polynomial(1, coefficients), affine(2, 3, 5)])
    assert program.depth == 4
    short = same(program, 3)
    assert kinds(short) == ["Input", "Affine", "Polynomial", "Affine"]
    assert short.nodes[2].is_square


@pytest.mark.parametrize(
    "coefficients", [[0.3, -1.2, 0.7], [0.1, 2.0, 0.3, -0.6], [1.0, 0.5, 0.2, 0.1, -0.3]]
)
@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True), (False, False)])
def test_leading_coefficients_find_a_place(coefficients, before, after):
    nodes = [Input(6, (6,))]
    if before:
        nodes.append(affine(0, 6, 6))
    nodes.append(Polynomial(len(nodes) - 1, coefficients))
    if after:
        nodes.append(affine(len(nodes) - 1, 3, 6))
    power = (len(coefficients) - 2).bit_length()
    # with no map on either side an even power pays for its leading coefficient
    alone = not before and not after and len(coefficients) != 4
    short = same(Program(nodes), before + power + after + alone)
    found = [node for node in short.nodes if isinstance(node, Polynomial)]
    assert len(found) == 1
    assert found[0].is_monic or (len(coefficients) == 4 and not before and not after)


def test_a_line_for_each_element_is_part_of_what_follows():
    """Batch normalisation between a convolution and an activation, or in front of everything."""
    scale = np.stack([RNG.normal(size=6), RNG.uniform(1, 2, 6)])
    program = Program([Input(6, (6,)), Polynomial(0, scale), Polynomial(1, [0.0, 0.0, 1.0]), affine(2, 3, 6)])
    short = same(program, 2)
    assert kinds(short) == ["Input", "Polynomial", "Affine"]
    inside = Program(
        [Input(6, (6,)), affine(0, 6, 6), Polynomial(1, scale), Polynomial(2, [0, 0, 1]), affine(3, 3, 6)]
    )
    assert same(inside, 3).nodes[2].is_square


def test_a_residual_branch_costs_no_level():
    first, inner, back, last = affine(0, 5, 6), affine(1, 7, 5), affine(3, 5, 7), affine(5, 3, 5)
    program = Program([Input(6, (6,)), first, inner, Polynomial(2, [0.2, 0.9, -0.4]), back, Add(1, 4), last])
    assert program.depth == 6
    short = same(program, 3)  # affine, square, affine: as without the branch
    assert [node.is_square for node in short.nodes if isinstance(node, Polynomial)] == [True]


def test_a_polynomial_that_is_also_added_keeps_its_values():
    """h + p(h): no map follows the polynomial alone, so only the map before it may take something."""
    program = Program([Input(6, (6,)), affine(0, 5, 6), Polynomial(1, [0.2, 0.9, -0.4]), Add(1, 2)])
    short = same(program, 2)
    polynomial = next(node for node in short.nodes if isinstance(node, Polynomial))
    assert polynomial.is_monic
    assert polynomial.coefficients[1] == 0.0


def test_residual_blocks_one_after_another():
    nodes = [Input(6, (6,)), affine(0, 6, 6)]
    for _ in range(3):
        x = len(nodes) - 1
        nodes += [affine(x, 4, 6), Polynomial(x + 1, [0.1, 0.5, 0.3]), affine(x + 2, 6, 4), Add(x, x + 3)]
    program = Program(nodes)
    x = X / 50
    assert program.depth == 13
    same(program, 7, x)


def random_program(rng):
    """Any program of up to twelve nodes on small widths, with numbers that keep values near 1."""
    nodes, widths = [Input(4, (4,))], [4]
    for _ in range(rng.integers(2, 12)):
        source = int(rng.integers(len(nodes)))
        width = widths[source]
        kind = rng.choice(
            ["affine", "diagonal", "identity", "line", "polynomial", "polynomial", "add", "add"]
        )
        same_width = [k for k, w in enumerate(widths) if w == width]
        if kind == "affine":
            rows = int(rng.choice([3, 4]))
            node = Affine(source, rng.normal(size=(rows, width)) / width, rng.normal(size=rows) / 4)
        elif kind == "diagonal":
            node = Affine(source, np.diag(rng.normal(size=width)), rng.normal(size=width) / 4)
        elif kind == "identity":
            node = Affine(source, np.eye(width), np.zeros(width))
        elif kind == "add":
            node = Add(source, int(rng.choice(same_width)))
        else:
            degree = 1 if kind == "line" else int(rng.integers(2, 5))
            shape = (degree + 1, width) if rng.random() < 0.5 else (degree + 1,)
            coefficients = rng.normal(size=shape) / 3
            coefficients[-1] = np.sign(coefficients[-1]) * np.maximum(np.abs(coefficients[-1]), 0.2)
            node = Polynomial(source, coefficients)
        nodes.append(node)
        widths.append(node.matrix.shape[0] if isinstance(node, Affine) else width)
    return Program(nodes)


@pytest.mark.parametrize("seed", range(150))
def test_simplifying_any_program(seed):
    rng = np.random.default_rng(seed)
    program = random_program(rng)
    x = rng.uniform(-0.5, 0.5, size=(20, 4))
    clear = program.run(x)
    for short in (program.simplified(), program.simplified(x)):
        assert np.abs(short.run(x) - clear).max() <= 1e-9 * max(np.abs(clear).max(), 1.0)
        assert short.depth <= max(program.depth, 1)
        read = {source for node in short.nodes for source in node.sources}
        assert short is program or set(range(1, len(short.nodes) - 1)) <= read
    short = program.simplified()
    even = [node for node in short.nodes if isinstance(node, Polynomial) and node.degree in (2, 4)]
    assert short is program or all(node.is_monic for node in even)


def test_a_value_added_to_itself_costs_no_level():
    program = Program([Input(6, (6,)), Polynomial(0, [0, 0, 0, 1]), Add(1, 1)])
    assert program.simplified() is program


def test_sums_of_equal_maps_are_mapped_once():
    left, right = Polynomial(0, [0.0, 0.0, 1.0]), Polynomial(0, [0.0, 0.0, 0.0, 1.0])
    program = Program([Input(6, (6,)), left, right, Add(1, 2), affine(3, 4, 6)])
    assert kinds(same(program, 3)).count("Affine") == 1


def test_polynomials_that_lose_their_powers():
    constant = Program([Input(6, (6,)), Polynomial(0, [2.0, 0.0, 0.0]), affine(1, 2, 6)])
    assert kinds(same(constant, 1)) == ["Input", "Affine"]
    line = Program([Input(6, (6,)), affine(0, 4, 6), Polynomial(1, [2.0, 3.0, 0.0]), affine(2, 2, 4)])
    assert kinds(same(line, 1)) == ["Input", "Affine"]
    some = np.array([[1.0] * 4, [2.0] * 4, [0.0, 1.0, 1.0, 0.0]])
    mixed = Program([Input(6, (6,)), affine(0, 4, 6), Polynomial(1, some), affine(2, 2, 4)])
    assert not same(mixed, 4).nodes[2].is_monic


def test_a_constant_after_a_polynomial_costs_no_level():
    program = Program(
        [
            Input(6, (6,)),
            Polynomial(0, [0, 0, 1]),
            Polynomial(0, [0, 0, 0, 1]),
            Add(1, 2),
            Polynomial(3, [2, 1]),
        ]
    )
    assert same(program, 2).nodes[-1].degree == 1


@pytest.mark.parametrize(
    "coefficients", [[0.0, 1000.0, 0.5], [0.0, 1.0, 0.0, 1e-8], [0.0, 1.0, 0.0, 0.0, 1e-8]]
)
@pytest.mark.parametrize("before", ["affine", "line", "nothing"])
def test_a_leading_term_that_hardly_counts_stays(coefficients, before):
    """x²/2 + 1000 x as (x + 1000)²/2 - 500000 would lose six digits of the encrypted value."""
    first = {
        "affine": [affine(0, 6, 6), Polynomial(1, coefficients)],
        "line": [Polynomial(0, [0.1, 2.0]), Polynomial(1, coefficients)],
        "nothing": [Polynomial(0, coefficients)],
    }[before]
    program = Program([Input(6, (6,)), *first, affine(len(first), 2, 6)])
    polynomial = lambda p: next(node for node in p.nodes if isinstance(node, Polynomial))  # noqa: E731
    assert polynomial(program.simplified()).is_monic
    assert not polynomial(program.simplified(X)).is_monic
    assert np.allclose(program.simplified(X).run(X), program.run(X), rtol=1e-9)
    # on data that is a million times larger the leading term does count
    assert polynomial(program.simplified(1e6 * X)).is_monic


def test_ranges_come_from_the_data():
    x = np.random.default_rng(9).normal(size=(200, 40))
    program = Program([Input(40, (40,)), affine(0, 30, 40), Polynomial(1, [0, 0, 1]), affine(2, 5, 30)])
    largest, bounds = program.ranges(x)
    assert largest.tolist() == pytest.approx([np.abs(value).max() for value in program.values(x)])
    assert (bounds >= 1.25 * largest).all()
    assert (np.log2(bounds) % 1 == 0).all()
    assert bounds[2] >= (1.25 * largest[1]) ** 2
    unseen = np.random.default_rng(8).normal(size=(2000, 40))
    assert (np.array([np.abs(value).max() for value in program.values(unseen)]) <= bounds).all()
    rows = np.abs(program.nodes[1].matrix).sum(axis=1) * largest[0]
    assert bounds[3] < 0.2 * (np.abs(program.nodes[3].matrix) @ rows**2).max()  # what intervals would say
    assert (program.ranges(np.zeros((1, 40))).bounds > 0).all()


def test_coefficients_of_products_and_compositions():
    left, right = RNG.normal(size=(3, 4)), RNG.normal(size=(2, 4))
    x = RNG.normal(size=4)
    at = lambda c, x: sum(row * x**k for k, row in enumerate(c))  # noqa: E731
    assert np.allclose(at(multiply(left, right), x), at(left, x) * at(right, x))
    assert np.allclose(at(compose(left, right), x), at(left, at(right, x)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Program([]), "only Input"),
        (lambda: Program([Polynomial(0, [0, 1])]), "only Input"),
        (lambda: Program([Input(2, (2,)), Input(2, (2,))]), "only Input"),
        (lambda: Program([Input(2, (3,))]), "does not fit"),
        (lambda: Program([Input(2, (2,)), Add(0, 1)]), "only nodes before"),
        (lambda: Program([Input(2, (2,)), Add(0, -1)]), "only nodes before"),
        (lambda: Program([Input(6, (6,)), affine(0, 2, 5)]), "does not fit"),
        (lambda: Program([Input(6, (6,)), affine(0, 2, 6), Add(0, 1)]), "does not fit"),
        (lambda: Program([Input(6, (6,)), Polynomial(0, RNG.normal(size=(3, 5)))]), "does not fit"),
        (lambda: Affine(0, np.ones((2, 3)), np.ones(3)), "expected"),
        (lambda: Affine(0, np.full((1, 1), np.nan), [0.0]), "not finite"),
        (lambda: Polynomial(0, []), "coefficients of shape"),
        (lambda: Program([Input(6, (6,))]).run(np.ones((3, 5))), r"expected .*n, 6"),
        (lambda: Program([Input(6, (6,))]).run(np.ones(6)), r"rows of shape \(6,\)"),
        (lambda: Program([Input(6, (6,))]).run(np.ones((0, 6))), r"rows of shape \(0, 6\)"),
        (lambda: Program([Input(6, (6,))]).run([["a"] * 6]), "not a table"),
        (lambda: Program([Input(6, (6,))]).run(np.full((1, 6), np.inf)), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ModuleRefused, match=words) as caught:
        make()
    assert caught.value.hint
    assert isinstance(caught.value, FHEError)


def test_numpy_is_all_that_a_program_needs():
    code = "import sys, twopm_kit.fhe.networks.program as p; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
