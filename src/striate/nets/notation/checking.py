"""Walk a volume through the drafts, and hold what the text says against the arithmetic."""

from collections.abc import Sequence

from striate.nets.notation.drafts import at
from striate.nets.notation.items import Draft, Item, name_item
from striate.nets.notation.layers import Conv, FullyConnected, Layer
from striate.nets.notation.record import check_total
from striate.nets.notation.volumes import (
    Volume,
    after,
    arithmetic,
    misfit,
    num_biases,
    num_weights,
    show,
)


def check_volumes(input_shape: tuple[int, int, int], drafts: Sequence[Draft]) -> None:
    """Check that every layer fits what is before it, and every volume and number of weights that is claimed.

    Args:
        input_shape: channels, height and width in pixels.
        drafts: the layers in order.

    Raises:
        UsageError: a window that doesn't fit, a false claim, or too many parameters, with its place.
    """
    volume: Volume = input_shape
    total = 0
    for draft in drafts:
        layer = draft.layer
        with at(draft.spot):
            behind = after(layer, volume)
        if not draft.rounding and (reason := misfit(layer, volume)):
            raise draft.spot.refuse(reason)
        total += num_weights(layer, volume) + num_biases(layer)
        with at(draft.spot):
            check_total(total)
        _check_depth(draft, volume)
        _check_volume(draft, volume, behind)
        _check_weights(draft, volume)
        volume = behind


def check_weightless(items: Sequence[Item]) -> None:
    """Check that the input and the settings claim no weights.

    Args:
        items: everything that the text says; its layers are passed over.

    Raises:
        UsageError: ``params:`` of another number than 0, with its place.
    """
    for item in items:
        for claim in () if isinstance(item, Draft) else item.weights:
            if not claim.allows(0):
                raise claim.spot.refuse(
                    f"expected params: 0 for {name_item(item)}, which has no weights, got {claim.text}:"
                    " correct the number or leave it out"
                )


def _check_depth(draft: Draft, volume: Volume) -> None:
    if draft.depth is None or not isinstance(draft.layer, Conv):
        return
    channels = volume[0] // draft.layer.groups
    if draft.depth != channels:
        groups = f" in each of {draft.layer.groups} groups" if draft.layer.groups > 1 else ""
        raise draft.spot.refuse(
            f"expected filters of depth {channels}, the channels of the input{groups}, got {draft.depth}:"
            " correct the depth or leave it out"
        )


def _check_volume(draft: Draft, before: Volume, behind: Volume) -> None:
    computed = (behind[1], behind[2], behind[0]) if len(behind) == 3 else (1, 1, behind[0])
    for claim in draft.volumes:
        said = claim.sizes
        if said == computed or (len(said) == 1 and computed == (1, 1, said[0])):
            continue
        shown = show(said if len(said) == 1 else (said[2], said[0], said[1]))
        steps = arithmetic(draft.layer, before)
        because = f" from {steps}" if steps else ""
        raise claim.spot.refuse(
            f"expected the volume {show(behind)}{because}, got {shown}:"
            " correct the volume, or the layers up to here"
        )


def _check_weights(draft: Draft, volume: Volume) -> None:
    weights = num_weights(draft.layer, volume)
    biases = num_biases(draft.layer)
    for claim in draft.weights:
        if claim.allows(weights):
            continue
        counted = ", which counts the biases" if biases and claim.allows(weights + biases) else ""
        raise claim.spot.refuse(
            f"expected params: {_product(draft.layer, volume)}{weights:,} without biases,"
            f" got {claim.text}{counted}:"
            " correct the number or leave it out"
        )


def _product(layer: Layer, volume: Volume) -> str:
    match layer:
        case Conv():
            height, width = layer.kernel
            return f"({height}*{width}*{volume[0] // layer.groups})*{layer.filters} = "
        case FullyConnected():
            inputs = "*".join(map(str, (*volume[1:], volume[0])))
            return f"{inputs}*{layer.units} = "
    return ""
