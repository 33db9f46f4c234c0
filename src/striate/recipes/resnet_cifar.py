"""Residual and plain networks on CIFAR-10, as published.

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv 1512.03385, sec. 4.2:
batch 128, momentum 0.9, weight decay 1e-4, no dropout; rate 0.1, divided by ten at 32,000 and 48,000 of
64,000 iterations, which with 45,000 + 5,000 images held back for choosing it, and 391 iterations an epoch
on all 50,000, are epochs 82, 123 and 164; 4 pixels of padding, random 32 x 32 crop, horizontal flip.

Published result (lossless CIFAR-10): test error 8.75 % (20 layers), 7.51 (32), 7.17 (44), 6.97 (56), 6.43
(110).

Departures: one mean and standard deviation for each channel instead of the mean image; all 50,000 images
train, and the last weights are tested, as usual in replications. For 110 layers the paper starts at 0.01
until the training error is below 80 %: ``warmup_epochs=1`` stands in for it.

Command: ``striate train resnet20 --data cifar10 --recipe resnet_cifar``
"""

from striate.recipes.recipe import Recipe

RECIPE = Recipe(
    name="resnet_cifar",
    epochs=164,
    batch_images=128,
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="steps",
    step_epochs=(82.0, 123.0),
    step_factor=0.1,
    crop_pad_px=4,
    crop_fill="mean",
    flip=True,
    val_fraction=0.0,
    select="last",
)
