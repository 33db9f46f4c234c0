"""Building the network that a word on the command line names: a published one, a file, or the user's own."""

import importlib
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.core.errors import StriateError, UsageError

if TYPE_CHECKING:
    from torch import nn


def read_size(text: str) -> tuple[int, ...]:
    """Read ``3x224x224`` (channels, height, width), ``224x224`` or ``224``.

    Raises:
        UsageError: anything else.
    """
    words = text.lower().replace("\u00d7", "x").split("x")
    if len(words) > 3 or not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"expected --input as CxHxW, such as 3x224x224, or HxW, got {text!r}")
    return tuple(int(word) for word in words)


def build_network(
    word: str, *, size: tuple[int, ...] | None, arguments: dict[str, Any], device: str
) -> tuple["nn.Module", tuple[int, int, int], str | None]:
    """Build a network on a device.

    Args:
        word: as ``nets.find``, or ``module:factory`` of the user's own: the module is looked for in the
            current folder first, the factory is called with ``arguments``.
        size: as ``read_size``; None: the size that the network names. A published network that can be built
            for other sizes (``input_px``) is.
        arguments: keywords of the builder.
        device: ``meta`` for shapes alone, or ``cpu``.

    Returns:
        The network; channels, height and width in pixels; its name in ``striate nets``, if it is there.

    Raises:
        UsageError: no such network, or what the word names is not one.
    """
    import torch

    from striate.core.shapes import SizesOnly

    own = ":" in word and not any(mark in word for mark in "\n>") and not word.endswith(".net")
    with torch.device(device), SizesOnly() if device == "meta" else nullcontext():
        if own:
            net = _own(word, arguments)
            return net, _shape(size, getattr(net, "input_shape", None), word), None
        from striate import nets

        entry = nets.find(word)
        takes_px = "input_px" in nets.arguments_of(entry) and "input_px" not in arguments
        if size is not None and takes_px and len(set(size[-2:])) == 1 and size[-1] != entry.input_shape[-1]:
            arguments = {**arguments, "input_px": size[-1]}
        net = nets.build(word, **arguments)
        return net, _shape(size, getattr(net, "input_shape", None), word), entry.name


def _shape(size: tuple[int, ...] | None, own: Any, word: str) -> tuple[int, int, int]:
    if size is None:
        if own is None:
            raise UsageError(
                f"expected the size of the images: {word} has no input_shape; give --input, such as 3x224x224"
            )
        return (int(own[0]), int(own[1]), int(own[2]))
    if len(size) == 3:
        return (size[0], size[1], size[2])
    if own is None:
        raise UsageError(f"expected --input as CxHxW for {word}, which does not say its channels")
    return (int(own[0]), size[0], size[-1])


def _own(word: str, arguments: dict[str, Any]) -> "nn.Module":
    from torch import nn

    module_name, _, factory_name = word.rpartition(":")
    if not module_name or not factory_name or module_name.endswith(".py") or "/" in module_name:
        raise UsageError(
            f"expected module:factory, such as my_net:build for the function build of my_net.py, got {word!r}"
        )
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except StriateError:
        raise
    except Exception as error:
        raise UsageError(f"{module_name} can't be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        got = "there is none" if factory is None else f"it is a {type(factory).__name__}"
        raise UsageError(
            f"expected a function {factory_name} in {module_name} that returns the network: {got}"
        )
    try:
        net = factory(**arguments)
    except StriateError:
        raise
    except Exception as error:
        raise UsageError(
            f"{word} can't build its network: {type(error).__name__}: {error}; arguments go by --arg"
        ) from error
    if not isinstance(net, nn.Module):
        raise UsageError(f"expected {word} to return a torch.nn.Module, got {type(net).__name__}")
    return net
