"""Several runs on one page: numbers by hand and by scipy, nothing loaded, nothing lost."""

import dataclasses
import math
import re

import numpy as np
import pytest
import scipy.stats
from test_run_page import HOSTILE, Page, a_run, assert_self_contained, epochs

from striate.core.errors import UsageError
from striate.metrics.predictions import Predictions
from striate.report.mistakes import choose_images, confident_mistakes
from striate.report.render import render_report, render_side_by_side
from striate.report.run_report import RunReport

CLASSES = ("ant", "bee")
LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])


def answers(right: str, *, name: str = "a", logit: float = math.log(3), files: str = "image") -> Predictions:
    """Make answers that are right where the text has a 1; ln 3 gives the answer a probability of 3/4."""
    says = np.where(np.array([c == "1" for c in right]), LABELS, 1 - LABELS)
    return Predictions(
        name=name,
        classes=CLASSES,
        files=tuple(f"{files} {k}" for k in range(len(LABELS))),
        labels=LABELS,
        logits=(logit * np.eye(2)[says]).astype(np.float32),
    )


def run_of(right: str, **changes) -> RunReport:
    told = answers(right)
    run = a_run(2, classes=CLASSES, test=told.scores(), mistakes=())
    return dataclasses.replace(run, **{"predictions": told, "name": f"run {right}", **changes})


A = "1111111100"  # 8 of 10
B = "1111100010"  # 6 of 10: both right on 5, only A on 3, only B on 1, both wrong on 1


def text_of(*runs: RunReport) -> str:
    page = render_side_by_side(runs, title="several")
    assert_self_contained(page)
    return Page(page).text


def test_images_are_counted_pair_by_pair():
    text = text_of(run_of(A), run_of(B))
    p = scipy.stats.binomtest(1, 4).pvalue
    assert "2 runs side by side: they name 60.0% to 80.0% of the same 10 test images correctly." in text
    row = re.search(r"A\s+B\s+5 3 1 1 \u221220.0 (\u2212[\d.]+ to \+[\d.]+) ([\d.]+)", text)
    assert row, text
    assert float(row[2]) == pytest.approx(p, abs=0.006)
    assert "A and B: no difference that this test set can show" in text
    assert "A · run 1111111100" in text


def test_a_real_difference_is_said():
    labels = np.tile([0, 1], 100)
    logits = np.eye(2)[labels].astype(np.float32)
    wrong = logits.copy()
    wrong[:60] = 1 - wrong[:60]
    both = [
        Predictions(name=n, classes=CLASSES, files=tuple(map(str, range(200))), labels=labels, logits=some)
        for n, some in (("a", logits), ("b", wrong))
    ]
    runs = [a_run(2, classes=CLASSES, test=one.scores(), predictions=one, mistakes=()) for one in both]
    assert "A and B: A is better by 30.0 points" in text_of(*runs)


def test_classes_are_ranked_by_how_far_apart_they_are():
    # ants: A 5 of 5, B 5 of 5; bees: A 3 of 5, B 1 of 5.
    text = text_of(run_of(A), run_of(B))
    assert re.search(r"bee 5 60.0% 20.0% 40.0 1.00", text)
    assert not re.search(r"ant 5 100.0% 100.0% 0.0", text)


def test_calibration_before_and_after_a_temperature_by_hand():
    # All answers claim 3/4 and 8 of 10 are right: an error of 5.0 points. At T = 1/2 they claim 9/10: 10.0.
    plain = Page(render_report(run_of(A))).text
    assert "calibration error (ECE) 5.0%" in plain
    assert (
        "On average its predictions claim 75.0% and 80.0% are correct: it is underconfident by 5.0 points."
        in plain
    )
    heated = Page(render_report(run_of(A, temperature=0.5))).text
    assert "calibration error (ECE) 5.0% 10.0%" in heated
    assert "overconfident by 10.0 points" in heated
    assert "temperature of 0.5" in heated
    assert re.search(r"5.0% *10.0%", text_of(run_of(A), run_of(A, temperature=0.5)))


