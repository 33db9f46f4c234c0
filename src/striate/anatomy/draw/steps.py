"""Steps: the rows of a record as a figure shows them, with the small ones folded into their neighbours.

Normalisation, activations and dropout are words in the label of the step that they belong to; what gives no
new values (flattening, identity shortcuts) disappears.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from striate.anatomy.layer import Layer, Shape, Window
from striate.anatomy.record import Anatomy

TIMES = "\N{MULTIPLICATION SIGN}"
_WORDS = {
    "batchnorm1d": "BN",
    "batchnorm2d": "BN",
    "native_batch_norm": "BN",
    "cudnn_batch_norm": "BN",
    "batch_norm": "BN",
    "localresponsenorm": "LRN",
    "groupnorm": "group norm",
    "native_group_norm": "group norm",
    "layernorm": "layer norm",
    "native_layer_norm": "layer norm",
    "relu": "ReLU",
    "threshold": "ReLU",
    "leakyrelu": "leaky ReLU",
    "leaky_relu": "leaky ReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "tanh": "tanh",
    "scaledtanh": "tanh",
    "sigmoid": "sigmoid",
    "softmax": "softmax",
    "dropout": "dropout",
    "dropout2d": "dropout",
}
_POOLS = {
    "maxpool2d": "max pool",
    "max_pool2d": "max pool",
    "avgpool2d": "avg pool",
    "avg_pool2d": "avg pool",
    "subsampling": "subsample",
    "adaptiveavgpool2d": "global avg pool",
    "adaptivemaxpool2d": "global max pool",
    "mean": "global avg pool",
}
_PADS = ("zeropad2d", "pad", "constant_pad_nd", "reflectionpad2d", "replicationpad2d", "constantpad2d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One box or volume of a figure.

    Attributes:
        name: of its row; of a module drawn as one step, the module's.
        operation: in words: ``conv``, ``max pool``, ``fc``, ``add``, ``concat``, ``3 conv``.
        role: as in ``Layer``; ``block`` for a module drawn as one step.
        output: sizes for one image.
        inputs: names of the steps that it reads.
        window: of a convolution or pool.
        before: what is folded in front of it.
        after: what is folded behind it.
        parameters: of all its rows.
    """

    name: str
    operation: str
    role: str
    output: Shape
    inputs: tuple[str, ...]
    window: Window | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    parameters: int = 0

    @property
    def is_volume(self) -> bool:
        """Whether its output has rows and columns, more than one of them."""
        return len(self.output) == 3 and max(self.output[1:]) > 1

    @property
    def channels(self) -> int:
        """Channels of the output, or its features."""
        if not self.output:
            return 1
        return self.output[-1] if len(self.output) == 2 else self.output[0]

    @property
    def values(self) -> int:
        """Numbers in the output."""
        return math.prod(self.output)

    @property
    def hint(self) -> str:
        """All that is known, in one line."""
        said = [self.name, self.operation]
        if self.window:
            said.append(f"window {sides(self.window.kernel)}, stride {sides(self.window.stride)}")
            said.append(f"padding {sides(self.window.padding)}")
            if self.window.groups > 1:
                said.append(f"{self.window.groups} groups")
        said.append(f"output {size(self.output)}")
        if self.before:
            said.append("before it " + ", ".join(self.before))
        if self.after:
            said.append("then " + ", ".join(self.after))
        if self.parameters:
            said.append(f"{self.parameters:,} parameters")
        return "; ".join(said)


def sides(lengths: Sequence[int]) -> str:
    """Write lengths with multiplication signs between them."""
    return TIMES.join(map(str, lengths)) or "1"


def size(output: Shape) -> str:
    """Write an output as the lectures do: height, width, channels."""
    return sides((*output[1:], output[0])) if len(output) == 3 else sides(output)


def window_words(step: Step) -> str:
    """Write a window and its stride, 11 by 11 as ``11x11 /4`` with a proper sign; "" without one."""
    if step.window is None:
        return ""
    stride = step.window.stride
    written = sides(step.window.kernel)
    if stride != (1, 1):
        written += f" /{stride[0]}" if stride[0] == stride[1] else f" /{sides(stride)}"
    return written


