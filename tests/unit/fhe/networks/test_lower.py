import numpy as np
import pytest

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe import KeyHolder
from twopm_kit.fhe.engine import engine_for
from twopm_kit.fhe.layouts import COLUMNS, Layout, gather, padded
from twopm_kit.fhe.networks.lower import Blocks, Columns, Diagonals
from twopm_kit.fhe.networks.program import Add, Affine, Input, Polynomial, Program
from twopm_kit.fhe.networks.schedule import Shape, best_schedule, seen

SQUARE = np.array([0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def keyholder():
    return KeyHolder.generate("cnn", budget=1_000_000)


def rows_of(width, rows=6, seed=0):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, size=(rows, width))


def affine(source, outputs, inputs, seed=0):
    rng = np.random.default_rng(seed)
    return Affine(source, rng.normal(size=(outputs, inputs)) / np.sqrt(inputs), rng.normal(size=outputs))


def run(holder, program, rows, samples=0):
    """Encrypted result and expected error; columns, or blocks of so many samples."""
    engine = holder.engine
    schedule = best_schedule(program, engine, seen(program, rows), blocks=samples > 0)
    assert schedule.fits
    lowered = Blocks(schedule, samples) if samples else Columns(schedule)
    layout = Layout.blocks(samples) if samples else COLUMNS
    enc = holder.encrypt(rows, layout=layout)
    keys = holder.evaluator(rotations=lowered.rotations).keys
    stored = enc.columns[:1] if samples else enc.columns
    found = []
    for parts in zip(*(enc.ciphers(name) for name in stored), strict=True):
        out = lowered.run(list(parts), keys)
        place = schedule.places[-1]
        assert all(engine.level_of(c) == place.level and float(c.scale) == place.scale for c in out)
        found.append([np.asarray(engine.encoder.decode_double(holder._open_cipher(c))) for c in out])
    if samples:
        opened = gather([block[0] + 0j for block in found], layout, len(rows), program.width, "real")
    else:
        per_column = zip(*found, strict=True)
        opened = np.concatenate(
            [gather([part + 0j for part in c], layout, len(rows), 1, "real") for c in per_column], 1
        )
    return opened, schedule


def assert_agrees(holder, program, rows, samples=0):
    opened, schedule = run(holder, program, rows, samples)
    error = np.abs(opened - program.run(rows)).max()
    # rounding multiplies with the secret key: in a slot that is a product of two normals, with long tails
    assert error < 20 * schedule.error
    assert schedule.error < 1e-3
    return schedule


LAYOUTS = pytest.mark.parametrize("samples", [0, 1, 4], ids=["columns", "blocks of 1", "blocks of 4"])


@LAYOUTS
@pytest.mark.parametrize(("outputs", "inputs"), [(3, 5), (5, 3), (1, 16), (16, 1), (7, 40), (4, 4)])
def test_affine_maps_of_every_shape(keyholder, samples, outputs, inputs):
    program = Program([Input(inputs, (inputs,)), affine(0, outputs, inputs)])
    assert_agrees(keyholder, program, rows_of(inputs), samples)


@LAYOUTS
def test_two_hidden_square_layers(keyholder, samples):
    program = Program(
        [
            Input(12, (12,)),
            affine(0, 20, 12),
            Polynomial(1, SQUARE),
            affine(2, 6, 20, 1),
            Polynomial(3, SQUARE),
            affine(4, 3, 6, 2),
        ]
    )
    schedule = assert_agrees(keyholder, program, rows_of(12), samples)
    assert schedule.places[-1].level == 0


POLYNOMIALS = {
    "x": [0.0, 1.0],
    "shifted -x": [0.5, -1.0],
    "constant": [0.75],
    "line": [0.2, 1.5],
    "-x²+x/3": [0.1, 1 / 3, -1.0],
    "x²/3": [0.0, 0.0, 1 / 3],
    "cubic": [0.3, -0.5, 0.7, 0.4],
    "odd": [0.0, 0.9, 0.0, -0.2],
    "monic quartic": [0.2, 0.0, -0.6, 0.3, 1.0],
    "quartic": [0.2, 0.4, -0.6, 0.3, 0.25],
    "seventh": [0.1, 0.2, -0.3, 0.4, 0.25, 0.0, -0.1, 0.5],
}


@pytest.mark.parametrize("samples", [0, 2], ids=["columns", "blocks"])
@pytest.mark.parametrize("coefficients", POLYNOMIALS.values(), ids=POLYNOMIALS)
def test_polynomials_use_the_levels_that_they_say(keyholder, samples, coefficients):
    node = Polynomial(0, np.array(coefficients))
    schedule = assert_agrees(keyholder, Program([Input(3, (3,)), node]), rows_of(3), samples)
    assert schedule.start - schedule.places[-1].level == max(node.levels, len(coefficients) == 1)


@pytest.mark.parametrize("samples", [0, 2], ids=["columns", "blocks"])
def test_every_element_may_have_its_own_polynomial(keyholder, samples):
    own = np.array([[0.1, 0.2, 0.3], [1.0, 0.0, -1.0], [0.5, -1.0, 0.0]])
    assert_agrees(keyholder, Program([Input(3, (3,)), Polynomial(0, own)]), rows_of(3), samples)
    signs = np.array([[0.1, 0.2, 0.3], [1.0, 0.0, -1.0], [1.0, -1.0, 1.0]])
    schedule = assert_agrees(keyholder, Program([Input(3, (3,)), Polynomial(0, signs)]), rows_of(3), samples)
    # one ciphertext cannot change the sign of some slots without a product
    assert schedule.start - schedule.places[-1].level == (2 if samples else 1)


@pytest.mark.parametrize("samples", [0, 2], ids=["columns", "blocks"])
def test_branches_of_a_sum_meet_at_one_scale(keyholder, samples):
    first, second = affine(0, 4, 4), affine(2, 4, 4, 1)
    hidden = [Input(4, (4,)), first, Polynomial(1, SQUARE), second]
    for nodes in (
        [*hidden, Add(0, 3)],  # the input, three levels above the end
        [*hidden, Add(3, 1)],  # a map of the input
        [*hidden, Add(2, 1)],  # a square, whose scale is what it is, and its own source
        [*hidden, Add(2, 2)],
        [
            Input(4, (4,)),
            first,
            Polynomial(0, SQUARE),
            Add(1, 2),
            affine(3, 2, 4, 3),
        ],  # one level, two scales
        [Input(4, (4,)), Polynomial(0, SQUARE), first.__class__(0, first.matrix, first.bias), Add(1, 2)],
    ):
        assert_agrees(keyholder, Program(nodes), rows_of(4), samples)


@pytest.mark.parametrize("samples", [0, 2], ids=["columns", "blocks"])
def test_what_does_not_depend_on_the_input_is_still_a_ciphertext(keyholder, samples):
    matrix = np.zeros((3, 4))
    nothing = Program([Input(4, (4,)), Affine(0, matrix, np.array([1.0, 2.0, 3.0]))])
    assert_agrees(keyholder, nothing, rows_of(4), samples)
    sparse = matrix.copy()
    sparse[1, 2] = 0.5
    assert_agrees(keyholder, Program([Input(4, (4,)), Affine(0, sparse, np.zeros(3))]), rows_of(4), samples)


def test_rows_may_need_several_ciphertexts(keyholder):
    program = Program([Input(2, (2,)), affine(0, 3, 2), Polynomial(1, SQUARE)])
    assert_agrees(keyholder, program, rows_of(2, rows=keyholder.engine.slots + 5))
    assert_agrees(keyholder, program, rows_of(2, rows=9), samples=4)


def test_scales_of_columns_may_differ_where_the_profile_lets_them():
    holder = KeyHolder.generate("linear")
    program = Program([Input(8, (8,)), affine(0, 3, 8)])
    assert_agrees(holder, program, rows_of(8))
    assert_agrees(holder, program, rows_of(8), samples=2)


def test_diagonals_give_the_matrix_back():
    rng = np.random.default_rng(3)
    for outputs, inputs, density in [
        (1, 1, 1),
        (4, 4, 1),
        (3, 17, 1),
        (17, 3, 1),
        (6, 60, 0.05),
        (60, 6, 0.1),
    ]:
        matrix = rng.normal(size=(outputs, inputs)) * (rng.random((outputs, inputs)) < density)
        shape = Diagonals(matrix)
        x = np.zeros(padded(inputs))
        x[:inputs] = rng.normal(size=inputs)
        turn = max(padded(outputs), padded(inputs))
        ring = np.tile(x, turn // len(x))
        total = np.zeros(turn)
        for giant, group in shape.groups:
            inner = sum(shape.vector(k) * np.roll(ring, giant - k) for k in group)
            assert all(k - giant in shape.babies for k in group)
            total += np.roll(inner, -giant)
        for fold in shape.folds:
            total += np.roll(total, -fold)
        assert np.allclose(total[:outputs], matrix @ x[:inputs])
        assert shape.rotations == sum(
            r > 0 for r in [*shape.babies, *(g for g, _ in shape.groups), *shape.folds]
        )
        assert {r for r in [*shape.babies, *shape.folds] if r} <= shape.steps


def test_baby_steps_make_rotations_few_and_empty_diagonals_cost_nothing():
    dense = Diagonals(np.ones((64, 64)))
    assert dense.rotations <= 14
    assert sum(len(group) for _, group in dense.groups) == 64
    sparse = Diagonals(np.diag(np.ones(63), 1))
    assert sparse.rotations <= 2
    assert Diagonals(np.eye(64)).rotations == 0
    assert Diagonals(np.ones((4, 64))).folds == [4, 8, 16, 32]


def test_a_plan_knows_what_the_run_takes(keyholder):
    program = Program([Input(8, (8,)), affine(0, 8, 8), Polynomial(1, SQUARE), affine(2, 2, 8)])
    ranges, engine = seen(program, rows_of(8)), keyholder.engine
    columns = Columns(best_schedule(program, engine, ranges, blocks=False)).plan(engine.slots + 1)
    assert columns.depth == program.depth
    assert not columns.rotations
    assert columns.describe()["ciphertexts"].tolist() == [16, 16, 4]
    blocks = Blocks(best_schedule(program, engine, ranges, blocks=True), 4)
    plan = blocks.plan(3)
    assert plan.rotations == blocks.rotations
    assert all(step % 4 == 0 for step in plan.rotations)
    assert plan.describe()["rotations"].sum() >= len(plan.rotations)
    assert 0.0 < plan.seconds < columns.seconds
    assert plan.bytes_up < columns.bytes_up
    assert plan.key_bytes > columns.key_bytes > 0


def test_a_low_start_is_taken_when_a_profile_has_levels_to_spare():
    engine = engine_for("cnn")
    program = Program([Input(3, (3,)), affine(0, 2, 3)])
    assert best_schedule(program, engine, seen(program, rows_of(3)), blocks=False).start == 1


def test_values_that_have_no_room_do_not_fit():
    engine = engine_for("cnn")
    program = Program([Input(3, (3,)), Affine(0, 1e7 * np.eye(3), np.zeros(3))])
    schedule = best_schedule(program, engine, seen(program, rows_of(3)), blocks=False)
    # at the last level there is no room, above it there is
    assert schedule.fits
    assert schedule.places[-1].level > 0
    square = Program([*program.nodes, *(Polynomial(k, SQUARE) for k in (1, 2, 3, 4))])
    refused = best_schedule(square, engine, seen(square, rows_of(3)), blocks=False)
    assert not refused.fits
    assert refused.tightest > 1


def test_products_need_keys():
    holder = KeyHolder.generate("train")
    program = Program([Input(3, (3,)), Polynomial(0, SQUARE)])
    lowered = Columns(best_schedule(program, holder.engine, seen(program, rows_of(3)), blocks=False))
    enc = holder.encrypt(rows_of(3))
    assert lowered.needs_keys
    with pytest.raises(CiphertextError, match="evaluation keys"):
        lowered.run([enc.ciphers(name)[0] for name in enc.columns], None)


@pytest.mark.parametrize(
    ("coefficients", "mixed", "expected"),
    [
        ([0, 1], False, Shape(1, True, 0)),
        ([0, 2], False, Shape(1, False, 1)),
        ([3], False, Shape(1, False, 1)),
        ([0, 0, 1], False, Shape(2, True, 1)),
        ([0, 0, 2], False, Shape(2, False, 2)),
        ([0, 0, 0, 1], False, Shape(3, False, 2)),
        ([0, 0, 0, 0, -1], False, Shape(4, True, 2)),
        ([[0, 0], [0, 0], [1, -1]], True, Shape(2, True, 1)),
        ([[0, 0], [0, 0], [1, -1]], False, Shape(2, False, 2)),
    ],
)
def test_shapes_of_polynomials(coefficients, mixed, expected):
    assert Shape.of(np.array(coefficients, dtype=float), mixed=mixed) == expected
