import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from twopm_kit.errors import CiphertextError, ModuleRefused, ProfileError, WrongKey
from twopm_kit.fhe import PROFILES, EncryptedFrame, KeyHolder
from twopm_kit.fhe.layouts import COLUMNS, SUMS, Layout
from twopm_kit.fhe.networks.module import EncryptedModule
from twopm_kit.fhe.networks.module import compile as compiled
from twopm_kit.fhe.networks.program import Affine, Input, Polynomial, Program


class Square(nn.Module):
    def forward(self, x):
        return x**2


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.hidden, self.out = nn.Conv2d(1, 2, 3, stride=2), nn.Linear(18, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = self.conv(x.view(-1, 1, 8, 8)) ** 2
        return self.out(self.hidden(x.flatten(1)) ** 2)


@pytest.fixture(scope="module")
def digits():
    """Rows, labels and a convolution network that knows most of them."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype(np.float32)
    torch.manual_seed(0)
    module = Digits()
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2, weight_decay=1e-4)
    rows, labels = torch.tensor(x[:1000]), torch.tensor(y[:1000])
    for _ in range(15):
        for chosen in torch.randperm(1000).split(100):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(rows[chosen]), labels[chosen]).backward()
            optimiser.step()
    return x, y, module.eval()


@pytest.fixture(scope="module")
def net(digits):
    x, _, module = digits
    return compiled(module, calibration=x[:1000])


@pytest.fixture(scope="module")
def keyholder(net):
    return KeyHolder.generate(net.profile, budget=1_000_000)


@pytest.fixture(scope="module")
def server(net, keyholder):
    return keyholder.evaluator(rotations=net.rotations)


@pytest.fixture(scope="module")
def shallow():
    """Smallest thing with a hidden layer."""
    torch.manual_seed(1)
    rows = np.random.default_rng(1).uniform(-1.0, 1.0, size=(40, 3))
    return rows, nn.Sequential(nn.Linear(3, 4), Square(), nn.Linear(4, 2)).eval()


def relative(opened, wanted):
    return np.abs(opened - wanted).max() / np.abs(wanted).max()


def test_many_rows_in_columns_need_nothing_more_than_the_frame(net, digits, keyholder):
    x, y, module = digits
    scores = net.predict(keyholder.encrypt(x[1000:]))
    opened = keyholder.decrypt(scores, flood=False)
    with torch.no_grad():
        clear = module(torch.tensor(x[1000:])).numpy()
    assert scores.columns == [f"logit_{k}" for k in range(10)]
    assert relative(opened, net.simulate(x[1000:])) < 1e-4
    assert relative(opened, clear) < 1e-4
    assert (opened.argmax(1) == clear.argmax(1)).mean() > 0.99
    assert (opened.argmax(1) == y[1000:]).mean() > 0.8


def test_one_row_in_a_block_needs_rotations(net, digits, keyholder, server):
    # the row whose best score leads the most: noise must not decide between two equals
    ranked = np.sort(net.simulate(digits[0][1000:1100]), axis=1)
    surest = 1000 + int(np.argmax(ranked[:, -1] - ranked[:, -2]))
    row = digits[0][surest : surest + 1]
    enc = keyholder.encrypt(row, layout=net.layout(1))
    scores = net.predict(enc, key=server)
    assert scores.layout == net.layout(1) == Layout.blocks(1)
    assert relative(keyholder.decrypt(scores, flood=False), net.simulate(row)) < 1e-4
    flooded = keyholder.decrypt(scores)
    assert flooded.argmax() == net.simulate(row).argmax()
    with pytest.raises(CiphertextError, match=r"rotation keys are missing[\s\S]*net\.plan_for"):
        net.predict(enc)


def test_blocks_of_several_rows(net, digits, keyholder):
    rows = digits[0][1000:1010]
    layout = Layout.blocks(4)
    server = keyholder.evaluator(rotations=net.plan_for(10, layout).rotations)
    scores = net.predict(keyholder.encrypt(rows, layout=layout), key=server)
    assert scores.n_ciphertexts == 3
    assert relative(keyholder.decrypt(scores, flood=False), net.simulate(rows)) < 1e-4


def test_frames_travel_as_bytes(net, digits, keyholder, server):
    row = digits[0][1000:1001]
    sent = keyholder.encrypt(row, layout=net.layout(1)).to_bytes()
    with pytest.raises(CiphertextError, match="evaluation keys"):
        net.predict(EncryptedFrame.from_bytes(sent))
    scores = net.predict(EncryptedFrame.from_bytes(sent, key=server))
    back = EncryptedFrame.from_bytes(scores.to_bytes(), key=keyholder)
    assert relative(keyholder.decrypt(back, flood=False), net.simulate(row)) < 1e-4


def test_the_public_key_encrypts_too(net, digits, keyholder, server):
    row = digits[0][1000:1001]
    scores = net.predict(server.encrypt(row, layout=net.layout(1)), key=server)
    # a public key adds more noise than the secret one, and the result's header says so
    assert relative(keyholder.decrypt(scores, flood=False), net.simulate(row)) < 1e-3
    secret = net.predict(keyholder.encrypt(row, layout=net.layout(1)), key=server)
    assert scores.heads[0].noise > secret.heads[0].noise


def test_noise_in_the_header_is_the_noise_there_is(net, digits, keyholder):
    x = digits[0][1000:]
    scores = net.predict(keyholder.encrypt(x))
    error = np.std(keyholder.decrypt(scores, flood=False) - net.simulate(x), axis=0).max()
    told = scores.heads[0].noise * np.sqrt(keyholder.engine.slots) / scores.scale
    assert 0.25 < told / error < 8.0


def test_the_layout_follows_the_rows(net, keyholder):
    assert net.layout(1) == Layout.blocks(1)
    assert net.layout(3) == Layout.blocks(4)
    assert net.layout(keyholder.engine.slots) == COLUMNS
    assert not net.plan_for(keyholder.engine.slots).rotations
    assert net.plan.rotations == net.rotations
    costs = net.describe()
    assert costs["seconds"].is_monotonic_increasing
    assert costs["rows a second"].is_monotonic_increasing
    with pytest.raises(CiphertextError, match="does not fit"):
        net.plan_for(1, Layout.blocks(1024))
    with pytest.raises(CiphertextError, match="0 rows"):
        net.plan_for(0)
    with pytest.raises(CiphertextError, match="cannot read sums"):
        net.plan_for(1, SUMS)


def test_the_smallest_profile_is_found(shallow, digits, net):
    rows, module = shallow
    assert compiled(nn.Linear(3, 2).eval(), calibration=rows).profile == "linear"
    assert compiled(module, calibration=rows).profile == "mlp"
    assert net.profile == "cnn"


def test_check_shows_what_fits(net, keyholder):
    table = net.check()
    assert table.index[0] == "input"
    assert len(table) == len(net.program.nodes)
    assert table["level"].iloc[0] - table["level"].iloc[-1] == net.program.depth
    assert (table["largest seen"] <= table["bound"]).all()
    assert (table["bound"] <= table["room"]).all()
    assert table["bytes sent"].iloc[0] > 0
    assert table["error"].iloc[-1] < 1e-2
    assert (table["flooded error"] > 100.0 * table["error"]).all()
    assert table["seconds"].sum() == pytest.approx(net.plan.seconds)


@pytest.mark.parametrize("rows", [1, 400])
def test_check_shows_the_error_of_what_is_opened_for_others(net, digits, keyholder, rows):
    images = digits[0][1000 : 1000 + rows]
    scores = net.predict(keyholder.encrypt(images, plan=net.plan_for(rows)))
    expected = net.check(rows=rows)["flooded error"].iloc[-1]
    assert keyholder.opening_report(scores)["noise (std)"].to_numpy() == pytest.approx(expected)
    if rows > 1:
        added = keyholder.decrypt(scores) - keyholder.decrypt(scores, flood=False)
        assert added.std() == pytest.approx(expected, rel=0.2)


def test_too_few_levels_are_refused_with_a_profile_that_would_do(net, digits):
    with pytest.raises(ModuleRefused, match=r"needs 5 levels and profile 'mlp' has 3[\s\S]*profile='cnn'"):
        net.check("mlp")
    with pytest.raises(ModuleRefused, match="step 4"):
        compiled(digits[2], calibration=digits[0][:100], profile="mlp")
    with pytest.raises(ModuleRefused, match="has no level"):
        net.check("agg")
    with pytest.raises(ProfileError, match="no profile"):
        net.check("huge")


def test_values_that_are_too_large_are_refused_with_their_step():
    rows = np.random.default_rng(0).normal(size=(50, 3))
    large = Affine(0, 1e5 * np.eye(3), np.zeros(3))
    nodes = [Input(3, (3,)), large, Polynomial(1, np.array([0.0, 0.0, 1.0]))]
    with pytest.raises(ModuleRefused, match=r"step 3 \(affine 3×3\) reaches[\s\S]*profile='train'"):
        EncryptedModule(Program([*nodes, Affine(2, np.eye(3), np.zeros(3))]), rows, "mlp")
    deeper = [*nodes, *(Polynomial(k, np.array([0.0, 0.0, 1.0])) for k in (2, 3, 4, 5, 6))]
    with pytest.raises(ModuleRefused, match=r"step 6 of the network computes numbers beyond"):
        EncryptedModule(Program(deeper), rows)


def test_networks_that_nothing_fits_say_what_to_shrink():
    rows = np.random.default_rng(0).uniform(-1.0, 1.0, size=(50, 2))
    deepest = max(p.levels for p in PROFILES.values())
    squares = [Polynomial(k, np.array([0.0, 0.0, 1.0])) for k in range(deepest + 1)]
    with pytest.raises(ModuleRefused, match=rf"needs {deepest + 1} levels[\s\S]*lower degree"):
        EncryptedModule(Program([Input(2, (2,)), *squares]), rows)


def test_frames_that_do_not_belong_are_refused(net, digits, keyholder, server):
    rows, block = digits[0][:2], Layout.blocks(1)
    with pytest.raises(CiphertextError, match=r"ndarray was passed[\s\S]*encrypt it first"):
        net.predict(rows)
    with pytest.raises(CiphertextError, match="reads 64 columns"):
        net.predict(keyholder.encrypt(rows[:, :63], layout=block))
    with pytest.raises(CiphertextError, match="packing 'complex'"):
        net.predict(keyholder.encrypt(rows, packing="complex"))
    with pytest.raises(CiphertextError, match="may hold values up to 100"):
        net.predict(keyholder.encrypt(rows, bounds=100.0, layout=block))
    with pytest.raises(CiphertextError, match=r"is at level 4; the network needs 5"):
        net.predict(keyholder.encrypt(rows, layout=block).drop_to(4))
    with pytest.raises(ProfileError, match=r"profile 'train'[\s\S]*generate\('cnn'\)"):
        net.predict(KeyHolder.generate("train").encrypt(rows, layout=block))
    with pytest.raises(CiphertextError, match="KeyHolder was passed as key"):
        net.predict(keyholder.encrypt(rows, layout=block), key=keyholder)
    stranger = KeyHolder.generate("cnn")
    with pytest.raises(WrongKey):
        net.predict(keyholder.encrypt(rows, layout=block), key=stranger.evaluator())


def test_another_profile_with_room_works_too(shallow):
    rows, module = shallow
    net = compiled(module, calibration=rows)
    holder = KeyHolder.generate("train")
    opened = holder.decrypt(net.predict(holder.encrypt(rows)), flood=False)
    assert relative(opened, net.simulate(rows)) < 1e-4


def test_tables_are_read_by_their_names(shallow):
    rows, module = shallow
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    net = compiled(module, calibration=frame, names=["yes", "no"])
    holder = KeyHolder.generate(net.profile)
    opened = holder.decrypt(
        net.predict(holder.encrypt(frame.assign(d=1.0)[["d", "c", "a", "b"]])), flood=False
    )
    assert list(opened.columns) == ["yes", "no"]
    assert relative(opened.to_numpy(), net.simulate(rows)) < 1e-4
    with pytest.raises(ModuleRefused, match="1 names"):
        compiled(module, calibration=frame, names=["yes"])


def test_torch_tensors_calibrate(shallow):
    rows, module = shallow
    net = compiled(module, calibration=torch.tensor(rows, dtype=torch.float32))
    assert np.abs(net.simulate(rows) - module(torch.tensor(rows).float()).detach().numpy()).max() < 1e-4


def test_a_profile_is_taken_as_itself(shallow):
    rows, module = shallow
    own = dataclasses.replace(PROFILES["mlp"], name="own")
    net = compiled(module, calibration=rows, profile=own)
    holder = KeyHolder.generate(own)
    assert net.profile == "own"
    assert relative(holder.decrypt(net.predict(holder.encrypt(rows)), flood=False), net.simulate(rows)) < 1e-4
    assert compiled(module, calibration=rows).check(own)["level"].iloc[0] >= 0


def test_whole_numbers_calibrate(shallow):
    whole = np.random.default_rng(2).integers(-3, 4, size=(40, 3))
    nets = [compiled(shallow[1], calibration=rows) for rows in (whole, whole.astype(float), whole.tolist())]
    assert len({net.check()["bound"].iloc[-1] for net in nets}) == 1


def test_a_frame_finds_what_its_plan_has_lowered(shallow):
    rows, module = shallow
    net = compiled(module, calibration=rows)
    holder = KeyHolder.generate(net.profile)
    enc = holder.encrypt(rows, plan=net.plan_for(len(rows)))
    before = list(net._lowered)
    net.predict(enc)
    assert list(net._lowered) == before


def test_rows_unlike_calibration_are_named_as_the_cause(shallow):
    """Results that calibration says are tiny get a scale that the last prime still holds."""
    rows, module = shallow
    net = compiled(module, calibration=rows[:1] * 0.1)
    holder = KeyHolder.generate(net.profile)
    tiny = holder.encrypt(rows[:1] * 0.1)
    assert np.abs(holder.decrypt(net.predict(tiny), flood=False) - net.simulate(rows[:1] * 0.1)).max() < 1e-4
    with pytest.raises(CiphertextError, match=r"far beyond[\s\S]*calibrated on"):
        holder.decrypt(net.predict(holder.encrypt(rows * 2.0, bounds=2.0)))


def test_it_shows_what_it_costs(net):
    assert "64 → 10" in repr(net)
    shown = net._repr_html_()
    assert "blocks of" in shown
    assert "columns" in shown
    assert f"<td>{net.plan.key_bytes:,}</td>" in shown
    assert "e+0" not in shown
    assert not re.search(r"<(?!/?(p|strong|table|thead|tbody|tr|th|td)\b)", shown)
