"""LeNet-5 on handwritten digits, after LeCun et al. 1998.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", Proc.
IEEE 1998, sec. III.B: 60,000 training images without distortions, 20 passes, input levels from -0.1
(background) to 1.175 (foreground).

Published result: 0.95 % test error. What striate reaches, with seeds, spread, time and hardware:
docs/results.md.

Departures: the paper takes one image at a time and a step for each weight from the diagonal of the Hessian
(stochastic diagonal Levenberg-Marquardt), falling in five stairs from 5e-4 to 1e-5. Here: batches of 64,
one rate for all weights, momentum 0.9, falling by a cosine over the same 20 passes. The paper has no
validation set and tests the last weights; so does this recipe (``val_fraction`` 0).

Command: ``striate train lenet5 --data mnist --recipe lenet5``
"""

from striate.recipes.recipe import Recipe

RECIPE = Recipe(
    name="lenet5",
    epochs=20,
    batch_images=64,
    lr=0.03,
    momentum=0.9,
    schedule="cosine",
    normalise="lenet",
    val_fraction=0.0,
    select="last",
)
