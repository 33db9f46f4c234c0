"""The images that excite units most, found in one pass over a data set."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from striate.core.atomic import write_atomic
from striate.core.errors import CheckpointError, DataError, UsageError
from striate.core.progress import Progress, silent
from striate.look.layers import device_of
from striate.look.running import reading
from striate.look.stream import ImageStream, NamedImages

_PLACES_AT_ONCE = 4_000_000  # values that are searched for a place at a time, so that memory stays small
_TENSORS = ("values", "numbers", "rows", "columns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strongest:
    """The k images that excite each unit of a layer most, each image once, at its strongest place.

    All tensors are ``units x k``, the strongest first; of equal values, the image that comes first, and in
    the image the place that comes first, row by row. Where there are fewer than k images, the rest has number
    -1 and value -inf.

    Attributes:
        layer: path of the module.
        values: activations.
        numbers: of the images in the data set, from 0.
        rows: row of the unit in its map.
        columns: column of the unit in its map.
        map_size: rows and columns of the layer's maps; 1 and 1 for fully connected layers.
        names: of the images that occur here, by number.
        num_images: images that were run.
        broken: names and reasons of the first images that could not be read, 100 at most.
        num_broken: how many there were.
    """

    layer: str
    values: Tensor
    numbers: Tensor
    rows: Tensor
    columns: Tensor
    map_size: tuple[int, int]
    names: dict[int, str]
    num_images: int
    broken: tuple[tuple[str, str], ...] = ()
    num_broken: int = 0


@dataclass(frozen=True, slots=True)
class _Pass:
    """How far a pass is; replaced, never changed, so that an interruption finds it consistent."""

    tops: dict[str, Strongest]
    end: int = 0
    num_images: int = 0
    names: dict[int, str] = field(default_factory=dict)
    broken: tuple[tuple[str, str], ...] = ()
    num_broken: int = 0
    clean_at: int = 1000  # number of names at which those are dropped that are not needed any more


def find_strongest(
    net: nn.Module,
    images: ImageStream,
    layers: Sequence[str],
    *,
    k: int = 9,
    state: Path | None = None,
    save_every_s: float = 20.0,
    progress: Progress = silent,
) -> dict[str, Strongest]:
    """Find, for each unit of some layers, the k images that excite it most, in one pass over a data set.

    Memory does not grow with the data set. With ``state`` the pass can be interrupted at any moment, also
    by a crash, and continues from there when it is called again; the file is removed at the end.

    Args:
        net: the network.
        images: the data set.
        layers: paths of modules that give maps ``N x C x H x W`` (a unit is a map) or ``N x features``. Name
            the ReLU for activations, the convolution for what goes into it.
        k: images for each unit, at least 1.
        state: file that keeps how far the pass is.
        save_every_s: seconds between two writes of ``state``.
        progress: listener: images done.

    Returns:
        By layer.

    Raises:
        UsageError: no such layer, or one without maps; ``k`` below 1.
        DataError: no image can be read, or an activation is not a number.
        CheckpointError: ``state`` belongs to another network, other layers or other images.

    Paper: Zeiler and Fergus 2013, section 4 and Fig. 2: the top 9 activations over the validation set.
    Departures: none.
    """
    if k < 1:
        raise UsageError(f"expected at least 1 image a unit, got {k}")
    if not layers:
        raise UsageError("expected at least one layer, got none")
    owner = _owner(net, images, layers, k) if state is not None else ""
    done = _Pass({})
    if state is not None and state.exists():
        done = _load(state, owner, images)
    device = device_of(net)
    saved_at = time.monotonic()
    try:
        with ExitStack() as stack:
            run = None
            for batch in images.batches(done.end):
                found = dict(done.tops)
                if len(batch.images):
                    inputs = batch.images.to(device)
                    if run is None:
                        run = stack.enter_context(reading(net, layers, inputs[:1]))
                    run(inputs, partial(_merge, found, batch, k))
                done = _count(replace(done, tops=found), batch)
                progress("strongest images", done.end, images.total)
                if state is not None and time.monotonic() - saved_at > save_every_s:
                    _save(state, owner, done)
                    saved_at = time.monotonic()
    except BaseException:
        if state is not None and done.end:
            _save(state, owner, done)
        raise
    if not done.tops:
        reason = f" ({done.broken[0][0]}: {done.broken[0][1]})" if done.broken else ""
        raise DataError(f"expected images, got none that can be read{reason}")
    if state is not None:
        state.unlink(missing_ok=True)
    return {layer: _finished(done, layer, min(k, done.num_images)) for layer in layers}


def _finished(done: _Pass, layer: str, k: int) -> Strongest:
    top = done.tops[layer]
    numbers = top.numbers[:, :k]
    return replace(
        top,
        values=top.values[:, :k],
        numbers=numbers,
        rows=top.rows[:, :k],
        columns=top.columns[:, :k],
        names={number: done.names[number] for number in numbers.unique().tolist()},
        num_images=done.num_images,
        broken=done.broken,
        num_broken=done.num_broken,
    )


def _merge(found: dict[str, Strongest], batch: NamedImages, k: int, layer: str, maps: Tensor) -> None:
    """Put a batch's maps into the k strongest that were found so far."""
    count = len(batch.images)
    if maps.ndim not in (2, 4) or len(maps) != count:
        shape = "x".join(map(str, maps.shape))
        raise UsageError(
            f"expected {layer} to give maps N x C x H x W or N x features for {count} images, got {shape}:"
            " name another layer"
        )
    if not maps.is_floating_point():
        raise UsageError(f"expected {layer} to give real numbers, got {maps.dtype}: name another layer")
    size = (maps.shape[2], maps.shape[3]) if maps.ndim == 4 else (1, 1)
    flat = maps.flatten(2) if maps.ndim == 4 else maps[:, :, None]
    # The maximum alone is several times cheaper than the maximum and its place, and few images need theirs.
    best = flat.amax(2).t()
    if best.isnan().any():
        image = batch.names[int(best.isnan().any(0).nonzero()[0, 0])]
        raise DataError(
            f"expected numbers from {layer}, got NaN for {image}: check the weights and the image"
        )
    best = best.to("cpu", torch.promote_types(best.dtype, torch.float32))
    numbers = torch.tensor(batch.numbers).expand(len(best), count)
    before = found.get(layer)
    if before is None:
        before = _nothing(layer, len(best), k, best.dtype, size)
    elif len(before.values) != len(best):
        raise UsageError(
            f"expected {len(before.values)} units of {layer}, got {len(best)}: use one image size"
        )
    candidates = torch.cat([before.values, best], 1)
    values, order = candidates.sort(dim=1, descending=True, stable=True)
    values, order = values[:, :k], order[:, :k]
    rows, columns = before.rows, before.columns
    if size != (1, 1):
        units, slots = (order >= k).nonzero(as_tuple=True)
        places = _places(flat, order[units, slots] - k, units)
        kept = order.clamp(max=k - 1)
        rows, columns = rows.gather(1, kept), columns.gather(1, kept)
        rows[units, slots], columns[units, slots] = places // size[1], places % size[1]
    found[layer] = replace(
        before,
        values=values.contiguous(),
        numbers=torch.cat([before.numbers, numbers], 1).gather(1, order),
        rows=rows,
        columns=columns,
    )


