import os

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression as ClearLeast
from sklearn.linear_model import PoissonRegressor
from sklearn.linear_model import Ridge as ClearRidge
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from twopm_kit.errors import (
    BudgetSpent,
    CiphertextError,
    FHEError,
    ProfileError,
    SchemaError,
    TrainingDiverged,
    WrongKey,
)
from twopm_kit.fhe import EncryptedFrame, KeyHolder
from twopm_kit.fhe.committee import Committee
from twopm_kit.fhe.models.gradient import GradientSums, ScorePolynomial, clear_sums
from twopm_kit.fhe.models.linear import LinearRegression, LogisticRegression, PoissonRegression, Ridge
from twopm_kit.fhe.models.training import training_data


@pytest.fixture(autouse=True, scope="module")
def quiet():
    os.environ["TQDM_DISABLE"] = "1"
    yield
    del os.environ["TQDM_DISABLE"]


@pytest.fixture(scope="module")
def trainer():
    return KeyHolder.generate("train", budget=1_000_000)


@pytest.fixture(scope="module")
def sick():
    """Diabetes progression, all columns standardised."""
    x, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    return (x - x.mean()) / x.std(), ((y - 100.0) / y.std()).rename("y")


@pytest.fixture(scope="module")
def tumours():
    x, y = load_breast_cancer(return_X_y=True, as_frame=True)
    train, test, wanted, held = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    scaler = StandardScaler().set_output(transform="pandas").fit(train)
    return scaler.transform(train), scaler.transform(test), wanted, held


@pytest.fixture(scope="module")
def hidden_tumours(trainer, tumours):
    return trainer.encrypt(tumours[0]), trainer.encrypt(tumours[2].to_frame())


# Least squares -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"), [(LinearRegression(), ClearLeast()), (Ridge(3.0), ClearRidge(3.0))]
)
def test_least_squares(holder, sick, ours, theirs):
    x, y = sick
    model = ours.fit(holder.encrypt(x), holder.encrypt(y.to_frame()), opener=holder)
    theirs.fit(x, y)
    error = np.abs(model.coef_ - theirs.coef_)
    # s1 … s5 are nearly collinear: opening shows there, and the model says so
    assert error.max() <= 1e-6
    assert (error <= 5.0 * model.coef_error_ + 1e-12).all()
    assert model.coef_error_.max() < 1e-6
    assert abs(model.intercept_ - theirs.intercept_) <= 1e-7
    assert model.columns == tuple(x.columns)
    assert abs(model.r2_ - theirs.score(x, y)) < 1e-7
    assert abs(model.score(x, y) - theirs.score(x, y)) < 1e-7
    assert abs(model.score(holder.encrypt(x), y, opener=holder) - model.score(x, y)) < 1e-5
    clear = (
        type(model)(3.0).fit_clear(x, y) if isinstance(model, Ridge) else LinearRegression().fit_clear(x, y)
    )
    assert np.abs(clear.coef_ - theirs.coef_).max() < 1e-12
    opened = holder.decrypt(model.predict(holder.encrypt(x)))
    assert np.abs(opened["prediction"] - model.simulate(x)).max() <= 1e-6


def test_least_squares_to_eight_digits(holder):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(4096, 6))
    y = x @ rng.normal(size=(6, 2)) / 3.0 + [0.5, -1.0] + 0.1 * rng.normal(size=(4096, 2))
    model = LinearRegression().fit(holder.encrypt(x), holder.encrypt(y), opener=holder)
    wanted = np.linalg.lstsq(np.c_[x, np.ones(4096)], y, rcond=None)[0]
    assert model.coef_.shape == (2, 6)
    assert np.abs(model.coef_ - wanted[:6].T).max() <= 1e-8
    assert np.abs(model.intercept_ - wanted[6]).max() <= 1e-8
    flat = LinearRegression(fit_intercept=False).fit(holder.encrypt(x), holder.encrypt(y), opener=holder)
    assert np.abs(flat.coef_ - np.linalg.lstsq(x, y, rcond=None)[0].T).max() <= 1e-8
    assert (np.asarray(flat.intercept_) == 0.0).all()


def test_least_squares_of_several_hospitals(holder, sick):
    x, y = sick
    cuts = [slice(0, 100), slice(100, 300), slice(300, None)]
    wards = [holder.encrypt(x[cut]) for cut in cuts[:2]]
    wards.append(holder.evaluator().encrypt(x[cuts[2]]))  # who has only the public key
    answers = [holder.encrypt(y[cut].to_frame()) for cut in cuts]
    before = holder.ledger.used
    model = LinearRegression().fit(wards, answers, opener=holder)
    # sums over all of them are opened, not those of each
    assert holder.ledger.used - before == 10 + 1 + 55 + 10 + 10 + 1
    assert np.abs(model.coef_ - ClearLeast().fit(x, y).coef_).max() <= 1e-5


