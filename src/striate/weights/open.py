"""What a word means: a run folder, a bundle, a name, a ``.net`` file, a file of weights, a module."""

import importlib
import inspect
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate import nets
from striate.core.errors import BundleError, StriateError, UsageError
from striate.core.progress import Progress, silent
from striate.core.shapes import SizesOnly
from striate.core.text import short
from striate.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, normalise
from striate.data.views import SMALL_PX
from striate.weights.bundle import Bundle, fill_network, is_bundle, load_bundle
from striate.weights.convert import network_of, only_network, open_weights
from striate.weights.load import input_shape
from striate.weights.read import read_weights
from striate.weights.run_folder import RunFolder, bundle_path
from striate.weights.weight_file import WeightFile

_LARGEST_WEIGHT = 100.0  # of what is opened without a trial
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".caffemodel", ".mat", ".onnx")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OpenNetwork:
    """A network in memory with all that is needed to use it.

    Attributes:
        net: in eval mode, on the CPU.
        bundle: classes, preprocessing, temperature and the rest. Of a network that was not read from a bundle
            it holds no tensors (``state`` is empty): the weights are those of ``net``.
        name: short, for tables and captions: the run's or file's name, else the network's.
        trained: False for random weights, whose answers mean nothing.
        path: the file of its weights, or None.
        seed: of random weights; None where they are trained.
    """

    net: nn.Module
    bundle: Bundle
    name: str
    trained: bool = True
    path: Path | None = None
    seed: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the scores."""
        return self.bundle.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What images go through on their way to the network."""
        return self.bundle.preprocessing

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width in pixels."""
        pre = self.bundle.preprocessing
        return pre.channels, pre.height_px, pre.width_px


NetworkChoice = str | Path | OpenNetwork
"""What names a network: a word or path as ``open_network`` takes it, or an open one."""


def open_network(
    network: NetworkChoice,
    *,
    net: nn.Module | str | None = None,
    weights: str | Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    arguments: Mapping[str, Any] | None = None,
    classes: tuple[str, ...] | None = None,
    multi_label: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> OpenNetwork:
    """Open the network that a word names.

    Args:
        network: a run folder or bundle; a file of weights of another program; the name of a network
            (``striate.nets``), a ``.net`` file, a text in the notation, or ``module:factory``: these have
            random weights unless ``weights`` are given. An open network is returned as it is.
        net: for a bundle or a file of weights whose network it does not name: a module to fill, or what
            builds it (a name, a ``.net`` file, ``module:factory``).
        weights: for a network by name: a file of weights, or published ones (``torchvision``).
        input_shape: of a network with random weights: channels, height, width (or height and width, or one
            side); None takes the network's own.
        arguments: of the builder of a network with random weights.
        classes: of a network with random weights; None counts them.
        multi_label: whether its scores are independent of each other.
        seed: of random weights.
        progress: listener of a download.

    Raises:
        UsageError: there is no such network, or ``weights``, ``input_shape``, ``arguments`` come with a
            bundle, which has its own.
        BundleError: the file is damaged, or does not say its network.
    """
    if isinstance(network, OpenNetwork):
        return network
    word = str(network)
    if not is_file_word(word):
        if weights is None:
            return _untrained(word, input_shape, arguments, classes, multi_label, seed)
        if input_shape is not None or classes is not None or is_own(word):
            raise UsageError(
                f"{word}: expected `weights` for a network of striate or a .net file alone, which say its"
                " size and its classes: leave `input_shape` and `classes` out"
            )
        return _foreign(open_weights(weights, word, progress=progress), word, arguments, short_name(word))
    if weights is not None or input_shape is not None or arguments:
        raise UsageError(
            f"{word} is trained and has its own weights, size and arguments: leave `weights`, `input_shape`"
            " and `arguments` out"
        )
    path = bundle_path(Path(word))
    if not path.is_file() or is_bundle(path):
        opened, bundle = open_bundle(path, net)
        return OpenNetwork(net=opened, bundle=bundle, name=run_name(word), path=path)
    file = read_weights(path)
    if isinstance(net, nn.Module) or (net is not None and is_own(net)):
        raise UsageError(
            f"{word}: expected a bundle for a module of your own, got weights of another program: load its"
            " state dict with torch, then `striate.wrap(module)`"
        )
    return _foreign(file, net or only_network(file, progress), None, path.name)


def open_bundle(path: str | Path, net: nn.Module | str | None = None) -> tuple[nn.Module, Bundle]:
    """Load a trained network from a bundle (or a run folder), in eval mode on the CPU.

    Args:
        path: of the bundle or the run folder.
        net: for a bundle of your own network: the module to fill, or what builds it (a name, a ``.net`` file,
            ``module:factory``). A bundle never makes striate import code by itself.

    Raises:
        BundleError: the file is damaged or names an unknown network, or its weights don't fit.
        UsageError: ``net`` can't be built.
    """
    bundle = load_bundle(Path(path))
    if isinstance(net, nn.Module):
        fill_network(net, bundle.state, str(path))
        return net.eval(), bundle
    if net is not None:
        bundle = replace(bundle, net=net if is_own(net) else nets.find(net).reference)
    elif is_own(bundle.net):
        module = "MODULE" if bundle.net.startswith("<") else repr(bundle.net)
        raise BundleError(
            f"{path}: expected a network that striate can build, got weights of {own_name(bundle.net)}: load"
            f" them with `striate.load({str(path)!r}, net={module})`"
        )
    elif bundle.net.endswith(".net"):  # a path: a bundle holds a name, or the network's text
        raise BundleError(f"{path}: expected the name or text of its network, got a path: a damaged bundle")
    with torch.random.fork_rng(devices=[]):
        if is_own(bundle.net):
            built = _own(bundle.net, bundle.net_arguments, len(bundle.classes))
        else:
            _check_sizes(bundle, path)
            built = nets.build(bundle.net, num_classes=len(bundle.classes), **bundle.net_arguments)
    fill_network(built, bundle.state, str(path))
    built = _ready(built)
    _check_overflow(built, bundle, path)
    return built, bundle


def _check_sizes(bundle: Bundle, path: str | Path) -> None:
    """Refuse tensors or images that are not the network's before anything of the network's size is made."""
    with torch.device("meta"):
        plan = nets.build(bundle.net, num_classes=len(bundle.classes), **bundle.net_arguments)
    fill_network(plan, bundle.state, str(path), assign=True)
    pre = bundle.preprocessing
    shape, expected = (pre.channels, pre.height_px, pre.width_px), input_shape(plan)
    if shape == expected:
        return
    try:
        with torch.no_grad(), torch.device("meta"), SizesOnly():
            plan.to("meta").eval()(torch.empty(1, *shape))
    except (StriateError, RuntimeError, ValueError) as error:
        raise BundleError(
            f"{path}: expected images of {'x'.join(map(str, expected))}, which its network takes, got"
            f" preprocessing for {'x'.join(map(str, shape))} ({short(str(error))}): a damaged bundle"
        ) from None


def _check_overflow(net: nn.Module, bundle: Bundle, path: str | Path) -> None:
    """Refuse a network whose finite weights give infinite scores.

    Only weights far beyond what training finds make it worth while to classify an image of noise.
    """
    weights = [one for one in bundle.state.values() if one.is_floating_point() and one.numel()]
    if all(
        torch.linalg.vector_norm(one) <= _LARGEST_WEIGHT or one.abs().max() <= _LARGEST_WEIGHT
        for one in weights  # the length is computed several times as fast as the maximum
    ):
        return
    pre = bundle.preprocessing
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(
        0, 256, (1, pre.height_px, pre.width_px, pre.channels), dtype=torch.uint8, generator=noise
    )
    infinite: list[str] = []

    def note(name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor) and not bool(torch.isfinite(output).all()):
            infinite.append(name)

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: note(name, output))
        for name, module in net.named_modules()
    ]
    try:
        with torch.no_grad():
            net(normalise(pixels, pre))
    finally:
        for hook in hooks:
            hook.remove()
    if infinite:
        raise BundleError(
            f"{path}: expected finite scores, got an overflow in {infinite[0] or 'the network'}: its weights"
            " are too large, so train again with a lower learning rate or take an older copy"
        )


def _foreign(file: WeightFile, net: str, arguments: Mapping[str, Any] | None, name: str) -> OpenNetwork:
    built, bundle = network_of(file, net, net_arguments=arguments, otherwise=untrained_preprocessing)
    return OpenNetwork(net=_ready(built), bundle=replace(bundle, state={}), name=name, path=file.path)


def _ready(net: nn.Module) -> nn.Module:
    """Put a network into eval mode and the order of memory in which convolutions are fast."""
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return net.eval()


def build_network(
    word: str,
    *,
    size: tuple[int, ...] | None = None,
    arguments: Mapping[str, Any],
    num_classes: int | None = None,
    device: str = "cpu",
) -> tuple[nn.Module, tuple[int, int, int], str]:
    """Build the network that a word names, without weights from a file.

    Args:
        word: as ``nets.find``, or ``module:factory`` of one's own: the module is looked for in the current
            folder first, the factory is called with ``arguments``.
        size: channels, height, width; or height and width; or one side; None takes the size that the network
            names. A published network that can be built for other sizes (``input_px``) is.
        arguments: keywords of the builder.
        num_classes: number of scores; None takes the builder's own. One's own factory is given it where it
            takes it.
        device: ``meta`` for shapes alone, or ``cpu``.

    Returns:
        The network; channels, height and width in pixels; what finds it again (a name, a text, or ``word``).

    Raises:
        UsageError: no such network, or what the word names is not one.
    """
    with torch.device(device), SizesOnly() if device == "meta" else nullcontext():
        if is_own(word):
            net = _own(word, arguments, num_classes)
            return net, _shape(size, getattr(net, "input_shape", None), word), word
        entry = nets.find(word)
        takes_px = "input_px" in nets.arguments_of(entry) and "input_px" not in arguments
        if size is not None and takes_px and len(set(size[-2:])) == 1 and size[-1] != entry.input_shape[-1]:
            arguments = {**arguments, "input_px": size[-1]}
        if num_classes is not None:
            arguments = {**arguments, "num_classes": num_classes}
        net = nets.build(word, **arguments)
        return net, _shape(size, getattr(net, "input_shape", None), word), entry.reference


def untrained_preprocessing(input_shape: tuple[int, int, int]) -> Preprocessing:
    """Return what images of an untrained network go through.

    The shorter side is resized to 256 for a crop of 224, in proportion (small inputs: to the input's side);
    colours are normed with ImageNet's constants, grey levels to [-1, 1].

    Raises:
        UsageError: other than 1 or 3 channels.
    """
    channels, height, width = input_shape
    side = max(height, width)
    return Preprocessing(
        channels=channels,
        height_px=height,
        width_px=width,
        resize_px=side if side <= SMALL_PX else round(side * 256 / 224),
        mean=IMAGENET_MEAN if channels == 3 else (0.5,) * channels,
        std=IMAGENET_STD if channels == 3 else (0.5,) * channels,
    )


def about_int8(bundle: Bundle) -> str:
    """Say of a quantized bundle how it was tested by all that is not an engine; empty for any other."""
    if "int8.xml" not in bundle.graphs:
        return ""
    return "tested with its fp32 weights, not with the int8 network that striate predict takes"


def is_file_word(word: str) -> bool:
    """Say whether a word names a file or folder with weights, existing or not, instead of a network."""
    path = Path(word)
    if path.suffix == ".net" or "\n" in word:
        return False
    if path.exists():  # a folder that holds no run may happen to be called like a network
        return word not in nets.NETS or path.is_file() or RunFolder(path).bundle.exists()
    return not is_own(word) and (path.suffix in _SUFFIXES or len(path.parts) > 1)


def unknown_hint(word: str) -> str | None:
    """Return what to try instead of a word that names no network; None if it names one or a ``.net`` file."""
    if is_own(word) or word.endswith(".net") or "\n" in word:
        return None
    try:
        nets.find(word)
    except UsageError as error:
        return str(error).partition(": ")[2]
    return None


def is_own(word: str) -> bool:
    """Say whether a word is ``module:factory``, or a module without one (``<TinyNet>``)."""
    if word.startswith("<") and word.endswith(">"):
        return True
    return ":" in word and not any(mark in word for mark in "\n>") and not word.endswith(".net")


def own_name(word: str) -> str:
    """Name one's own network in a message."""
    return f"a module of class {word[1:-1]}" if word.startswith("<") else word


def short_name(reference: str) -> str:
    """Return a short name for a network; one that was written in the notation begins with ``# name``."""
    return reference.partition("\n")[0].removeprefix("# ").strip()


def run_name(word: str | Path) -> str:
    """Name a trained network in tables: a run folder by its folder, a bundle by its file."""
    path = Path(word)
    if path == bundle_path(path.parent):
        return path.resolve().parent.name
    return path.resolve().name if path.is_dir() else path.name


def _untrained(
    word: str,
    size: tuple[int, ...] | None,
    arguments: Mapping[str, Any] | None,
    classes: tuple[str, ...] | None,
    multi_label: bool,
    seed: int,
) -> OpenNetwork:
    given = dict(arguments or {})
    num_classes = len(classes) if classes is not None else given.pop("num_classes", None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net, shape, reference = build_network(word, size=size, arguments=given, num_classes=num_classes)
    net = _ready(net)
    if classes is None:
        classes = tuple(f"class {k}" for k in range(_num_classes(net, shape)))
    bundle = Bundle(
        net=reference,
        net_arguments=given,
        classes=classes,
        multi_label=multi_label,
        preprocessing=untrained_preprocessing(shape),
        state={},
    )
    return OpenNetwork(net=net, bundle=bundle, name=short_name(reference), trained=False, seed=seed)


def _num_classes(net: nn.Module, shape: tuple[int, int, int]) -> int:
    with torch.no_grad():
        scores = net(torch.zeros(1, *shape))
    return int(scores.shape[1]) if isinstance(scores, torch.Tensor) and scores.ndim == 2 else 0


def _shape(size: tuple[int, ...] | None, own: Any, word: str) -> tuple[int, int, int]:
    if size is None:
        if own is None:
            raise UsageError(
                f"expected the size of the images: {word} has no input_shape; give `input_shape=3x224x224`"
            )
        return (int(own[0]), int(own[1]), int(own[2]))
    if len(size) == 3:
        return (size[0], size[1], size[2])
    if own is None:
        raise UsageError(f"expected `input_shape` as CxHxW for {word}, which does not say its channels")
    return (int(own[0]), size[0], size[-1])


def _own(word: str, arguments: Mapping[str, Any], num_classes: int | None = None) -> nn.Module:
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
        if num_classes is not None and "num_classes" in inspect.signature(factory).parameters:
            arguments = {"num_classes": num_classes, **arguments}
        net = factory(**arguments)
    except StriateError:
        raise
    except Exception as error:
        raise UsageError(
            f"{word} can't build its network: {type(error).__name__}: {error}; pass its arguments by"
            " `arguments`"
        ) from error
    if not isinstance(net, nn.Module):
        raise UsageError(f"expected {word} to return a torch.nn.Module, got {type(net).__name__}")
    return net
