"""The program `vidground`: finds the command, and turns errors into a line and an exit code.

Commands are imported when they are called for, so that --help answers at once. Exit codes: 0
done, 1 something failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
"""

from collections.abc import Sequence
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
from vidground.errors import VidgroundError
from vidground.version import __version__


class _Entry(NamedTuple):
    """Where a command is, as module:attribute, and what --help says of it."""

    home: str
    summary: str


COMMANDS = {
    "caption": _Entry("vidground.cli.caption:caption", "Write down what happens in videos."),
    "watch": _Entry(
        "vidground.cli.watch:watch", "Write down what happens in videos as they arrive."
    ),
    "query": _Entry("vidground.cli.query:query", "Find when something happens in videos."),
    "convert": _Entry(
        "vidground.cli.results.convert:convert",
        "Write stored results in other formats; needs no model.",
    ),
    "report": _Entry(
        "vidground.cli.results.report:report",
        "Make one page of stored results to look at and search.",
    ),
    "search": _Entry(
        "vidground.cli.results.search:search", "Rank the moments of an archive for a text."
    ),
    "clip": _Entry("vidground.cli.results.clip:clip", "Cut the moments of a stored result out."),
    "burn": _Entry("vidground.cli.results.burn:burn", "Write a result's events into the picture."),
    "mux": _Entry("vidground.cli.results.mux:mux", "Add a result's events as a subtitle track."),
    "replay": _Entry(
        "vidground.cli.results.replay:replay", "Make a stored result again and compare."
    ),
    "cache": _Entry("vidground.cli.cache:cache", "Look at, or clear, what is kept of videos."),
    "train": _Entry("vidground.cli.train:train", "Train a model: fine-tuning, then preferences."),
    "data": _Entry(
        "vidground.cli.data:data",
        "Look through training data, make a toy set, make preference pairs.",
    ),
    "eval": _Entry(
        "vidground.cli.evaluate:evaluate", "Measure a model: answers to a benchmark, their scores."
    ),
    "doctor": _Entry(
        "vidground.cli.doctor:doctor", "Check this installation, the machine and its cards."
    ),
    "bench": _Entry("vidground.cli.bench:bench", "Time a model here, stage by stage."),
    "export": _Entry("vidground.cli.export:export", "Write a model for other runtimes (ONNX)."),
    "models": _Entry("vidground.cli.models:models", "List models by name, and what they need."),
    "download": _Entry("vidground.cli.download:download", "Fetch a model for use offline."),
    "convert-model": _Entry(
        "vidground.cli.convert_model:convert_model", "Write a model in vidground's own format."
    ),
}


class _Failure(click.ClickException):
    """An error of vidground as one line; exit code 1."""

    def __init__(self, error: VidgroundError) -> None:
        super().__init__(str(error))
        self._error = error
        self._with_traceback = tracebacks_wanted()

    def show(self, file: object = None) -> None:  # noqa: ARG002 - the signature of click's
        say_failure(self._error, word="error", with_traceback=self._with_traceback)


class _LazyGroup(click.Group):
    """A group that imports a command's module at first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of `COMMANDS`."""
        return list(COMMANDS) + super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or return None if there is no such command."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = COMMANDS[cmd_name].home.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; errors become a line, Ctrl-C and SIGTERM exit codes."""
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

    Results go to files or, only when asked (-o -), to standard output; logs and progress to
    standard error. Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program with the given arguments, or those of the command line."""
    occupy_standard_streams()
    cli.main(arguments, prog_name="vidground")
    raise AssertionError("click ends the program")


if __name__ == "__main__":
    main()