def test_least_squares_over_many_blocks(holder):
    x = np.random.default_rng(0).normal(size=(9000, 2))
    model = LinearRegression().fit(holder.encrypt(x), holder.encrypt(x @ [1.0, 0.5]), opener=holder)
    assert np.abs(model.coef_ - [1.0, 0.5]).max() <= 1e-8


def test_least_squares_opened_by_a_committee(holder, sick):
    x, y = sick
    x = x[["bmi", "bp"]]
    committee = Committee.deal(holder, 2, 3)
    model = LinearRegression().fit(holder.encrypt(x), holder.encrypt(y.to_frame()), opener=committee)
    assert np.abs(model.coef_ - ClearLeast().fit(x, y).coef_).max() <= 1e-6


def test_least_squares_refuses(holder, sick):
    x, y = sick
    enc_y = holder.encrypt(y.to_frame())
    twin = holder.encrypt(x.assign(again=x["bmi"] + x["bp"]))
    with pytest.raises(CiphertextError, match="nearly collinear"):
        LinearRegression().fit(twin, enc_y, opener=holder)
    assert np.isfinite(Ridge(1.0).fit(twin, enc_y, opener=holder).coef_).all()
    with pytest.raises(CiphertextError, match="1 columns do not vary: still"):
        LinearRegression().fit(holder.encrypt(x.assign(still=3.0)), enc_y, opener=holder)
    with pytest.raises(CiphertextError, match="needs a level"):
        LinearRegression().fit(holder.encrypt(x).drop_to(0), enc_y, opener=holder)
    assert np.isfinite(LinearRegression().fit(holder.encrypt(x * 1000.0), enc_y, opener=holder).coef_).all()
    with pytest.raises(SchemaError, match="alpha"):
        Ridge(-1.0)
    with pytest.raises(SchemaError, match="without an opener"):
        LinearRegression().fit_clear(x, y).score(holder.encrypt(x), y)
    with pytest.raises(SchemaError, match="442 rows and y of shape"):
        LinearRegression().fit_clear(x, y).score(x, y[:9])


# Logistic regression -----------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["plain", "encrypted"])
def test_weights_equal_those_of_the_same_rule_in_clear(trainer, tumours, hidden_tumours, weights):
    x, test, y, held = tumours
    model = LogisticRegression(epochs=5, weights=weights).fit(*hidden_tumours, opener=trainer)
    clear = LogisticRegression(epochs=5).fit_clear(x, y)
    assert model.learning_rate_ == clear.learning_rate_ == 0.12
    assert np.abs(model.coef_ - clear.coef_).max() <= (1e-5 if weights == "plain" else 3e-5)
    assert np.abs(model.intercept_ - clear.intercept_).max() <= (1e-5 if weights == "plain" else 3e-5)
    assert model.score(test, held) == clear.score(test, held) > 0.9
    assert model.epochs_done_ == 5
    assert model.columns == tuple(x.columns)


def test_the_plan_says_what_an_epoch_takes(trainer, hidden_tumours):
    plan = LogisticRegression.plan(398, 30)
    assert plan.depth == 3
    assert plan.describe()["ciphertexts"].iloc[-1] == 32
    assert plan.seconds > 0.0
    assert abs(plan.bytes_up / sum(frame.nbytes for frame in hidden_tumours) - 1.0) < 0.1
    assert LogisticRegression.plan(5000, 30, 3).describe()["ciphertexts"].tolist() == [6] * 5 + [96]
    with pytest.raises(ProfileError, match="profiles that can: 'train', 'cnn', 'deep'"):
        LogisticRegression.plan(10, 2, profile="linear")


def test_only_encrypted_training_shows_progress(trainer, tumours, hidden_tumours, monkeypatch):
    shown = []

    def bar(epochs, **_):
        shown.append(len(epochs))
        return epochs

    monkeypatch.setattr("twopm_kit.fhe.models.epochs.tqdm", bar)
    x, y = tumours[0][["mean area", "mean texture"]], tumours[2]
    LogisticRegression(1).fit_clear(x, y)
    PoissonRegression(1).fit_clear(x, y)
    assert shown == []
    LogisticRegression(1).fit(*hidden_tumours, opener=trainer)
    assert shown == [1]


