"""``striate look`` of a network's filters, and of what it makes of an image: one function a command."""

from typing import Annotated, get_args

import typer

from striate.cli import look_options as look
from striate.cli import options
from striate.cli.show import Listener
from striate.core.choices import Baseline, Fill, MapStrength, SaliencyMethod, SanityMethod
from striate.core.errors import UsageError


def filters(
    network: options.NetworkArgument,
    layer: Annotated[str | None, typer.Option(help="A convolution, e.g. conv2; default: the first.")] = None,
    unit: look.UnitsOption = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="How many filters; default: 128 tiles, 16 rows.")
    ] = None,
    channels: Annotated[
        int, typer.Option("--channels", min=1, help="How many input channels of deeper layers.")
    ] = 24,
    shared: Annotated[
        bool, typer.Option("--shared", help="One scale for all filters; otherwise each has its own.")
    ] = False,
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: look.PictureOption = None,
) -> None:
    """Draw the filters of a layer: the first in colour, deeper ones channel by channel.

    Example:  [bold]striate look filters runs/demo[/]

    Example:  [bold]striate look filters vgg16 --layer conv3_2 --top 8 -o filters.png[/]
    """
    from striate.look.filter_picture import show_filters
    from striate.look.inputs import unit_numbers

    opened = look.open_network(network, seed, input, arg)
    numbers = unit_numbers(unit or ())
    picture = show_filters(opened, layer=layer, unit=numbers, top=top, channels=channels, shared=shared)
    look.write(picture, out, numbers=True)


def activations(
    network: options.NetworkArgument,
    image: look.ImageArgument,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="One layer in detail; several, a row each; default: the main layers, a row each."),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="N", help="A map of the layer, from 0; default: the strongest.")
    ] = None,
    at: look.AtOption = None,
    by: Annotated[
        MapStrength, typer.Option("--by", help="What makes a map strong: its largest value or its mean.")
    ] = "max",
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="How many maps; default: 24 of one layer, 8 a row.")
    ] = None,
    own: Annotated[bool, typer.Option("--own", help="Each map on its own scale.")] = False,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: look.PictureOption = None,
) -> None:
    """Draw the feature maps that an image gives, the strongest first, and what a unit sees of the image.

    Example:  [bold]striate look activations runs/demo digits:12[/]

    Example:  [bold]striate look activations vgg16 dog.jpg --layer relu3_3 --unit 41 --at 20,11 -o maps.png[/]
    """
    number, colon, place = (unit or "").partition(":")  # C:ROW,COL is the old form of --unit C --at ROW,COL
    if unit is not None and not number.isdecimal():
        raise UsageError(f"expected --unit as the number of a map, such as 41, got {unit!r}")
    where = look.read_place(place if colon else at)
    from striate.look.maps_picture import show_activations

    opened = look.open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_activations(
            opened,
            image,
            layer=layer,
            unit=None if unit is None else int(number),
            at=where,
            by=by,
            top=top,
            own_scale=own,
            compute=options.compute_of(device, "fp32"),
            progress=listener,
        )
    look.write(picture, out, numbers=True)


def deconv(
    network: options.NetworkArgument,
    image: look.ImageArgument,
    layer: Annotated[
        str | None,
        typer.Option(help="A convolution, ReLU, pool, block or fully connected layer. Default: last maps."),
    ] = None,
    unit: look.UnitsOption = None,
    top: Annotated[int, typer.Option("--top", min=1, max=24, help="How many of the strongest units.")] = 4,
    at: look.AtOption = None,
    batch: options.BatchOption = None,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: look.PictureOption = None,
) -> None:
    """Show what in an image made units fire: deconvnet, guided backpropagation and gradient side by side.

    Example:  [bold]striate look deconv runs/demo digits:12 --layer C3_relu[/]

    Example:  [bold]striate look deconv vgg16 sample:china.jpg --layer relu4_3 --unit 7 --at 10,12[/]
    """
    place = look.read_place(at)
    from striate.look.deconv_picture import show_deconvnet
    from striate.look.inputs import unit_numbers

    opened = look.open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_deconvnet(
            opened,
            image,
            layer=layer,
            unit=unit_numbers(unit or ()),
            at=place,
            top=top,
            compute=options.compute_of(device, "fp32", batch),
            progress=listener,
        )
    look.write(picture, out)


