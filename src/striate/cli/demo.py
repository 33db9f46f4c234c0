"""``make demo``: the main job in a minute, on the handwritten digits that scikit-learn carries."""

import sys
import time

from rich.markup import escape
from rich.table import Table

from striate.cli.show import Listener, err, out, percent, print_error
from striate.core.errors import StriateError

_SEED = 0
_COLUMNS = 4  # 16 characters a digit, within 80
_SHADES = " .:-=+*#%@"


def main() -> None:
    """Train LeNet-5, print the test accuracy, classify ten held-out digits, and name the report."""
    begun = time.perf_counter()
    err.print(
        "[bold]striate demo[/]: LeNet-5 (as lectured) on 1,797 real handwritten digits", highlight=False
    )
    import numpy as np
    import torch

    from striate.data.dataset import fetch_image
    from striate.data.preprocess import normalise, to_pixels
    from striate.data.sources import open_source
    from striate.evaluation.measure import evaluate
    from striate.metrics.scores import Scores
    from striate.training.train import train
    from striate.weights.open import open_bundle

    with Listener() as listener:
        result = train("lenet5_modern", "digits", recipe="digits", seed=_SEED, progress=listener)
        tested = evaluate(result.bundle, "digits")
    assert isinstance(result.scores, Scores)
    scores = result.scores
    low, high = scores.top1_interval.low, scores.top1_interval.high
    num = scores.num_images
    out.print(
        f"\n[bold]test accuracy {percent(scores.top1, num)}[/]  on {num} held-out digits"
        f" (95% interval {percent(low, num)} to {percent(high, num)})",
        highlight=False,
    )
    out.print("\nTen of them, classified (probability of the first and second guess):", highlight=False)
    net, bundle = open_bundle(result.bundle)
    source = open_source("digits")
    place = {name: index for index, name in enumerate(source.files)}
    held_out = np.array([place[name] for name in tested.predictions.files])
    chosen = held_out[np.linspace(0, len(held_out) - 1, 10).astype(int)].tolist()
    images = [fetch_image(source, index) for index in chosen]
    pixels = np.stack([to_pixels(image, bundle.preprocessing) for image in images])
    with torch.inference_mode():
        probabilities = net(normalise(torch.from_numpy(pixels), bundle.preprocessing)).softmax(1)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 1, 0))
    cells = []
    for image, index, row in zip(images, chosen, probabilities, strict=True):
        (p, q), (first, second) = (part.tolist() for part in row.topk(2))
        true = bundle.classes[int(source.labels[index])]
        right = bundle.classes[first] == true
        verdict = "[green]right[/]" if right else f"[red]it is {true}[/]"
        words = (
            f"[bold]{bundle.classes[first]}[/] {p:.1%}  {verdict}\n[dim]{bundle.classes[second]} {q:.1%}[/]"
        )
        cells.append(f"{_drawn(np.asarray(image))}\n{words}")
    for start in range(0, len(cells), _COLUMNS):
        table.add_row(*cells[start : start + _COLUMNS])
    out.print(table, highlight=False)
    out.print(f"report to open: [bold]{escape(str(result.report))}[/]", highlight=False, soft_wrap=True)
    out.print(
        f"[dim]{time.perf_counter() - begun:.0f} s in all;"
        f" next: striate predict {escape(str(result.run))} IMAGE[/]",
        highlight=False,
    )


def _drawn(grey: "object") -> str:
    import numpy as np

    levels = (np.asarray(grey).astype(int) * (len(_SHADES) - 1) + 127) // 255
    return "\n".join("".join(_SHADES[level] * 2 for level in row) for row in levels)


if __name__ == "__main__":
    try:
        main()
    except StriateError as error:
        print_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(1)
