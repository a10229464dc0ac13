import numpy as np
import pandas as pd
import pytest
import sklearn.cluster
import sklearn.neighbors

from twopm_kit.errors import SchemaError, WrongKey
from twopm_kit.fhe import EncryptedFrame, Evaluator, KeyHolder
from twopm_kit.fhe.committee import Committee
from twopm_kit.fhe.models.centroids import KMeans, NearestCentroid, assigner
from twopm_kit.fhe.models.classes import one_hot


@pytest.fixture(scope="module")
def first(iris):
    return iris[0].to_numpy()[[0, 60, 120]]


@pytest.fixture(scope="module")
def clear(iris, first):
    return sklearn.cluster.KMeans(3, init=first, n_init=1, algorithm="lloyd", tol=0).fit(iris[0])


# Nearest centroid ---------------------------------------------------------------------------------------


def test_class_means_equal_those_of_scikit_learn(holder, iris, rows):
    x, y = iris
    labels = holder.encrypt(one_hot(y), bounds=1)
    model = NearestCentroid().fit(rows, labels, opener=holder, classes=[0, 1, 2])
    fitted = sklearn.neighbors.NearestCentroid().fit(x, y)
    assert np.abs(model.centroids_ - fitted.centroids_).max() < 1e-5
    assert model.counts_.tolist() == [50, 50, 50]
    opened = holder.decrypt(model.decision_function(rows))
    assert np.abs(opened.to_numpy() - model.simulate(x)).max() < 1e-5
    distances = ((x.to_numpy()[:, None] - model.centroids_) ** 2).sum(axis=2)
    assert np.abs(np.sum(x.to_numpy() ** 2, axis=1)[:, None] - opened.to_numpy() - distances).max() < 1e-5
    assert (model.classes_of(opened) == fitted.predict(x)).all()
    assert model.score(x, y) == fitted.score(x, y)


def test_class_means_of_several_owners(holder, iris):
    x, y = iris
    hot = one_hot(y)
    parts = slice(0, 40), slice(40, 150)  # the first owner has one class alone
    model = NearestCentroid().fit(
        [holder.encrypt(x[part]) for part in parts],
        [holder.encrypt(hot[part], bounds=1) for part in parts],
        opener=holder,
    )
    assert model.counts_.tolist() == [50, 50, 50]
    assert np.abs(model.centroids_ - x.groupby(y).mean().to_numpy()).max() < 1e-5
    with pytest.raises(SchemaError, match="frames of"):
        NearestCentroid().fit(holder.encrypt(x), [holder.encrypt(hot[part]) for part in parts], opener=holder)


def test_means_from_scikit_learn_take_columns_by_name(holder, iris):
    x, y = iris
    model = NearestCentroid.from_sklearn(sklearn.neighbors.NearestCentroid().fit(x, y))
    turned = x[x.columns[::-1]].assign(other=1.0).head(20)
    opened = holder.decrypt(model.decision_function(holder.encrypt(turned)))
    assert np.abs(opened.to_numpy() - model.simulate(x.head(20))).max() < 1e-5
    assert (model.simulate(turned) == model.simulate(x.head(20))).all()


def test_scores_go_through_bytes(holder):
    model = NearestCentroid.from_plain([[1.0, 0.0], [0.0, 1.0]], ["right", "up"])
    sent = holder.encrypt(np.array([[2.0, 0.1], [0.1, 2.0]])).to_bytes()
    answer = model.decision_function(EncryptedFrame.from_bytes(sent)).to_bytes()
    opened = holder.decrypt(EncryptedFrame.from_bytes(answer, holder))
    assert model.classes_of(opened).tolist() == ["right", "up"]
    assert "2 columns, 2 results" in repr(model)


def test_centroids_that_cannot_be(holder, iris, rows):
    x, y = iris
    with pytest.raises(SchemaError, match="metric"):
        NearestCentroid.from_sklearn(sklearn.neighbors.NearestCentroid(metric="manhattan").fit(x, y))
    uneven = sklearn.neighbors.NearestCentroid(priors=[0.5, 0.25, 0.25]).fit(x, y)
    with pytest.raises(SchemaError, match="priors"):
        NearestCentroid.from_sklearn(uneven)
    with pytest.raises(SchemaError, match="classes were passed"):
        NearestCentroid.from_plain([[1.0], [2.0]], ["a"])
    with pytest.raises(SchemaError, match="rows × columns"):
        NearestCentroid.from_plain([1.0, 2.0])
    with pytest.raises(SchemaError, match="not fitted"):
        _ = NearestCentroid().centroids_
    with pytest.raises(SchemaError, match="add up"):
        NearestCentroid().fit(rows, holder.encrypt(2 * one_hot(y), bounds=2), opener=holder)


def test_labels_may_be_an_encrypted_column_of_categories(holder):
    frame = pd.DataFrame({"x": [0.0, 1.0, 5.0], "kind": pd.Categorical(["low", "low", "high"])})
    enc = holder.encrypt(frame)
    model = NearestCentroid().fit(enc[["x"]], enc[["kind"]], opener=holder)
    assert dict(zip(model.classes_, model.centroids_.ravel().round(3), strict=True)) == {
        "high": 5,
        "low": 0.5,
    }


