"""striate: the working laboratory for the classic convolutional networks, LeNet-5 to ResNet."""

__version__ = "0.1.0"
