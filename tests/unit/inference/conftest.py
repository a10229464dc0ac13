"""Patients, a model of them, a key, and a desk with a paid service."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from twopm_kit import chain as chains
from twopm_kit import datasets
from twopm_kit.fhe import KeyHolder
from twopm_kit.inference import PredictionClient, PredictionDesk, PredictionService, Predictor

PRICE = 1_000


@pytest.fixture(scope="session")
def patients():
    """Raw training and test rows of breast cancer."""
    return datasets.split(datasets.load("breast_cancer"), test=0.3, label="target", seed=7)


@pytest.fixture(scope="session")
def scaler(patients):
    rows = patients[0].drop(columns="target")
    return rows.mean(), rows.std()


@pytest.fixture(scope="session")
def fitted(patients, scaler):
    """The reference: scikit-learn on standardised rows."""
    rows = patients[0].drop(columns="target")
    return LogisticRegression().fit(((rows - scaler[0]) / scaler[1]).to_numpy(), patients[0]["target"])


@pytest.fixture(scope="session")
def predictor(patients, scaler, fitted):
    features = [c for c in patients[0].columns if c != "target"]
    return Predictor(fitted.coef_, fitted.intercept_, features=features, scaler=scaler, name="breast cancer")


@pytest.fixture(scope="session")
def rows(patients):
    """Raw test rows without the answer."""
    return patients[1].drop(columns="target")


@pytest.fixture(scope="session")
def holder():
    return KeyHolder.generate("linear", budget=1_000_000)


@pytest.fixture(scope="session")
def other_holder():
    return KeyHolder.generate("linear")


@pytest.fixture(scope="session")
def small():
    """A model of two columns, without a scaler."""
    return Predictor([1.0, -2.0], 0.5, features=["a", "b"], name="small")


@pytest.fixture(scope="session")
def points():
    import pandas as pd

    values = np.random.default_rng(1).normal(size=(6, 2))
    return pd.DataFrame(values, columns=["a", "b"], index=list("uvwxyz"))


@pytest.fixture(scope="session")
def shared_chain():
    with chains.connect("embedded") as fresh:
        yield fresh


@pytest.fixture
def chain(shared_chain):
    """One chain for all tests; each sees it as if it were alone."""
    with shared_chain.snapshot():
        yield shared_chain


@pytest.fixture
def owner(chain):
    return chain.account("owner", fund=10**20)


@pytest.fixture
def alice(chain):
    return chain.account("alice", fund=10**20)


@pytest.fixture
def bob(chain):
    return chain.account("bob", fund=10**20)


@pytest.fixture
def desk(chain, owner):
    return PredictionDesk.deploy(chain, owner)


@pytest.fixture
def listing(desk, small, owner):
    return desk.register(small, price=PRICE, sender=owner, answer_blocks=10)


@pytest.fixture
def service(desk, small, listing, owner):
    return PredictionService(small, desk, listing, account=owner)


@pytest.fixture
def client(desk, listing, alice):
    """Asks in clear."""
    return PredictionClient(desk, listing, account=alice)


@pytest.fixture
def secret_client(desk, listing, alice, holder):
    """Asks on ciphertexts."""
    return PredictionClient(desk, listing, account=alice, holder=holder)
