"""ResNet-20 on CIFAR-10: images/s of a whole training epoch, striate beside the usual loop.

Example: ``python benchmarks/train_cifar.py --data cifar10`` (or the path of an archive of class folders).
"""

from training_speed import arguments, compare


def transform(torchvision_transforms):
    """Make the usual transform: pad and crop, flip, to tensor, normalise."""
    t = torchvision_transforms
    return t.Compose(
        [
            t.RandomCrop(32, padding=4),
            t.RandomHorizontalFlip(),
            t.ToTensor(),
            t.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ]
    )


if __name__ == "__main__":
    compare(
        "resnet20", "resnet_cifar", arguments("cifar10", __doc__ or ""), transform, target=2.8, compiled=True
    )
