"""A minute's start: small grey pictures of digits, such as the 1,797 that scikit-learn carries.

Source: no paper; LeNet's input levels, AdamW with one cycle, and shifts by up to four of 32 pixels (one of
the original eight), an exponential average of the weights. Chosen by validation error on a quarter of the
training digits, three seeds. A quarter of the images is held out for the test, so that a percentage means
something.

What striate reaches, with seeds, spread, time and hardware: docs/results.md.

Command: ``striate train lenet5_modern --data digits --recipe digits``
"""

from striate.recipes.recipe import Recipe

RECIPE = Recipe(
    name="digits",
    epochs=60,
    batch_images=32,
    optimizer="adamw",
    lr=3e-3,
    weight_decay=0.02,
    decay_norm_and_bias=False,
    schedule="one_cycle",
    label_smoothing=0.1,
    normalise="lenet",
    average="ema",
    ema_decay=0.99,
    crop_pad_px=4,
    crop_fill="edge",
    val_fraction=0.0,
    test_fraction=0.25,
    select="last",
)
