"""``model.look``: the ways of looking inside one network, each the function of its room."""

from functools import partial
from typing import TYPE_CHECKING

from striate.weights.open import OpenNetwork

if TYPE_CHECKING:
    from striate.look.picture import Picture


class Looker:
    """The ways of looking inside a network. Each gives a ``Picture``: it shows itself, ``.save()`` writes it.

    ``help(model.look.deconvnet)`` lists what a way takes. Numbers are in the picture by name, ``p["..."]``.
    """

    def __init__(self, opened: OpenNetwork) -> None:
        self._opened = opened

    @property
    def filters(self) -> "partial[Picture]":
        """Filters of a layer, ``(layer=None, unit=None, ...)``; see ``look.filter_picture``."""
        from striate.look.filter_picture import show_filters

        return partial(show_filters, self._opened)

    @property
    def activations(self) -> "partial[Picture]":
        """Feature maps, ``(image, layer=None, unit=None, ...)``; see ``look.maps_picture``."""
        from striate.look.maps_picture import show_activations

        return partial(show_activations, self._opened)

    @property
    def deconvnet(self) -> "partial[Picture]":
        """What makes units fire, ``(image, layer=None, unit=None, ...)``; see ``look.deconv_picture``."""
        from striate.look.deconv_picture import show_deconvnet

        return partial(show_deconvnet, self._opened)

    @property
    def occlusion(self) -> "partial[Picture]":
        """What covering parts changes, ``(image, cls=None, ...)``; see ``look.occlusion_picture``."""
        from striate.look.occlusion_picture import show_occlusion

        return partial(show_occlusion, self._opened)

    @property
    def saliency(self) -> "partial[Picture]":
        """What the score depends on, ``(image, cls=None, ...)``; see ``look.saliency_picture``."""
        from striate.look.saliency_picture import show_saliency

        return partial(show_saliency, self._opened)

    @property
    def gradcam(self) -> "partial[Picture]":
        """Where the evidence for a class is, ``(image, cls=None, ...)``; see ``look.gradcam_picture``."""
        from striate.look.gradcam_picture import show_gradcam

        return partial(show_gradcam, self._opened)

    @property
    def strongest(self) -> "partial[Picture]":
        """Patches that excite units most, ``(data, layer=..., ...)``; see ``look.strongest_picture``."""
        from striate.look.strongest_picture import show_strongest

        return partial(show_strongest, self._opened)

    @property
    def receptive(self) -> "partial[Picture]":
        """Empirical receptive field, ``(data, layer=..., unit=...)``; see ``look.receptive_picture``."""
        from striate.look.receptive_picture import show_receptive

        return partial(show_receptive, self._opened)

    @property
    def segment(self) -> "partial[Picture]":
        """Regions where units fire, ``(data, layer=..., ...)``; see ``look.segment_picture``."""
        from striate.look.segment_picture import show_segment

        return partial(show_segment, self._opened)

    @property
    def sanity(self) -> "partial[Picture]":
        """Whether maps depend on the weights, ``(image, ...)``; see ``look.sanity_picture``."""
        from striate.look.sanity_picture import show_sanity

        return partial(show_sanity, self._opened)
