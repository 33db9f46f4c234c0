"""What other tools report for the same network, and the rule that gives each figure.

No tool is run: each figure follows from the record by the tool's rule. The rules were read in the tools'
sources, and the tests hold them against the tools (fvcore 0.1.5, torchinfo 1.8.0, ptflops 0.7.5, torchvision
0.28.0, torch's own counter).
"""

from collections.abc import Callable
from dataclasses import dataclass

from striate.anatomy.layer import Layer
from striate.anatomy.ledger import is_batch_norm
from striate.anatomy.record import Anatomy


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """What one tool or paper reports.

    Attributes:
        tool: its name.
        parameters: as it counts them, or as it prints them; None where it gives none.
        cost: operations as it counts them, or as it prints them; None where it gives none.
        word: what it calls them, such as ``FLOPs``.
        rule: how the figures come about.
        verified: whether striate's tests hold the rule against the tool itself; None for printed figures.
    """

    tool: str
    parameters: int | str | None
    cost: int | str | None
    word: str
    rule: str
    verified: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """Figures as a paper prints them; "" where it prints none."""

    parameters: str = ""
    cost: str = ""
    word: str = ""
    source: str


_VGG = "Simonyan, Zisserman 2014, Table 2"
_RESNET = "He et al. 2015, Table 1; its FLOPs are multiply-adds (section 3.3), the first stride in the 1x1"
_RESNET_BASIC = "He et al. 2015, Table 1; its FLOPs are multiply-adds (section 3.3)"
_CIFAR = "He et al. 2015, Table 6"
_LENET = "LeCun et al. 1998, section II.B; 60,000 is with fixed RBF output units"

PRINTED: dict[str, Printed] = {
    "lenet5": Printed(parameters="60,000", cost="340,908", word="connections", source=_LENET),
    "lenet5_rbf": Printed(parameters="60,000", cost="340,908", word="connections", source=_LENET),
    "alexnet": Printed(parameters="60 million", source="Krizhevsky et al. 2012, abstract"),
    "vgg11": Printed(parameters="133 million", source=_VGG),
    "vgg_a_lrn": Printed(parameters="133 million", source=_VGG),
    "vgg13": Printed(parameters="133 million", source=_VGG),
    "vgg_c": Printed(parameters="134 million", source=_VGG),
    "vgg16": Printed(parameters="138 million", source=_VGG),
    "vgg19": Printed(parameters="144 million", source=_VGG),
    "googlenet": Printed(
        parameters="6,798 K",
        cost="1,502 M",
        word="ops",
        source=(
            "Szegedy et al. 2014, Table 1, sums of its columns, without auxiliary classifiers; its rows"
            " conv1, 4c, 4d and 5a do not follow from the widths that it prints"
        ),
    ),
    "resnet18": Printed(cost="1.8 x 10^9", word="FLOPs", source=_RESNET_BASIC),
    "resnet34": Printed(cost="3.6 x 10^9", word="FLOPs", source=_RESNET_BASIC),
    "plain18": Printed(cost="1.8 x 10^9", word="FLOPs", source=_RESNET_BASIC),
    "plain34": Printed(cost="3.6 x 10^9", word="FLOPs", source=_RESNET_BASIC),
    "resnet50": Printed(cost="3.8 x 10^9", word="FLOPs", source=_RESNET),
    "resnet101": Printed(cost="7.6 x 10^9", word="FLOPs", source=_RESNET),
    "resnet152": Printed(cost="11.3 x 10^9", word="FLOPs", source=_RESNET),
    "resnet20": Printed(parameters="0.27 M", source=_CIFAR),
    "resnet32": Printed(parameters="0.46 M", source=_CIFAR),
    "resnet44": Printed(parameters="0.66 M", source=_CIFAR),
    "resnet56": Printed(parameters="0.85 M", source=_CIFAR),
    "resnet110": Printed(parameters="1.7 M", source=_CIFAR),
    "resnet1202": Printed(parameters="19.4 M", source=_CIFAR),
}
"""Figures of the papers, by the name of the network in ``striate nets``."""