def test_going_on_equals_going_through(trainer, tumours, hidden_tumours):
    model = LogisticRegression(epochs=1).fit(*hidden_tumours, opener=trainer)
    before = trainer.ledger.used
    model.fit(*hidden_tumours, opener=trainer, warm_start=True)
    # squares of columns and labels, sum of labels; one epoch of columns, offset and spread; the last spread
    assert trainer.ledger.used - before == 30 + 2 + 32 + 1
    clear = LogisticRegression(epochs=2).fit_clear(tumours[0], tumours[2])
    assert model.epochs_done_ == clear.epochs_done_ == 2
    assert np.abs(model.coef_ - clear.coef_).max() <= 1e-5
    x, y = hidden_tumours
    with pytest.raises(SchemaError, match="30 weights"):
        model.fit(x[["mean area"]], y, opener=trainer, warm_start=True)


def test_the_polynomial_is_close_to_the_sigmoid():
    p = ScorePolynomial.sigmoid(8.0)
    z = np.linspace(-8, 8, 101)
    assert np.abs(p(z) - 1.0 / (1.0 + np.exp(-z))).max() <= p.error + 1e-12 < 0.13
    # Kim et al. give 0.15012 and -0.001593
    assert np.allclose([p.coefficients[1] / 8, p.coefficients[3] / 512], [0.15012, -0.001593], atol=2e-4)
    e = ScorePolynomial.exponential(2.0)
    assert np.abs(e(z / 16) / np.exp(z / 16) - 1.0).max() < 0.003


@pytest.mark.parametrize("hide", [False, True])
def test_the_noise_in_the_headers_covers_what_is_there(trainer, tumours, hidden_tumours, hide):
    """Flooding is measured by the headers: an estimate that is too small would not drown the error."""
    x, y = (frame.to_numpy(float) for frame in (tumours[0], tumours[2].to_frame()))
    data, sizes = training_data(*hidden_tumours, trainer), np.sqrt((x**2).mean(axis=0))
    polynomial = ScorePolynomial.sigmoid(8.0)
    weights, offsets = np.random.default_rng(2).normal(size=(1, 30)) / 6.0, np.array([0.3])
    server = GradientSums(data, polynomial, sizes, hidden=hide)
    hidden = server.hide(weights, offsets, trainer.encrypt_constants) if hide else None
    sums = server.sums(weights, offsets, hidden)
    assert sums.shape == (1, 32)
    clear = clear_sums(polynomial, x, y, weights, offsets)
    opened = dict(zip(sums.columns, trainer.decrypt(sums, flood=False).to_numpy()[0], strict=True))
    found = server.read(opened, offsets)
    own = np.array([head.noise / head.scale for head in sums.heads[:30]]) * sums.engine.slots
    ratio = np.abs(found.gradient - clear.gradient)[0] / own
    assert 0.05 < np.sqrt((ratio**2).mean()) < 1.2
    assert np.abs(found.offset - clear.offset).max() < 1e-4
    assert np.abs(found.spread - clear.spread).max() < 1e-4
    # what is opened is the sum alone: the slots are garbage
    slots = np.array(sums.engine.encoder.decode_double(trainer._open_cipher(sums.ciphers("0·0")[0])))
    assert np.median(np.abs(slots)) > 10.0


def test_sums_survive_the_way_to_the_opener(trainer, hidden_tumours, tumours):
    data = training_data(*hidden_tumours, trainer)
    server = GradientSums(data, ScorePolynomial.sigmoid(8.0), np.ones(30))
    sums = server.sums(np.full((1, 30), 0.01), np.zeros(1))
    again = EncryptedFrame.from_bytes(sums.to_bytes(), trainer)
    opened = trainer.decrypt(again, flood=False).to_numpy()
    assert (opened == trainer.decrypt(sums, flood=False).to_numpy()).all()


