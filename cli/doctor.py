"""`vidground doctor`: check the installation, the machine and what its devices compute."""

import faulthandler
import json
import os
import sys

import click

from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.reporter import shown
from vidground.doctor.examination import examine
from vidground.doctor.findings import worst
from vidground.doctor.report import to_dict, to_lines, to_summary


@click.command()
@click.option(
    "--device",
    "devices",
    multiple=True,
    help="Only test this device: cpu, cuda or cuda:1. Can be repeated. By default the CPU and "
    "every visible GPU.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.pass_context
def doctor(context: click.Context, devices: tuple[str, ...], as_json: bool) -> None:
    """Check this installation and machine; takes about a minute.

    Inspects versions, processor, GPUs, ffmpeg, onnxruntime, caches and folders. Then it runs the
    bundled model on each device and compares its output with reference values; on a GPU it also
    tests CUDA graphs, recovery from running out of memory, and video decoding. Nothing is
    downloaded.

    Each line says ok, warning, failed or skipped; a skipped check gives the reason. The exit
    code is 1 if a check failed. Add the output of --json to a bug report.
    """
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)  # so that a crash in a library prints where it happened
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    findings = []
    with usage_errors():
        examination = examine(devices)
    for finding in examination:
        findings.append(finding)
        if not as_json:
            for line in to_lines(finding):
                click.echo(shown(line))
    if as_json:
        click.echo(json.dumps(to_dict(findings, devices), indent=1))
    else:
        click.echo(to_summary(findings))
    context.exit(1 if worst(findings) == "failed" else 0)
