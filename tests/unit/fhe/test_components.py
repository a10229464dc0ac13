import numpy as np
import pandas as pd
import pytest
import sklearn.decomposition
import sklearn.discriminant_analysis
from sklearn.datasets import load_breast_cancer

from twopm_kit.errors import BudgetSpent, CiphertextError, SchemaError, WrongKey
from twopm_kit.fhe import EncryptedFrame, KeyHolder, weighted_sum
from twopm_kit.fhe.committee import Committee
from twopm_kit.fhe.layouts import Layout
from twopm_kit.fhe.models.centroids import KMeans, NearestCentroid
from twopm_kit.fhe.models.classes import one_hot
from twopm_kit.fhe.models.components import LDA, PCA
from twopm_kit.fhe.models.moments import products, squares, totals


@pytest.fixture(scope="module")
def labels(holder, iris):
    return holder.encrypt(one_hot(iris[1]), bounds=1)


# Sums ---------------------------------------------------------------------------------------------------


def test_sums_of_rows_in_several_ciphertexts(holder):
    x = np.random.default_rng(3).normal(size=(9000, 3))
    y = np.random.default_rng(4).normal(size=(9000, 2))
    enc, other = holder.encrypt(x), holder.encrypt(y)
    assert np.abs(totals(enc).open(holder) - x.sum(axis=0)).max() < 1e-3
    assert np.abs(products(enc).open(holder) - x.T @ x).max() < 1e-3
    assert np.abs(products(enc, other).open(holder) - x.T @ y).max() < 1e-3
    assert np.abs(squares(enc).open(holder) - np.sum(x**2, axis=0)).max() < 1e-3


def test_sums_are_exact_before_flooding(holder):
    x = np.random.default_rng(5).uniform(-1, 1, size=(4096, 2))
    enc = holder.encrypt(x, bounds=1)
    sums = products(enc)
    opened = np.asarray(holder.decrypt(sums.sums, flood=False)).ravel()
    assert np.abs(opened - (x.T @ x)[np.triu_indices(2)]).max() < 1e-7
    assert sums.sums.n_ciphertexts == 3
    assert "encrypted" in repr(sums)


def test_sums_of_two_owners_are_opened_as_one(holder):
    x = np.random.default_rng(6).normal(size=(50, 2))
    together = products(holder.encrypt(x[:20])) + products(holder.evaluator().encrypt(x[20:]))
    assert together.rows == 50
    assert np.abs(together.open(holder) - x.T @ x).max() < 1e-3
    with pytest.raises(CiphertextError, match="shape"):
        totals(holder.encrypt(x)) + products(holder.encrypt(x))


def test_only_the_sum_is_in_what_is_opened(holder):
    """Everything in the opened polynomial but its constant coefficient is random."""
    x = np.ones((4096, 1))
    one, two = (totals(holder.encrypt(x, bounds=1)).sums for _ in range(2))
    for sums in (one, two):
        assert np.asarray(holder.decrypt(sums)).item() == pytest.approx(4096, abs=1e-3)
    opened = [
        holder.engine.encoder.decode_double(holder._open_cipher(sums.ciphers("0")[0])) for sums in (one, two)
    ]
    # the slots, each of which was 1, are noise of the size of the primes
    assert np.median(np.abs(opened[0])) > 1e3
    assert abs(np.corrcoef(*opened)[0, 1]) < 0.1


@pytest.mark.parametrize("kind", ["complex", "blocks"])
def test_sums_need_columns(holder, kind):
    x = np.ones((4, 2))
    enc = (
        holder.encrypt(x, packing="complex")
        if kind == "complex"
        else holder.encrypt(x, layout=Layout.blocks(4))
    )
    for moment in (totals, products, squares):
        with pytest.raises(CiphertextError, match="sums over rows"):
            moment(enc)


def test_sums_count_rows_and_nothing_else(holder):
    """An offset may be in the slots beyond the last row; missing values are not 0 either."""
    with pytest.raises(CiphertextError, match="beyond the last row"):
        totals(weighted_sum(holder.encrypt(np.ones((5, 1))), {"x0": 1.0}, 1.0))
    full = weighted_sum(holder.encrypt(np.ones((4096, 1))), {"x0": 1.0}, 1.0)
    assert totals(full).open(holder).item() == pytest.approx(8192, abs=1e-3)
    assert totals(holder.encrypt(np.ones((5, 1))) + 1.0).open(holder).item() == pytest.approx(10, abs=1e-3)
    gaps = holder.encrypt(pd.DataFrame({"a": [1.0, np.nan]}), missing="mask")
    with pytest.raises(CiphertextError, match="missing"):
        totals(gaps)


