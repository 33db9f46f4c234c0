"""Tables of scores as they are printed."""

import io
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from striate.cli.score_tables import (
    class_rows,
    class_table,
    confusion_pairs,
    imbalance_line,
    multilabel_table,
    suspects_table,
)
from striate.metrics.multilabel import score_multilabel
from striate.metrics.scores import score
from striate.metrics.suspects import Suspect


def printed(thing, width: int = 80) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width).print(thing)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def scored(counts, classes):
    """Score answers that give the confusion ``counts``."""
    counts = np.array(counts)
    true, said = np.nonzero(counts)
    repeat = counts[true, said]
    true, said = np.repeat(true, repeat), np.repeat(said, repeat)
    return score(np.eye(len(counts))[said], true, classes)


# Recalls: cat 2/3, dog 1/1, emu none; gnu neither occurs nor is named. One cat was called emu.
PETS = scored([[2, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], ["cat", "dog", "emu", "gnu"])
# Class k of 40 has one image found and k missed, so recall falls with k; the last two have no images.
MANY = scored(
    [
        [1 if j == i else (i if j == (i + 1) % 40 else 0) for j in range(40)] if i < 38 else [0] * 40
        for i in range(40)
    ],
    [f"class {k}" for k in range(40)],
)


def test_class_table_by_hand():
    # Wilson at 2 of 3: 20.8% to 93.9%; at 1 of 1: 20.7% to 100.0%. Macro over cat, dog, emu.
    assert [line.split() for line in printed(class_table(PETS))] == [
        ["class", "images", "recall", "95%", "interval", "precision", "F1"],
        ["cat", "3", "66.7%", "20.8%", "to", "93.9%", "100.0%", "80.0%"],
        ["dog", "1", "100.0%", "20.7%", "to", "100.0%", "100.0%", "100.0%"],
        ["emu", "0", "-", "-", "0.0%", "0.0%"],
        ["gnu", "0", "-", "-", "-", "-"],
        ["macro", "average", "3", "classes", "55.6%", "66.7%", "60.0%"],
        ["weighted", "average", "4", "75.0%", "100.0%", "85.0%"],
        [
            "The",
            "averages",
            "leave",
            "out",
            "1",
            "class",
            "that",
            "no",
            "image",
            "has",
            "or",
            "was",
            "given.",
        ],
    ]


def names(table) -> list[str]:
    return [str(cell) for cell in table.columns[0].cells]


def test_order_of_classes():
    assert names(class_table(PETS))[:4] == ["cat", "dog", "emu", "gnu"]
    swapped = scored([[3, 0, 0], [0, 0, 0], [2, 0, 1]], ["a", "b", "c"])
    assert names(class_table(swapped, order="hardest"))[:3] == ["c", "a", "b"]


@pytest.mark.parametrize("order", ["class", "hardest"])
def test_many_classes_show_both_ends(order):
    shown = names(class_table(MANY, order=order))
    hardest, easiest = [f"class {k}" for k in range(37, 27, -1)], [f"class {k}" for k in range(9, -1, -1)]
    assert shown == [*hardest, "... 20 more", *easiest, "macro average", "weighted average"]


def test_all_classes_on_demand():
    assert names(class_table(MANY, all_classes=True))[:40] == [f"class {k}" for k in range(40)]
    ranked = names(class_table(MANY, order="hardest", all_classes=True))[:40]
    assert ranked == [*(f"class {k}" for k in range(37, -1, -1)), "class 38", "class 39"]


def test_many_classes_of_which_few_have_images():
    sparse = np.zeros((50, 50), int)
    sparse[7, 7] = sparse[3, 4] = 2
    assert names(class_table(scored(sparse, [f"c{k}" for k in range(50)])))[:3] == ["c3", "c7", "... 48 more"]


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_and_long_names_stay_whole(width: int):
    long = "a class whose name is " + "very " * 12 + "long"
    scores = scored([[90_000, 10], [3, 4]], [long, "b"])
    many = score_multilabel(np.array([[0.9, 0.1]]), np.array([[1, 0]]), [long, "b"])
    suspect = Suspect(0, "folder/" * 20 + "x.png", 0, 1, 0.0012, 0.9988, 6.7, -0.9976)
    for table in (
        class_table(scores),
        confusion_pairs(scores, 5),
        multilabel_table(many),
        suspects_table([suspect], [long, "b"]),
    ):
        lines = printed(table, width)
        assert max(map(len, lines)) <= width
        assert "…" not in "".join(lines)
    assert any("90,010" in line for line in printed(class_table(scores), width))


def test_hostile_names_do_not_reach_the_terminal():
    hostile = "[red]x[/] \x1b[31m\nnext \udc80"
    scores = scored([[1, 1], [0, 1]], [hostile, "[/]"])
    suspect = Suspect(0, hostile, 0, 1, 0.1, 0.9, 2.3, -0.8)
    text = "\n".join(
        line
        for thing in (
            class_table(scores),
            confusion_pairs(scores, 3),
            imbalance_line(scores),
            suspects_table([suspect], scores.classes),
        )
        for line in printed(thing, 300)
    )
    assert "\x1b" not in text
    assert text.count(r"[red]x[/] \x1b[31m\nnext \udc80") == 5
    text.encode()


def test_class_rows_by_hand():
    cat, dog, emu, gnu = class_rows(PETS)
    assert list(cat) == [
        "class",
        "images",
        "predicted",
        "correct",
        "recall",
        "recall_low",
        "recall_high",
        "precision",
        "f1",
    ]
    assert (cat["class"], cat["images"], cat["predicted"], cat["correct"]) == ("cat", 3, 2, 2)
    assert (cat["recall"], cat["precision"], cat["f1"]) == pytest.approx((2 / 3, 1.0, 0.8))
    assert (cat["recall_low"], cat["recall_high"]) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert dog["recall"] == 1.0
    assert (emu["recall"], emu["recall_low"], emu["precision"], emu["f1"]) == (None, None, 0.0, 0.0)
    assert (gnu["recall"], gnu["precision"], gnu["f1"]) == (None, None, None)


def test_confusion_pairs():
    scores = scored([[5, 3, 0], [1, 0, 2], [3, 0, 9]], ["a", "b", "c"])
    assert [line.split() for line in printed(confusion_pairs(scores, 3))] == [
        ["class", "called", "images", "of", "the", "class"],
        ["a", "b", "3", "37.5%"],
        ["c", "a", "3", "25.0%"],
        ["b", "c", "2", "66.7%"],
    ]
    assert printed(confusion_pairs(scored(np.eye(2, dtype=int), ["a", "b"]), 3))[-1].strip() == (
        "No image was given a wrong class."
    )


ALWAYS = "Always naming the largest would be correct on"


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (
            [[6, 0, 0], [1, 1, 0], [0, 0, 4]],
            f"3 classes of 2 (b) to 6 images (a), 3.0 times as many. {ALWAYS} 50.0%.",
        ),
        (
            np.diag([1, 150]),
            f"2 classes of 1 (a) to 150 images (b), 150 times as many. {ALWAYS} 99.3%.",
        ),
        ([[2, 0], [0, 2]], f"2 classes of 2 images each. {ALWAYS} 50.0%."),
        (
            [[1, 1, 0], [0, 2, 0], [0, 0, 0]],
            f"2 classes of 2 images each. 1 class without images. {ALWAYS} 50.0%.",
        ),
        ([[1, 0], [0, 0]], "All labels are one class: a (1 image). 1 class without images."),
    ],
)
def test_imbalance_in_words(counts, words: str):
    assert str(imbalance_line(scored(counts, list("abc")[: len(counts)]))) == words


