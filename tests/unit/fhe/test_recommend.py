import numpy as np
import pandas as pd
import pytest

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe import EncryptedFrame, Evaluator, KeyHolder
from twopm_kit.fhe.layouts import Layout
from twopm_kit.fhe.models.recommend import Recommender, top, user_vector


def tastes(seed=0, users=400, movies=300, rank=12):
    """Item vectors by truncated decomposition of ratings that follow hidden tastes."""
    rng = np.random.default_rng(seed)
    ratings = rng.normal(size=(users, rank)) @ rng.normal(size=(rank, movies)) + rng.normal(
        size=(users, movies)
    )
    ratings *= rng.random((users, movies)) < 0.3
    _, sizes, right = np.linalg.svd(ratings - ratings.mean(), full_matrices=False)
    vectors = right[:rank].T * np.sqrt(sizes[:rank])
    return pd.DataFrame(vectors, index=[f"movie {i}" for i in range(movies)]).rename(
        columns="taste {}".format
    )


def ask(recommender, holder, users, **how):
    return recommender.score(holder.encrypt(users, plan=recommender.plan(), **how))


@pytest.mark.parametrize(
    ("items", "width"), [(4096, 64), (300, 12), (5, 3), (5000, 20), (20000, 8), (7, 1), (33, 100)]
)
def test_scores_and_best_items_equal_the_clear_ones(holder, items, width):
    rng = np.random.default_rng(items)
    recommender = Recommender(rng.normal(size=(items, width)) / np.sqrt(width))
    user = rng.uniform(-1, 1, size=(1, width))
    scores = ask(recommender, holder, user)
    assert scores.shape == (items, 1)
    assert scores.columns == ["score"]
    assert scores.level == 0
    assert scores.n_ciphertexts == (1 if items <= 4096 else -(-items // 8192))
    clear = recommender.simulate(user)
    opened = holder.decrypt(scores)
    assert np.abs(opened.to_numpy() - clear).max() < 1e-5
    assert np.abs(holder.decrypt(scores, flood=False).to_numpy() - clear).max() < 1e-6
    best = np.argsort(-clear.ravel(), kind="stable")[:10]
    assert recommender.top(opened)["item"].tolist() == best.tolist()


def test_the_noise_in_the_header_is_no_less_than_the_true_one(holder):
    """Flooding is made from it."""
    rng = np.random.default_rng(1)
    for items in (4096, 8192):
        recommender = Recommender(rng.normal(size=(items, 64)))
        user = rng.uniform(-1, 1, size=(1, 64))
        scores = ask(recommender, holder, user)
        error = holder.decrypt(scores, flood=False).to_numpy() - recommender.simulate(user)
        found = error.std() * scores.scale / np.sqrt(holder.engine.slots)
        assert scores.heads[0].noise / 16 < found < scores.heads[0].noise


def test_history_to_suggestions(holder):
    """The whole way: history in clear at the user, bytes to the server and back, best items at the user."""
    items = tastes()
    history = ["movie 3", "movie 7", "movie 11"]
    user = user_vector(history, items)
    recommender = Recommender(items)
    public = Evaluator.from_bytes(holder.evaluator(rotations=recommender.rotations).to_bytes())
    sent = holder.encrypt(user, plan=recommender.plan()).to_bytes()
    assert len(sent) < 200_000
    answer = recommender.score(EncryptedFrame.from_bytes(sent, public)).to_bytes()
    opened = holder.decrypt(EncryptedFrame.from_bytes(answer, holder))
    found = recommender.top(opened, 5, exclude=history)
    wanted = pd.Series(items.to_numpy() @ user.to_numpy().ravel(), index=items.index).drop(history)
    assert found["item"].tolist() == wanted.nlargest(5).index.tolist()
    assert np.abs(found["score"] - wanted.nlargest(5).to_numpy()).max() < 1e-4
    assert list(found.columns) == ["item", "score"]


def test_several_users(holder):
    rng = np.random.default_rng(2)
    recommender = Recommender(rng.normal(size=(50, 6)))
    users = rng.uniform(-1, 1, size=(3, 6))
    opened = holder.decrypt(ask(recommender, holder, users))
    assert opened.columns.tolist() == ["score_0", "score_1", "score_2"]
    assert np.abs(opened.to_numpy() - recommender.simulate(users)).max() < 1e-5


def test_very_many_users_in_columns_need_no_keys(holder):
    items = tastes(movies=100)
    recommender = Recommender(items)
    users = pd.DataFrame(np.random.default_rng(3).uniform(-1, 1, size=(500, 12)), columns=items.columns)
    enc = EncryptedFrame.from_bytes(holder.encrypt(users[users.columns[::-1]]).to_bytes())
    some = ["movie 4", "movie 99"]
    opened = holder.decrypt(recommender.score(enc, some))
    assert opened.columns.tolist() == some
    assert np.abs(opened.to_numpy() - users.to_numpy() @ items.loc[some].T.to_numpy()).max() < 1e-4
    assert recommender.score(enc).shape == (500, 100)


@pytest.mark.parametrize("profile", ["train", "cnn", "deep"])
def test_other_profiles(profile):
    own = KeyHolder.generate(profile)
    recommender = Recommender(tastes(movies=40, rank=5) / 8)
    user = pd.DataFrame(np.random.default_rng(4).uniform(-1, 1, (1, 5)), columns=recommender.columns)
    scores = ask(recommender, own, user)
    error = np.abs(own.decrypt(scores, flood=False).to_numpy() - recommender.simulate(user)).max()
    assert error < (1e-6 if profile == "deep" else 5e-3)


def test_the_plan_names_what_it_takes(holder):
    recommender = Recommender(np.random.default_rng(5).normal(size=(9000, 33)))
    plan = recommender.plan()
    assert plan.rotations == set(recommender.rotations) == {*range(1, 8), *range(8, 64, 8)}
    assert plan.depth == 1
    assert plan.seconds > 0
    scores = ask(recommender, holder, np.ones((1, 33)))
    assert scores.nbytes == pytest.approx(plan.bytes_down, rel=0.15)
    assert plan.describe()["rotations"].tolist() == [7, 0, 14]
    assert plan.describe()["scale (bits)"].tolist() == [50.0, np.log2(scores.scale), np.log2(scores.scale)]


def test_a_plan_brings_layout_and_rotation_keys(holder):
    recommender = Recommender(tastes(movies=50))
    user = np.linspace(-1, 1, 12).reshape(1, -1)
    enc = holder.encrypt(user, plan=recommender.plan())
    assert enc.layout == Layout.blocks()
    assert enc.keys().steps == set(recommender.rotations)
    assert np.abs(holder.decrypt(recommender.score(enc)) - recommender.simulate(user)).to_numpy().max() < 1e-4


def test_rotations_without_keys_are_named(holder):
    recommender = Recommender(np.ones((4, 4)))
    enc = holder.encrypt(np.ones((1, 4)), layout=Layout.blocks())
    with pytest.raises(CiphertextError, match="needs a key") as caught:
        recommender.score(enc)
    assert "rotations" in caught.value.hint


def test_users_that_cannot_be(holder):
    recommender = Recommender(pd.DataFrame(np.ones((3, 2)), columns=["a", "b"], index=["x", "y", "z"]))
    user = np.ones((1, 2))
    with pytest.raises(SchemaError, match="EncryptedFrame"):
        recommender.score(user)
    with pytest.raises(SchemaError, match="3 columns"):
        recommender.score(holder.encrypt(np.ones((1, 3))))
    with pytest.raises(SchemaError, match="lacks"):
        recommender.score(holder.encrypt(pd.DataFrame({"a": [1.0], "c": [1.0]})))
    with pytest.raises(CiphertextError, match="blocks"):
        recommender.score(holder.encrypt(np.ones((2, 2)), layout=Layout.blocks(2)))
    with pytest.raises(CiphertextError, match="items were chosen"):
        recommender.score(holder.encrypt(user, layout=Layout.blocks()), ["x"])
    with pytest.raises(SchemaError, match="1 of them unknown"):
        recommender.score(holder.encrypt(user), ["x", "other"])
    with pytest.raises(CiphertextError, match="level 0"):
        recommender.score(holder.encrypt(user).drop_to(0))
    with pytest.raises(SchemaError, match="dimensions"):
        recommender.simulate([[1.0]])
    assert "3 items × 2 dimensions" in repr(recommender)


def test_items_that_cannot_be():
    with pytest.raises(SchemaError, match="all zero"):
        Recommender(np.zeros((3, 2)))
    with pytest.raises(SchemaError, match="all zero"):
        Recommender([1.0, 2.0])
    with pytest.raises(SchemaError, match="2 different"):
        Recommender(np.ones((3, 2)), names=["a", "a", "b"])
    with pytest.raises(SchemaError, match="not finite"):
        Recommender([[np.nan]])


def test_complex_numbers_are_refused():
    items = pd.DataFrame(np.eye(3))
    for work in (lambda: Recommender(items + 1j), lambda: Recommender(items).simulate([1j, 0, 0])):
        with pytest.raises(SchemaError, match="complex"):
            work()


def test_user_vectors():
    items = pd.DataFrame({"a": [1.0, 0.0, 2.0], "b": [0.0, 1.0, 2.0]}, index=["x", "y", "z"])
    assert user_vector(["x", "z"], items).to_numpy().tolist() == [[1.5, 1.0]]
    assert user_vector({"x": 3.0, "y": -1.0}, items, name="me").loc["me"].tolist() == [0.75, -0.25]
    for history, words in ((["w"], "unknown"), ([], "0 items"), ({"x": 0.0}, "every weight")):
        with pytest.raises(SchemaError, match=words):
            user_vector(history, items)


def test_best_items():
    scores = [0.1, 0.9, 0.9, -2.0]
    assert top(scores, 3, names=list("abcd"))["item"].tolist() == ["b", "c", "a"]
    assert top(scores, 9, exclude=[1]).to_numpy().tolist() == [[2, 0.9], [0, 0.1], [3, -2.0]]
    for wrong in ((np.ones((2, 2)), 1, None), (scores, 0, None), (scores, 1, ["a", "b"])):
        with pytest.raises(SchemaError, match="scores of shape"):
            top(wrong[0], wrong[1], names=wrong[2])