def occlusion(
    network: options.NetworkArgument,
    images: look.ImagesArgument,
    size: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Side of the occluder; default: 50 of 224 px, in proportion."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(metavar="PX", help="Step; default: 10 of 224 px, in proportion.")
    ] = None,
    fill: Annotated[
        Fill, typer.Option("--fill", help="Mid grey (the paper's), the mean colour, or the blurred image.")
    ] = "grey",
    blur: Annotated[
        float | None,
        typer.Option(metavar="PX", help="Gaussian of --fill blur; default: a fifth of the size."),
    ] = None,
    cls: options.ClassOption = None,
    layer: Annotated[
        str | None, typer.Option(help="Whose map is summed; default: the top convolution layer.")
    ] = None,
    batch: options.BatchOption = None,
    precision: options.PrecisionOption = "auto",
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: look.PictureOption = None,
) -> None:
    """Slide a grey square over an image: which parts does the network need?

    Three maps, as in Zeiler and Fergus 2013: the sum of the strongest feature map, the probability of the
    class, and the most probable label, each by where the square is.

    Example:  [bold]striate look occlusion runs/demo dog.jpg[/]

    Example:  [bold]striate look occlusion vgg16 sample:flower.jpg --size 40 --fill blur -o flower.png[/]
    """
    from striate.look.occlusion_picture import show_occlusion

    opened = look.open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_occlusion(
            opened,
            images,
            cls=cls,
            layer=layer,
            size_px=size,
            stride_px=stride,
            fill=fill,
            blur_px=blur,
            compute=options.compute_of(device, precision, batch),
            progress=listener,
        )
    look.write(picture, out, numbers=True)


def saliency(
    network: options.NetworkArgument,
    image: look.ImageArgument,
    method: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(get_args(SaliencyMethod))}. Repeatable. Default: all."),
    ] = None,
    cls: options.ClassOption = None,
    samples: Annotated[int, typer.Option(min=1, help="smoothgrad: noisy copies.")] = 50,
    noise: Annotated[
        float, typer.Option(min=0, help="smoothgrad: standard deviation, as a share of the image's range.")
    ] = 0.15,
    steps: Annotated[int, typer.Option(min=1, help="integrated: points between baseline and image.")] = 64,
    baseline: Annotated[Baseline, typer.Option("--baseline", help="integrated: where it starts.")] = "black",
    batch: options.BatchOption = None,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: look.PictureOption = None,
) -> None:
    """Show which pixels a class score depends on: gradient, guided, SmoothGrad, integrated gradients.

    Example:  [bold]striate look saliency runs/demo digits:12[/]

    Example:  [bold]striate look saliency runs/birds photo.jpg --method smoothgrad --class quail[/]
    """
    from striate.look.saliency_picture import METHODS, show_saliency

    opened = look.open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_saliency(
            opened,
            image,
            cls=cls,
            method=method or METHODS,
            samples=samples,
            noise=noise,
            steps=steps,
            baseline=baseline,
            seed=seed,
            compute=options.compute_of(device, "fp32", batch),
            progress=listener,
        )
    look.write(picture, out)
    for line in picture.notes:
        print(line)


def gradcam(
    network: options.NetworkArgument,
    image: look.ImageArgument,
    cls: options.ClassesOption = None,
    top: Annotated[
        int, typer.Option("--top", min=1, max=10, help="How many of the network's first choices.")
    ] = 2,
    layer: Annotated[
        str | None, typer.Option(help="Default: the last maps larger than one pixel, not those of a pool.")
    ] = None,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: look.PictureOption = None,
) -> None:
    """Show where in an image the last maps support a class (Grad-CAM).

    Example:  [bold]striate look gradcam runs/demo digits:12[/]

    Example:  [bold]striate look gradcam runs/birds photo.jpg --class quail --class goose[/]
    """
    from striate.look.gradcam_picture import show_gradcam

    opened = look.open_network(network, seed, input, arg)
    compute = options.compute_of(device, "fp32")
    with Listener() as listener:
        picture = show_gradcam(
            opened, image, cls=cls, layer=layer, top=top, compute=compute, progress=listener
        )
    look.write(picture, out)


def sanity(
    network: options.NetworkArgument,
    image: look.ImageArgument,
    method: Annotated[SanityMethod, typer.Option("--method", help="What makes the maps.")] = "gradient",
    cls: options.ClassOption = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Layers to make random, bottom first. Repeatable. Default: all with weights."),
    ] = None,
    device: options.DeviceOption = "auto",
    seed: options.SeedOption = 0,
    input: options.InputOption = None,
    arg: options.ArgOption = None,
    out: look.PictureOption = None,
) -> None:
    """Make the weights random layer by layer from the top: does the picture change?

    A picture that stays the same does not show what the network learned.

    Example:  [bold]striate look sanity runs/demo digits:12 --method guided[/]
    """
    from striate.look.sanity_picture import show_sanity

    opened = look.open_network(network, seed, input, arg)
    with Listener() as listener:
        picture = show_sanity(
            opened,
            image,
            cls=cls,
            method=method,
            layer=layer,
            seed=seed,
            compute=options.compute_of(device, "fp32"),
            progress=listener,
        )
    look.write(picture, out)
    for line in picture.notes:
        print(line)
