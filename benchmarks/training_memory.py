"""Predicted peak memory of a training step beside the measured one.

For each case the prediction runs on shapes alone; then the same steps run on numbers, in processes of their
own, and two measures are taken: the peak of torch's allocator (its profiler sees every allocation) and the
growth of resident memory, with the C library told to give freed memory back at once, which also holds what
oneDNN and MKL allocate behind torch's back. ``ratio`` is predicted / allocator.

Example: ``OMP_NUM_THREADS=1 python benchmarks/training_memory.py``; ``... resnet20:128:bf16:sgd`` for one
case; ``... --all 4`` for every network at batch 4.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

_CASES = (
    "lenet5_modern:128:fp32:sgd",
    "lenet5_modern:128:bf16:sgd",
    "resnet20:128:fp32:sgd",
    "resnet20:128:bf16:sgd",
    "resnet20:128:bf16:adamw",
    "alexnet:16:fp32:krizhevsky",
    "alexnet_owt:16:fp32:sgd",
    "alexnet_owt:16:bf16:adamw",
    "vgg16:4:fp32:sgd",
    "vgg16:4:bf16:adamw",
    "googlenet:16:fp32:sgd",
    "googlenet_tv:16:fp32:sgd",
    "googlenet_tv:16:bf16:nesterov",
    "resnet50:8:fp32:sgd",
    "resnet50:8:bf16:sgd",
)
_TOLD_TO_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}


def predict(case: str) -> None:
    """Print the predicted peak."""
    import torch

    from striate.anatomy.training_memory import training_memory
    from striate.nets import build

    name, batch, precision, optimizer = case.split(":")
    with torch.device("meta"):
        net = build(name)
    memory = training_memory(net, batch_images=int(batch), precision=precision, optimizer=optimizer)
    print("PEAK", memory.peak, f"{memory.peak_phase} {memory.peak_row}")


def take_steps(case: str, how: str) -> None:
    """Take two steps as ``fit.loop`` does and print the measured peak."""
    import torch
    from torch import profiler

    from striate.core.compute import autocast_dtype
    from striate.nets import build
    from striate.recipes.recipe import Recipe
    from striate.training.loss import total_loss
    from striate.training.optimizer import make_optimizer

    name, batch, precision, optimizer_name = case.split(":")
    recorder = profiler.profile(activities=[profiler.ProfilerActivity.CPU], profile_memory=True)
    if how == "allocator":
        recorder.start()
    net = build(name).to(memory_format=torch.channels_last).train()
    recipe = Recipe(name="measure", epochs=1, lr=1e-4, optimizer=optimizer_name)
    optimizer = make_optimizer(net, recipe)
    dtype = autocast_dtype(precision)
    images = torch.randn(int(batch), *net.input_shape).to(memory_format=torch.channels_last)
    labels = torch.zeros(int(batch), dtype=torch.int64)

    def loss_of_step() -> torch.Tensor:
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            outputs = net(images)
        return total_loss(torch.nn.functional.cross_entropy, net, outputs, labels)

    def step() -> None:
        loss_of_step().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    if how == "allocator":
        step()
        recorder.stop()
        found = [event for event in recorder.profiler.kineto_results.events() if event.name() == "[memory]"]
        total = peak = 0
        for event in sorted(found, key=lambda event: event.start_ns()):
            total += event.nbytes()
            peak = max(peak, total)
    else:
        there = [images, labels, *net.parameters(), *net.buffers()]
        for moments in optimizer.state.values():
            there += [moment for moment in moments.values() if isinstance(moment, torch.Tensor)]
        before = sum(tensor.untyped_storage().nbytes() for tensor in there)
        del there
        resident = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark so far
        step()
        peak = _status("VmHWM") - resident + before
    print("PEAK", peak)


def _status(key: str) -> int:
    return int(re.search(key + r":\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def _in_own_process(case: str, how: str) -> tuple[int, str]:
    environment = os.environ | (_TOLD_TO_GIVE_BACK if how == "resident" else {})
    words = [sys.executable, __file__, "--how", how, case]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    found = re.search(r"PEAK (\d+) ?(.*)", done.stdout)
    return int(found[1]), found[2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=_CASES, help="NET:BATCH:fp32|bf16:OPTIMIZER")
    parser.add_argument("--all", type=int, default=0, metavar="BATCH", help="every network, allocator only")
    parser.add_argument("--how", choices=("predict", "allocator", "resident"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.how == "predict":
        return predict(options.cases[0])
    if options.how:
        return take_steps(options.cases[0], options.how)
    cases = options.cases
    if options.all:
        from striate.nets import NETS

        cases = [f"{name}:{options.all}:fp32:sgd" for name in NETS]
    print(f"{'MB (10^6 bytes)':32}{'predicted':>11}{'allocator':>11}{'ratio':>8}{'resident':>11}  peak in")
    ratios = []
    for case in cases:
        predicted, place = _in_own_process(case, "predict")
        allocator, _ = _in_own_process(case, "allocator")
        ratios.append(predicted / allocator)
        line = f"{case:32}{predicted / 1e6:11,.1f}{allocator / 1e6:11,.1f}{ratios[-1]:8.4f}"
        resident = "" if options.all else f"{_in_own_process(case, 'resident')[0] / 1e6:,.1f}"
        print(f"{line}{resident:>11}  {place}", flush=True)
    print(f"ratios from {min(ratios):.4f} to {max(ratios):.4f}  (target 0.9 to 1.1)")
    return None


if __name__ == "__main__":
    main()
