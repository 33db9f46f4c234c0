"""LeNet-5 (as lectured) on MNIST: images/s of a whole training epoch, striate beside the usual loop.

Example: ``python benchmarks/train_mnist.py --data mnist`` (or the path of an archive of class folders).
"""

from training_speed import arguments, compare


def transform(torchvision_transforms):
    """Make the usual transform: pad 28 to 32, to tensor, normalise."""
    t = torchvision_transforms
    return t.Compose([t.Pad(2), t.ToTensor(), t.Normalize((0.1307,), (0.3081,))])


if __name__ == "__main__":
    compare("lenet5_modern", "lenet5", arguments("mnist", __doc__ or ""), transform, target=3.0)
