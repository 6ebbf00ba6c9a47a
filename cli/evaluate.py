"""`vidground eval`: measure a model on a benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vidground.cli.benchmark_run import run
from vidground.cli.options.usage import is_named
from vidground.cli.predict import predict
from vidground.cli.score import score

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(name="eval")
def evaluate() -> None:
    """Measure a model: predictions for a benchmark, then their scores.

    \b
    vidground data toy --out toy --videos 20 --seed 1
    vidground eval run etbench --model toy --data toy
    vidground eval predict --model toy --annotations toy/etbench --videos toy -o results
    vidground eval score results
    """


evaluate.add_command(run)
evaluate.add_command(predict)
evaluate.add_command(score)


@evaluate.command()
@click.argument("benchmark", type=click.Choice(["charades", "youcook2"]))
@click.argument("source", metavar="SRC", type=_FILE)
@click.argument("target", metavar="OUT.json", type=_FILE)
@click.option(
    "--subset",
    default="validation",
    show_default=True,
    help="YouCook2: which of its videos.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT.json if it exists.")
def convert(benchmark: str, source: Path, target: Path, subset: str, overwrite: bool) -> None:
    """Convert another benchmark's annotations to E.T. Bench's form.

    charades: lines "ID start end##sentence" of Charades-STA. youcook2: its JSON with segments.
    Videos are expected as ID.mp4 in the folder that `predict` is given.

    \b
    vidground eval convert charades charades_sta_test.txt charades.json
    vidground eval predict --annotations charades.json --videos Charades_v1 -o charades
    vidground eval score charades --benchmark charades
    """
    if benchmark != "youcook2" and is_named("subset"):
        raise click.UsageError(f"--subset applies to YouCook2 only; {benchmark} has none.")
    if target.exists() and not overwrite:
        raise click.UsageError(f"{target} exists; name another file, or use --overwrite.")
    from vidground.storage.atomic import write_atomically
    from vidground.training.evaluation.benchmarks.conversion import (
        convert_charades,
        convert_youcook2,
    )

    if benchmark == "charades":
        samples = convert_charades(source)
    else:
        samples = convert_youcook2(source, subset=subset)
    write_atomically(target, json.dumps(samples, indent=1) + "\n")
    count = "1 sample" if len(samples) == 1 else f"{len(samples)} samples"
    click.echo(f"{target}: {count}", err=True)