def _nothing(layer: str, units: int, k: int, dtype: torch.dtype, size: tuple[int, int]) -> Strongest:
    zeros = torch.zeros(units, k, dtype=torch.int64)
    return Strongest(
        layer=layer,
        values=torch.full((units, k), -torch.inf, dtype=dtype),
        numbers=zeros - 1,
        rows=zeros,
        columns=zeros,
        map_size=size,
        names={},
        num_images=0,
    )


def _places(flat: Tensor, images: Tensor, units: Tensor) -> Tensor:
    """Return the first place of the maximum of some maps."""
    step = max(1, _PLACES_AT_ONCE // flat.shape[2])
    images, units = images.to(flat.device), units.to(flat.device)
    chunks = [
        flat[images[start : start + step], units[start : start + step]].argmax(1)
        for start in range(0, len(units), step)
    ]
    return torch.cat(chunks).cpu() if chunks else torch.zeros(0, dtype=torch.int64)


def _count(done: _Pass, batch: NamedImages) -> _Pass:
    """Count a batch; keep the names that are still needed."""
    names = done.names | dict(zip(batch.numbers, batch.names, strict=True))
    clean_at = done.clean_at
    if len(names) > clean_at:
        wanted = set(torch.cat([top.numbers.flatten() for top in done.tops.values()]).tolist())
        names = {number: name for number, name in names.items() if number in wanted}
        clean_at = max(1000, 2 * len(names))
    return replace(
        done,
        end=batch.end,
        num_images=done.num_images + len(batch.images),
        names=names,
        broken=(done.broken + batch.broken)[:100],
        num_broken=done.num_broken + len(batch.broken),
        clean_at=clean_at,
    )


def _owner(net: nn.Module, images: ImageStream, layers: Sequence[str], k: int) -> str:
    """Hash what a pass depends on, besides the images themselves."""
    state = hashlib.blake2b(repr((type(net).__name__, str(net), images.key, list(layers), k)).encode())
    for name, tensor in net.state_dict().items():
        state.update(name.encode())
        state.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()[:32]


def _save(path: Path, owner: str, done: _Pass) -> None:
    arrays: dict[str, np.ndarray] = {}
    for number, top in enumerate(done.tops.values()):
        for name in _TENSORS:
            arrays[f"{name}_{number}"] = getattr(top, name).numpy()
    about = {
        "owner": owner,
        "layers": [[layer, *top.map_size] for layer, top in done.tops.items()],
        "end": done.end,
        "num_images": done.num_images,
        "names": [[number, name] for number, name in done.names.items()],
        "broken": done.broken,
        "num_broken": done.num_broken,
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    write: Callable[..., None] = np.savez
    write_atomic(path, lambda file: write(file, **arrays))


def _load(path: Path, owner: str, images: ImageStream) -> _Pass:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            tops = {}
            for number, (layer, rows, columns) in enumerate(about["layers"]):
                found: dict[str, Any] = {
                    name: torch.from_numpy(arrays[f"{name}_{number}"]) for name in _TENSORS
                }
                nothing = _nothing(layer, 0, 0, torch.float32, (rows, columns))
                tops[layer] = replace(nothing, **found)
        done = _Pass(
            tops,
            about["end"],
            about["num_images"],
            dict(map(tuple, about["names"])),
            tuple(map(tuple, about["broken"])),
            about["num_broken"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: expected the state of an earlier pass ({error}): delete it") from None
    if about["owner"] != owner:
        raise CheckpointError(
            f"{path}: expected the state of a pass with this network, these layers and images, got that of"
            " another: delete it, or write another picture (`out`)"
        )
    count = 0
    for number, name in enumerate(images.names()):
        count += number < done.end
        if number >= done.end:
            break
        if done.names.get(number, name) != name:
            raise CheckpointError(
                f"{path}: expected {done.names[number]} as image number {number}, got {name}: the data set"
                " changed, delete the file"
            )
    if count < done.end:
        raise CheckpointError(
            f"{path}: expected at least {done.end} images, got {count}: the data set changed"
        )
    return done