def test_one_against_the_rest(trainer):
    x, y = load_iris(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    labels = pd.get_dummies(y).astype(float)
    kinds = pd.DataFrame({"kind": pd.Categorical.from_codes(y, ["setosa", "versicolor", "virginica"])})
    model = LogisticRegression(epochs=3).fit(trainer.encrypt(x), trainer.encrypt(kinds), opener=trainer)
    clear = LogisticRegression(epochs=3).fit_clear(x, labels)
    assert model.coef_.shape == (3, 4)
    assert model.intercept_.shape == (3,)
    # fewer rows than tumours, so that the same noise weighs more
    assert np.abs(model.coef_ - clear.coef_).max() <= 1e-4
    assert model.score(x, labels) == clear.score(x, labels) == model.score(x, y) > 0.8
    own = KeyHolder.generate("linear")
    scores = own.decrypt(model.decision_function(own.encrypt(x)))
    assert (model.classes_of(scores) == model.simulate(x).argmax(axis=1)).mean() > 0.99


def test_several_owners_and_several_blocks(trainer, tumours):
    x, _, y, _ = tumours
    x, y = pd.concat([x[["mean area", "mean texture"]]] * 12), pd.concat([y] * 12).to_frame()
    # two columns: large steps, in which the noise of opening weighs more
    assert len(x) > trainer.engine.slots
    parts = [slice(0, 300), slice(300, None)]
    rows = [trainer.encrypt(x[part]) for part in parts]
    model = LogisticRegression(epochs=2).fit(
        rows, [trainer.encrypt(y[part]) for part in parts], opener=trainer
    )
    clear = LogisticRegression(epochs=2).fit_clear(x, y)
    assert np.abs(model.coef_ - clear.coef_).max() <= 1e-4


def test_training_with_a_committee(trainer, tumours):
    x, _, y, _ = tumours
    x, committee = x[["mean area", "mean texture"]], Committee.deal(trainer, 2, 3)
    enc_x, enc_y = trainer.encrypt(x), trainer.encrypt(y.to_frame())
    for weights in ("plain", "encrypted"):
        model = LogisticRegression(epochs=2, weights=weights).fit(enc_x, enc_y, opener=committee)
        clear = LogisticRegression(epochs=2, learning_rate=model.learning_rate_).fit_clear(x, y)
        assert np.abs(model.coef_ - clear.coef_).max() <= 2e-4


def test_divergence_is_named_and_leaves_the_last_good_weights(trainer, tumours, hidden_tumours):
    x, _, y, _ = tumours
    for fit, arguments in (("fit", hidden_tumours), ("fit_clear", (x, y))):
        model = LogisticRegression(epochs=6, learning_rate=0.9)
        opener = {"opener": trainer} if fit == "fit" else {}
        with pytest.raises(TrainingDiverged, match="training diverges after epoch") as caught:
            getattr(model, fit)(*arguments, **opener)
        assert "learning_rate='auto'" in str(caught.value)
        assert np.isfinite(model.coef_).all()
        assert np.sqrt((model.simulate(x) ** 2).mean()) <= 4.0
    with pytest.raises(TrainingDiverged, match="training diverges"):  # so far that sums would wrap around
        LogisticRegression(epochs=2, learning_rate=1e4).fit(*hidden_tumours, opener=trainer)


def test_an_interruption_leaves_the_last_whole_epoch(trainer, tumours):
    x, _, y, _ = tumours
    x = x[["mean area", "mean texture"]]  # few columns: large steps, in which noise weighs more
    enc_x, enc_y = trainer.encrypt(x), trainer.encrypt(y.to_frame())

    class Impatient:
        fingerprint = trainer.fingerprint
        needs_size_2 = False
        opened = 0

        def decrypt(self, enc, **options):
            self.opened += 1
            if self.opened > 7:
                raise KeyboardInterrupt
            return trainer.decrypt(enc, **options)

    model, opener = LogisticRegression(epochs=9), Impatient()
    with pytest.raises(KeyboardInterrupt):
        model.fit(enc_x, enc_y, opener=opener)
    assert model.epochs_done_ == 2
    assert np.abs(model.coef_ - LogisticRegression(2).fit_clear(x, y).coef_).max() <= 1e-4
    model.epochs = 1
    model.fit(enc_x, enc_y, opener=trainer, warm_start=True)
    assert np.abs(model.coef_ - LogisticRegression(3).fit_clear(x, y).coef_).max() <= 1e-4


def test_training_refuses(trainer, holder, stranger, tumours, hidden_tumours):
    x, _, y, _ = tumours
    enc_x, enc_y = hidden_tumours
    model = LogisticRegression()
    linear_x, linear_y = holder.encrypt(x), holder.encrypt(y.to_frame())
    cases = [
        ((x, enc_y, trainer), SchemaError, "expected an EncryptedFrame"),
        (([enc_x, x], [enc_y, enc_y], trainer), SchemaError, "holds a DataFrame"),
        ((enc_x, enc_y, None), SchemaError, "opener is a NoneType"),
        ((enc_x, trainer.encrypt(np.ones(7)), trainer), SchemaError, "frames of .398. rows"),
        ((enc_x, linear_y, trainer), WrongKey, "training"),
        ((enc_x, enc_y, stranger), WrongKey, "opening sums"),
        ((linear_x, linear_y, holder), ProfileError, "generate\\('train'\\)"),
        ((enc_x * 0.5, enc_y, trainer), ProfileError, "at level 3"),
        ((enc_x, trainer.encrypt(2.0 * y.to_frame()), trainer), SchemaError, "bound of 4"),
        ((enc_x, trainer.encrypt(2.0 * y.to_frame() - 1.0), trainer), SchemaError, "their squares"),
        ((trainer.encrypt(9.0 * x), enc_y, trainer), CiphertextError, "standardise"),
        ((trainer.encrypt(x, packing="complex"), enc_y, trainer), CiphertextError, "packing='real'"),
        ((trainer.encrypt(x.where(x > -3.0), missing="mask"), enc_y, trainer), CiphertextError, "missing"),
        ((enc_x, enc_y.with_padding("any"), trainer), CiphertextError, "beyond the last row"),
        (([enc_x, enc_x[["mean area"]]], [enc_y, enc_y], trainer), SchemaError, "different columns"),
    ]
    for (rows, labels, opener), error, words in cases:
        with pytest.raises(error, match=words):
            model.fit(rows, labels, opener=opener)
    lost = EncryptedFrame.from_bytes(enc_x.to_bytes())
    with pytest.raises(CiphertextError, match="key=evaluator"):
        model.fit(lost, enc_y, opener=trainer)
    poor = KeyHolder.generate("train", budget=40)
    with pytest.raises(BudgetSpent):
        model.fit(poor.encrypt(x), poor.encrypt(y.to_frame()), opener=poor)
    # nothing has been learned from what was refused
    assert model.epochs_done_ == 0
    with pytest.raises(SchemaError, match="not fitted"):
        model.decision_function(enc_x)
    assert "not fitted" in repr(model)
    with pytest.raises(SchemaError, match="other than 0 and 1"):
        model.fit_clear(x, y + 1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"epochs": 0},
        {"epochs": 2.5},
        {"learning_rate": "fast"},
        {"learning_rate": 0.0},
        {"learning_rate": np.nan},
        {"alpha": -1.0},
        {"interval": 0.0},
        {"weights": "open"},
    ],
)
def test_settings_that_cannot_be(arguments):
    with pytest.raises(SchemaError):
        LogisticRegression(**arguments)