def test_products_that_cannot_be(holder, stranger):
    enc = holder.encrypt(np.ones((4, 1)))
    with pytest.raises(WrongKey):
        products(enc, stranger.encrypt(np.ones((4, 1))))
    with pytest.raises(CiphertextError, match="4 rows"):
        products(enc, holder.encrypt(np.ones((5, 1))))
    with pytest.raises(CiphertextError, match="level 0"):
        products(enc.drop_to(0))
    with pytest.raises(CiphertextError, match="bits"):
        products(holder.encrypt(np.ones((4096, 1)), bounds=2.0**26))


def test_the_ledger_stops_an_opening(iris):
    own = KeyHolder.generate("linear", budget=10)
    with pytest.raises(BudgetSpent):
        PCA().fit(own.encrypt(iris[0]), opener=own)  # 4 sums and 10 products
    assert own.ledger.used == 4


# Principal components -----------------------------------------------------------------------------------


def test_components_equal_those_of_scikit_learn(holder, iris, rows):
    x = iris[0]
    clear = sklearn.decomposition.PCA(3).fit(x)
    model = PCA(3).fit(rows, opener=holder)
    assert np.abs(model.mean_ - clear.mean_).max() < 1e-6
    assert np.abs(model.components_ - clear.components_).max() < 1e-4
    assert np.abs(model.explained_variance_ - clear.explained_variance_).max() < 1e-5
    assert np.abs(model.explained_variance_ratio_ - clear.explained_variance_ratio_).max() < 1e-5
    assert model.n_samples_ == 150
    projected = model.transform(rows)
    assert projected.columns == ["pca0", "pca1", "pca2"]
    assert np.abs(holder.decrypt(projected).to_numpy() - model.simulate(x)).max() < 1e-5
    assert np.abs(model.simulate(x) - clear.transform(x)).max() < 1e-4
    back = clear.inverse_transform(clear.transform(x))
    assert np.abs(model.inverse_transform(model.simulate(x)) - back).max() < 1e-4


def test_whitened_components(holder, iris, rows):
    clear = sklearn.decomposition.PCA(2, whiten=True).fit(iris[0])
    fitted = PCA(2, whiten=True).fit(rows, opener=holder)
    taken = PCA.from_sklearn(clear)
    for model in (fitted, taken):
        assert np.abs(model.simulate(iris[0]) - clear.transform(iris[0])).max() < 1e-4
        opened = holder.decrypt(model.transform(rows))
        assert np.abs(opened.to_numpy() - clear.transform(iris[0])).max() < 1e-4
        assert np.abs(model.inverse_transform(opened) - clear.inverse_transform(opened)).max() < 1e-3


def test_components_of_thirty_columns(holder):
    x = load_breast_cancer().data
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    clear = sklearn.decomposition.PCA(4).fit(x)
    model = PCA(4).fit(holder.encrypt(x), opener=holder)
    assert np.abs(model.components_ - clear.components_).max() < 1e-5
    assert np.abs(model.explained_variance_ - clear.explained_variance_).max() < 1e-5


def test_components_from_numbers(holder):
    model = PCA.from_plain([[0.0, 1.0]], [1.0, 2.0], columns=["a", "b"])
    frame = pd.DataFrame({"b": [2.0, 3.0], "other": [9.0, 9.0], "a": [0.0, 0.0]})
    assert holder.decrypt(model.transform(holder.encrypt(frame)))["pca0"].round(4).tolist() == [0.0, 1.0]
    assert model.simulate(frame).ravel().tolist() == [0.0, 1.0]
    assert "2 columns, 1 result" in repr(model)


@pytest.mark.parametrize("kind", [PCA, LDA])
@pytest.mark.parametrize("count", [0, -1, "x", 1.5, True, [2]])
def test_numbers_of_components_that_cannot_be(kind, count):
    with pytest.raises(SchemaError, match="n_components="):
        kind(count)
    assert kind(np.int64(2)).n_components == 2


def test_several_owners_are_fitted_as_one(holder, iris):
    x, y = iris
    hot = one_hot(y)
    parts = slice(0, 70), slice(70, 150)
    frames = [holder.encrypt(x[part]) for part in parts]
    labels = [holder.encrypt(hot[part], bounds=1) for part in parts]
    found = PCA(2).fit(frames, opener=holder)
    clear = sklearn.decomposition.PCA(2).fit(x)
    assert found.n_samples_ == 150
    assert found.columns == tuple(x.columns)
    assert np.abs(found.components_ - PCA.from_sklearn(clear).components_).max() < 1e-4
    apart = LDA().fit(frames, labels, opener=holder)
    fitted = sklearn.discriminant_analysis.LinearDiscriminantAnalysis().fit(x, y)
    assert apart.counts_.tolist() == [50, 50, 50]
    assert np.abs(apart.simulate(x).argmax(axis=1) - fitted.predict(x)).max() == 0
    assert np.abs(apart.means_ - fitted.means_).max() < 1e-4


