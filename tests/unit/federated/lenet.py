"""LeNet on handwritten digits: the convolutional network that ten nodes train together."""

import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from twopm_kit.federated import FaultTolerantFedAvg, HorizontalLearning


def digits(frame, size, *, shuffle):
    """Return batches of 8×8 images, with ink from 0 to 1, and their labels."""
    pixels = torch.tensor(frame.drop(columns="target").to_numpy(), dtype=torch.float32) / 16
    labels = torch.tensor(frame["target"].to_numpy(), dtype=torch.int64)
    return DataLoader(TensorDataset(pixels.reshape(-1, 1, 8, 8), labels), batch_size=size, shuffle=shuffle)


class LeNet(nn.Sequential):
    """The layers of LeNet (LeCun et al. 1998) at sizes that suit 8×8 images: 43,102 parameters."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        )
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)


class Digits(HorizontalLearning):
    """Ten classes of digits, SGD with momentum."""

    def __init__(self, max_rounds: int = 10, epochs: int = 3, rate: float = 0.03, strategy=None, **options):
        strategy = strategy or FaultTolerantFedAvg(min_clients=5, max_clients=10, merge_epoch=epochs)
        super().__init__("digits", max_rounds, validate_frac=0.1, strategy=strategy, **options)
        torch.manual_seed(0)
        self.rate = rate
        self.model = LeNet()
        self.loss = nn.CrossEntropyLoss()

    def dataset(self) -> str:
        return "digits"

    def make_train_dataloader(self, dataset: pd.DataFrame):
        return digits(dataset, 16, shuffle=True)

    def make_validate_dataloader(self, dataset: pd.DataFrame):
        return digits(dataset, 256, shuffle=False)

    def train(self, dataloader) -> None:
        optimizer = torch.optim.SGD(self.model.parameters(), lr=self.rate, momentum=0.9)
        for images, labels in dataloader:
            optimizer.zero_grad()
            (self.loss(self.model(images), labels) + self.proximal(self.model)).backward()
            optimizer.step()

    def validate(self, dataloader) -> dict[str, float]:
        images, labels = (torch.cat(parts) for parts in zip(*dataloader, strict=True))
        scores = self.model(images)
        hits = (scores.argmax(1) == labels).float().mean()
        return {"loss": self.loss(scores, labels).item(), "accuracy": hits.item()}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.model.state_dict()


def accuracy(result, frame):
    """Return the part of rows that a result's model tells right."""
    model = LeNet()
    model.load_state_dict(result.state_dict)
    ((images, labels),) = digits(frame, len(frame), shuffle=False)
    return float((model(images).argmax(1) == labels).float().mean())
