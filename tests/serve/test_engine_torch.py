"""The torch engine for GPUs: against a machine on the CPU that is as late as it may be, then on a GPU."""

import gc
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from striate.core.compute import has_bf16, has_compiler
from striate.core.errors import UsageError
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.serve import cuda_graph_runner, cuda_graphs
from striate.serve.cuda_graphs import Captured, CudaMachine, exact_fp32
from striate.serve.engine_torch import TorchEngine, cast_once, forward_pass
from striate.serve.graph import FromPixels

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def preprocessing(side=8, channels=3):
    colours = {"mean": (0.3,), "std": (0.4,)} if channels == 1 else {"mean": MEAN, "std": STD}
    return Preprocessing(channels=channels, height_px=side, width_px=side, resize_px=side, **colours)


def with_averages(net):
    """Give batch normalisation averages as after training."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def pixels_for(number, seed=0, side=8):
    return np.random.default_rng(seed).integers(0, 256, (number, side, side, 3), np.uint8)


def expected_logits(net, pixels):
    """What the network says in float32 on the CPU, with the normalisation in NumPy."""
    images = ((pixels / 255.0 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return net(torch.from_numpy(images.copy())).numpy()


def small_net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 5)
    return with_averages(nn.Sequential(*layers))


class StandIn:
    """A machine on the CPU that computes as late as it may, so that a buffer used too early shows.

    What is queued runs when somebody waits for it. Copies run either at once or just before the work that
    waits for them: a GPU may do both.
    """

    def __init__(self, *, early_copies=False, refuse=None):
        self.early_copies = early_copies
        self.refuse = refuse or (lambda kind, images: None)  # an error for a capture or a forward pass
        self.lock = threading.RLock()
        self.queue = []
        self.queued = self.done = 0
        self.most_pending = 0
        self.captured = []

    def host(self, shape, dtype):
        return torch.full(shape, 77, dtype=dtype)

    memory = host

    def copy_in(self, source, to):
        copied = []

        def copy():
            if not copied:
                copied.append(to.copy_(source))

        if self.early_copies:
            copy()
        return copy

    def compute(self, work, after):
        with self.lock:
            self.queue.append((work, after))
            self.queued += 1
            self.most_pending = max(self.most_pending, len(self.queue))
            return self.queued

    def capture(self, forward, shape):
        self.settle()
        self._fail("capture", shape[0])
        pixels = torch.zeros(shape, dtype=torch.uint8)
        logits = forward(pixels).clone()
        self.captured.append(shape[0])
        return Captured(pixels, logits, lambda: logits.copy_(forward(pixels)))

    def wait(self, event):
        with self.lock:
            while self.done < event:
                work, copy = self.queue.pop(0)
                copy()
                work()
                self.done += 1

    def settle(self):
        self.wait(self.queued)

    def _fail(self, kind, images):
        error = self.refuse(kind, images)
        if error is not None:
            raise error


class EagerMemory(StandIn):
    """One whose memory ends in the forward pass too: it runs at once, as queueing on a GPU allocates."""

    def compute(self, work, after):
        slot = work.args[2]
        assert work.args[1] is None  # without a graph
        self._fail("eager", work.args[3])
        assert slot.staged.shape[0] >= work.args[3]
        return super().compute(work, after)


def open_with(
    machine, net=None, *, precision="fp32", batch_images=16, notes=None, latency=False, side=8, device=CPU
):
    graph = FromPixels(net or small_net(), preprocessing(side)).eval()
    told = notes if notes is not None else []
    return TorchEngine(
        graph,
        preprocessing(side),
        5,
        precision,
        batch_images,
        device=device,
        latency=latency,
        progress=lambda stage, done, total, note="": told.append((stage, note)),
        machine=machine,
    )


def close_to(found, pixels, net=None):
    expected = expected_logits(net or small_net(), pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("number", "most", "size"),
    [(1, 16, 1), (2, 16, 2), (3, 16, 4), (9, 16, 16), (9, 12, 12), (5, 5, 5), (1, 1, 1)],
)
def test_graphs_are_of_powers_of_two_and_of_whole_batches(number, most, size):
    assert cuda_graph_runner.graph_size(number, most) == size


@pytest.mark.parametrize("early_copies", [False, True])
def test_any_number_of_images_goes_through_the_smallest_graph(early_copies):
    machine = StandIn(early_copies=early_copies)
    engine = open_with(machine)
    for seed, number in enumerate((16, 3, 0, 1, 17, 4, 33)):
        pixels = pixels_for(number, seed)
        found = engine.logits(pixels)
        assert found.shape == (number, 5)
        if number:
            close_to(found, pixels)
    assert machine.captured == [16, 4, 1]  # each once


@pytest.mark.parametrize("early_copies", [False, True])
def test_a_stream_keeps_order_with_three_batches_under_way(early_copies):
    machine = StandIn(early_copies=early_copies)
    engine = open_with(machine)
    sizes = [16, 16, 5, 16, 0, 16, 1, 16, 40, 16, 2]
    asked = []

    def batches():
        for seed, number in enumerate(sizes):
            asked.append(number)
            yield pixels_for(number, seed)

    ahead, found = [], []
    for one in engine.stream(batches()):
        found.append(one)
        ahead.append(len(asked) - len(found))
    for seed, (number, one) in enumerate(zip(sizes, found, strict=True)):  # kept: buffers are used again
        assert len(one) == number
        if number:
            close_to(one, pixels_for(number, seed))
    assert max(ahead) == cuda_graph_runner.IN_FLIGHT
    assert machine.most_pending == cuda_graph_runner.IN_FLIGHT
    assert machine.captured == [
        16,
        8,
    ]  # the tail of 2 takes what is there; 40 = 16 + 16 + 8 is a call of logits
    assert list(engine.stream(iter([]))) == []


def test_threads_may_ask_at_once_and_beside_a_stream():
    net = small_net()
    engine = open_with(StandIn(), net, batch_images=4)
    wrong = []

    def ask(seed):
        for k in range(6):
            pixels = pixels_for(1 + k, 100 * seed + k)
            if not np.allclose(engine.logits(pixels), expected_logits(net, pixels), atol=1e-3):
                wrong.append((seed, k))

    stream = engine.stream(pixels_for(4, seed) for seed in range(8))
    next(stream)  # two more are under way and hold their own buffers
    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for seed, found in enumerate(stream, start=1):
        close_to(found, pixels_for(4, seed))
    assert wrong == []


def test_without_graphs_it_says_so_once_and_runs_on():
    machine = StandIn(refuse=lambda kind, images: RuntimeError("operation not permitted\nmore"))
    notes = []
    engine = open_with(machine, notes=notes)
    for number in (16, 3, 1):
        close_to(engine.logits(pixels_for(number)), pixels_for(number))
    for seed, found in enumerate(engine.stream(pixels_for(4, seed) for seed in range(5))):
        close_to(found, pixels_for(4, seed))
    assert notes == [
        ("note", "CUDA graphs do not work here, predicting without them (operation not permitted)")
    ]


def test_too_little_memory_halves_the_batch():
    out = torch.OutOfMemoryError("CUDA out of memory")
    notes = []
    engine = open_with(StandIn(refuse=lambda kind, images: out if images > 4 else None), notes=notes)
    sizes = [16, 16, 3, 16]
    found = list(engine.stream(pixels_for(number, seed) for seed, number in enumerate(sizes)))
    for seed, (one, number) in enumerate(zip(found, sizes, strict=True)):
        assert len(one) == number
        close_to(one, pixels_for(number, seed))
    assert [note for _, note in notes] == [
        "too little GPU memory for 16 images at once, continuing with 8",
        "too little GPU memory for 8 images at once, continuing with 4",
    ]


def test_too_little_memory_for_any_graph_and_for_any_image():
    out = torch.OutOfMemoryError("CUDA out of memory")
    notes = []
    machine = EagerMemory(refuse=lambda kind, images: out if kind == "capture" or images > 2 else None)
    engine = open_with(machine, batch_images=2, notes=notes)
    close_to(engine.logits(pixels_for(5)), pixels_for(5))  # no graph, but one image at a time
    assert [note.partition("(")[0].strip() for _, note in notes] == [
        "too little GPU memory for 2 images at once, continuing with 1",
        "CUDA graphs do not work here, predicting without them",
    ]
    nothing = open_with(EagerMemory(refuse=lambda kind, images: out))
    with pytest.raises(UsageError, match="`device=cpu`"):
        nothing.logits(pixels_for(3))
    with pytest.raises(UsageError, match="`device=cpu`"):
        list(nothing.stream(iter([pixels_for(3)])))


class Compiler:
    """Takes the place of ``torch.compile``; what it makes adds 1, which shows who computed."""

    def __init__(self, error=None):
        self.options = []
        self.error = error

    def __call__(self, graph, **options):
        self.options.append(options)

        def run(pixels):
            if self.error is not None:
                raise self.error
            return graph(pixels) + 1.0

        return run


def reference_bf16(pixels):
    graph = FromPixels(small_net(), preprocessing()).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return graph(torch.from_numpy(pixels)).float().numpy()


def shift(found, pixels):
    """By how much the logits are above those of the network: 1 if it was compiled, 0 if not."""
    return float(np.round(np.median(found - reference_bf16(pixels)), 1))


def test_opened_for_latency_it_compiles_each_size_once(monkeypatch):
    compiler = Compiler()
    monkeypatch.setattr(torch, "compile", compiler)
    machine, notes = StandIn(), []
    engine = open_with(machine, precision="bf16", latency=True, notes=notes)
    for number in (1, 3, 4, 1, 16):
        assert shift(engine.logits(pixels_for(number)), pixels_for(number)) == 1.0
    assert machine.captured == [1, 4, 16]
    assert compiler.options == [{"dynamic": False, "fullgraph": True}]
    assert notes == []


def test_float32_is_never_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", Compiler(RuntimeError("called")))
    notes = []
    close_to(open_with(StandIn(), latency=True, notes=notes).logits(pixels_for(3)), pixels_for(3))
    assert notes == []


def test_a_compiler_that_fails_is_left_out_with_one_note(monkeypatch):
    monkeypatch.setattr(torch, "compile", Compiler(RuntimeError("no Triton")))
    machine, notes = StandIn(), []
    engine = open_with(machine, precision="bf16", latency=True, notes=notes)
    for number in (1, 3, 16):
        assert shift(engine.logits(pixels_for(number)), pixels_for(number)) == 0.0
    assert machine.captured == [1, 4, 16]
    assert notes == [("note", "torch.compile does not work here, predicting without it (no Triton)")]


@pytest.mark.parametrize(("wait_s", "compiles"), [(10.0, True), (0.1, False)])
def test_only_a_stream_that_waits_long_for_the_gpu_compiles(monkeypatch, wait_s, compiles):
    compiler = Compiler()
    monkeypatch.setattr(torch, "compile", compiler)
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(cuda_graph_runner, "time", clock)

    class Slow(StandIn):
        def wait(self, event):
            clock.now += wait_s
            super().wait(event)

    machine, notes = Slow(), []
    engine = open_with(machine, precision="bf16", batch_images=4, notes=notes)
    engine.logits(pixels_for(4))  # a client's call: never counted
    shifts = []
    for seed, found in enumerate(engine.stream(pixels_for(4, seed) for seed in range(14))):
        clock.now += 100.0  # what the images take to be read: not counted
        shifts.append(shift(found, pixels_for(4, seed)))
    if not compiles:
        assert shifts == [0.0] * 14
        assert machine.captured == [4]
        return
    # Six waits make the minute; the seventh and eighth batch are under way by then.
    assert shifts == [0.0] * 8 + [1.0] * 6
    assert machine.captured == [4, 4]
    assert [note for _, note in notes] == ["a long stream: compiling the network, which takes about a minute"]


def test_a_stream_that_is_left_or_breaks_leaves_nothing_under_way():
    machine = StandIn()
    engine = open_with(machine, batch_images=4)
    stream = engine.stream(pixels_for(4, seed) for seed in range(9))
    next(stream)
    assert machine.queue
    stream.close()
    assert machine.queue == []

    def broken():
        yield pixels_for(4)
        yield pixels_for(4)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(engine.stream(broken()))
    assert machine.queue == []
    wrong = np.zeros((4, 8, 8, 3), np.float32)
    with pytest.raises(UsageError, match="expected uint8 pixels of N x 8 x 8 x 3, got float32"):
        list(engine.stream(iter([pixels_for(4), wrong])))
    assert machine.queue == []
    close_to(engine.logits(pixels_for(3)), pixels_for(3))


def test_closing_in_the_middle():
    machine = StandIn()
    engine = open_with(machine, batch_images=4)
    stream = engine.stream(pixels_for(4, seed) for seed in range(9))
    close_to(next(stream), pixels_for(4, 0))
    engine.close()
    engine.close()
    assert machine.queue == []
    with pytest.raises(UsageError, match="closed"):
        list(stream)
    with pytest.raises(UsageError, match="closed"):
        engine.logits(pixels_for(1))
    with pytest.raises(UsageError, match="closed"):
        list(engine.stream(iter([pixels_for(1)])))


@pytest.mark.parametrize("name", ["resnet20", "lenet5_modern", "alexnet"])
def test_weights_rounded_once_give_autocasts_numbers_to_the_bit(name):
    torch.manual_seed(1)
    net = with_averages(build(name, num_classes=10))
    channels, side, _ = net.input_shape
    pre = preprocessing(side, channels)
    pixels = torch.randint(0, 256, (2, side, side, channels), dtype=torch.uint8)
    graph = FromPixels(net, pre).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = graph(pixels).float()
    own = cast_once(graph, "bf16")
    assert torch.equal(forward_pass(own, "bf16", CPU)(pixels), expected)
    rounded = {
        type(module) for module in own.modules() for p in module.parameters(False) if p.dtype != torch.float32
    }
    assert rounded == {nn.Conv2d, nn.Linear}  # batch normalisation is as it was
    for key, value in net.state_dict().items():  # and so is the caller's network
        assert torch.equal(value, before[key])


def settings():
    backends = torch.backends
    return (
        backends.cudnn.conv.fp32_precision,
        backends.cuda.matmul.fp32_precision,
        backends.mkldnn.matmul.fp32_precision,
    )


def _stop_inside():
    with exact_fp32():
        raise OSError("stop")


@pytest.mark.parametrize("matmul", ["highest", "high", "newer"])
def test_float32_is_exact_for_a_while_and_settings_come_back(matmul):
    first = torch.get_float32_matmul_precision(), settings()
    try:
        if matmul == "newer":
            torch.backends.cuda.matmul.fp32_precision = "tf32"
        else:
            torch.set_float32_matmul_precision(matmul)
        before = settings()
        with exact_fp32():
            assert settings()[:2] == ("ieee", "ieee")
            assert torch.backends.cuda.matmul.allow_tf32 is False  # raises where the two settings differ
        assert settings() == before
        with pytest.raises(OSError, match="stop"):
            _stop_inside()
        assert settings() == before
        if matmul != "newer":
            assert torch.get_float32_matmul_precision() == matmul
    finally:
        torch.set_float32_matmul_precision(first[0])
        torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision = first[1][:2]
        torch.backends.mkldnn.matmul.fp32_precision = first[1][2]
    assert (torch.get_float32_matmul_precision(), settings()) == first


@pytest.mark.parametrize(
    "name", ["lenet5", "alexnet", "zfnet", "vgg11", "nin_cifar10", "googlenet", "resnet20", "resnet18"]
)
def test_networks_can_be_compiled_without_a_break(name):
    net = build(name, num_classes=5).eval()
    channels, side, _ = net.input_shape
    pre = preprocessing(side, channels)
    pixels = torch.randint(0, 256, (1, side, side, channels), dtype=torch.uint8)
    own = cast_once(FromPixels(net, pre).eval(), "bf16")
    torch.compiler.reset()
    whole = torch.compile(own, backend="eager", dynamic=False, fullgraph=True)
    assert torch.equal(forward_pass(whole, "bf16", CPU)(pixels), forward_pass(own, "bf16", CPU)(pixels))


@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # the compiler uses it
def test_a_compiled_network_says_the_same():
    torch.compiler.reset()
    machine, notes = StandIn(), []
    engine = open_with(machine, precision="bf16", batch_images=4, latency=True, notes=notes)
    pixels = pixels_for(4)
    found = engine.logits(pixels)
    assert notes == []
    assert machine.captured == [4]
    expected = expected_logits(small_net(), pixels)
    assert np.abs(found - expected).max() < 0.04 * np.ptp(expected)


class FakeTorch:
    """``torch`` with a ``cuda`` that writes down in which order it is called, and on which stream."""

    def __init__(self):
        self.log = []
        self.now = "default"
        self.made = 0
        self.cuda = SimpleNamespace(
            current_device=lambda: 3,
            Stream=self._new_stream,
            Event=lambda blocking: SimpleNamespace(
                blocking=blocking,
                record=lambda stream: self.log.append(("record", stream.name)),
                synchronize=lambda: self.log.append(("wait", self.now)),
            ),
            CUDAGraph=lambda: SimpleNamespace(replay=lambda: self.log.append(("replay", self.now))),
            graph_pool_handle=lambda: self._new("pool"),
            synchronize=lambda device: self.log.append(("synchronize", str(device))),
            empty_cache=lambda: None,
            stream=self._on,
            device=lambda device: self._on(SimpleNamespace(name=self.now)),
            graph=self._graph,
        )

    def __getattr__(self, name):
        return getattr(torch, name)

    def zeros(self, shape, *, dtype, device=None, pin_memory=False):
        self.log.append(("pinned" if pin_memory else "zeros", self.now))
        return torch.zeros(shape, dtype=dtype)

    def empty(self, shape, *, dtype, device):
        self.log.append((f"empty on {device}", self.now))
        return torch.empty(shape, dtype=dtype)

    def _new(self, kind):
        self.made += 1
        return f"{kind} {self.made}"

    def _new_stream(self, device):
        stream = SimpleNamespace(name=self._new("stream"))
        stream.wait_event = lambda event: self.log.append(("wait_event", stream.name))
        return stream

    @contextmanager
    def _on(self, stream):
        before, self.now = self.now, stream.name
        try:
            yield
        finally:
            self.now = before

    @contextmanager
    def _graph(self, graph, *, pool, stream, capture_error_mode):
        assert self.now == stream.name
        self.log.append(("begin", pool, capture_error_mode))
        yield
        self.log.append(("end", pool))


def test_what_is_asked_of_cuda_and_on_which_stream(monkeypatch):
    fake = FakeTorch()
    monkeypatch.setattr(cuda_graphs, "torch", fake)
    machine = CudaMachine(torch.device("cuda"))  # stream 1 copies, stream 2 computes
    assert fake.log == [("synchronize", "cuda:3")]  # after the weights have come

    fake.log.clear()
    staged, host = machine.memory((4, 2), torch.uint8), machine.host((4, 2), torch.uint8)
    copied = machine.copy_in(host[:3], staged[:3])
    done = machine.compute(lambda: fake.log.append(("work", fake.now)), copied)
    machine.wait(done)
    assert fake.log == [
        ("empty on cuda:3", "stream 1"),
        ("pinned", "default"),
        ("record", "stream 1"),
        ("wait_event", "stream 2"),
        ("work", "stream 2"),
        ("record", "stream 2"),
        ("wait", "default"),
    ]
    assert done.blocking  # a waiting thread leaves its core to the decoders

    def forward(pixels):
        fake.log.append(("forward", fake.now))
        return pixels.float()

    fake.log.clear()
    captured = machine.capture(forward, (4, 2))
    assert fake.log == [
        ("synchronize", "cuda:3"),
        ("zeros", "stream 2"),
        *[("forward", "stream 2")] * 3,
        ("begin", "pool 3", "thread_local"),
        ("forward", "stream 2"),
        ("end", "pool 3"),
    ]
    assert (captured.pixels.shape, captured.logits.shape) == ((4, 2), (4, 2))

    def broken(pixels):
        raise RuntimeError("not while capturing")

    with pytest.raises(RuntimeError, match="not while capturing"):
        machine.capture(broken, (4, 2))
    assert fake.now == "default"
    fake.log.clear()
    machine.capture(forward, (1, 2))  # on a new stream and in a new pool
    assert fake.log[1:3] == [("zeros", "stream 4"), ("forward", "stream 4")]
    assert fake.log[5] == ("begin", "pool 5", "thread_local")


# -- On a GPU ------------------------------------------------------------------------------------------------


gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
NETS = [("resnet20", 32), ("alexnet", 224)]
TOLERANCE = {"fp32": 1e-4, "bf16": 0.04}  # of the range of the logits


def open_on_gpu(name, side, precision, notes, **more):
    torch.manual_seed(1)
    net = with_averages(build(name, num_classes=5))
    engine = open_with(
        None, net, precision=precision, notes=notes, side=side, device=torch.device("cuda"), **more
    )
    return net, engine


def assert_near(found, net, pixels, precision):
    assert found.shape == (len(pixels), 5)
    if len(pixels):
        expected = expected_logits(net, pixels)
        assert np.abs(found - expected).max() < TOLERANCE[precision] * np.ptp(expected)


@gpu
@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "side"), NETS)
def test_on_a_gpu_graphs_give_the_networks_logits(name, side, precision):
    if precision == "bf16" and not has_bf16(torch.device("cuda")):
        pytest.skip("this GPU does not compute in bf16")
    notes, before = [], settings()
    net, engine = open_on_gpu(name, side, precision, notes)
    for seed, number in enumerate((1, 3, 16, 17, 0, 1, 16)):
        pixels = pixels_for(number, seed, side)
        assert_near(engine.logits(pixels), net, pixels, precision)
    sizes = [16, 16, 3, 16, 0, 40, 16, 1]
    stream = engine.stream(pixels_for(number, seed, side) for seed, number in enumerate(sizes))
    for seed, found in enumerate(stream):
        assert_near(found, net, pixels_for(sizes[seed], seed, side), precision)
    assert notes == []  # every graph could be captured
    assert settings() == before
    assert all(parameter.device.type == "cpu" for parameter in net.parameters())
    engine.close()


@gpu
@needs_cuda
def test_on_a_gpu_threads_may_ask_at_once_and_beside_a_stream():
    notes = []
    net, engine = open_on_gpu("resnet20", 32, "fp32", notes, batch_images=8)
    asked = [pixels_for(1 + seed % 11, seed, 32) for seed in range(40)]
    found = [None] * len(asked)

    def ask(first):
        for number in range(first, len(asked), 2):
            found[number] = engine.logits(asked[number])

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()  # the first calls capture while the stream runs
    for seed, one in enumerate(engine.stream(pixels_for(8, seed, 32) for seed in range(50))):
        assert_near(one, net, pixels_for(8, seed, 32), "fp32")
    for thread in threads:
        thread.join()
    for one, pixels in zip(found, asked, strict=True):
        assert_near(one, net, pixels, "fp32")
    assert notes == []


@gpu
@needs_cuda
@pytest.mark.filterwarnings("default")  # of the compiler
@pytest.mark.parametrize(("name", "side"), NETS)
def test_on_a_gpu_a_compiled_network_says_the_same(name, side):
    if not has_bf16(torch.device("cuda")):
        pytest.skip("this GPU does not compute in bf16")
    torch.compiler.reset()
    notes = []
    net, engine = open_on_gpu(name, side, "bf16", notes, latency=True, batch_images=4)
    for number in (1, 4, 3, 1):
        pixels = pixels_for(number, number, side)
        assert_near(engine.logits(pixels), net, pixels, "bf16")
    assert notes == []


@gpu
@needs_cuda
def test_on_a_gpu_closing_gives_the_memory_back():
    megabyte = 2**20
    before = torch.cuda.memory_allocated() / megabyte
    _, engine = open_on_gpu("alexnet", 224, "fp32", [])
    list(engine.stream(pixels_for(16, seed, 224) for seed in range(4)))
    assert torch.cuda.memory_allocated() / megabyte > before + 200  # 57 million weights
    engine.close()
    del engine
    gc.collect()
    assert torch.cuda.memory_allocated() / megabyte < before + 100  # cuBLAS keeps a workspace for each stream
