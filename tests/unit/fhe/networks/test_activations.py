import copy

import numpy as np
import pytest
import torch
from torch import nn

from twopm_kit.errors import ModuleRefused
from twopm_kit.fhe.networks.activations import (
    ACTIVATIONS,
    Polynomial,
    fine_tune,
    fit,
    replace_activations,
)
from twopm_kit.fhe.networks.trace import trace


def accuracy(module, x, y):
    with torch.no_grad():
        return float((module(x).argmax(1) == y).double().mean())


def reach(module, x):
    """Farthest position in its interval that each polynomial sees."""
    seen = []
    hooks = [
        part.register_forward_pre_hook(lambda p, args: seen.append(float(p.position(args[0]).abs().max())))
        for part in module.modules()
        if isinstance(part, Polynomial)
    ]
    with torch.no_grad():
        module(x)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    "wanted", [[0.5, -1.0], [0.0, 0.0, 1.0], [0.1, 0.2, -0.3, 0.4], [1.0, 2.0, 3.0, 4.0, 5.0]]
)
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-3.0, 7.5), (2.0, 2.5)])
def test_a_polynomial_is_its_coefficients(wanted, low, high):
    layer = Polynomial(wanted, low, high).double()
    x = torch.linspace(low, high, 40, dtype=torch.float64)
    clear = np.polynomial.Polynomial(wanted)(x.numpy())
    assert np.abs(layer(x).detach().numpy() - clear).max() <= 1e-5 * np.abs(clear).max()
    back = np.polynomial.Polynomial(layer.coefficients)(x.numpy())
    assert np.abs(layer(x).detach().numpy() - back).max() <= 1e-12 * np.abs(clear).max()
    assert float(layer.position(x).abs().max()) == pytest.approx(1.0)
    assert f"degree={len(wanted) - 1}" in repr(layer)


def test_a_polynomial_is_stored_and_trained_like_any_layer():
    layer = Polynomial([0.1, 0.2, 0.3], -2, 3)
    other = Polynomial([0.0, 0.0, 1.0])
    other.load_state_dict(layer.state_dict())
    assert np.array_equal(other.coefficients, layer.coefficients)
    assert (other.low, other.high) == (-2.0, 3.0)
    layer(torch.ones(3, 2)).sum().backward()
    assert layer.scaled.grad.shape == (3,)


@pytest.mark.parametrize(
    ("coefficients", "low", "high", "words"),
    [
        ([1.0], -1, 1, "2 to 5"),
        (range(6), -1, 1, "2 to 5"),
        ([[1.0, 2.0]], -1, 1, "2 to 5"),
        ([1.0, np.nan], -1, 1, "finite"),
        ([0.0, 1.0], 1, 1, "low < high"),
        ([0.0, 1.0], -1, np.inf, "low < high"),
    ],
)
def test_polynomials_that_cannot_be(coefficients, low, high, words):
    with pytest.raises(ModuleRefused, match=words):
        Polynomial(coefficients, low, high)


def test_fits_get_better_with_the_degree_and_prefer_the_data():
    data = np.random.default_rng(0).normal(size=2000)
    relu = lambda x: np.maximum(x, 0.0)  # noqa: E731
    errors = []
    for degree in (2, 3, 4):
        c, low, high = fit(relu, data, degree)
        assert low < data.min() < data.max() < high
        errors.append(np.sqrt(np.mean((np.polynomial.Polynomial(c)(data) - relu(data)) ** 2)))
    assert errors[0] >= errors[1] > errors[2]
    assert errors[2] < 0.6 * errors[0]
    # where all data is positive, ReLU is a line there
    c, low, high = fit(relu, np.abs(data) + 5)
    assert np.allclose(c, [0, 1, 0], atol=1e-9)
    exact, _, _ = fit(lambda x: 2 - x + 3 * x**2, data, 4)
    assert np.allclose(exact, [2, -1, 3, 0, 0], atol=1e-8)


def test_outside_its_interval_a_polynomial_diverges():
    c, _, high = fit(lambda x: 1 / (1 + np.exp(-x)), np.linspace(-6, 6, 500), 3)
    assert abs(np.polynomial.Polynomial(c)(high) - 1) < 0.2
    assert abs(np.polynomial.Polynomial(c)(4 * high) - 1) > 5


def test_data_that_does_not_vary_still_has_an_interval():
    c, low, high = fit(np.tanh, np.full(10, 3.0))
    assert low < 3.0 < high
    assert np.polynomial.Polynomial(c)(3.0) == pytest.approx(np.tanh(3.0))


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=lambda kind: kind.__name__)
def test_every_activation_has_a_polynomial(kind):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), kind(), nn.Linear(8, 2)).eval()
    rows = torch.randn(200, 5)
    new = replace_activations(net, rows, 4)
    (found,) = new.report_
    assert (found.layer, found.was) == ("1", kind.__name__)
    assert found.error < 0.25
    assert isinstance(new[1], Polynomial)
    assert isinstance(net[1], kind)
    assert max(reach(new, rows)) < 1.0
    trace(new, rows)


def test_a_relu_network_keeps_its_accuracy(relu_net, digits):
    x, y, new_x, new_y = digits
    before = copy.deepcopy(relu_net.state_dict())
    clear = accuracy(relu_net, new_x, new_y)
    assert clear > 0.9
    replaced = replace_activations(relu_net, x[:500])
    assert [(r.layer, r.was) for r in replaced.report_] == [
        ("0.3", "MaxPool2d"),
        ("0.2", "ReLU"),
        ("3", "GELU"),
    ]
    assert "averages" in replaced.report_[0].note
    tuned = fine_tune(replaced, (x, y), progress=False)
    assert accuracy(tuned, new_x, new_y) >= clear - 0.03
    assert len(tuned.history_) == 5
    assert tuned.history_[-1]["loss"] < tuned.history_[0]["loss"]
    assert tuned.history_[-1]["outside"] < 0.02
    assert not tuned.training
    program = trace(tuned, x[:300])
    assert (
        program.depth == 5
    )  # as with squares: the quadratics lose what they multiply by to their neighbours
    assert [node.is_square for node in program.nodes[2::2]] == [True, True]
    assert (program.run(new_x.numpy()).argmax(1) == tuned(new_x).argmax(1).numpy()).all()
    assert all(torch.equal(value, before[name]) for name, value in relu_net.state_dict().items())