@pytest.mark.parametrize("kind", [PCA, LDA, NearestCentroid, KMeans])
def test_rows_that_nothing_is_fitted_on(holder, stranger, iris, rows, labels, kind):
    x = iris[0]
    masked = holder.encrypt(x.where(x > 0.2), missing="mask")
    cases = [
        (x, holder, SchemaError, "enc_X is a DataFrame"),
        ([], holder, SchemaError, "enc_X is a list"),
        ([rows, x], holder, SchemaError, "holds a DataFrame"),
        ([rows, rows[list(x.columns[::-1])]], holder, SchemaError, "different columns"),
        ([rows, stranger.encrypt(x)], holder, WrongKey, "training"),
        (rows, None, SchemaError, "opener is a NoneType"),
        (rows, stranger, WrongKey, "opening sums"),
        (masked, holder, CiphertextError, "missing values"),
    ]
    for enc, opener, error, words in cases:
        more = [] if kind in (PCA, KMeans) else [[labels] * len(enc) if isinstance(enc, list) else labels]
        with pytest.raises(error, match=words):
            kind().fit(enc, *more, opener=opener)


def test_components_that_cannot_be(holder, rows, iris):
    with pytest.raises(SchemaError, match="n_components"):
        PCA(5).fit(rows, opener=holder)
    with pytest.raises(SchemaError, match="two rows"):
        PCA().fit(holder.encrypt(np.ones((1, 2))), opener=holder)
    with pytest.raises(SchemaError, match="not fitted"):
        PCA().transform(rows)
    with pytest.raises(SchemaError, match="fitted estimator"):
        PCA.from_sklearn(sklearn.decomposition.PCA())
    with pytest.raises(SchemaError, match="mean"):
        PCA.from_plain([[1.0, 2.0]], [1.0])
    with pytest.raises(SchemaError, match="column names"):
        PCA.from_plain([[1.0, 2.0]], [1.0, 1.0], columns=["a", "a"])
    with pytest.raises(SchemaError, match="EncryptedFrame"):
        PCA.from_plain([[1.0, 2.0]], [1.0, 1.0]).transform(iris[0])
    with pytest.raises(SchemaError, match="lacks"):
        PCA.from_plain([[1.0]], [1.0], columns=["a"]).transform(rows)
    with pytest.raises(SchemaError, match="4 columns"):
        PCA.from_plain([[1.0]], [1.0]).transform(rows)
    with pytest.raises(SchemaError, match="shape"):
        PCA.from_plain([[1.0]], [1.0]).simulate([[1.0, 2.0]])
    flat = sklearn.decomposition.PCA(2, whiten=True).fit(np.arange(9.0)[:, None] @ np.ones((1, 3)))
    with pytest.raises(SchemaError, match="without variance"):
        PCA.from_sklearn(flat)


def test_a_committee_opens_the_sums(iris):
    own = KeyHolder.generate("linear")
    committee = Committee.deal(own, 2, 3)
    x = iris[0] - iris[0].mean()
    enc = own.evaluator().encrypt(x, bounds=4.0)
    model = PCA(2).fit(enc, opener=committee)
    clear = sklearn.decomposition.PCA(2).fit(x)
    assert np.abs(model.components_ - clear.components_).max() < 1e-3
    assert np.abs(model.explained_variance_ - clear.explained_variance_).max() < 1e-3


def test_sums_that_came_as_bytes(holder, rows, iris):
    sums = products(rows)
    same = EncryptedFrame.from_bytes(sums.sums.to_bytes(), holder)
    opened = np.asarray(holder.decrypt(same)).ravel()
    x = iris[0].to_numpy()
    assert np.abs(opened - (x.T @ x)[np.triu_indices(4)]).max() < 1e-3


# Linear discriminants -----------------------------------------------------------------------------------


def test_discriminants_equal_those_of_scikit_learn(holder, iris, rows, labels):
    x, y = iris
    clear = sklearn.discriminant_analysis.LinearDiscriminantAnalysis().fit(x, y)
    model = LDA().fit(rows, labels, opener=holder, classes=[0, 1, 2])
    assert model.counts_.tolist() == [50, 50, 50]
    assert np.abs(model.means_ - clear.means_).max() < 1e-5
    assert np.abs(model.coef_ - clear.coef_).max() < 1e-3 * np.abs(clear.coef_).max()
    assert np.abs(model.intercept_ - clear.intercept_).max() < 1e-3 * np.abs(clear.intercept_).max()
    assert np.abs(model.explained_variance_ratio_ - clear.explained_variance_ratio_).max() < 1e-4
    signs = np.sign(np.sum(model.scalings_ * clear.scalings_, axis=0))
    assert np.abs(model.scalings_ - signs * clear.scalings_).max() < 1e-3
    opened = holder.decrypt(model.decision_function(rows))
    assert opened.columns.tolist() == ["score_0", "score_1", "score_2"]
    assert np.abs(opened.to_numpy() - model.simulate(x)).max() < 1e-4
    assert (model.classes_of(opened) == clear.predict(x)).all()
    assert model.score(x, y) == model.score(rows, y, opener=holder) == clear.score(x, y)
    projected = holder.decrypt(model.transform(rows))
    assert projected.columns.tolist() == ["lda0", "lda1"]
    assert np.abs(projected.to_numpy() - signs * clear.transform(x)).max() < 1e-2


