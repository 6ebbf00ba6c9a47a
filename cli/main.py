"""The program `vidground`: finds the command, and turns errors into a message and an exit code.

Commands are imported when they are called, so that --help is fast. Exit codes: 0
done, 1 something failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple, NoReturn

import click

from vidground.cli.reporting.faults import (
    TRACEBACK_OPTION,
    reported_faults,
    say_failure,
    tracebacks_wanted,
)
from vidground.cli.running.signals import ending_signals
from vidground.cli.running.standard_streams import occupy_standard_streams
from vidground.cli.running.threads import sleep_while_waiting
from vidground.errors import VidgroundError
from vidground.version import __version__


class _Entry(NamedTuple):
    """Where a command is defined, as module:attribute, and its line in --help."""

    home: str
    summary: str


COMMANDS = {
    "caption": _Entry(
        "vidground.cli.caption:caption", "Describe what happens in videos, and when."
    ),
    "watch": _Entry("vidground.cli.watch:watch", "Caption videos as they arrive in a folder."),
    "query": _Entry("vidground.cli.query:query", "Find when something happens in videos."),
    "convert": _Entry(
        "vidground.cli.results.convert:convert",
        "Convert stored results to other formats, without a model.",
    ),
    "report": _Entry(
        "vidground.cli.results.report:report",
        "Create one web page to browse and search stored results.",
    ),
    "search": _Entry(
        "vidground.cli.results.search:search",
        "Rank the moments of an archive by how well they match a text.",
    ),
    "clip": _Entry(
        "vidground.cli.results.clip:clip", "Cut the moments of a stored result out of its video."
    ),
    "burn": _Entry(
        "vidground.cli.results.burn:burn",
        "Render the events of a result into the picture of its video.",
    ),
    "mux": _Entry(
        "vidground.cli.results.mux:mux",
        "Add the events of a result to its video as a subtitle track.",
    ),
    "replay": _Entry(
        "vidground.cli.results.replay:replay", "Reproduce a stored result and compare."
    ),
    "cache": _Entry("vidground.cli.cache:cache", "Show or clear the cache of encoded videos."),
    "record": _Entry(
        "vidground.cli.record:record", "Check or rebuild the record of results in a folder."
    ),
    "train": _Entry(
        "vidground.cli.train:train", "Train a model: fine-tuning, then preference optimization."
    ),
    "data": _Entry(
        "vidground.cli.data:data",
        "Check training data, create a toy data set or preference pairs.",
    ),
    "eval": _Entry(
        "vidground.cli.evaluate:evaluate", "Evaluate a model on a benchmark: answers and scores."
    ),
    "doctor": _Entry(
        "vidground.cli.doctor:doctor", "Check this installation, the machine and its GPUs."
    ),
    "bench": _Entry(
        "vidground.cli.bench:bench", "Measure the speed of a model on this machine, stage by stage."
    ),
    "export": _Entry("vidground.cli.export:export", "Export a model for other runtimes (ONNX)."),
    "models": _Entry(
        "vidground.cli.models:models", "List the available models and what they need."
    ),
    "download": _Entry(
        "vidground.cli.download:download", "Download a model for use without a network."
    ),
    "convert-model": _Entry(
        "vidground.cli.convert_model:convert_model", "Convert a model to vidground's own format."
    ),
}


class _Failure(click.ClickException):
    """An error of vidground, shown as one line; exit code 1."""

    def __init__(self, error: VidgroundError) -> None:
        super().__init__(str(error))
        self._error = error
        self._with_traceback = tracebacks_wanted()

    def show(self, file: object = None) -> None:  # noqa: ARG002 - the signature of click's
        say_failure(self._error, word="error", with_traceback=self._with_traceback)


class _LazyGroup(click.Group):
    """A group that imports the module of a command on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of `COMMANDS`."""
        return list(COMMANDS) + super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or return None if there is no such command."""
        if cmd_name not in COMMANDS:
            found = super().get_command(ctx, cmd_name)
            similar = get_close_matches(cmd_name, COMMANDS)
            if found is None and similar and not ctx.resilient_parsing:
                raise click.UsageError(
                    f"No such command {cmd_name!r}. Did you mean {' or '.join(similar)}?", ctx
                )
            return found
        module, _, attribute = COMMANDS[cmd_name].home.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; turn errors into a message, and Ctrl-C and SIGTERM into exit codes."""
        with ending_signals() as ctx.obj:
            try:
                with reported_faults():
                    return super().invoke(ctx)
            except VidgroundError as error:
                raise _Failure(error) from error
            except KeyboardInterrupt as error:
                click.echo("interrupted", err=True)
                raise click.exceptions.Exit(ctx.obj.exit_code) from error


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="vidground")
@TRACEBACK_OPTION
def cli(traceback: bool) -> None:
    """Ask when something happens in a video and get back times you can trust.

    Results are written to files or, with -o -, to standard output; logs and progress go to
    standard error. Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program with the given arguments, or those of the command line."""
    occupy_standard_streams()
    sleep_while_waiting()
    cli.main(arguments, prog_name="vidground")
    raise AssertionError("click ends the program")


if __name__ == "__main__":
    main()