def test_a_centroid_at_the_origin(holder):
    model = NearestCentroid.from_plain([[0.0, 0.0], [4.0, 0.0]])
    opened = holder.decrypt(model.decision_function(holder.encrypt(np.array([[1.0, 9.0], [3.0, -9.0]]))))
    assert model.classes_of(opened).tolist() == [0, 1]
    assert np.abs(np.asarray(opened)[:, 0]).max() < 1e-5


# k-means ------------------------------------------------------------------------------------------------


def test_centres_equal_those_of_scikit_learn(holder, iris, rows, first, clear):
    used = holder.ledger.used
    model = KMeans(3, init=first).fit(rows, opener=holder)
    assert np.abs(model.cluster_centers_ - clear.cluster_centers_).max() < 1e-5
    assert sorted(model.counts_) == sorted(np.bincount(clear.labels_))
    # scores, counts and sums of every step, and nothing else
    assert holder.ledger.used - used == model.n_iter_ * (3 + 3 + 3 * 4)
    opened = holder.decrypt(model.decision_function(rows))
    assert (model.classes_of(opened) == clear.labels_).all()
    assert model.score(iris[0]) == pytest.approx(-clear.inertia_, rel=1e-6)


def test_owners_who_keep_their_assignments(holder, iris, first, clear):
    """Two owners, who have only the public half; one opening for both."""
    public = Evaluator.from_bytes(holder.evaluator().to_bytes())
    parts = iris[0].iloc[::2], iris[0].iloc[1::2]
    frames = [public.encrypt(part) for part in parts]
    used = holder.ledger.used
    model = KMeans(3, init=first).fit(
        frames, opener=holder, assign=[assigner(part, public) for part in parts]
    )
    assert np.abs(model.cluster_centers_ - clear.cluster_centers_).max() < 1e-5
    # no score of a row was opened
    assert holder.ledger.used - used == model.n_iter_ * (3 + 3 * 4)


def test_a_committee_opens_the_sums_of_clusters(iris, first, clear):
    own = KeyHolder.generate("linear")
    public = own.evaluator()
    committee = Committee.deal(own, 2, 3)
    model = KMeans(3, init=first, tol=1e-2).fit(
        public.encrypt(iris[0], bounds=8.0), opener=committee, assign=assigner(iris[0], public)
    )
    assert np.abs(model.cluster_centers_ - clear.cluster_centers_).max() < 1e-3
    with pytest.raises(SchemaError, match="owner"):
        KMeans(3, init=first).fit(public.encrypt(iris[0]), opener=committee)


def test_first_centres_are_drawn_like_the_rows(holder, iris, rows):
    one = KMeans(2, max_iter=1, random_state=5)._first([rows], holder, 1e-6)
    mean, spread = iris[0].mean().to_numpy(), iris[0].std(ddof=0).to_numpy()
    wanted = np.random.default_rng(5).normal(mean, spread, (2, 4))
    assert np.abs(one - wanted).max() < 1e-4
    model = KMeans(2, random_state=5).fit(rows, opener=holder)
    again = sklearn.cluster.KMeans(2, init=wanted, n_init=1, algorithm="lloyd", tol=0).fit(iris[0])
    assert np.abs(model.cluster_centers_ - again.cluster_centers_).max() < 1e-5


def test_a_centre_without_rows_stays(holder, iris, rows, first):
    far = np.vstack([first, [15.0, 15.0, 15.0, 15.0]])
    model = KMeans(4, init=far, max_iter=2).fit(rows, opener=holder)
    assert model.counts_[3] == 0
    assert model.cluster_centers_[3].tolist() == [15.0] * 4
    assert model.n_iter_ == 2


def test_centres_from_scikit_learn(holder, iris, rows, clear):
    model = KMeans.from_sklearn(clear)
    opened = holder.decrypt(model.decision_function(rows))
    assert (model.classes_of(opened) == clear.labels_).all()
    assert (KMeans.from_plain(clear.cluster_centers_).simulate(iris[0]) == model.simulate(iris[0])).all()


def test_clusters_that_cannot_be(holder, stranger, iris, rows, first):
    x = iris[0]
    with pytest.raises(SchemaError, match="init has shape"):
        KMeans(2, init=first).fit(rows, opener=holder)
    with pytest.raises(SchemaError, match="n_clusters"):
        KMeans(0)
    with pytest.raises(SchemaError, match="different columns"):
        KMeans(3, init=first).fit([rows, holder.encrypt(x.to_numpy())], opener=holder)
    with pytest.raises(SchemaError, match="ways to assign"):
        KMeans(3, init=first).fit([rows, rows], opener=holder, assign=assigner(x, holder))
    with pytest.raises(SchemaError, match="came back"):
        KMeans(3, init=first).fit(rows, opener=holder, assign=assigner(x.head(9), holder))
    with pytest.raises(WrongKey):
        KMeans(3, init=first).fit(rows, opener=holder, assign=assigner(x, stranger))
    with pytest.raises(SchemaError, match="add up"):
        KMeans(3, init=first).fit(
            rows, opener=holder, assign=lambda _: holder.encrypt(np.ones((150, 3)), bounds=1)
        )
