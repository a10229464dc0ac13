import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from twopm_kit.errors import FHEError, ModuleRefused
from twopm_kit.fhe.networks import activations
from twopm_kit.fhe.networks.program import Add, Affine, Polynomial
from twopm_kit.fhe.networks.trace import trace


class Call(nn.Module):
    """A forward made of one function, with layers to use in it."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def agree(module, rows, depth=None, tolerance=1e-5):
    """Trace, compare with torch on the rows and on fresh ones, and return the program."""
    module = module.eval()
    program = trace(module, rows)
    with torch.no_grad():
        for x in (rows, 0.5 * rows.flip(0) + 0.1):
            wanted = module(x).double().flatten(1).numpy()
            assert np.abs(program.run(x.numpy()) - wanted).max() <= tolerance * np.abs(wanted).max()
    if depth is not None:
        assert program.depth == depth
    return program


@pytest.fixture(scope="module")
def images():
    return torch.randn(12, 4, 7, 6, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, 3, bias=False),
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=1),
        nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(0, 2), dilation=2),
        nn.Conv2d(4, 8, 3, groups=2, padding="same"),
        nn.Conv2d(4, 8, 3, groups=4, padding=1, padding_mode="circular"),
        nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.Linear(6, 5),
        nn.Flatten(),
        nn.Flatten(2),
        nn.Unflatten(1, (2, 2)),
        nn.ZeroPad2d((1, 2, 0, 1)),
        nn.ReflectionPad2d(1),
        nn.Upsample(scale_factor=2),
        nn.PixelShuffle(2),
        nn.Identity(),
        nn.Dropout(0.5),
        nn.Dropout2d(0.5),
    ],
    ids=repr,
)
def test_linear_layers(layer, images):
    program = agree(nn.Sequential(layer), images)
    assert not any(isinstance(node, Polynomial) for node in program.nodes)
    assert program.depth <= 1


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(9, 4), nn.BatchNorm1d(9), nn.BatchNorm1d(9, affine=False)],
    ids=repr,
)
def test_layers_on_tables(layer):
    rows = torch.randn(20, 9)
    with torch.no_grad():
        layer.train()(3 * rows + 1)  # running statistics that are not 0 and 1
    agree(layer, rows, 1)


def test_layers_on_signals():
    rows = torch.randn(5, 3, 16)
    agree(nn.Sequential(nn.Conv1d(3, 4, 5, stride=2), nn.BatchNorm1d(4), nn.AvgPool1d(2)), rows, 1)


def test_batch_normalisation_vanishes_into_its_neighbours(images):
    net = nn.Sequential(
        nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(20, 2)
    )
    net.train()(2 * images - 1)
    program = agree(net, images, 1)
    assert [type(node) for node in program.nodes[1:]] == [Affine]


def test_the_digits_network(digits, squares):
    x = digits[0][:100]
    program = agree(squares, x, 5)
    assert [type(node) for node in program.nodes[1:]] == [Affine, Polynomial, Affine, Polynomial, Affine]
    assert program.nodes[2].is_square
    assert program.nodes[4].is_square
    assert [node.matrix.shape for node in program.nodes[1::2]] == [(144, 64), (32, 144), (10, 32)]
    assert program.input.shape == (1, 8, 8)


WEIGHT = torch.linspace(-1, 1, 42).reshape(6, 7)
MAP = torch.linspace(0.5, 2, 7 * 6).reshape(7, 6)


@pytest.mark.parametrize(
    ("function", "depth"),
    [
        (lambda _, x: F.linear(x, WEIGHT.T), 1),
        (lambda _, x: x @ WEIGHT, 1),
        (lambda _, x: torch.matmul(WEIGHT, x), 1),
        (lambda m, x: F.conv2d(x, m.conv.weight, m.conv.bias, stride=2, padding=1), 1),
        (lambda m, x: F.conv2d(x, m.conv.weight * 2, None), 1),
        (lambda _, x: F.avg_pool2d(x, 2), 1),
        (lambda _, x: F.adaptive_avg_pool2d(x, (2, 2)), 1),
        (lambda _, x: F.pad(x, (1, 1)), 1),
        (lambda m, x: F.dropout(x, 0.5, m.training), 0),
        (lambda m, x: F.dropout(x, 0.5, training=m.training) * 3, 1),
        (lambda m, x: F.batch_norm(x, m.norm.running_mean, m.norm.running_var), 1),
        (lambda _, x: x.flatten(1), 0),
        (lambda _, x: torch.flatten(x, 1) * 2, 1),
        (lambda _, x: x.view(x.size(0), -1), 0),
        (lambda _, x: x.view(-1, 168), 0),
        (lambda _, x: x.reshape(x.shape[0], 8, -1), 0),
        (lambda _, x: x.permute(0, 2, 3, 1), 1),
        (lambda _, x: x.transpose(1, 2).contiguous().mean(dim=1), 1),
        (lambda _, x: x.mean([2, 3]), 1),
        (lambda _, x: x.sum(1, keepdim=True), 1),
        (lambda _, x: x[:, 1:3, ::2], 1),
        (lambda m, x: torch.cat([x, 2 * m.same(x)], dim=1), 1),
        (lambda m, x: torch.stack((m.conv(x), m.conv(x) ** 2), 2), 3),
        (lambda m, x: m.conv(x.to(torch.float32)) + (m.conv.weight.sum() * torch.ones(1)), 1),
        (lambda m, x: x * (m.row @ torch.ones(6, 6)), 1),
        (lambda m, x: x + m.same(x), 1),
        (lambda m, x: torch.add(m.same(x), x, alpha=-3), 1),
        (lambda m, x: torch.sub(x, m.same(x)), 1),
        (lambda _, x: 1 - x, 1),
        (lambda _, x: -x / 4 + MAP, 1),
        (lambda _, x: torch.div(MAP * x, MAP + 1), 1),
        (lambda m, x: x * m.scale + m.scale, 1),
        (lambda _, x: x**2, 1),
        (lambda _, x: x * x, 1),
        (lambda _, x: torch.square(x), 1),
        (lambda _, x: torch.pow(x, 2), 1),
        (lambda _, x: x.pow(3), 2),
        (lambda _, x: x**4, 2),
        (lambda _, x: (x**2) ** 2, 2),
        (lambda _, x: (x**3) ** 2, 3),
        (lambda _, x: x * x * x, 2),
        (lambda m, x: m.conv(0.5 * m.same(x) ** 2 + 0.25 * m.same(x) - 1), 3),
        (lambda m, x: m.conv(m.act(m.norm(m.same(x)))), 3),
        (lambda m, x: m.conv(x + m.same(m.act(m.same(x)))), 3),
        (lambda m, x: m.same(x).square_().add_(1), 2),
    ],
)
def test_calls_in_a_forward(function, depth, images):
    norm = nn.BatchNorm2d(4)
    norm.train()(images * 2 + 1)
    net = Call(
        function,
        conv=nn.Conv2d(4, 3, 3),
        same=nn.Conv2d(4, 4, 3, padding=1),
        norm=norm,
        act=activations.Polynomial([0.2, 0.5, 0.3], -4, 4),
        row=nn.Parameter(torch.rand(1, 6)),
        scale=nn.Parameter(torch.rand(4, 1, 1) + 0.5),
    )
    agree(net, images, depth)


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(width, 6), nn.Dropout(0.2), activations.Polynomial([0.1, 0.5, 0.2])
        )
        self.back = nn.Linear(6, width)

    def forward(self, x):
        return x + self.back(self.inner(x))


def test_nested_modules_and_residual_blocks():
    rows = torch.randn(30, 8)
    program = agree(nn.Sequential(nn.Linear(8, 5), Block(5), Block(5), nn.Linear(5, 3)), rows, 5)
    assert sum(isinstance(node, Add) for node in program.nodes) >= 1


def test_one_layer_used_twice():
    shared = nn.Linear(6, 6)
    agree(Call(lambda m, x: m.fc(m.fc(x) ** 2), fc=shared), torch.randn(9, 6), 3)


@pytest.mark.parametrize("layer", [nn.Linear(6, 2), nn.Sequential(), activations.Polynomial([0.1, 0.2, 0.3])])
def test_a_layer_alone(layer):
    agree(layer, torch.randn(9, 6))


def test_tracing_leaves_the_module_as_it_is(digits, squares):
    squares.train()
    before = {name: value.clone() for name, value in squares.state_dict().items()}
    trace(squares, digits[0][:5])
    assert squares.training
    assert all(torch.equal(value, before[name]) for name, value in squares.state_dict().items())
    assert all(value.dtype == torch.float32 for value in squares.state_dict().values())
    squares.eval()


def test_arrays_and_the_other_precision(squares, digits):
    x = digits[0][:20]
    assert trace(squares, x.double().numpy()).depth == 5
    program = trace(nn.Linear(3, 2).double(), np.ones((4, 3), dtype=np.float32))
    assert program.nodes[1].matrix.dtype == np.float64


REPLACE = r"call kit\.fhe\.replace_activations\(module, calibration\) and fine-tune"
ROWS = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.ReLU(), rf"'features\.1', a ReLU, .*\n.*{REPLACE}"),
        (nn.GELU(), rf"'features\.1', a GELU, .*\n.*{REPLACE}"),
        (nn.Sigmoid(), rf"'features\.1', a Sigmoid, .*\n.*{REPLACE}"),
        (nn.Tanh(), rf"'features\.1', a Tanh, .*\n.*{REPLACE}"),
        (nn.SiLU(), rf"'features\.1', a SiLU, .*\n.*{REPLACE}"),
        (nn.LeakyReLU(), rf"a LeakyReLU, .*\n.*{REPLACE}"),
        (nn.MaxPool2d(2), r"'features\.1', a MaxPool2d, .*\n.*use AvgPool of the same dimensions instead"),
        (nn.AdaptiveMaxPool2d(2), r"AdaptiveMaxPool2d, .*\n.*use AvgPool of the same dimensions instead"),
        (nn.Softmax(1), r"'features\.1', a Softmax, .*\n.*apply it in clear after decrypting"),
        (nn.LogSoftmax(1), r"LogSoftmax, .*\n.*apply it in clear after decrypting"),
        (nn.LayerNorm(8), r"'features\.1', a LayerNorm, .*\n.*use BatchNorm"),
        (nn.GroupNorm(2, 4), r"GroupNorm, .*\n.*use BatchNorm"),
        (nn.BatchNorm2d(4, track_running_stats=False), r"no running statistics\n.*track_running_stats=True"),
        (nn.Hardshrink(), r"Hardshrink, .*\n.*Polynomial"),
        (nn.CosineSimilarity(), r"does not run on calibration rows"),
        (nn.Fold((8, 8), 1), r"does not run on calibration rows|not known to work"),
        (nn.Unfold(2), r"'features\.1', a Unfold, is not known to work"),
        (nn.Flatten(0), r"expected \(6, \.\.\.\)\n.*flatten\(1\)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_that_cannot_work_are_named(layer, words):
    net = nn.Sequential()
    net.features = nn.Sequential(nn.Conv2d(4, 4, 1), layer)
    with pytest.raises(ModuleRefused, match=words) as caught:
        trace(net.eval(), ROWS)
    assert isinstance(caught.value, FHEError | ValueError)


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, x):
        return self.attend(x, x, x)[0]


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Recurrent(nn.LSTM(4, 3, batch_first=True)), r"'layer', a LSTM, .*\n.*fixed window"),
        (Recurrent(nn.GRU(4, 3, batch_first=True)), r"'layer', a GRU, .*\n.*fixed window"),
        (Attention(), r"'attend', a MultiheadAttention, .*\n.*attention"),
        (nn.TransformerEncoderLayer(4, 1, 8, batch_first=True), r"TransformerEncoderLayer, .*\n.*attention"),
    ],
)
def test_sequences_are_refused(net, words):
    with pytest.raises(ModuleRefused, match=words):
        trace(net.eval(), torch.randn(3, 5, 4))


def branch(m, x):
    return x if x.sum() > 0 else -x


def count(m, x):
    return x * float(x.mean())


def mutated(x):
    y = x * 2
    z = y
    z += 1  # in place: y as well
    return y


class Inner(nn.Module):
    def forward(self, x):
        return branch(self, x)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda _, x: F.relu(x), r"relu in the forward of Call .*\n.*self\.act = torch\.nn\.ReLU\(\)"),
        (lambda _, x: torch.sigmoid(x), r"sigmoid in the forward .*\n.*layer of its own"),
        (lambda _, x: x.tanh(), r"tanh in the forward .*\n.*layer of its own"),
        (lambda _, x: F.max_pool2d(x, 2), r"max_pool2d in the forward .*\n.*avg_pool2d"),
        (lambda _, x: F.log_softmax(x.flatten(1), 1), r"log_softmax in .*\n.*after decrypting"),
        (lambda _, x: x.softmax(1), r"softmax in .*\n.*after decrypting"),
        (lambda _, x: F.layer_norm(x, (8,)), r"layer_norm in .*\n.*BatchNorm"),
        (lambda _, x: x.flatten(1).argmax(1, keepdim=True), r"argmax in .*\n.*choose in clear"),
        (lambda _, x: x.abs(), r"abs in .*\n.*Polynomial"),
        (lambda m, x: x * m.conv(x), r"mul in .*two different encrypted values"),
        (lambda m, x: x @ m.conv(x), r"matmul in .*two encrypted values"),
        (lambda _, x: 1 / (x + 9), r"truediv in .*divides by an encrypted value"),
        (lambda _, x: x / torch.zeros(8), r"NaN or infinite"),
        (lambda _, x: x**5, r"pow in .*power 5\n.*powers 1, 2, 3 and 4"),
        (lambda _, x: (x + 99) ** 0.5, r"power 0\.5"),
        (lambda _, x: 2**x, r"encrypted exponent"),
        (lambda _, x: x**2 * x**3, r"degree 5"),
        (lambda m, x: x + m.conv(x)[:, :1], r"adds rows of shapes"),
        (lambda _, x: x - x.mean(0, keepdim=True), r"mean in .*mixes rows"),
        (lambda _, x: x.view(3, 2, 4, 8, 8).flatten(0, 1), r"view in .*keep apart"),
        (lambda _, x: x + torch.ones(6, 4, 8, 8), r"constant that does not fit"),
        (lambda _, x: x / x.size(0), r"differs from the module"),
        (lambda _, x: x.cumsum(1), r"cumsum in the forward of Call is not known to work"),
        (lambda _m, _x: torch.ones(6, 2), r"does not depend on the input"),
        (lambda _, x: (x, x), r"returns a tuple; expected one tensor"),
        (lambda _, x: x.split(2, 1)[0], r"split in"),
        (lambda _, x: F.dropout(x, 0.5), r"dropout in .*eval mode too\n.*training=self\.training"),
        (lambda _, x: x * torch.rand(8), r"differs from the module"),
        (lambda _, x: x + mutated(x), r"differs from the module"),
        (lambda m, x: branch(m, x), r"the forward of Call has control flow"),
        (lambda m, x: count(m, x), r"the forward of Call has control flow"),
        (lambda m, x: m.inner(x), r"'inner', a Inner, has control flow"),
        (lambda _, x: F.interpolate(x, scale_factor=64), r"interpolate in .*matrix of 1048576 × 256"),
    ],
)
def test_calls_that_cannot_work_are_named(function, words):
    net = Call(function, conv=nn.Conv2d(4, 4, 1), inner=Inner())
    with pytest.raises(ModuleRefused, match=words) as caught:
        trace(net.eval(), ROWS)
    assert caught.value.hint


def test_batch_normalisation_in_training_mode():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(ModuleRefused, match=r"'1', a BatchNorm1d, is in training mode.*\n.*module\.eval\(\)"):
        trace(net, torch.randn(5, 4))


LINEAR = nn.Linear(4, 2)


@pytest.mark.parametrize(
    ("module", "rows", "words"),
    [
        (nn.Linear, torch.ones(3, 4), "expected a torch.nn.Module"),
        (LINEAR, torch.ones(3, 5), "does not run on calibration rows"),
        (LINEAR, torch.ones(4), r"shape \(4,\)"),
        (LINEAR, torch.ones(0, 4), r"shape \(0, 4\)"),
        (LINEAR, torch.ones(3, 4, dtype=torch.int64), "type torch.int64"),
        (LINEAR, np.ones((3, 4), dtype=bool), "type torch.bool"),
        (LINEAR, np.ones((3, 4), dtype=complex), "type torch.complex128"),
        (LINEAR, [["a"] * 4], "not a table of numbers"),
        (LINEAR, torch.full((3, 4), math.nan), "NaN"),
        (LINEAR, torch.full((3, 4), math.inf), "infinite"),
        (nn.Linear(4, 2).half(), torch.ones(3, 4), "torch.float16"),
        (nn.Bilinear(4, 4, 2), torch.ones(3, 4), "does not run"),
    ],
)
def test_calibration_rows_that_do_not_fit(module, rows, words):
    with pytest.raises(ModuleRefused, match=words) as caught:
        trace(module, rows)
    assert caught.value.hint


def test_embeddings_are_named():
    net = nn.Sequential(nn.Embedding(9, 3), nn.Flatten())
    with pytest.raises(ModuleRefused, match=r"'0', a Embedding, .*\n.*before encrypting"):
        trace(net, torch.ones(3, 4, dtype=torch.int64))


def test_torch_is_imported_only_here():
    code = (
        "import sys, twopm_kit as kit, twopm_kit.fhe.networks; before = 'torch' in sys.modules;"
        "import twopm_kit.fhe.networks.trace; print(before, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
