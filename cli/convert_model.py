"""`vidground convert-model`: convert a model to vidground's own format."""

from pathlib import Path

import click

from vidground.cli.reporting.loading import announce_model, loading_shown
from vidground.errors import InputError


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Type of the stored weights. By default as in SRC.",
)
@click.option("--revision", help="Branch, tag or commit of SRC, if it is on the hub.")
@click.option("--subfolder", help="Subfolder of the model in SRC, if it holds several.")
@click.option("--overwrite", is_flag=True, help="Replace the model in DST.")
def convert_model(
    source: str,
    target: Path,
    dtype: str | None,
    revision: str | None,
    subfolder: str | None,
    overwrite: bool,
) -> None:
    """Write the model SRC to the folder DST in vidground's format, tokenizers included.

    SRC is a name (`vidground models` lists them), a folder or a hub repository, in the released
    format (adapters are merged) or in vidground's. DST then loads without a network.
    """
    _check_target(source, target, overwrite=overwrite)
    with loading_shown():
        announce_model(
            source, revision=revision, subfolder=subfolder, device="cpu", dtype=dtype or "auto"
        )
        # Here, so that --help needs no torch.
        from vidground.checkpoints.loading import load_model

        model = load_model(source, revision=revision, subfolder=subfolder, dtype=dtype)
    from vidground.checkpoints.model_folder import remove_weights

    remove_weights(target)
    model.save_pretrained(target)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    click.echo(
        f"{target}: {len(model.state_dict())} tensors, {parameters:,} parameters, "
        f"{str(model.dtype).removeprefix('torch.')}; no tensor of {source} left over",
        err=True,
    )


def _check_target(source: str, target: Path, *, overwrite: bool) -> None:
    if target.is_dir() and any(target.iterdir()):
        if not overwrite:
            raise InputError(
                f"{target} is not empty; give another folder, or --overwrite to replace its model"
            )
        if target.resolve() == Path(source).expanduser().resolve():
            raise InputError(f"{target} is the source itself; give another folder")
