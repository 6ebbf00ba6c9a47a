"""`vidground record`: check the record of results in a folder, or make it again."""

from pathlib import Path

import click

from vidground.archive.record_rebuild import check_record, rebuild_record
from vidground.cli.reporting.faults import say_failure
from vidground.cli.reporting.reporter import shown
from vidground.cli.running.finish import FAILED
from vidground.storage.files import printable

_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@click.group()
def record() -> None:
    """Check the record of results in a folder, or make it again.

    A run records in `.vidground.sqlite3`, beside its results, which videos are done.
    """


@record.command()
@_FOLDER
def check(folder: Path) -> None:
    """Read every value of the record in DIR.

    Exit code 1 if something is damaged.

    \b
    vidground record check results
    """
    found = check_record(folder)
    for problem in found.problems:
        click.echo(f"damaged: {shown(problem)}", err=True)
    click.echo(f"{found.entries} readable, {len(found.problems)} damaged")
    if found.problems:
        raise click.exceptions.Exit(FAILED)


@record.command()
@_FOLDER
def rebuild(folder: Path) -> None:
    """Make the record in DIR again from the results (JSON) that lie there.

    What can be read of the old record is kept, and the old file stays under another name. The next
    run recognises the results and does not make them again. End runs that write to DIR first.

    \b
    vidground record rebuild results
    """
    made = rebuild_record(folder)
    for _, error in made.left_out:
        say_failure(error, word="left out")
    if made.old is not None:
        click.echo(f"the old record is now {printable(made.old)}", err=True)
    click.echo(f"{made.kept} kept, {made.made} made from results, {len(made.left_out)} left out")
    if made.left_out:
        raise click.exceptions.Exit(FAILED)