def test_seeds_of_one_recipe_are_summarised():
    rights = (A, B, "1111111110")  # 80%, 60%, 90%
    text = text_of(*(run_of(right, seed=k) for k, right in enumerate(rights)))
    values = np.array([0.8, 0.6, 0.9])
    low, high = scipy.stats.t.interval(0.95, 2, values.mean(), scipy.stats.sem(values))
    cut = min(high, 1.0)
    spread = 100 * values.std(ddof=1)
    expected = (
        f"3 {100 * values.mean():.1f}% {spread:.2f} {100 * low:.1f}% to {100 * cut:.1f}% 60.0% to 90.0%"
    )
    assert expected in text


def test_another_recipe_or_the_same_seed_is_no_group():
    assert "What another seed changes" not in text_of(run_of(A), run_of(B))
    assert "What another seed changes" not in text_of(run_of(A), run_of(B, seed=4, recipe={"lr": 0.2}))
    assert "What another seed changes" in text_of(run_of(A), run_of(B, seed=4))


def test_recipes_are_compared_setting_by_setting():
    text = text_of(run_of(A, recipe={"lr": 0.1, "epochs": 4}), run_of(B, recipe={"lr": 0.2, "epochs": 4}))
    told = text[text.index("What differs in their recipes") : text.index("Each run by itself")]
    assert "lr 0.1 0.2" in told
    assert "epochs" not in told
    same = text_of(run_of(A), run_of(B))
    assert "Nothing: every setting is the same." in same


def test_runs_on_other_images_are_not_paired():
    other = run_of(B, predictions=answers(B, files="photo"))
    text = text_of(run_of(A), other)
    assert "A and B can't be paired: they were not tested on the same images and classes." in text
    assert "Image by image" not in text
    assert "their test images" in text
    text = text_of(run_of(A), run_of(B, predictions=None))
    assert "the predictions of B are not known" in text


def test_images_in_another_order_are_the_same_images():
    told = answers(B)
    order = np.random.default_rng(0).permutation(len(LABELS))
    turned = dataclasses.replace(
        told,
        files=tuple(told.files[i] for i in order),
        labels=told.labels[order],
        logits=told.logits[order],
    )
    first, second = (text_of(run_of(A), run_of(B, predictions=one)) for one in (told, turned))
    assert first == second


def test_curves_need_two_runs_with_validation():
    text = text_of(run_of(A), run_of(B))
    assert text.count("validation error, %") >= 2
    without = run_of(B, history=epochs(4, val_loss=None, val_error=None))
    text = text_of(run_of(A), without)
    assert "Too few runs set validation images aside" in text
    text = text_of(run_of(A, history=None), run_of(B, history=None))
    assert "How they learned" not in text


def test_many_runs_and_none():
    runs = [run_of(A, seed=k) for k in range(26)]
    text = text_of(*runs)
    assert "Z · run" in text
    with pytest.raises(UsageError, match="2 to 26"):
        render_side_by_side([*runs, runs[0]], title="too many")
    with pytest.raises(UsageError, match="2 to 26"):
        render_side_by_side(runs[:1], title="one")


def test_untested_runs_stand_beside_tested_ones():
    bare = RunReport(title="bare", classes=CLASSES)
    text = text_of(bare, run_of(B))
    assert "the predictions of A are not known" in text
    assert "None of them has been tested." in text_of(bare, bare)


def test_hostile_names_are_text():
    hostile = run_of(
        B,
        name=HOSTILE,
        title=HOSTILE,
        net=HOSTILE,
        notes=(HOSTILE,),
        recipe={"recipe": HOSTILE, HOSTILE: HOSTILE},
        ingredients=({HOSTILE: HOSTILE, "coefficient": 0.5},),
        protocols=({"protocol": HOSTILE, "top1": 0.5},),
    )
    page = render_side_by_side([run_of(A), hostile], title=HOSTILE)
    assert_self_contained(page)
    assert "<script" not in page
    assert HOSTILE in Page(page).text


def test_anchors_are_used_once():
    elements = Page(render_side_by_side([run_of(A), run_of(B)], title="t")).elements
    anchors = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(anchors) == len(set(anchors)) > 10


