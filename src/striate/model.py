"""Model: one handle for a network, trained or not; ``load`` and ``wrap`` make one."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.data.preprocess import Preprocessing
from striate.weights.bundle import Bundle, save_bundle
from striate.weights.open import OpenNetwork, open_network, untrained_preprocessing

if TYPE_CHECKING:
    from striate.anatomy import Anatomy
    from striate.core.choices import EngineChoice
    from striate.evaluation.labelled import DataChoice, Split
    from striate.evaluation.measure import Measurement
    from striate.evaluation.protocol import Protocol
    from striate.look.looker import Looker
    from striate.serve.export import Exported
    from striate.serve.images import ImageInMemory, Images
    from striate.serve.predict import Prediction


class Model:
    """A network with all that is needed to use it: ``striate.load`` and ``striate.wrap`` make one.

    Its methods call the functions that the command line calls, so that both give the same numbers. Images are
    paths (files, folders, archives), Pillow's images, or uint8 arrays ``H x W x 3`` (RGB) or ``H x W``.

    Attributes:
        opened: network and bundle, as striate's functions take them.
    """

    def __init__(self, opened: OpenNetwork) -> None:
        self.opened = opened

    # -- What it is ------------------------------------------------------------------------------------------

    @property
    def net(self) -> nn.Module:
        """The network, an ordinary ``torch.nn.Module`` in eval mode."""
        return self.opened.net

    @property
    def bundle(self) -> Bundle | None:
        """What was read from a file; None for random weights and modules of one's own."""
        return self.opened.bundle if self.opened.bundle.state else None

    @property
    def name(self) -> str:
        """Short name: of the run, the file, or the network."""
        return self.opened.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the scores."""
        return self.opened.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What images go through on their way to the network."""
        return self.opened.preprocessing

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input in pixels."""
        return self.opened.input_shape

    @property
    def trained(self) -> bool:
        """False for random weights, whose answers mean nothing."""
        return self.opened.trained

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry several labels."""
        return self.opened.bundle.multi_label

    # -- What it answers -------------------------------------------------------------------------------------

    @overload
    def predict(
        self,
        images: "ImageInMemory",
        *,
        top: int = 5,
        engine: "EngineChoice" = "auto",
        compute: Compute = ...,
    ) -> "Prediction": ...

    @overload
    def predict(
        self, images: "Images", *, top: int = 5, engine: "EngineChoice" = "auto", compute: Compute = ...
    ) -> "Prediction | Iterator[Prediction]": ...

    def predict(
        self,
        images: "Images",
        *,
        top: int = 5,
        engine: "EngineChoice" = "auto",
        compute: Compute = Compute(),
    ) -> "Prediction | Iterator[Prediction]":
        """Classify images.

        Args:
            images: one image (in memory, or the path of a file), or many: a folder, an archive, an iterable.
            top: how many classes to name, at least 1.
            engine: ``auto``, ``torch`` or ``openvino``.
            compute: where and how.

        Returns:
            For one image its ``Prediction`` (``.label``, ``.probability``, ``.ranked``, ``.error``); for many
            an iterator of these, in order, in constant memory.

        Raises:
            UsageError: a path that does not exist, an array that holds no pixels, or random weights.
        """
        from striate.serve.images import is_one_image
        from striate.serve.predict import predict

        if not is_one_image(images):
            return predict(self.opened, images, top=top, engine=engine, compute=compute)
        running = self._engine(engine, compute)
        [found] = predict(self.opened, images, top=top, engine=running, compute=compute)
        return found

    def probabilities(
        self, images: "Images", *, engine: "EngineChoice" = "auto", compute: Compute = Compute()
    ) -> NDArray[np.float64]:
        """Return every class's probability for each image, ``N x K`` in [0, 1], in the order of ``classes``.

        Args:
            images: as ``predict``.
            engine: as ``predict``.
            compute: as ``predict``.

        Raises:
            BrokenImageError: an image can't be read.
            UsageError: as ``predict``.
        """
        from striate.metrics.predictions import probabilities
        from striate.serve.images import read_pixels

        running = self._engine(engine, compute)
        pixels = read_pixels(images, self.preprocessing)
        return probabilities(
            running.logits(pixels), multi_label=self.multi_label, temperature=self.opened.bundle.temperature
        )

    def evaluate(
        self,
        data: "DataChoice",
        *,
        protocol: "Protocol | None" = None,
        split: "Split" = "auto",
        compute: Compute = Compute(),
        strict: bool = False,
        progress: Progress = silent,
    ) -> "Measurement":
        """Measure it on labelled images; see ``striate.evaluate``.

        Returns:
            ``.top1``, ``.top1_interval``, ``.loss``, ``.scores`` (every class) and ``.predictions``.
        """
        from striate.evaluation.measure import evaluate
        from striate.evaluation.protocol import SINGLE

        return evaluate(
            self.opened,
            data,
            protocol=protocol or SINGLE,
            split=split,
            compute=compute,
            strict=strict,
            progress=progress,
        )

    # -- What is inside --------------------------------------------------------------------------------------

    def features(self, images: "Images", layers: Sequence[str]) -> dict[str, Tensor]:
        """Return what layers give for some images.

        Args:
            images: as ``predict``.
            layers: names of layers (the paper's: ``pool5``, ``fc7``; ``anatomy()`` lists them).

        Returns:
            By layer a float32 tensor ``N x ...`` on the CPU.

        Raises:
            UsageError: no such layer.
            BrokenImageError: an image can't be read.
        """
        import torch

        from striate.data.preprocess import normalise
        from striate.look.running import reading
        from striate.serve.images import read_pixels

        normed = normalise(torch.from_numpy(read_pixels(images, self.preprocessing)), self.preprocessing)
        taken: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        with reading(self.net, layers, normed[:1]) as run:
            for batch in normed.split(32):
                run(batch, lambda layer, output: taken[layer].append(output.detach().float().cpu()))
        return {layer: torch.cat(parts) for layer, parts in taken.items()}

    @cached_property
    def look(self) -> "Looker":
        """The ways of looking inside, such as ``model.look.deconvnet(image, layer="conv5_3", unit=12)``."""
        from striate.look.looker import Looker

        return Looker(self.opened)

    def anatomy(self) -> "Anatomy":
        """Return layers, volumes, parameters, MACs and receptive fields; shows itself in a notebook."""
        from striate.anatomy import trace

        return trace(self.net, self.input_shape, name=self.name)

    # -- Where it goes ---------------------------------------------------------------------------------------

    def export(self, to: str, out: str | Path | None = None, **options: Any) -> "Exported":
        """Write it for another runtime (``onnx``, ``openvino``, ``torch-export``); see ``striate.export``."""
        from striate.serve.export import export

        return export(self.opened, to, out, **options)

    def save(self, path: str | Path) -> Path:
        """Write it as a bundle, with the weights that ``net`` has now.

        Raises:
            WriteError: the file can't be written.
        """
        bundle = replace(self.opened.bundle, state=dict(self.net.state_dict()))
        save_bundle(bundle, Path(path))
        return Path(path)

    def __repr__(self) -> str:
        """Say what it is in a line."""
        channels, height, width = self.input_shape
        weights = "trained" if self.trained else "random weights"
        return f"<Model {self.name}, {weights}, {channels}x{height}x{width} to {len(self.classes)} classes>"

    def _repr_html_(self) -> str:
        """Show what it is in a notebook."""
        summary = self.anatomy()
        channels, height, width = self.input_shape
        shown = ", ".join(self.classes[:10]) + (", ..." if len(self.classes) > 10 else "")
        rows = {
            "network": self.name,
            "weights": "trained" if self.trained else "random: its answers mean nothing",
            "input": f"{channels} x {height} x {width} px",
            "classes": f"{len(self.classes)} ({shown})",
            "parameters": f"{summary.parameters:,}",
            "MACs": f"{summary.macs:,}",
        }
        left = "style='text-align:left'"
        cells = "".join(
            f"<tr><th {left}>{name}</th><td {left}>{html.escape(text)}</td></tr>"
            for name, text in rows.items()
        )
        return f"<table>{cells}</table>"

    def _engine(self, engine: "EngineChoice", compute: Compute) -> Any:
        """Return an engine for the network as it was at the first call; kept open for the next image."""
        from striate.serve.engine import open_engine

        if not hasattr(self, "_engines"):
            self._engines: dict[tuple[str, Compute], Any] = {}
        key = (engine, compute)
        if key not in self._engines:
            self._engines[key] = open_engine(self.opened, engine=engine, compute=compute)
        return self._engines[key]