def test_the_same_seed_gives_the_same_network(relu_net, digits):
    x, y, _, _ = digits
    replaced = replace_activations(relu_net, x[:200])
    state = torch.get_rng_state()
    runs = [fine_tune(replaced, (x[:256], y[:256]), 1, seed=s, progress=False) for s in (1, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    first, again, other = (torch.cat([p.flatten() for p in run.parameters()]) for run in runs)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_fine_tuning_pulls_inputs_back_into_the_interval():
    torch.manual_seed(0)
    x = torch.rand(256, 4) * 3
    net = nn.Sequential(nn.Linear(4, 8), Polynomial([0, 0.5, 0.3], -0.5, 0.5), nn.Linear(8, 1))
    y = x.sum(1, keepdim=True)
    free = fine_tune(net, (x, y), 30, lr=0.01, penalty=0.0, progress=False)
    held = fine_tune(net, (x, y), 30, lr=0.01, progress=False)
    assert reach(held, x)[0] < 0.7 * reach(free, x)[0]
    assert held.history_[-1]["outside"] < free.history_[-1]["outside"]


def test_loaders_own_losses_and_real_targets(digits, capsys):
    x, y, _, _ = digits
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Polynomial([0, 1, 0.1], -5, 5))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[:200], y[:200]), batch_size=50)
    seen = []

    def loss(output, target):
        seen.append(len(output))
        return nn.functional.multi_margin_loss(output, target)

    assert fine_tune(net, loader, 2, loss=loss, progress=False).history_
    assert seen == [50] * 8
    assert capsys.readouterr().err == ""
    fine_tune(net, (x[:64].numpy(), y[:64].numpy()), 1)
    assert "fine-tuning" in capsys.readouterr().err
    real = fine_tune(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), (x, y.float()), 5, lr=0.01, progress=False
    )
    assert real.history_[-1]["loss"] < 0.5 * real.history_[0]["loss"]


def test_one_row_left_over_and_batch_normalisation():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    assert fine_tune(net, (torch.randn(65, 3), torch.zeros(65, dtype=torch.int64)), 1, progress=False)


def test_tables_that_must_not_be_written_to_are_copied():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.integers(0, 2, size=40)
    x.flags.writeable = y.flags.writeable = False
    torch.set_warn_always(True)  # otherwise torch warns once a process, perhaps in another test
    try:
        net = replace_activations(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), x)
        assert fine_tune(net, (x, y), 1, progress=False).history_
    finally:
        torch.set_warn_always(False)


def test_layers_used_twice_share_one_polynomial_over_both_ranges():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)
            self.alias = self.act

        def forward(self, x):
            return self.alias(self.second(self.act(self.first(x))))

    torch.manual_seed(0)
    rows = torch.randn(100, 4)
    new = replace_activations(Twice().eval(), rows)
    assert new.act is new.alias
    assert len(new.report_) == 1
    # the second range moves when the first activation changes, but the margin keeps it inside
    assert max(reach(new, rows)) < 1.0


def test_modes_come_back_and_notes_tell():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Dropout(0.5), nn.AdaptiveMaxPool1d(2))
    net[2].eval()
    new = replace_activations(net, torch.randn(50, 4))
    assert [part.training for part in new.modules()] == [True, True, True, False, True]
    assert [r.note for r in new.report_] == [
        "averages instead of maxima",
        "a quadratic is hardly better than a line here: use degree=3",
    ]
    plain = nn.Sequential(nn.Linear(4, 4))
    assert replace_activations(plain, torch.randn(5, 4)).report_ == ()
    assert isinstance(replace_activations(nn.ReLU(), torch.randn(5, 4)), Polynomial)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda net, x: replace_activations(net, x, 5), "degree 5"),
        (lambda net, x: replace_activations(net, x, margin=-1.0), "margin -1.0"),
        (lambda net, x: replace_activations(net, x[:, :3]), "does not run"),
        (lambda net, x: replace_activations(net, x * torch.nan), "NaN"),
        (lambda _, x: replace_activations(nn.Sequential(nn.PReLU(4)), x), "4 slopes"),
        (lambda _, x: replace_activations(nn.MaxPool1d(2, dilation=2), x), "no average counterpart"),
        (lambda net, x: fine_tune(net, x), "expected .X, y. or a loader"),
        (lambda net, x: fine_tune(net, (x, x[:5])), "X has 50 rows"),
        (lambda net, x: fine_tune(net, (x, x), 0), "epochs=0"),
        (lambda net, x: fine_tune(net, (x, x), lr=-1.0), "lr=-1.0"),
        (lambda net, _: fine_tune(net, iter([])), "no batch"),
        (lambda _, x: fine_tune(nn.ReLU(), (x, x)), "no parameters"),
        (lambda net, x: fine_tune(net, [(x * 1e30, x)], progress=False), "diverged"),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    net = nn.Sequential(nn.Linear(4, 4), Polynomial([0, 0, 1.0]), nn.ReLU())
    with pytest.raises(ModuleRefused, match=words) as caught:
        make(net, torch.randn(50, 4))
    assert caught.value.hint
