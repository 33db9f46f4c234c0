from dataclasses import fields
from typing import get_type_hints

import pytest

from striate.core.errors import UsageError
from striate.data.augment import Augmentation
from striate.recipes import RECIPES, find_recipe
from striate.recipes.recipe import Recipe, RecipeChanges, change, parse_changes


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda r: r.name)
def test_json_round_trip(recipe):
    import json

    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_settings_are_read_by_type():
    base = Recipe(name="x", epochs=1, lr=0.1)
    changed = change(
        base,
        parse_changes(
            {
                "lr": "1e-3",
                "epochs": "7",
                "flip": "true",
                "step_epochs": "2,4.5",
                "dropout": "none",
                "clip_norm": "2",
                "resized_crop_area": "0.08,1",
                "schedule": "steps",
            }
        ),
    )
    assert (changed.lr, changed.epochs, changed.flip, changed.step_epochs) == (1e-3, 7, True, (2.0, 4.5))
    assert (changed.dropout, changed.clip_norm, changed.resized_crop_area) == (None, 2.0, (0.08, 1.0))
    assert base.lr == 0.1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": "1"}, "no field 'learning_rate'"),
        ({"momentun": "1"}, "did you mean momentum"),
        ({"lr": "fast"}, "lr: expected a number, got 'fast'"),
        ({"lr": "-1"}, "lr: expected above 0, got -1"),
        ({"lr": "nan"}, "lr: expected a finite number"),
        ({"lr": "inf"}, "lr: expected a finite number"),
        ({"epochs": "2.5"}, "epochs: expected a whole number"),
        ({"flip": "maybe"}, "flip: expected true or false"),
        ({"schedule": "stairs"}, "expected constant or steps or plateau"),
        ({"momentum": "1"}, "momentum: expected in"),
        ({"resized_crop_area": "0.5"}, "resized_crop_area"),
        ({"val_fraction": "0.6", "test_fraction": "0.5"}, "images are left"),
        ({"schedule": "plateau", "val_fraction": "0"}, "plateau needs validation"),
        ({"optimizer": "nesterov", "momentum": "0"}, "momentum above 0"),
    ],
)
def test_refusals(settings, words):
    with pytest.raises(UsageError, match=words):
        change(Recipe(name="x", epochs=1, lr=0.1), parse_changes(settings))


def test_from_json_names_what_is_missing_or_unknown():
    with pytest.raises(UsageError, match="incomplete"):
        Recipe.from_json({"name": "x", "epochs": 1})
    with pytest.raises(UsageError, match="no field 'rate'"):
        Recipe.from_json({"name": "x", "epochs": 1, "lr": 1, "rate": 2})


def test_augmentation_takes_all_its_fields_from_the_recipe():
    recipe = Recipe(name="x", epochs=1, lr=1, crop_pad_px=3, flip=True, contrast=0.5)
    assert recipe.augmentation == Augmentation(crop_pad_px=3, flip=True, contrast=0.5)
    assert {f.name for f in fields(Augmentation)} <= {f.name for f in fields(Recipe)}


def test_published_numbers_of_the_residual_recipe():
    # He et al. 2015, sec. 4.2: 64k iterations of 128 at 391 an epoch; drops at 32k and 48k.
    recipe = find_recipe("resnet_cifar")
    per_epoch = -(-50_000 // recipe.batch_images)
    assert round(64_000 / per_epoch) == recipe.epochs
    assert [round(at / per_epoch) for at in (32_000, 48_000)] == [82, 123] == list(recipe.step_epochs)
    assert (recipe.lr, recipe.momentum, recipe.weight_decay) == (0.1, 0.9, 1e-4)


def test_unknown_recipe_offers_names():
    with pytest.raises(UsageError, match="did you mean resnet_cifar"):
        find_recipe("resnet-cifar1")


def test_changes_have_the_names_and_types_of_the_fields():
    expected = get_type_hints(Recipe)
    del expected["name"]
    assert get_type_hints(RecipeChanges) == expected


def test_changes_take_lists_for_tuples_and_whole_numbers_for_numbers():
    changed = change(Recipe(name="x", epochs=1, lr=0.1), {"step_epochs": [1, 2.5], "lr": 1})
    assert changed.step_epochs == (1.0, 2.5)
    assert isinstance(changed.lr, float)


def test_the_name_is_no_change():
    with pytest.raises(UsageError, match="no field 'name'"):
        change(Recipe(name="x", epochs=1, lr=0.1), {"name": "y"})
