"""The recipe: everything that decides how a network is trained, as one value with units in its names."""

import difflib
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from striate.core.choices import OptimizerName as OptimizerName
from striate.core.errors import UsageError
from striate.data.augment import Augmentation, CropFill
from striate.data.preprocess import Interpolation

ScheduleName = Literal["constant", "steps", "plateau", "polynomial", "cosine", "one_cycle", "cyclic"]
Averaging = Literal["none", "ema", "polyak"]
Normalisation = Literal["dataset", "mean", "lenet", "imagenet", "half"]
ClassWeights = Literal["none", "balanced"]
Selection = Literal["best", "last"]


_RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("epochs lr batch_images step_factor polynomial_power", lambda v: v > 0, "above 0"),
    ("momentum label_smoothing ema_decay val_fraction test_fraction", lambda v: 0 <= v < 1, "in [0, 1)"),
    ("weight_decay warmup_epochs crop_pad_px colour_pca_std plateau_drops", lambda v: v >= 0, "at least 0"),
    ("brightness contrast saturation polyak_start_epoch", lambda v: v >= 0, "at least 0"),
    ("dropout", lambda v: v is None or 0 <= v < 1, "in [0, 1)"),
    ("clip_norm canvas_px", lambda v: v is None or v > 0, "above 0"),
    ("plateau_patience_epochs cycles", lambda v: v >= 1, "at least 1"),
    ("resized_crop_area", lambda v: v is None or 0 < v[0] <= v[1] <= 1, "0 < smallest <= largest <= 1"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to train. Variants are made with ``dataclasses.replace`` or ``--set key=value``.

    Attributes:
        name: the recipe's name, shown in reports.
        epochs: passes over the training images.
        batch_images: images in a step.
        optimizer: ``sgd`` (PyTorch's momentum), ``krizhevsky`` (momentum as in AlexNet's paper),
            ``nesterov``, ``adamw``.
        lr: peak learning rate.
        momentum: of the SGD family, in [0, 1).
        weight_decay: L2 coefficient (decoupled in adamw).
        decay_norm_and_bias: whether biases and batch-norm parameters decay too.
        clip_norm: largest gradient norm, or None.
        schedule: course of the learning rate; the following seven fields belong to it.
        step_epochs: ``steps``: epochs at which the rate is multiplied by ``step_factor``.
        step_factor: ``steps`` and ``plateau``: the factor.
        plateau_patience_epochs: ``plateau``: epochs without a lower validation error before a drop.
        plateau_drops: ``plateau``: drops before the rate stays where it is.
        polynomial_power: ``polynomial``: exponent of (1 - progress).
        cycles: ``cyclic``: how often the rate falls from ``lr`` to zero; the weights at the end of each cycle
            are kept as a snapshot. It divides ``epochs``.
        warmup_epochs: linear warm-up from zero (``one_cycle``: the length of its rise; ``cyclic`` has none).
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
        class_weights: ``balanced`` weighs each class by the inverse of its frequency.
        average: ``ema`` or ``polyak`` tests an average of the weights instead of the last ones.
        ema_decay: of ``ema``; the average looks back about 1 / (1 - decay) steps.
        polyak_start_epoch: ``polyak`` averages all iterates from this epoch on.
        dropout: rate for networks that have dropout, or None for the network's own.
        canvas_px: side that images are brought to before a crop of the network's size is cut; None: that
            size.
        interpolation: resampling filter.
        normalise: ``dataset`` (mean and std of the training images), ``mean`` (levels 0 to 255 less the
            training images' mean, as in AlexNet), ``lenet`` (background -0.1, foreground 1.175), ``imagenet``
            (the usual constants), ``half`` (levels to [-1, 1]).
        crop_pad_px: see ``Augmentation``, as are the following.
        crop_fill: ``mean`` or ``edge``.
        flip: mirror half of the images.
        resized_crop_area: smallest and largest area fraction of a random resized crop, or None.
        colour_pca_std: AlexNet's colour shift.
        brightness: photometric jitter.
        contrast: photometric jitter.
        saturation: photometric jitter.
        val_fraction: share of the training images held out for validation where the source has no such split.
        test_fraction: share of all images held out for the test where the source has no splits.
        select: test the weights of the epoch with the lowest validation error (``best``), or the ``last``.
    """

    name: str
    epochs: int
    lr: float
    batch_images: int = 128
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay_norm_and_bias: bool = True
    clip_norm: float | None = None
    schedule: ScheduleName = "constant"
    step_epochs: tuple[float, ...] = ()
    step_factor: float = 0.1
    plateau_patience_epochs: int = 5
    plateau_drops: int = 3
    polynomial_power: float = 1.0
    cycles: int = 1
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    class_weights: ClassWeights = "none"
    average: Averaging = "none"
    ema_decay: float = 0.999
    polyak_start_epoch: int = 0
    dropout: float | None = None
    canvas_px: int | None = None
    interpolation: Interpolation = "bilinear"
    normalise: Normalisation = "dataset"
    crop_pad_px: int = 0
    crop_fill: CropFill = "mean"
    flip: bool = False
    resized_crop_area: tuple[float, float] | None = None
    colour_pca_std: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    select: Selection = "best"

    def __post_init__(self) -> None:
        """Refuse values of the wrong type or out of range, in one line."""
        for key, hint in get_type_hints(type(self)).items():
            value = getattr(self, key)
            if not _is_a(value, hint):
                raise UsageError(f"recipe {key}: expected {_in_words(hint)}, got {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"recipe {key}: expected a finite number, got {value!r}")
        for keys, allowed, rule in _RANGES:
            for key in keys.split():
                if not allowed(getattr(self, key)):
                    raise UsageError(f"recipe {key}: expected {rule}, got {getattr(self, key)!r}")
        if self.val_fraction + self.test_fraction >= 1:
            raise UsageError(
                "recipe val_fraction + test_fraction: expected below 1, so that images are left to train on"
            )
        if self.resized_crop_area is not None and self.crop_pad_px:
            raise UsageError("recipe resized_crop_area replaces the padded crop: --set crop_pad_px=0")
        if self.schedule == "plateau" and self.val_fraction == 0:
            raise UsageError("recipe schedule plateau needs validation images: --set val_fraction=0.1")
        if self.schedule == "cyclic":
            self._check_cycles()
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise UsageError("recipe optimizer nesterov: expected a momentum above 0, got 0: use sgd")

    def _check_cycles(self) -> None:
        if self.epochs % self.cycles:
            whole = -(-self.epochs // self.cycles) * self.cycles
            raise UsageError(
                f"recipe cycles: expected whole epochs in each of the {self.cycles} cycles, got {self.epochs}"
                f" epochs: --epochs {whole}, or another number of cycles"
            )
        if self.warmup_epochs:
            raise UsageError(
                f"recipe warmup_epochs: expected 0, since the cyclic schedule restarts at its peak, got"
                f" {self.warmup_epochs:g}: --set warmup_epochs=0"
            )

    @property
    def augmentation(self) -> Augmentation:
        """The part of the recipe that changes images."""
        return Augmentation(**{f.name: getattr(self, f.name) for f in fields(Augmentation)})

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict; ``from_json`` reads it back to an equal value."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Recipe":
        """Read what ``to_json`` wrote (lists stand for tuples, integers for floats).

        Raises:
            UsageError: an unknown field, a missing one, or a value out of range.
        """
        hints = get_type_hints(cls)
        _refuse_unknown(record, hints)
        try:
            return cls(**{key: _from_json(value, hints[key]) for key, value in record.items()})
        except TypeError as error:
            raise UsageError(f"recipe is incomplete: {error}") from None


FIELDS = frozenset(field.name for field in fields(Recipe))
"""Names of a recipe's fields."""


def change(recipe: Recipe, settings: Mapping[str, str]) -> Recipe:
    """Return the recipe with some fields set from text, as in ``--set lr=0.1 --set step_epochs=82,123``.

    Args:
        recipe: to start from.
        settings: field name to text. ``none`` stands for None, a comma separates the values of a tuple.

    Raises:
        UsageError: an unknown field (close names are offered) or a value of the wrong type or range.
    """
    hints = get_type_hints(Recipe)
    _refuse_unknown(settings, hints)
    return replace(recipe, **{key: _parse(key, text, hints[key]) for key, text in settings.items()})


def _refuse_unknown(keys: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    for key in keys:
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=3) or sorted(hints)
            raise UsageError(f"recipe has no field {key!r}; did you mean {' or '.join(close[:3])}?")


def _arms(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_a(value: Any, hint: Any) -> bool:
    for arm in _arms(hint):
        if arm is type(None):
            fine = value is None
        elif get_origin(arm) is Literal:
            fine = value in get_args(arm)
        elif get_origin(arm) is tuple:
            members = get_args(arm)
            kinds = (members[0],) * len(value) if isinstance(value, tuple) and members[-1] is ... else members
            fine = isinstance(value, tuple) and len(value) == len(kinds)
            fine = fine and all(_is_a(v, k) for v, k in zip(value, kinds, strict=True))
        elif arm is float:
            fine = isinstance(value, int | float) and not isinstance(value, bool)
        elif arm is int:
            fine = isinstance(value, int) and not isinstance(value, bool)
        else:
            fine = isinstance(value, arm)
        if fine:
            return True
    return False


def _in_words(hint: Any) -> str:
    words = []
    for arm in _arms(hint):
        if arm is type(None):
            words.append("none")
        elif get_origin(arm) is Literal:
            words += [str(choice) for choice in get_args(arm)]
        elif get_origin(arm) is tuple:
            words.append("numbers separated by commas")
        else:
            words.append({int: "a whole number", float: "a number", bool: "true or false", str: "text"}[arm])
    return " or ".join(words)


def _from_json(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        value = tuple(value)
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and float in _arms(hint)
        and int not in _arms(hint)
    ):
        return float(value)
    return value


def _parse(key: str, text: str, hint: Any) -> Any:
    text = text.strip()
    for arm in _arms(hint):
        if arm is type(None) and text.lower() == "none":
            return None
        if get_origin(arm) is Literal and text in get_args(arm):
            return text
        if arm is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            if arm in (int, float):
                return arm(text)
            if get_origin(arm) is tuple:
                return tuple(float(part) for part in text.split(",") if part.strip())
        except ValueError:
            continue
        if arm is str:
            return text
    raise UsageError(f"recipe {key}: expected {_in_words(hint)}, got {text!r}")
