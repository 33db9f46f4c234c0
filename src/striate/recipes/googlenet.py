"""GoogLeNet on ImageNet-like photos, after the paper and Caffe's replication.

Source: Szegedy et al., "Going deeper with convolutions", arXiv 1409.4842, sec. 6: momentum 0.9, the rate 4 %
lower every 8 epochs, an average of the iterates (Polyak and Juditsky 1992) for the test, crops of 8 % to
100 % of the area with an aspect ratio between 3/4 and 4/3, photometric distortions after Howard 2013. What
the paper leaves out comes from Caffe's replication (models/bvlc_googlenet): batch 32, rate 0.01, weight decay
2e-4 on weights but not on biases, horizontal flips, 250 epochs (10,000,000 steps; the rate falls every
320,000). The losses of the auxiliary classifiers count 0.3 each, as the network says.

Published result (ILSVRC-2014 validation, one network, one crop): top-5 error 10.07 %. Caffe's replication,
without the new crops and distortions, 60 epochs: 31.3 % top-1, 11.1 % top-5.

Departures: the paper trains by asynchronous SGD on many CPUs, and resizes with an interpolation drawn at
random; here it is bilinear. It says neither which iterates it averages (here: those of the second half) nor
how strong its distortions are (here: factors of 0.6 to 1.4). Caffe doubles the rate of the biases. The mean
and standard deviation of each channel instead of the mean alone. Not trained to the end here: ImageNet is not
at hand.

Command: ``striate train googlenet --data FOLDER --recipe googlenet``
"""

from striate.recipes.recipe import Recipe

RECIPE = Recipe(
    name="googlenet",
    epochs=250,
    batch_images=32,
    lr=0.01,
    momentum=0.9,
    weight_decay=2e-4,
    decay_norm_and_bias=False,
    schedule="steps",
    step_epochs=tuple(float(epoch) for epoch in range(8, 250, 8)),
    step_factor=0.96,
    average="polyak",
    polyak_start_epoch=125,
    resized_crop_area=(0.08, 1.0),
    flip=True,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
)
