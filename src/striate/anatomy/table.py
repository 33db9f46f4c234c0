"""The table of a network: one row a layer or block, with its costs and its shares, as plain values."""

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypedDict

from striate.anatomy import formats
from striate.anatomy.ledger import VALUE_BYTES, Ledger, ledger

if TYPE_CHECKING:
    from striate.anatomy.record import Anatomy, Layer

CONVENTION = "1 MAC = 2 FLOP; MACs of convolutions and matrix products, without biases"

_ROLE_WORDS = {"conv": "convolutions", "fc": "fully connected layers", "norm": "normalisation"}
_NAMED = 3  # rows named in a sentence


class Row(TypedDict):
    """One row of the table. Counts are for the whole batch, except parameters and the matrices of im2col.

    ``field_*_px`` (size of the receptive field), ``jump_*_px`` (stride) and ``start_*_px`` (offset) are None
    where they are not known; jumps also where all units see the same pixels. Shares are fractions.
    """

    name: str
    kind: str
    window: str
    role: str
    inputs: list[str]
    output: list[int]
    weights: int
    biases: int
    parameters: int
    parameters_share: float
    macs: int
    flops: int
    macs_share: float
    memory_values: int
    memory_bytes: int
    memory_share: float
    field_rows_px: int | None
    field_columns_px: int | None
    jump_rows_px: int | None
    jump_columns_px: int | None
    start_rows_px: int | None
    start_columns_px: int | None
    whole_image: bool
    x_col: list[int] | None
    w_row: list[int] | None
    im2col_groups: int | None
    note: str


class Totals(TypedDict):
    """Sums of the rows; ``training_only_parameters`` are not in ``parameters``."""

    weights: int
    biases: int
    parameters: int
    training_only_parameters: int
    macs: int
    flops: int
    memory_values: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A network's rows and sums, ready to be written in any format.

    Attributes:
        name: of the network.
        input_shape: channels, height and width in pixels.
        rows: in the order of computation.
        totals: sums.
        ledger: the memory.
        where: sentences that say where parameters, work and memory are.
    """

    name: str
    input_shape: tuple[int, int, int]
    rows: list[Row]
    totals: Totals
    ledger: Ledger
    where: tuple[str, ...]

    @property
    def title(self) -> str:
        """Name, input and batch."""
        size = "x".join(map(str, self.input_shape))
        images = self.ledger.batch_images
        return f"{self.name}, {size}, {images} image{'s' if images > 1 else ''}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the numbers count."""
        besides = "".join(f"; {name} {count / 1e6:,.2f} MB" for name, count in self.ledger.besides.items())
        if besides:
            besides += f"; together {self.ledger.total_bytes / 1e6:,.2f} MB"
        found = [
            CONVENTION,
            f"memory by the {self.ledger.name} ledger: {self.ledger.rule}{besides}",
        ]
        if self.totals["training_only_parameters"]:
            count = self.totals["training_only_parameters"]
            found.append(f"{count:,} more parameters are not used at test time and are in no row")
        if self.ledger.name == "im2col":
            name, largest = self.ledger.largest
            found.append(f"the largest buffer is that of {name}: {largest / 1e6:,.2f} MB")
        return tuple(found)

    def to_json(self) -> dict[str, object]:
        """Return plain values for ``json.dumps``."""
        return {
            "name": self.name,
            "input": list(self.input_shape),
            "batch_images": self.ledger.batch_images,
            "convention": CONVENTION,
            "ledger": {
                "name": self.ledger.name,
                "rule": self.ledger.rule,
                "besides_bytes": self.ledger.besides,
                "total_bytes": self.ledger.total_bytes,
            },
            "totals": self.totals,
            "where": list(self.where),
            "layers": self.rows,
        }

    def to_csv(self) -> str:
        """Write every value, one line a row, without sums; sizes as ``96x55x55``."""
        return formats.as_csv([dict(row) for row in self.rows])

    def to_markdown(self) -> str:
        """Write a table for people, with sums and notes."""
        return formats.as_markdown(self)

    def to_latex(self) -> str:
        """Write a ``tabular`` with the rules of the package ``booktabs``."""
        return formats.as_latex(self)

    def to_html(self) -> str:
        """Write a fragment of a page: a table with its own style, which loads nothing."""
        return formats.as_html(self)

    def to_page(self) -> str:
        """Write a whole page of HTML."""
        return formats.as_page(self)


def tabulate(
    anatomy: "Anatomy", *, memory: str = "lecture", batch_images: int = 1, depth: int | None = None
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


def covers_image(layer: "Layer", input_shape: tuple[int, int, int]) -> bool:
    """Tell whether every unit of a row sees the whole image."""
    if layer.field is None:
        return False
    grid = layer.output[-2:] if len(layer.output) >= 3 else (1, 1)
    image = input_shape[1:]
    for axis, units, size_px in zip((layer.field.rows, layer.field.columns), grid, image, strict=True):
        if axis.box(units - 1)[0] > 0 or axis.box(0)[1] < size_px - 1:
            return False
    return True


def _blocks(layers: tuple["Layer", ...], depth: int | None) -> list[tuple[str, list["Layer"]]]:
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
    members: list["Layer"],
    anatomy: "Anatomy",
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


def _window(layer: "Layer") -> str:
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


def _where(anatomy: "Anatomy", rows: list[Row], totals: Totals) -> tuple[str, ...]:
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


def percent(share: float) -> str:
    """Write a share in whole percent; a small one is not written as nothing, nor most as all."""
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 <= share < 1:
        return f"{share:.1%}" if share < 0.9995 else ">99.9%"
    return f"{share:.0%}"