def load(
    network: str | Path,
    *,
    net: nn.Module | str | None = None,
    weights: str | Path | None = None,
    input: int | tuple[int, ...] | None = None,
    arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Model:
    """Load a network.

    Args:
        network: a run folder, a bundle (``.safetensors``) or a file of weights of another program; or the
            name of a network (``striate.nets.NETS``), a ``.net`` file, a text in the lectures' notation, or
            ``module:factory`` for a network of one's own.
        net: for weights that don't say their network: a module to fill, or what builds it (a name,
            ``module:factory``).
        weights: for a network by name: a file of weights, or published ones (``torchvision``,
            ``timm:resnet50.a1_in1k``). None: random weights.
        input: of a network with random weights: the side in pixels, or channels, height, width.
        arguments: of the builder of a network with random weights, such as ``{"num_classes": 10}``.
        seed: of random weights.
        progress: listener of a download.

    Raises:
        UsageError: there is no such network.
        BundleError: the file is damaged, or does not say its network.
    """
    size = (input,) if isinstance(input, int) else input
    return Model(
        open_network(
            network,
            net=net,
            weights=weights,
            input_shape=size,
            arguments=arguments,
            seed=seed,
            progress=progress,
        )
    )


def wrap(
    module: nn.Module,
    *,
    input: tuple[int, int, int],
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    multi_label: bool = False,
) -> Model:
    """Make a ``Model`` of a module of one's own.

    Args:
        module: maps ``N x C x H x W`` images to ``N x K`` scores. It is put into eval mode and otherwise left
            as it is.
        input: channels, height and width in pixels.
        classes: ``K`` class names; None: ``class 0``, ``class 1``, ...
        preprocessing: what images go through; None: resized and cropped, ImageNet's constants.
        multi_label: whether scores are independent of each other (sigmoid).

    Raises:
        UsageError: no module, or it does not take such images or give such scores.
    """
    import torch

    if not isinstance(module, nn.Module):
        raise UsageError(
            f"expected a torch.nn.Module, got {type(module).__name__}: `striate.load` takes names"
        )
    if len(input) != 3 or not all(isinstance(side, int) and side > 0 for side in input):
        raise UsageError(
            f"expected `input` as channels, height and width, such as (3, 224, 224), got {input!r}"
        )
    module.eval()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            scores = module(torch.zeros(1, *input, device=device))
    except Exception as error:
        raise UsageError(
            f"expected a module that takes images {tuple(input)}, got {type(error).__name__}: {error}"
        ) from error
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UsageError(f"expected a module that gives scores N x K, got {got}")
    names = tuple(classes) if classes is not None else tuple(f"class {k}" for k in range(scores.shape[1]))
    if len(names) != scores.shape[1]:
        raise UsageError(f"expected {scores.shape[1]} `classes`, one for each score, got {len(names)}")
    if preprocessing is not None and (
        preprocessing.channels,
        preprocessing.height_px,
        preprocessing.width_px,
    ) != (*input,):
        raise UsageError(f"expected `preprocessing` for an input of {tuple(input)}, got another size")
    bundle = Bundle(
        net=f"<{type(module).__name__}>",
        classes=names,
        multi_label=multi_label,
        preprocessing=preprocessing or untrained_preprocessing(tuple(input)),
        state={},
    )
    return Model(OpenNetwork(net=module, bundle=bundle, name=type(module).__name__))
