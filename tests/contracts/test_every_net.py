"""What every network of ``NETS`` must keep, whoever adds it."""

import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from published_tables import TABLES
from torch import Tensor, nn
from torch.nn import functional

from striate import nets
from striate.core.errors import InputSizeError, UsageError
from striate.nets import NETS

ROOT = Path(__file__).resolve().parents[2]

FIXED_CLASSES = {"lenet5_rbf"}

pytestmark = pytest.mark.parametrize("name", NETS)


@pytest.fixture(autouse=True)
def _seeded_single_thread() -> Iterator[None]:
    """Fix the weights; use one thread, because small layers on busy cores wait for the other threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2012)
        yield
    torch.set_num_threads(threads)


def small_arguments(name: str) -> dict[str, int]:
    """Arguments that make a network quick to run; tables are checked at full size on the meta device."""
    arguments = published(name).small
    if arguments is None:
        pytest.skip(f"{name} is too deep to run here; its table is checked, and its family runs")
    return dict(arguments)


def small(name: str) -> nn.Module:
    """Build a network that is quick to run.

    Drawing tens of millions of weights from a normal distribution takes most of a test's time: networks with
    large matrices get their weights from a short random sequence instead, scaled as He's.
    """
    arguments = small_arguments(name)
    with torch.device("meta"):
        net = nets.build(name, **arguments)
    buffers = {key.rpartition(".")[2] for key, _ in net.named_buffers()}
    if sum(p.numel() for p in net.parameters()) < 3_000_000 or buffers - _BATCH_NORM_BUFFERS:
        return nets.build(name, **arguments)
    net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            continue
        for parameter in module.parameters(recurse=False):
            scale = (2 / max(1, parameter[0].numel())) ** 0.5 if parameter.dim() > 1 else 0.1
            sequence = torch.randn(65_537) * scale
            repeats = -(-parameter.numel() // len(sequence))
            parameter.data = sequence.repeat(repeats)[: parameter.numel()].view(parameter.shape)
    return net


def assert_alike(scores: Tensor, expected: Tensor) -> None:
    """Allow rounding in proportion to the largest score: untrained deep networks have large ones."""
    assert scores.shape == expected.shape
    assert (scores - expected).abs().max() <= 1e-4 * expected.abs().max()


_BATCH_NORM_BUFFERS = {"running_mean", "running_var", "num_batches_tracked"}


def training_only(net: nn.Module, key: str) -> bool:
    """Whether a layer belongs to an auxiliary classifier, which only training uses."""
    return key.split(".")[0] in getattr(net, "training_only", ())


def images_for(net: nn.Module, count: int = 2) -> Tensor:
    return torch.randn(count, *net.input_shape)


def published(name: str):
    if name not in TABLES:
        pytest.fail(f"{name} has no published table: add its layers to tests/contracts/published_tables.py")
    return TABLES[name]


def test_layers_are_the_published_ones(name):
    table = published(name)
    with torch.device("meta"):
        net = nets.build(name).eval()
        volumes = {}
        for layer_name, layer in net.named_children():
            layer.register_forward_hook(
                lambda _, __, output, key=layer_name: volumes.__setitem__(key, tuple(output.shape[1:]))
            )
        net(torch.empty(2, *NETS[name].input_shape))
        net.train()(torch.empty(2, *NETS[name].input_shape))
    got = {}
    for row in (*table.rows, *table.training_only):
        parameters = sum(p.numel() for p in net.get_submodule(row.name).parameters())
        got[row.name] = (volumes[row.name], parameters)
    assert got == {row.name: (row.volume, row.parameters) for row in (*table.rows, *table.training_only)}


def test_every_parameter_is_in_the_published_table(name):
    table = published(name)
    with torch.device("meta"):
        net = nets.build(name)
    rows = {row.name for row in (*table.rows, *table.training_only)}
    outside = [key for key, _ in net.named_parameters() if key.split(".")[0] not in rows]
    assert outside == []
    assert set(getattr(net, "training_only", ())) == {row.name for row in table.training_only}
    sums = {False: 0, True: 0}
    for key, parameter in net.named_parameters():
        sums[training_only(net, key)] += parameter.numel() if parameter.requires_grad else 0
    assert sums[False] == sum(row.parameters for row in table.rows) == table.parameters
    assert sums[True] == sum(row.parameters for row in table.training_only)


def test_summary_has_the_published_totals(name):
    table, entry = published(name), NETS[name]
    summary = nets.describe(name)
    assert summary.parameters == table.parameters
    assert summary.training_only_parameters == sum(row.parameters for row in table.training_only)
    assert abs(summary.macs - table.macs) <= table.macs_rounding
    assert (summary.name, summary.input_shape, summary.num_classes) == (
        name,
        entry.input_shape,
        entry.num_classes,
    )


def test_entry_describes_what_it_builds(name):
    entry = NETS[name]
    assert entry.name == name
    with torch.device("meta"):
        net = nets.build(name)
        assert net.input_shape == entry.input_shape
        assert net.eval()(torch.empty(3, *entry.input_shape)).shape == (3, entry.num_classes)


def test_number_of_classes_follows(name):
    if name in FIXED_CLASSES:
        with pytest.raises(UsageError, match=r"got 7: use"):
            nets.build(name, num_classes=7)
        return
    with torch.device("meta"), torch.no_grad():
        net = nets.build(name, num_classes=7)
        assert net.eval()(images_for(net, 3)).shape == (3, 7)


def test_gradient_reaches_every_parameter(name):
    net = small(name).train()
    labels = torch.tensor([0, 1, 2, 3]) % NETS[name].num_classes
    scores = net(images_for(net, 4))
    outputs = scores if isinstance(scores, tuple) else (scores,)
    loss = sum((NETS[name].loss or functional.cross_entropy)(output, labels) for output in outputs)
    assert loss.shape == ()
    loss.backward()
    gradients = {key: parameter.grad for key, parameter in net.named_parameters() if parameter.requires_grad}
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    assert [key for key, gradient in gradients.items() if not gradient.isfinite().all()] == []
    assert [key for key, gradient in gradients.items() if not gradient.any()] == []


@torch.no_grad()
def test_weights_come_back_from_a_file_bit_for_bit(name):
    net = small(name).train()
    images = images_for(net)
    net(images)  # moves running statistics, where there are any
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = small(name)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.eval()(images), net.eval()(images))


@torch.no_grad()
def test_forward_leaves_no_trace(name):
    net = small(name).eval()
    images = images_for(net)
    images_before = images.clone()
    state_before = {key: value.clone() for key, value in net.state_dict().items()}
    attributes_before = {key: set(vars(module)) for key, module in net.named_modules()}
    rng_before = torch.get_rng_state()
    first = net(images)
    assert torch.equal(net(images), first)
    assert torch.equal(images, images_before)
    assert all(torch.equal(value, state_before[key]) for key, value in net.state_dict().items())
    assert {key: set(vars(module)) for key, module in net.named_modules()} == attributes_before
    assert torch.equal(torch.get_rng_state(), rng_before)
    assert not any(module.training for module in net.modules())


@torch.no_grad()
def test_no_layer_works_in_place(name):
    net = small(name).eval()
    assert [key for key, module in net.named_modules() if getattr(module, "inplace", False)] == []
    outputs = []
    for layer in net.modules():
        if not isinstance(layer, nn.Flatten | nn.Identity | nn.Dropout):  # their output may be their input
            layer.register_forward_hook(lambda _, __, output: outputs.append((output, output.clone())))
    net(images_for(net))
    assert outputs
    assert all(torch.equal(output, copy) for output, copy in outputs)


@torch.no_grad()
def test_every_layer_is_used_exactly_once(name):
    net = small(name).eval()
    uses: Counter[str] = Counter()
    for key, module in net.named_modules(remove_duplicate=False):
        module.register_forward_hook(lambda _, __, ___, key=key: uses.update([key]))
    net(images_for(net))
    used = {key: n for key, n in uses.items() if n}
    assert used == dict.fromkeys([key for key, _ in net.named_modules() if not training_only(net, key)], 1)


@torch.no_grad()
def test_images_do_not_see_each_other(name):
    net = small(name).eval()
    images = images_for(net, 3)
    alone = torch.cat([net(image[None]) for image in images])
    assert_alike(net(images), alone)


@torch.no_grad()
def test_channels_last_stays_channels_last(name):
    net = small(name).eval()
    images = images_for(net)
    expected = net(images)
    net.to(memory_format=torch.channels_last)
    lost = []
    for key, module in net.named_modules():
        module.register_forward_hook(
            lambda _, __, output, key=key: (
                lost.append(key)
                if output.dim() == 4 and not output.is_contiguous(memory_format=torch.channels_last)
                else None
            )
        )
    scores = net(images.contiguous(memory_format=torch.channels_last))
    assert lost == []
    assert_alike(scores, expected)


@torch.no_grad()
def test_symbolic_trace_computes_the_same(name):
    net = small(name).eval()
    images = images_for(net)
    assert torch.equal(torch.fx.symbolic_trace(net)(images), net(images))


def test_wrong_size_is_refused_with_the_remedy(name):
    with torch.device("meta"):
        net = nets.build(name)
    c, h, w = NETS[name].input_shape
    for wrong, got, remedy in (
        ((2, c + 1, h, w), f"{c + 1}x{h}x{w}", "convert"),
        ((2, c, h - 4, w), f"{c}x{h - 4}x{w}", "resize"),
        ((2, c, h, w + 32), f"{c}x{h}x{w + 32}", "resize"),
        ((c, h, w), f"{c}x{h}x{w}", "batch"),
    ):
        with pytest.raises(InputSizeError) as caught:
            net(torch.empty(wrong, device="meta"))
        pattern = rf"{name} expects images of {c}x{h}x{w}, got .*{got}: .*{remedy}.*"
        assert re.fullmatch(pattern, str(caught.value))


def test_weights_follow_the_seed_of_the_caller(name):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(nets.build(name, **small_arguments(name)).state_dict())
    first, again, other = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_page_names_every_departure(name):
    entry = NETS[name]
    page = ROOT / entry.page
    assert page.is_file(), f"{name} has no page: write {entry.page}"
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert name in text
    assert [sentence for sentence in entry.departures if sentence not in text] == []


def test_page_prints_the_published_parameters(name):
    table = published(name)
    assert f"{table.parameters:,}" in (ROOT / NETS[name].page).read_text(encoding="utf-8")
