"""Residual and plain networks on ImageNet-like photos, as published.

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv 1512.03385, sec. 3.4:
batch 256, momentum 0.9, weight decay 1e-4, no dropout; rate 0.1, divided by ten when the error stops falling;
up to 600,000 iterations, which with 1.28 million images are 120 epochs; shorter side drawn from [256, 480],
random 224 x 224 crop, flip, AlexNet's colour shift.

Published result (ILSVRC-2012 validation, ten crops), top-1 / top-5 error in per cent: ResNet-34 24.52 / 7.46,
ResNet-50 22.85 / 6.71, ResNet-101 21.75 / 6.05, ResNet-152 21.43 / 5.71.

Departures: the crop is cut from the central 256 x 256 square, not from a picture whose shorter side is drawn
anew each time; the mean and standard deviation of each channel instead of the mean image; five epochs without
improvement count as "stopped", and the rate drops three times at most. Not trained to the end here: ImageNet
is not at hand.

Command: ``striate train resnet50 --data FOLDER --recipe resnet``
"""

from striate.recipes.recipe import Recipe

RECIPE = Recipe(
    name="resnet",
    epochs=120,
    batch_images=256,
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="plateau",
    canvas_px=256,
    flip=True,
    colour_pca_std=0.1,
)
