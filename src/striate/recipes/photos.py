"""A start for a folder of photos: few images, any network, nothing published.

Source: common practice rather than a paper: random resized crops (Szegedy et al. 2014, sec. 6, with at
least a quarter of the area), flips, mild jitter, AdamW with a cosine, label smoothing 0.1 (Szegedy et al.
2015), an exponential average of the weights. A tenth of the images is held out for validation, a tenth for
the test, where the folder has no such parts.

Command: ``striate train resnet20 --data FOLDER --recipe photos``
"""

from striate.recipes.recipe import Recipe

RECIPE = Recipe(
    name="photos",
    epochs=60,
    batch_images=32,
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.05,
    decay_norm_and_bias=False,
    clip_norm=1.0,
    schedule="cosine",
    warmup_epochs=3.0,
    label_smoothing=0.1,
    average="ema",
    ema_decay=0.998,
    resized_crop_area=(0.25, 1.0),
    flip=True,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
)