def conventions(anatomy: Anatomy, published_as: str | None = None) -> tuple[Convention, ...]:
    """Say what tools and the paper report for a network, and why they differ.

    Args:
        anatomy: of the network.
        published_as: its name in ``PRINTED``; None for a network without a paper.

    Returns:
        striate's own count first, the paper's last.
    """
    every = anatomy.parameters + anatomy.idle_parameters
    used = anatomy.parameters
    macs = anatomy.macs
    done = sum(_multiplied(layer) for layer in anatomy)
    aten_macs = _sum(anatomy, _ptflops_aten)
    fvcore = _sum(anatomy, _fvcore)
    giga = f"{macs / 1e9:.3f}"
    idle = "; auxiliary classifiers are in the parameters" if anatomy.idle_parameters else ""
    in_full = "; a partly connected convolution counts in full, as it is computed" if done != macs else ""
    found = [
        Convention(
            tool="striate",
            parameters=used,
            cost=macs,
            word="MACs",
            rule=f"convolutions and matrix products, no biases; 1 MAC = 2 FLOP, so {2 * macs:,} FLOPs",
            verified=True,
        ),
        Convention(
            tool="torch FlopCounterMode",
            parameters=None,
            cost=2 * done,
            word="FLOPs",
            rule=f"2 for each multiply-add of convolutions and matrix products, no biases{in_full}",
            verified=True,
        ),
        Convention(
            tool="fvcore",
            parameters=every,
            cost=fvcore,
            word="FLOPs",
            rule="1 for each multiply-add, no biases; and 2 a value for batch normalisation, 5 for layer and"
            f" group normalisation, 1 for each input of adaptive average pooling{in_full}{idle}",
            verified=True,
        ),
        Convention(
            tool="torchinfo",
            parameters=every,
            cost=_sum(anatomy, _torchinfo),
            word="mult-adds",
            rule="weights and biases of each module times the places of its output, once for all but"
            f" convolutions; functional calls are not seen{idle}",
            verified=True,
        ),
        Convention(
            tool="ptflops",
            parameters=every,
            cost=_sum(anatomy, _ptflops),
            word="MACs",
            rule="its default: multiply-adds and biases of modules; 2 a value for batch normalisation and for"
            " ReLU modules, 2 for each input of a pool (once for the module, once for the function that it"
            f" calls); convolutions of a class of one's own are not seen{idle}",
            verified=True,
        ),
        Convention(
            tool="ptflops, backend aten",
            parameters=every,
            cost=aten_macs,
            word="MACs",
            rule=f"multiply-adds and biases of convolutions and matrix products{in_full}{idle}",
            verified=True,
        ),
        Convention(
            tool="torchvision",
            parameters=used,
            cost=giga,
            word="GFLOPS",
            rule="the figures beside its weights: striate's MACs in thousands of millions, for its own"
            " versions of the networks (stride in the 3x3 of ResNet-50, another AlexNet and GoogLeNet)",
            verified=True,
        ),
        Convention(
            tool="timm",
            parameters=every,
            cost=f"{fvcore / 1e9:.2f}",
            word="GMACs",
            rule="its tables of results come from fvcore or DeepSpeed's profiler, rounded; by fvcore's"
            " rule here",
            verified=False,
        ),
    ]
    printed = PRINTED.get(published_as or "")
    if printed is not None:
        found.append(
            Convention(
                tool="the paper",
                parameters=printed.parameters or None,
                cost=printed.cost or None,
                word=printed.word,
                rule=printed.source,
                verified=None,
            )
        )
    return tuple(found)


def _sum(anatomy: Anatomy, rule: Callable[[Layer, int], int]) -> int:
    values = {layer.name: layer.values for layer in anatomy}
    return sum(rule(layer, sum(values[name] for name in layer.inputs)) for layer in anatomy)


def _is_module(layer: Layer) -> bool:
    """Whether a row is a module; a functional call's kind is the operation's name in small letters."""
    return layer.kind[:1].isupper()


def _multiplied(layer: Layer) -> int:
    """Count the multiply-adds that are done: a dense kernel counts in full, its zeros too."""
    product = layer.im2col
    if product is None:
        return layer.macs
    return product.groups * product.weights[0] * product.columns[0] * product.columns[1]


def _bias_sums(layer: Layer) -> int:
    return layer.values if layer.role in ("conv", "fc") and layer.biases else 0


def _fvcore(layer: Layer, read: int) -> int:
    if is_batch_norm(layer):
        return layer.values * (2 if layer.parameters else 1)
    if layer.role == "norm" and any(word in layer.kind.lower() for word in ("group", "layer", "instance")):
        return layer.values * (5 if layer.parameters else 4)
    if layer.kind in ("AdaptiveAvgPool2d", "adaptive_pool2d"):
        return read
    return _multiplied(layer)


def _torchinfo(layer: Layer, read: int) -> int:
    if not _is_module(layer):
        return 0
    if "Conv" in layer.kind:
        places = layer.values // layer.output[0]
        return layer.parameters * places
    if layer.role == "pool":  # striate's subsampling: of its two parameters only one is called bias
        return layer.biases
    return layer.parameters


_PTFLOPS_CONVOLUTIONS = frozenset(
    f"Conv{transpose}{axes}d" for transpose in ("", "Transpose") for axes in (1, 2, 3)
)
_PTFLOPS_TIMES = {
    # A hook on the module counts, and the function that the module calls counts too.
    **dict.fromkeys(("ReLU", "PReLU", "ELU", "GELU"), 2),
    **dict.fromkeys(("MaxPool2d", "AvgPool2d", "AdaptiveMaxPool2d", "AdaptiveAvgPool2d"), 2),
    **dict.fromkeys(["LeakyReLU", "ReLU6", "Softmax", "relu", "prelu", "elu", "gelu", "softmax"], 1),
    **dict.fromkeys(("mean", "sum"), 0),
}


def _ptflops(layer: Layer, read: int) -> int:
    if layer.role == "conv":
        return _multiplied(layer) + _bias_sums(layer) if layer.kind in _PTFLOPS_CONVOLUTIONS else 0
    if layer.role == "fc":
        return _multiplied(layer) + _bias_sums(layer) if _is_module(layer) else 0
    if layer.role == "pool":
        return read * _PTFLOPS_TIMES.get(layer.kind, 1)
    if layer.role == "activation":
        return layer.values * _PTFLOPS_TIMES.get(layer.kind, 0)
    if is_batch_norm(layer) and _is_module(layer):
        return layer.values * (2 if layer.parameters else 1)
    if layer.kind in ("GroupNorm", "LayerNorm"):
        return layer.values * (1 if layer.kind == "LayerNorm" or not layer.parameters else 2)
    return 0


def _ptflops_aten(layer: Layer, read: int) -> int:
    return _multiplied(layer) + _bias_sums(layer)
