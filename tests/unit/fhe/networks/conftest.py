import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors on busy cores: threads would wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def digits():
    """Real images: 1400 rows to train on, 397 to test on."""
    data = load_digits()
    x = torch.tensor(data.data / 16.0, dtype=torch.float32).view(-1, 1, 8, 8)
    y = torch.tensor(data.target)
    return x[:1400], y[:1400], x[1400:], y[1400:]


class Squares(nn.Module):
    """The digits CNN: conv 4@3×3, square, fc 32, square, fc 10."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc1 = nn.Linear(144, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = self.conv(x) ** 2
        x = x.view(x.size(0), -1)
        return self.fc2(torch.square(self.fc1(x)))


@pytest.fixture(scope="session")
def squares():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Squares().eval()


@pytest.fixture(scope="session")
def relu_net(digits):
    """A trained network of the usual kind."""
    x, y, _, _ = digits
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Flatten(),
            nn.Linear(128, 32),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(32, 10),
        )
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(15):
            for rows in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
    return net.eval()