def test_multilabel_table_by_hand():
    # a: AP = (1 + 2/3) / 2; at 0.5 three are given and two right. b has no image and is given once.
    p = np.array([[0.9, 0.1], [0.8, 0.6], [0.7, 0.2]])
    scores = score_multilabel(p, np.array([[1, 0], [0, 0], [1, 0]]), ["a", "b"])
    assert [line.split() for line in printed(multilabel_table(scores))] == [
        ["average"],
        ["class", "images", "precision", "threshold", "recall", "precision", "F1"],
        ["a", "2", "0.833", "0.500", "100.0%", "66.7%", "80.0%"],
        ["b", "0", "-", "0.500", "-", "0.0%", "0.0%"],
        ["mean", "0.833"],
        ["macro", "average", "50.0%", "33.3%", "40.0%"],
        ["micro", "average", "100.0%", "50.0%", "66.7%"],
    ]
    assert str(imbalance_line(scores)) == "All labels are one class: a (2 images). 1 class without images."
    assert [(row["average_precision"], row["threshold"]) for row in class_rows(scores)] == [
        (pytest.approx(5 / 6), 0.5),
        (None, 0.5),
    ]


def test_multilabel_order_and_no_labels():
    p = np.array([[0.9, 0.2, 0.5], [0.1, 0.8, 0.5]])
    scores = score_multilabel(p, np.array([[1, 1, 0], [0, 0, 0]]), ["a", "b", "c"])
    assert names(multilabel_table(scores, order="hardest"))[:3] == ["b", "a", "c"]
    empty = score_multilabel(p, np.zeros((2, 3)), ["a", "b", "c"])
    assert str(imbalance_line(empty)) == "No image carries a label."


def test_suspects_table():
    suspects = [Suspect(3, "x.png", 1, 0, 0.012, 0.97, 4.4228, -0.958)]
    assert [line.split() for line in printed(suspects_table(suspects, ["cat", "dog"]))] == [
        ["image", "label", "suggested", "p(label)", "p(suggested)", "loss"],
        ["x.png", "dog", "cat", "1.2%", "97.0%", "4.42"],
    ]
    assert printed(suspects_table([], ["cat"]))[-1].strip() == "No image is suspect."


def test_importing_the_tables_is_light():
    code = "import sys, striate.cli.score_tables; print({'torch', 'numpy', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
