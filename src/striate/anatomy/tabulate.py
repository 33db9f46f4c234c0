"""Filling a network's table: one row a layer or block, with its costs and its shares."""

from itertools import groupby

from striate.anatomy.columns import Row, Totals, percent
from striate.anatomy.layer import Layer, Layers
from striate.anatomy.ledger import VALUE_BYTES, Ledger, ledger
from striate.anatomy.table import Table

_ROLE_WORDS = {"conv": "convolutions", "fc": "fully connected layers", "norm": "normalisation"}
_NAMED = 3  # rows named in a sentence


def tabulate(
    anatomy: Layers, *, memory: str = "lecture", batch_images: int = 1, depth: int | None = None
) -> Table:
    """Put a network's costs in a table.

    Args:
        anatomy: of the network.
        memory: name of a ledger, see ``ledger.LEDGERS``.
        batch_images: number of images; multiplies MACs and memory, not parameters and im2col shapes.
        depth: merge neighbouring rows whose names share their first ``depth`` parts: output and field of the
            last, sums of all. None: one row a layer.

    Raises:
        UsageError: no such ledger, or no image.
    """
    book = ledger(anatomy, memory, batch_images=batch_images)
    totals = Totals(
        weights=anatomy.weights,
        biases=anatomy.biases,
        parameters=anatomy.parameters,
        training_only_parameters=anatomy.idle_parameters,
        macs=anatomy.macs * batch_images,
        flops=2 * anatomy.macs * batch_images,
        memory_values=book.values,
        memory_bytes=book.activation_bytes,
    )
    blocks = _blocks(anatomy.layers, depth)
    home = {layer.name: name for name, members in blocks for layer in members}
    rows = [_row(name, members, anatomy, book, totals, home) for name, members in blocks]
    return Table(
        name=anatomy.name,
        input_shape=anatomy.input_shape,
        rows=rows,
        totals=totals,
        ledger=book,
        where=_where(anatomy, rows, totals),
    )


def covers_image(layer: Layer, input_shape: tuple[int, int, int]) -> bool:
    """Whether every unit of a row sees the whole image."""
    if layer.field is None:
        return False
    grid = layer.output[-2:] if len(layer.output) >= 3 else (1, 1)
    image = input_shape[1:]
    for axis, units, size_px in zip((layer.field.rows, layer.field.columns), grid, image, strict=True):
        if axis.box(units - 1)[0] > 0 or axis.box(0)[1] < size_px - 1:
            return False
    return True


def _blocks(layers: tuple[Layer, ...], depth: int | None) -> list[tuple[str, list[Layer]]]:
    """Group neighbouring rows by the first parts of their names."""
    if depth is None:
        return [(layer.name, [layer]) for layer in layers]
    found: list[tuple[str, list[Layer]]] = []
    times: dict[str, int] = {}
    for key, group in groupby(layers, key=lambda layer: ".".join(layer.name.split(".")[:depth])):
        times[key] = times.get(key, 0) + 1
        found.append((key if times[key] == 1 else f"{key}#{times[key]}", list(group)))
    return found


def _row(
    name: str,
    members: list[Layer],
    anatomy: Layers,
    book: Ledger,
    totals: Totals,
    home: dict[str, str],
) -> Row:
    """Make the row of a block; ``home`` names the block of each layer."""
    last, alone = members[-1], len(members) == 1
    sources = dict.fromkeys(home[source] for layer in members for source in layer.inputs)
    weights, biases = (sum(layer.weights for layer in members), sum(layer.biases for layer in members))
    macs = book.batch_images * sum(layer.macs for layer in members)
    memory = sum(book.rows[layer.name] for layer in members)
    field, product = last.field, last.im2col if alone else None
    return Row(
        name=name,
        kind=last.kind if alone else f"block of {len(members)}",
        window=_window(last) if alone else "",
        role=last.role if alone else "block",
        inputs=[source for source in sources if source != name],
        output=list(last.output),
        weights=weights,
        biases=biases,
        parameters=weights + biases,
        parameters_share=_share(weights + biases, totals["parameters"]),
        macs=macs,
        flops=2 * macs,
        macs_share=_share(macs, totals["macs"]),
        memory_values=memory // VALUE_BYTES,
        memory_bytes=memory,
        memory_share=_share(memory, totals["memory_bytes"]),
        field_rows_px=None if field is None else field.rows.size_px,
        field_columns_px=None if field is None else field.columns.size_px,
        jump_rows_px=None if field is None else field.rows.jump_px,
        jump_columns_px=None if field is None else field.columns.jump_px,
        start_rows_px=None if field is None else field.rows.start_px,
        start_columns_px=None if field is None else field.columns.start_px,
        whole_image=covers_image(last, anatomy.input_shape),
        x_col=None if product is None else list(product.columns),
        w_row=None if product is None else list(product.weights),
        im2col_groups=None if product is None else product.groups,
        note="; ".join(dict.fromkeys(layer.note for layer in members if layer.note)),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _window(layer: Layer) -> str:
    """Write a window as the lectures do: ``11x11 s4 p0``, and what is unusual about it."""
    window = layer.window
    if window is None:
        return ""
    words = ["x".join(map(str, window.kernel))]
    words += [f"{letter}{_pair(pair)}" for letter, pair in (("s", window.stride), ("p", window.padding))]
    words += [f"d{_pair(window.dilation)}"] if window.dilation != (1, 1) else []
    words += [f"g{window.groups}"] if window.groups > 1 else []
    words += ["ceil"] if window.ceil_mode else []
    return " ".join(words)


def _pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def _where(anatomy: Layers, rows: list[Row], totals: Totals) -> tuple[str, ...]:
    """Say where parameters, work and memory are."""
    sentences = []
    if totals["parameters"]:
        kinds = _by_role({layer.name: (layer.role, layer.parameters) for layer in anatomy})
        most = _most({row["name"]: row["parameters_share"] for row in rows})
        sentences.append(f"{totals['parameters']:,} parameters: {kinds}; most in {most}")
    if totals["macs"]:
        kinds = _by_role({layer.name: (layer.role, layer.macs) for layer in anatomy})
        most = _most({row["name"]: row["macs_share"] for row in rows})
        sentences.append(f"{totals['macs']:,} MACs ({totals['flops']:,} FLOPs): {kinds}; most in {most}")
    if totals["memory_bytes"]:
        most = _most({row["name"]: row["memory_share"] for row in rows})
        size = f"{totals['memory_bytes'] / 1e6:,.2f} MB" if totals["memory_bytes"] >= 10**5 else ""
        values = f"{totals['memory_values']:,} values of {VALUE_BYTES} bytes"
        sentences.append(f"{values}{f' = {size}' if size else ''} of memory: most in {most}")
    return tuple(sentences)


def _by_role(counts: dict[str, tuple[str, int]]) -> str:
    sums: dict[str, int] = {}
    for role, count in counts.values():
        word = _ROLE_WORDS.get(role, "the rest")
        sums[word] = sums.get(word, 0) + count
    whole = sum(sums.values())
    ordered = sorted(sums.items(), key=lambda item: -item[1])
    return ", ".join(f"{word} {percent(count / whole)}" for word, count in ordered if count)


def _most(shares: dict[str, float]) -> str:
    ordered = sorted(shares.items(), key=lambda item: -item[1])[:_NAMED]
    return ", ".join(f"{name} ({percent(share)})" for name, share in ordered if share)
