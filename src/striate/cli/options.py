"""From a library's words to the command line's: an error names arguments, this says them as options."""

import re

OPTION_OF = {
    "arguments": "--arg",
    "batch_images": "--batch",
    "input_shape": "--input",
    "settings": "--set",
    "out": "--out",
}
"""Options whose name is not the argument's with dashes."""

_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")
_RESUME = re.compile(r"`resume\(\"([^`]*)\"\)`")


def in_options(message: str) -> str:
    """Say a library's message in the command line's words.

    Arguments in backticks become options: ```data``` ``--data``, ```max_drop_points=1``` ``--max-drop-points
    1``. A field of a recipe with its value becomes ``--set lr=0.1``. Whole commands in backticks stay.
    """
    from striate.recipes.recipe import FIELDS

    def option(found: re.Match[str]) -> str:
        name, value = found.group(1), found.group(2)
        if name in FIELDS and name not in ("epochs",) and value is not None:
            return f"--set {name}={value}"
        words = OPTION_OF.get(name, f"--{name.replace('_', '-')}")
        return words if value is None or value == "True" else f"{words} {value}"

    message = _RESUME.sub(r"`striate train --resume \1`", message)
    return _ARGUMENT.sub(option, message)
