import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from twopm_kit.fhe import KeyHolder


@pytest.fixture(scope="session")
def holder():
    return KeyHolder.generate("linear", budget=1_000_000)


@pytest.fixture(scope="session")
def stranger():
    return KeyHolder.generate("linear")


@pytest.fixture(scope="session")
def cancer():
    x, y = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = pd.DataFrame(StandardScaler().fit_transform(x), columns=x.columns)
    return frame, y, LogisticRegression(max_iter=2000).fit(frame, y)


@pytest.fixture(scope="session")
def iris():
    return load_iris(return_X_y=True, as_frame=True)


@pytest.fixture(scope="session")
def rows(holder, iris):
    return holder.encrypt(iris[0])


@pytest.fixture
def small():
    return pd.DataFrame(np.random.default_rng(1).normal(size=(7, 3)), columns=["a", "b", "c"])