# Poisson regression ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visits():
    """RAND health insurance experiment: visits to a doctor."""
    data = sm.datasets.randhie.load_pandas()
    x = data.exog.drop(columns="lncoins")
    return ((x - x.mean()) / x.std())[:6000], data.endog[:6000].astype(float)


def test_poisson(trainer, visits):
    x, y = visits
    model = PoissonRegression().fit(trainer.encrypt(x), trainer.encrypt(y.to_frame()), opener=trainer)
    clear = PoissonRegression().fit_clear(x, y)
    assert np.abs(model.coef_ - clear.coef_).max() <= 5e-4
    assert abs(model.intercept_ - clear.intercept_) <= 5e-4
    theirs = PoissonRegressor(alpha=0.0, max_iter=500, tol=1e-8).fit(x, y)
    assert np.abs(model.coef_ - theirs.coef_).max() <= 5e-3
    assert abs(model.score(x, y) - theirs.score(x, y)) <= 1e-3
    assert model.epochs_done_ == 8
    assert model.columns == tuple(x.columns)


def test_poisson_scores(holder, visits):
    x, y = visits
    theirs = PoissonRegressor(alpha=0.1, max_iter=500).fit(x, y)
    model = PoissonRegression.from_sklearn(theirs)
    opened = holder.decrypt(model.predict(holder.encrypt(x)))
    assert list(opened) == ["log_rate"]
    assert np.abs(model.rates(opened) / theirs.predict(x) - 1.0).max() <= 2e-6
    assert abs(model.score(holder.encrypt(x), y, opener=holder) - theirs.score(x, y)) <= 1e-6


def test_poisson_refuses(trainer, visits):
    x, y = visits[0][:500], visits[1][:500]
    enc_x = trainer.encrypt(x)
    with pytest.raises(SchemaError, match="2 columns of counts"):
        PoissonRegression().fit(enc_x, trainer.encrypt(np.c_[y, y]), opener=trainer)
    with pytest.raises(SchemaError, match="add up to"):
        PoissonRegression().fit(enc_x, trainer.encrypt(y.to_frame() * 0.0), opener=trainer)
    with pytest.raises(FHEError, match="nearly collinear"):
        PoissonRegression().fit_clear(x.assign(again=x["idp"]), y)
    steep = np.exp(3.0 * x["disea"])
    model = PoissonRegression(interval=1.0)
    with pytest.raises(TrainingDiverged, match=r"training diverges.*holds up to 0\.5"):
        model.fit_clear(x, steep)
    with pytest.raises(SchemaError):
        PoissonRegression(alpha=-1.0)
    with pytest.raises(SchemaError):
        PoissonRegression(epochs=0)
