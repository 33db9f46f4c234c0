"""What a comparison of networks found, as a record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from striate.metrics.paired import ClassDifference, MeanDifference, Paired
from striate.metrics.scores import Interval, wilson
from striate.metrics.seeds import SeedDifference, SeedSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """One of the networks that are compared.

    Attributes:
        name: as it was given.
        seed: of its training, or None where that is not known.
        num_correct: images it gets right (multi-label: every label right).
        num_images: images in all.
        loss: mean cross-entropy in nats, at the temperature of the bundle or file.
    """

    name: str
    seed: int | None
    num_correct: int
    num_images: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Share of the images that it gets right."""
        return self.num_correct / self.num_images

    @property
    def interval(self) -> Interval:
        """95% Wilson interval of the accuracy."""
        return wilson(self.num_correct, self.num_images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """An image that only one of two networks gets right.

    Attributes:
        file: its name.
        true: its class (multi-label: its classes).
        answer_a: the class (classes) that A predictions.
        answer_b: the same of B.
    """

    file: str
    true: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One network against the first.

    Attributes:
        a: place of the first among the entrants: 0.
        b: place of the other.
        paired: who is right where, with interval and p.
        p_holm: McNemar's exact p after Holm's correction for the number of pairs.
        loss: difference of the mean losses in nats, B minus A.
        by_class: every class that has images, those that differ most first.
        disagreements: every image that only one gets right, by name.
    """

    a: int
    b: int
    paired: Paired
    p_holm: float
    loss: MeanDifference
    by_class: tuple[ClassDifference, ...]
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedGroup:
    """Trainings that differ in nothing but the seed.

    Attributes:
        name: network and recipe.
        indices: places among the entrants.
        accuracy: their accuracies, summarised.
    """

    name: str
    indices: tuple[int, ...]
    accuracy: SeedSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDifference:
    """One group of seeds against the first.

    Attributes:
        a: place of the first among the groups: 0.
        b: place of the other.
        seeds: difference of the mean accuracies over seeds, B minus A, on these images; None where a group
            has but one seed.
        images: the same difference with its bootstrap interval over images, for these trainings.
    """

    a: int
    b: int
    seeds: SeedDifference | None
    images: MeanDifference


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Networks compared on the same images.

    Attributes:
        entrants: in the order given.
        split: which images, in words.
        num_images: how many.
        multi_label: whether an image may carry several labels; it then counts as right when all are.
        pairs: each other entrant against the first; empty where seeds were grouped.
        groups: seeds of one recipe, where they were to be grouped.
        group_differences: each other group against the first.
        notes: what to know before trusting the figures.
    """

    entrants: tuple[Entrant, ...]
    split: str
    num_images: int
    multi_label: bool
    pairs: tuple[Pair, ...]
    groups: tuple[SeedGroup, ...]
    group_differences: tuple[GroupDifference, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        names = [one.name for one in self.entrants]
        return {
            "split": self.split,
            "num_images": self.num_images,
            "multi_label": self.multi_label,
            "networks": [
                {
                    "name": one.name,
                    "seed": one.seed,
                    "accuracy": one.accuracy,
                    "interval": [one.interval.low, one.interval.high],
                    "loss": one.loss,
                }
                for one in self.entrants
            ],
            "pairs": [_pair_record(pair, names) for pair in self.pairs],
            "groups": [
                {
                    "name": group.name,
                    "indices": [names[k] for k in group.indices],
                    "accuracy": group.accuracy.to_json(),
                }
                for group in self.groups
            ],
            "group_differences": [
                {
                    "a": self.groups[one.a].name,
                    "b": self.groups[one.b].name,
                    "over_seeds": one.seeds and one.seeds.to_json(),
                    "over_images": _mean_record(one.images),
                }
                for one in self.group_differences
            ],
            "notes": list(self.notes),
        }


def _pair_record(pair: Pair, names: Sequence[str]) -> dict[str, Any]:
    return {
        "a": names[pair.a],
        "b": names[pair.b],
        **pair.paired.to_json(),
        "p_holm": pair.p_holm,
        "loss": _mean_record(pair.loss),
        "by_class": [
            {"name": entry.name, "p_holm": entry.p_holm, **entry.paired.to_json()} for entry in pair.by_class
        ],
        "disagreements": [
            {"file": one.file, "true": one.true, "answer_a": one.answer_a, "answer_b": one.answer_b}
            for one in pair.disagreements
        ],
    }


def _mean_record(found: MeanDifference) -> dict[str, Any]:
    return {"difference": found.difference, "interval": [found.low, found.high]}
