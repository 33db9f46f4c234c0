"""VGG-16 on ImageNet-like photos, as published.

Source: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", arXiv
1409.1556, sec. 3.1: batch 256, momentum 0.9, weight decay 5e-4, dropout 0.5, rate 0.01 divided by ten when
the validation accuracy stops improving, three times, 74 epochs; shorter side 256 (S = 256), random 224 x
224 crop, flip, AlexNet's colour shift.

Published result (ILSVRC-2012 validation, dense, S = 256, Q = 256): top-1 error 27.0 %, top-5 8.8 %.

Departures: the mean and standard deviation of each channel instead of the mean alone; the crop is cut from
the central 256 x 256 square; five epochs without improvement count as "stopped". Not trained to the end
here: ImageNet is not at hand.

Command: ``striate train vgg16 --data FOLDER --recipe vgg16``
"""

from striate.recipes.recipe import Recipe

RECIPE = Recipe(
    name="vgg16",
    epochs=74,
    batch_images=256,
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="plateau",
    canvas_px=256,
    flip=True,
    colour_pca_std=0.1,
)