def test_a_blend_names_its_ingredients():
    parts = ({"file": "a.safetensors", "coefficient": 0.25}, {"file": "b.safetensors", "coefficient": 0.75})
    text = Page(render_report(run_of(A, ingredients=parts, history=None))).text
    assert "blended from 2 networks" in text
    assert "file coefficient a.safetensors 0.25 b.safetensors 0.75" in text
    assert "How it learned" not in text


def test_protocols_are_a_table():
    kept = {"protocol": "ten-crop", "top1": 0.9, "top1_interval": [0.6, 0.98], "gain": 0.1,
            "gain_interval": [-0.05, 0.3]}  # fmt: skip
    text = Page(render_report(run_of(A, protocols=(kept,)))).text
    assert "ten-crop 90.0% 60.0% to 98.0% +10.0 \u22125.0 to +30.0" in text


def test_imbalance_is_stated():
    labels = np.array([0] * 90 + [1] * 10)
    told = Predictions(
        name="x", classes=CLASSES, files=tuple(map(str, range(100))), labels=labels,
        logits=np.eye(2)[labels].astype(np.float32),
    )  # fmt: skip
    text = Page(render_report(a_run(2, classes=CLASSES, test=told.scores(), mistakes=()))).text
    assert "imbalanced: from 10 images (bee) to 90 (ant), 9 times as many" in text


def test_several_labels_an_image():
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32)
    logits = np.array([[2, -1], [1, 3], [-1, 2], [-2, -3]], np.float32)
    told = Predictions(name="m", classes=CLASSES, files=("1", "2", "3", "4"), labels=labels, logits=logits)
    run = a_run(2, classes=CLASSES, test=told.scores(), predictions=told, mistakes=())
    text = Page(render_report(run)).text
    # ant: ranked 1, 2 (wrong), 3: (1/1 + 2/3) / 2 = 5/6; bee: both first: 1. Mean 0.917.
    assert "reaches a mean average precision of 0.917" in text
    assert "bee 2 1.000 0.500" in text
    assert "ant 2 0.833 0.500" in text
    assert "are not paired: their images may carry several labels" in text_of(run, run)


def test_galleries_by_hand():
    # Probabilities of the true class: 0.9, 0.2 (wrong), 0.4 (wrong), 0.6.
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.4, 0.6]])
    told = Predictions(
        name="g", classes=CLASSES, files=("a", "b", "c", "d"), labels=np.array([0, 1, 0, 1]),
        logits=np.log(p).astype(np.float32),
    )  # fmt: skip
    assert [one.file for one in confident_mistakes(told, 9)] == ["b", "c"]
    asked = []

    def pictures(rows):
        asked.extend(rows)
        return [np.full((2, 2, 3), row, np.uint8) for row in rows]

    shown = choose_images(told, 1.0, pictures)
    assert [(one.file, one.predicted, one.true) for one in shown.mistakes] == [
        ("b", "ant", "bee"),
        ("c", "bee", "ant"),
    ]
    assert shown.mistakes[0].p_predicted == pytest.approx(0.8, abs=1e-6)
    assert (shown.mistakes[0].image == 1).all()
    assert shown.losses == ()
    # Thresholds: ants 0.65, bees 0.4. b: ant 0.8 >= 0.65; c: bee 0.6 >= 0.4: both suspect, b by more.
    assert [one.file for one in shown.suspects] == ["b", "c"]
    assert sorted(asked) == [1, 2]


def test_the_sentence_gives_the_corrected_p_of_the_table():
    a, b, c = "1000011111", "1000011110", "0111111111"  # of A and C, 1 and 4 are correct alone
    exact = scipy.stats.binomtest(1, 5).pvalue
    page = render_side_by_side([run_of(a), run_of(b), run_of(c)], title="three")
    sentence = re.search(r"A and C: [^<]*", page)[0]
    assert f"p {2 * exact:.2f};" in sentence  # Holm: the smaller of two, doubled
    assert f"p {exact:.2f}" not in page
