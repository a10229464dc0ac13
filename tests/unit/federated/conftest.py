"""Five hospitals with breast-cancer rows, and the classifier that they train together."""

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from twopm_kit import datasets
from twopm_kit.federated import FaultTolerantFedAvg, HorizontalLearning


def batches(frame, size, *, shuffle):
    x = torch.tensor(frame.drop(columns="target").to_numpy(), dtype=torch.float32)
    y = torch.tensor(frame["target"].to_numpy(), dtype=torch.float32)[:, None]
    return DataLoader(TensorDataset(x, y), batch_size=size, shuffle=shuffle)


class Classifier(HorizontalLearning):
    """Logistic regression in torch."""

    def __init__(self, max_rounds=8, **options):
        strategy = FaultTolerantFedAvg(min_clients=3, max_clients=10, merge_epoch=2)
        super().__init__("breast cancer", max_rounds, validate_frac=0.2, strategy=strategy, **options)
        torch.manual_seed(0)
        self.model = torch.nn.Linear(30, 1)
        self.loss = torch.nn.BCEWithLogitsLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.3)

    def dataset(self):
        return "breast_cancer"

    def make_train_dataloader(self, dataset):
        return batches(dataset, 16, shuffle=True)

    def make_validate_dataloader(self, dataset):
        return batches(dataset, 256, shuffle=False)

    def train(self, dataloader):
        for x, y in dataloader:
            self.optimizer.zero_grad()
            self.loss(self.model(x), y).backward()
            self.optimizer.step()

    def validate(self, dataloader):
        x, y = (torch.cat(parts) for parts in zip(*dataloader, strict=True))
        logits = self.model(x)
        hits = ((logits > 0) == (y > 0.5)).float().mean()
        return {"loss": self.loss(logits, y).item(), "accuracy": hits.item()}

    def state_dict(self):
        return self.model.state_dict()


def accuracy(state, frame):
    x = frame.drop(columns="target").to_numpy()
    logits = x @ state["weight"].ravel() + state["bias"]
    return float(((logits > 0) == (frame["target"] > 0.5)).mean())


@pytest.fixture(scope="session")
def patients():
    """Standardised training and test rows."""
    frame = datasets.load("breast_cancer")
    train, test = datasets.split(frame, test=0.3, label="target", seed=7)
    mean, std = train.drop(columns="target").mean(), train.drop(columns="target").std()

    def scaled(rows: pd.DataFrame) -> pd.DataFrame:
        return ((rows.drop(columns="target") - mean) / std).assign(target=rows["target"])

    return scaled(train), scaled(test)


@pytest.fixture(scope="session")
def hospitals(patients):
    parts = datasets.partition(patients[0], 5, scheme="dirichlet", alpha=2.0, label="target", seed=3)
    return {f"hospital-{i}": part for i, part in enumerate(parts, start=1)}


@pytest.fixture
def classifier():
    return Classifier
