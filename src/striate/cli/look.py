"""``striate look``: one subcommand a method."""

import typer

from striate.cli import (
    look_activations,
    look_deconv,
    look_filters,
    look_gallery,
    look_gradcam,
    look_occlusion,
    look_receptive,
    look_saliency,
    look_sanity,
    look_segment,
    look_strongest,
)

app = typer.Typer(no_args_is_help=True, help="Look inside a network: filters, activations, evidence.")
app.command("filters")(look_filters.filters)
app.command("activations")(look_activations.activations)
app.command("strongest")(look_strongest.strongest)
app.command("occlusion")(look_occlusion.occlusion)
app.command("deconv")(look_deconv.deconv)
app.command("receptive")(look_receptive.receptive)
app.command("segment")(look_segment.segment)
app.command("saliency")(look_saliency.saliency)
app.command("gradcam")(look_gradcam.gradcam)
app.command("sanity")(look_sanity.sanity)
app.command("gallery")(look_gallery.gallery)
