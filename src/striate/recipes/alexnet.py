"""AlexNet on ImageNet-like photos, as published.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", NIPS
2012, sec. 4 and 5: batch 128, momentum 0.9 in the paper's own form, weight decay 5e-4, dropout 0.5,
rate 0.01 divided by ten when the validation error stops improving, three times, about 90 epochs; images of
256 x 256 (sec. 2), random 224 x 224 crop, flip, colour shift of standard deviation 0.1.

Published result (ILSVRC-2012 validation, one network, average over ten crops): top-1 error 40.7 %, top-5
18.2 %.

Departures: the mean of each channel is subtracted instead of the mean of each pixel; the crop is cut from the
central 256 x 256 square; the authors lowered the rate by hand, here five epochs without improvement count as
"stopped". The paper does not say whether biases decay; they do. Caffe's replicas (``alexnet_caffe``,
``caffenet``) were trained with batches of 256, the rate divided by ten every 100,000 of 450,000 steps, a
doubled rate and no decay for biases, and no colour shift. Not trained to the end here: ImageNet is not at
hand.

Command: ``striate train alexnet --data FOLDER --recipe alexnet``
"""

from striate.recipes.recipe import Recipe

RECIPE = Recipe(
    name="alexnet",
    epochs=90,
    batch_images=128,
    optimizer="krizhevsky",
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="plateau",
    plateau_drops=3,
    canvas_px=256,
    normalise="mean",
    flip=True,
    colour_pca_std=0.1,
)
