"""``striate look``: one subcommand for each way of looking."""

import typer

from striate.cli import look_data, look_image

app = typer.Typer(no_args_is_help=True, help="Look inside a network: filters, activations, evidence.")
for command in (
    *(look_image.filters, look_image.activations, look_data.strongest, look_image.occlusion),
    *(look_image.deconv, look_data.receptive, look_data.segment, look_image.saliency, look_image.gradcam),
    *(look_image.sanity, look_data.gallery),
):
    app.command()(command)
