"""The published recipes: one file each, one value each, named in ``RECIPES``.

To add a recipe: write one file with a ``RECIPE`` value, its source, its expected result and the command in
the docstring, and name it below.
"""

import difflib

from striate.core.errors import UsageError
from striate.recipes import (
    alexnet,
    digits,
    googlenet,
    lenet5,
    lenet5_rbf,
    lenet5_shifted,
    nin_cifar10,
    photos,
    resnet,
    resnet_cifar,
    resnet_cifar_quick,
    vgg16,
    zfnet,
)
from striate.recipes.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (
        alexnet,
        digits,
        googlenet,
        lenet5,
        lenet5_rbf,
        lenet5_shifted,
        nin_cifar10,
        resnet,
        resnet_cifar,
        resnet_cifar_quick,
        vgg16,
        zfnet,
        photos,
    )
}
"""Every recipe by name."""


def find_recipe(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        UsageError: no such recipe, with the names that come close.
    """
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name.lower().replace("-", "_"), RECIPES, n=3) or list(RECIPES)
    raise UsageError(f"expected the name of a recipe, got {name!r}: did you mean {' or '.join(close)}?")
