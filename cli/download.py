"""`vidground download`: fetch a model, so that everything else runs without a network."""

from pathlib import Path

import click

from vidground.cli.reporting.loading import loading_shown
from vidground.settings import DEFAULT_MODEL


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--revision", help="Branch, tag or commit of the hub repository.")
@click.option("--subfolder", help="Where the model lies in a repository that holds several.")
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to keep the files; the usual hub cache if not given.",
)
def download(
    model: str, revision: str | None, subfolder: str | None, cache_dir: Path | None
) -> None:
    """Fetch MODEL, its newest state, and all it needs to load without a network.

    MODEL is a name (`vidground models` lists them) or a repository on the Hugging Face hub, by
    default the model of the paper. Of a repository that holds several models only that one is
    fetched. Prints the folder that the model lies in.
    """
    # Here, because the hub client reads its environment variables when it is imported.
    from vidground.checkpoints.hub import download as fetch
    from vidground.checkpoints.hub_files import HubAccess

    with loading_shown():
        hub = HubAccess(cache_dir=cache_dir)
        found = fetch(model, revision=revision, subfolder=subfolder, hub=hub)
    click.echo(found.path)
