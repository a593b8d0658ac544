"""The model, its data, and how it is trained and tested."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Net(nn.Module):
    """One hidden layer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        """Scores of ten digits."""
        return self.layers(x)


def digits(test=False):
    """A fifth of the images is kept for tests by the server; members share the rest."""
    images, labels = load_digits(return_X_y=True)
    dataset = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    train, held_out = random_split(dataset, [0.8, 0.2], torch.Generator().manual_seed(42))
    return held_out if test else train


def load_data(partition_id, num_partitions, batch_size):
    """A member's own rows: four fifths to train on, one to validate."""
    own = torch.utils.data.Subset(digits(), range(partition_id, len(digits()), num_partitions))
    train, validation = random_split(own, [0.8, 0.2], torch.Generator().manual_seed(partition_id))
    return DataLoader(train, batch_size, shuffle=True), DataLoader(validation, batch_size)


def train(model, loader, epochs, lr):
    """Plain SGD; gives the mean loss of the last epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    loss_fn = nn.CrossEntropyLoss()
    model.train()
    for _ in range(epochs):
        total = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
    return total / len(loader)


def test(model, loader):
    """Loss and accuracy."""
    model.eval()
    loss, right, rows = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in loader:
            scores = model(images)
            loss += nn.functional.cross_entropy(scores, labels, reduction="sum").item()
            right += (scores.argmax(1) == labels).sum().item()
            rows += len(labels)
    return loss / rows, right / rows
