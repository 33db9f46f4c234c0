"""The training loop that most people write: torchvision transforms, DataLoader, eager float32.

Needs torchvision: ``pip install --no-deps torchvision==0.28.0``.
"""

import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset


def transforms():
    """Import torchvision.transforms also where its compiled operators don't load (CPU builds of torch)."""
    own = torch.library.register_fake

    def lenient(name, *arguments, **keywords):
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return own(name, *arguments, **keywords)

    torch.library.register_fake = lenient
    try:
        from torchvision import transforms
    except ImportError:
        raise SystemExit("this benchmark needs its peer: pip install --no-deps torchvision==0.28.0") from None
    finally:
        torch.library.register_fake = own
    return transforms


class Loader(Dataset):
    """Decoded images in memory, turned into PIL images and transformed one by one."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def run_epoch(
    net: nn.Module, data: Dataset, *, batch: int, lr: float, momentum: float, decay: float
) -> float:
    """Train one epoch and return images/s, workers' start included, as the user waits for it."""
    loader = DataLoader(data, batch_size=batch, shuffle=True, num_workers=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
    objective = nn.CrossEntropyLoss()
    net.train()
    begun = time.perf_counter()
    for images, labels in loader:
        optimizer.zero_grad()
        objective(net(images), labels).backward()
        optimizer.step()
    return len(data) / (time.perf_counter() - begun)


def bare_step_rate(net: nn.Module, shape: tuple[int, ...], *, dtype: torch.dtype | None, steps: int) -> float:
    """Return images/s of forward, backward and step on one batch that is already there."""
    net = net.to(memory_format=torch.channels_last).train()
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (shape[0],))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    begun = 0.0
    for step in range(steps + 5):
        if step == 5:
            begun = time.perf_counter()
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            outputs = net(images)
        loss = nn.functional.cross_entropy(outputs.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return steps * shape[0] / (time.perf_counter() - begun)
