"""ZFNet on ImageNet-like photos, after Zeiler and Fergus 2013.

Source: Zeiler, Fergus, "Visualizing and understanding convolutional networks", arXiv 1311.2901, sec. 3: batch
128, momentum 0.9, dropout 0.5, rate 0.01 lowered by hand when the validation error stops improving, 70
epochs; images of 256 x 256, ten crops of 224 x 224 (corners and centre, each mirrored).

Published result (ILSVRC-2012 validation, one network): top-1 error 38.4 %, top-5 16.5 %.

Departures: the paper rescales every convolution filter whose root mean square exceeds 0.1 back to 0.1; a
recipe cannot, so this one does not. Its ten fixed crops are random crops and flips here. Weight decay is not
stated, nor are the factor and number of the drops, nor the form of momentum: 5e-4, ten, three and AlexNet's,
for the paper trains otherwise as AlexNet. The mean of each channel is subtracted instead of the mean
of each pixel; five epochs without improvement count as "stopped". Not trained to the end here: ImageNet is
not at hand.

Command: ``striate train zfnet --data FOLDER --recipe zfnet``
"""

from striate.recipes.recipe import Recipe

RECIPE = Recipe(
    name="zfnet",
    epochs=70,
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
)