@dataclass(slots=True)
class _Draft:
    """A step while the rows are being read."""

    layer: Layer
    operation: str
    role: str
    inputs: list[str]
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def steps_of(anatomy: Anatomy, *, full: bool = False) -> tuple[Step, ...]:
    """Read the steps of a network.

    Args:
        anatomy: the record.
        full: give normalisation, activations and dropout steps of their own.

    Returns:
        The steps in the order of computation; the first is the input.
    """
    readers = Counter(name for layer in anatomy for name in layer.inputs)
    sole_reader = {name: layer for layer in anatomy for name in layer.inputs if readers[name] == 1}
    drafts: dict[str, _Draft] = {}
    stands: dict[str, str] = {}  # the step that a row ended in
    for layer in anatomy:
        sources = list(dict.fromkeys(stands[name] for name in layer.inputs if name in stands))
        kind = layer.kind.lower()
        word = _WORDS.get(kind, kind)
        if len(sources) == 1:
            home, alone = drafts[sources[0]], readers[layer.inputs[0]] == 1
            if layer.role == "view" and not (full and word == "dropout"):
                if word == "dropout":
                    home.after.append(word)
                stands[layer.name] = sources[0]
                continue
            if kind in _PADS and alone and len(layer.output) == 3:
                home.after.append(f"pad to {sides(layer.output[1:])}")
                stands[layer.name] = sources[0]
                continue
            folds = layer.role in ("norm", "activation") and alone and home.role != "input"
            if folds and not full:
                home.after.append(word)
                stands[layer.name] = sources[0]
                continue
            reader = sole_reader.get(layer.name)
            free = layer.role == "other" and not layer.parameters and not layer.macs
            if free and not full and reader is not None and reader.role == "join" and len(reader.inputs) > 1:
                stands[layer.name] = sources[0]  # a shortcut without weights: a line of its own
                continue
        drafts[layer.name] = _Draft(layer, _operation(layer), layer.role, sources)
        stands[layer.name] = layer.name
    if not full:
        _fold_forward(drafts)
    return tuple(
        Step(
            name=name,
            operation=draft.operation,
            role=draft.role,
            output=draft.layer.output,
            inputs=tuple(draft.inputs),
            window=draft.layer.window,
            before=tuple(draft.before),
            after=tuple(draft.after),
            parameters=draft.layer.parameters,
        )
        for name, draft in drafts.items()
    )


def _operation(layer: Layer) -> str:
    kind = layer.kind.lower()
    if layer.role in ("norm", "activation", "view"):
        return _WORDS.get(kind, kind)
    if layer.role == "pool":
        words = _POOLS.get(kind, "pool")
        return words if layer.window is None else words.removeprefix("global ")
    if layer.role == "join":
        return {"cat": "concat"}.get(kind, kind)
    if layer.role == "conv" and "transpose" in kind:
        return "transposed conv"
    return {"conv": "conv", "fc": "fc", "input": "input"}.get(layer.role, layer.kind)


def _fold_forward(drafts: dict[str, _Draft]) -> None:
    """Fold what precedes a convolution (pre-activation) into it."""
    for name in list(drafts):
        draft = drafts[name]
        if draft.role not in ("norm", "activation"):
            continue
        readers = [other for other in drafts.values() if name in other.inputs]
        if len(readers) == 1 and readers[0].inputs == [name] and readers[0].role in ("conv", "fc", "pool"):
            words = [*draft.before, draft.operation, *draft.after]
            readers[0].before = [*words, *readers[0].before]
            readers[0].inputs = list(draft.inputs)
            del drafts[name]


