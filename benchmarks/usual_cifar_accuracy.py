"""What the usual loop's recipe reaches on CIFAR-10 in a given number of epochs: the figure beside striate's.

SGD with momentum 0.9, weight decay 1e-4, rate 0.1 divided by ten at half and at three quarters, padded random
crops and flips by torchvision in a two-worker DataLoader, float32, no validation, last weights. ``--compile``
computes the same in less time (channels_last, torch.compile).

Example: ``python benchmarks/usual_cifar_accuracy.py --epochs 24 --data cifar10``
"""

import argparse
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from train_cifar import transform
from training_speed import peer_images
from usual_loop import Loader, transforms

from striate.core.environment import describe_machine
from striate.data.source import SPLIT_NAMES
from striate.data.sources import open_source
from striate.metrics.interval import wilson
from striate.nets import build


def main() -> None:
    """Train, test, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["cifar10"])
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--images", type=int, default=0, help="training images (0: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torchvision_transforms = transforms()
    source = open_source(options.data)
    parts = {}
    for code, name in enumerate(SPLIT_NAMES):
        members = np.flatnonzero(source.splits == code)
        if name == "train" and options.images:
            members = np.random.default_rng(0).permutation(members)[: options.images]
        if len(members):
            pixels = np.stack([np.asarray(image) for image in peer_images(source, members)])
            parts[name] = (pixels, source.labels[members])
    for_test = torchvision_transforms.Compose(transform(torchvision_transforms).transforms[-2:])
    train = Loader(*parts["train"], transform(torchvision_transforms))
    test = Loader(*parts["test"], for_test)
    torch.manual_seed(options.seed)
    net = build("resnet20").train()
    forward = net
    if options.compile:
        net.to(memory_format=torch.channels_last)
        forward = torch.compile(net, dynamic=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    drops = [options.epochs // 2, options.epochs * 3 // 4]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
    loader = DataLoader(train, batch_size=128, shuffle=True, num_workers=2)
    begun = time.perf_counter()
    for epoch in range(options.epochs):
        total = 0.0
        for images, labels in loader:
            if options.compile:
                images = images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy((forward if len(images) == 128 else net)(images), labels)
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(images)
        schedule.step()
        print(
            f"epoch {epoch + 1}: loss {total / len(train):.4f}, {time.perf_counter() - begun:.0f} s",
            flush=True,
        )
    seconds = time.perf_counter() - begun
    net.eval()
    right = 0
    with torch.inference_mode():
        for images, labels in DataLoader(test, batch_size=256):
            right += int((net(images).argmax(1) == labels).sum())
    interval = wilson(right, len(test))
    print(
        f"usual loop{' (compiled)' if options.compile else ''}, {options.epochs} epochs, seed {options.seed}:"
        f" test accuracy {right / len(test):.2%} (95% interval {interval.low:.2%} to {interval.high:.2%}),"
        f" {seconds:,.0f} s; {describe_machine(torch.device('cpu'))}"
    )


if __name__ == "__main__":
    main()
