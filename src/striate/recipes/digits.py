"""A minute's start: small grey pictures of digits, such as the 1,797 that scikit-learn carries.

Source: no paper; LeNet's input levels, AdamW with one cycle, and shifts by up to two of 32 pixels. A quarter
    of the images is
held out for the test, so that a percentage means something.

What striate reaches, with seeds, spread, time and hardware: docs/results.md.

Command: ``striate train lenet5_modern --data digits --recipe digits``
"""

from striate.fit.recipe import Recipe

RECIPE = Recipe(
    name="digits",
    epochs=40,
    batch_images=32,
    optimizer="adamw",
    lr=3e-3,
    weight_decay=0.02,
    decay_norm_and_bias=False,
    schedule="one_cycle",
    normalise="lenet",
    crop_pad_px=2,
    crop_fill="edge",
    val_fraction=0.0,
    test_fraction=0.25,
    select="last",
)