def merged(steps: Sequence[Step], depth: int) -> tuple[Step, ...]:
    """Draw every module at a depth as one step.

    Args:
        steps: of a network.
        depth: components of a name that stay: 1 keeps the modules that the network itself holds.

    Returns:
        The steps; a module that is left and entered again stays in pieces.
    """
    groups: dict[str, list[Step]] = {}
    for step in steps:
        parts = step.name.split(".")
        groups.setdefault(".".join(parts[:depth]) if len(parts) > depth else step.name, []).append(step)
    by_name = {step.name: step for step in steps}
    bit = {step.name: 1 << place for place, step in enumerate(steps)}
    sources: dict[str, int] = {}  # bits of all that a step is computed from
    for step in steps:
        sources[step.name] = 0
        for name in step.inputs:
            sources[step.name] |= bit[name] | sources[name]
    readers: dict[str, set[str]] = {step.name: set() for step in steps}
    for step in steps:
        for name in step.inputs:
            readers[name].add(step.name)
    stands: dict[str, str] = {}
    made: dict[str, Step] = {}
    for key, members in groups.items():
        names = {member.name for member in members}
        inside = sum(bit[name] for name in names)
        feeding = 0
        for name in names:
            feeding |= sources[name]
        feeding &= ~inside
        reentered = any(bit[step.name] & feeding and sources[step.name] & inside for step in steps)
        exits = [member for member in members if readers[member.name] - names or not readers[member.name]]
        if len(members) == 1 or reentered or len(exits) != 1 or (key in by_name and key not in names):
            for member in members:
                stands[member.name] = member.name
                made[member.name] = member
            continue
        stands.update(dict.fromkeys(names, key))
        inputs = dict.fromkeys(name for member in members for name in member.inputs if name not in names)
        counts = Counter(member.operation for member in members if member.parameters)
        operation = ", ".join(f"{n} {words}" if n > 1 else words for words, n in counts.items())
        made[key] = Step(
            name=key,
            operation=operation or members[-1].operation,
            role="block",
            output=exits[0].output,
            inputs=tuple(inputs),
            parameters=sum(member.parameters for member in members),
        )
    renamed = [
        replace(step, inputs=tuple(dict.fromkeys(stands[name] for name in step.inputs)))
        for step in made.values()
    ]
    return tuple(_in_order(renamed))


def _in_order(steps: Sequence[Step]) -> list[Step]:
    """Put every step behind the ones that it reads, keeping the order otherwise."""
    waiting, done, ordered = list(steps), set[str](), []
    while waiting:
        step = next(step for step in waiting if done.issuperset(step.inputs))
        waiting.remove(step)
        done.add(step.name)
        ordered.append(step)
    return ordered


def is_chain(steps: Sequence[Step]) -> bool:
    """Whether each step reads just the one before it."""
    return all(step.inputs == (before.name,) for before, step in pairwise(steps)) and not any(
        step.inputs for step in steps[:1]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A block drawn once for several alike.

    Attributes:
        last: name of the last of them.
        count: how many.
    """

    last: str
    count: int


def without_repeats(
    steps: Sequence[Step], block_of: Mapping[str, str]
) -> tuple[tuple[Step, ...], dict[str, Repeat]]:
    """Keep the first of neighbouring blocks that are alike.

    Args:
        steps: of a network.
        block_of: the block of a step, "" for none.

    Returns:
        The steps that are left, and how many each repeated block is drawn for.
    """
    blocks: dict[str, list[Step]] = {}
    for step in steps:
        if block_of[step.name]:
            blocks.setdefault(block_of[step.name], []).append(step)
    readers: dict[str, set[str]] = {}
    for step in steps:
        for name in step.inputs:
            readers.setdefault(name, set()).add(step.name)
    stands: dict[str, str] = {}
    dropped: set[str] = set()
    repeats: dict[str, Repeat] = {}
    kept: tuple[str, object, str] | None = None  # block, signature, exit
    for block, members in blocks.items():
        names = {member.name for member in members}
        entries = {name for member in members for name in member.inputs if name not in names}
        exits = [member.name for member in members if readers.get(member.name, {"out"}) - names]
        if len(entries) != 1 or len(exits) != 1:
            kept = None
            continue
        entry, exit_name = entries.pop(), exits[0]
        signature = tuple(_signature(member, block, names) for member in members)
        follows = kept is not None and stands.get(entry, entry) == kept[2]
        sole_entry = (
            readers.get(entry, set()) - {reader for member in members for reader in (member.name,)} == set()
        )
        if kept is not None and follows and sole_entry and signature == kept[1]:
            count = repeats[kept[0]].count + 1 if kept[0] in repeats else 2
            repeats[kept[0]] = Repeat(last=block, count=count)
            dropped |= names
            stands[exit_name] = kept[2]
        else:
            kept = (block, signature, exit_name)
    left = [
        replace(step, inputs=tuple(dict.fromkeys(stands.get(name, name) for name in step.inputs)))
        for step in steps
        if step.name not in dropped
    ]
    return tuple(left), repeats


def _signature(step: Step, block: str, names: set[str]) -> tuple[object, ...]:
    inputs = tuple(name.removeprefix(block) if name in names else "" for name in step.inputs)
    own = step.name.removeprefix(block)
    return (own, step.operation, step.window, step.output, step.before, step.after, inputs)