def test_discriminants_of_two_classes(holder, cancer):
    frame, y, _ = cancer
    x = frame.iloc[:, :6]
    clear = sklearn.discriminant_analysis.LinearDiscriminantAnalysis(priors=[0.3, 0.7]).fit(x, y)
    enc = holder.encrypt(x)
    named = y.map({0: "malignant", 1: "benign"})
    order = ["malignant", "benign"]
    hot = holder.encrypt(one_hot(named, order), bounds=1)
    fitted = LDA(1, priors=[0.3, 0.7]).fit(enc, hot, opener=holder)
    taken = LDA.from_sklearn(clear)
    assert fitted.classes_.tolist() == order
    for model in (fitted, taken):
        opened = holder.decrypt(model.decision_function(enc))
        assert opened.columns.tolist() == ["score"]
        assert np.abs(opened["score"] - clear.decision_function(x)).max() < 1e-2
        assert (
            np.abs(np.abs(holder.decrypt(model.transform(enc))) - np.abs(clear.transform(x))).max().max()
            < 1e-2
        )
    assert fitted.score(x, named) == pytest.approx(clear.score(x, y), abs=0.005)


def test_columns_that_depend_on_each_other(holder, iris):
    x, y = iris[0].copy(), iris[1]
    x["twice"] = 2 * x.iloc[:, 0] - x.iloc[:, 2]
    hot = holder.encrypt(one_hot(y), bounds=1)
    model = LDA().fit(holder.encrypt(x), hot, opener=holder, classes=[0, 1, 2])
    clear = sklearn.discriminant_analysis.LinearDiscriminantAnalysis().fit(x, y)
    assert (model.classes_of(model.simulate(x)) == clear.predict(x)).all()
    assert np.abs(model.coef_).max() < 100


def test_discriminants_that_cannot_be(holder, rows, labels, iris):
    with pytest.raises(SchemaError, match="add up"):
        LDA().fit(rows, holder.encrypt(one_hot(iris[1]) * 0.5, bounds=1), opener=holder)
    with pytest.raises(SchemaError, match="add up"):
        LDA().fit(rows, holder.encrypt(one_hot(iris[1], [0, 1, 2, 3]), bounds=1), opener=holder)
    with pytest.raises(SchemaError, match="classes were passed"):
        LDA().fit(rows, labels, opener=holder, classes=["a"])
    with pytest.raises(SchemaError, match="n_components"):
        LDA(3).fit(rows, labels, opener=holder)
    with pytest.raises(SchemaError, match="priors"):
        LDA(priors=[1.0, 2.0]).fit(rows, labels, opener=holder)
    with pytest.raises(SchemaError, match="not fitted"):
        LDA().transform(rows)
    with pytest.raises(SchemaError, match="do not differ"):
        LDA().fit(
            holder.encrypt(np.repeat([[0.0], [1.0]], 4, axis=0), bounds=1),
            holder.encrypt(one_hot(np.repeat([0, 1], 4)), bounds=1),
            opener=holder,
        )
    with pytest.raises(SchemaError, match="scores of shape"):
        LDA.from_sklearn(sklearn.discriminant_analysis.LinearDiscriminantAnalysis().fit(*iris)).classes_of(
            [[1.0, 2.0]]
        )
    with pytest.raises(SchemaError, match="not among"):
        one_hot([1, 2], [1])


@pytest.mark.parametrize("n", [40, 4096, 5000])
def test_the_announced_noise_of_products_covers_the_true_one(holder, n):
    """Flooding is measured by it: few rows spread little noise, and values at their bounds the most."""
    x = np.random.default_rng(n).choice([-4.0, 4.0], size=(n, 24))
    sums = products(holder.encrypt(x, bounds=4.0)).sums
    places = np.triu_indices(24)
    true = (x.T @ x)[places]
    error = holder.decrypt(sums, flood=False).to_numpy()[0] - true
    announced = np.array([head.noise / head.scale for head in sums.heads]) * sums.engine.slots
    # 24 independent noises are in the 300 sums: their mean square strays by a third
    assert 0.5 < np.sqrt(np.mean((error / announced) ** 2)) < 1.8
