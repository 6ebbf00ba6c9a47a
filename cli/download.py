"""`vidground download`: download a model, so that all other commands run without a network."""

from pathlib import Path

import click

from vidground.cli.reporting.loading import loading_shown
from vidground.settings import DEFAULT_MODEL


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--revision", help="Branch, tag or commit of the hub repository.")
@click.option("--subfolder", help="Subfolder of the model in a repository that holds several.")
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files. By default the cache of the Hugging Face hub.",
)
def download(
    model: str, revision: str | None, subfolder: str | None, cache_dir: Path | None
) -> None:
    """Download the newest version of MODEL and everything it needs to load offline.

    MODEL is a name (`vidground models` lists them) or a repository on the Hugging Face hub, by
    default the model of the paper. From a repository that holds several models, only the selected
    one is downloaded. Prints the folder of the model.
    """
    # Here, because the hub client reads its environment variables when it is imported.
    from vidground.checkpoints.hub import download as fetch
    from vidground.checkpoints.hub_files import HubAccess

    with loading_shown():
        hub = HubAccess(cache_dir=cache_dir)
        found = fetch(model, revision=revision, subfolder=subfolder, hub=hub)
    click.echo(found.path)
