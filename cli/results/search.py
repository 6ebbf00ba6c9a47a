"""`vidground search`: rank the moments of an archive by how well they match a text."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from vidground.archive.inputs import find_videos
from vidground.archive.stored_results import find_stored
from vidground.cli.options.cache import cache_is_named, cache_options
from vidground.cli.options.isolation import ISOLATION_OPTIONS, take_isolation
from vidground.cli.options.usage import usage_errors
from vidground.cli.reporting.bars import bar
from vidground.cli.reporting.faults import say_failure
from vidground.cli.reporting.loading import announce_model, loading_shown
from vidground.cli.reporting.reporter import shown
from vidground.cli.running.finish import FAILED
from vidground.errors import VidgroundError
from vidground.results.video_lookup import file_uri
from vidground.review.search import Hit, SearchOutcome, search_results, search_videos
from vidground.settings import (
    CPU,
    CacheSettings,
    GroundingSettings,
    IsolationSettings,
    SamplingSettings,
)

if TYPE_CHECKING:
    from vidground.grounder import Grounder


def _with_isolation(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(ISOLATION_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("text")
@click.argument("inputs", nargs=-1, required=True, metavar="FOLDER...")
@click.option(
    "--model",
    help="Search every video with this model: a name (`vidground models` lists them), a folder, "
    "or a repository on the Hugging Face hub.",
)
@click.option("--device", help="With --model: cpu, cuda or cuda:1.")
@click.option(
    "--offline", is_flag=True, help="With --model: use only cached files; never access the network."
)
@click.option("--fps", type=float, help="With --model: frames sampled per second of video.")
@cache_options
@_with_isolation
@click.option("--recursive", is_flag=True, help="Search subfolders too.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Maximum number of moments to print.",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    help="Minimum score. By default every caption that shares a word with the text or, with "
    f"--model, every moment that counts as found ({GroundingSettings().found_threshold}).",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of all fields.")
@click.option("--quiet", "-q", is_flag=True, help="Only report failures.")
def search(
    text: str,
    inputs: tuple[str, ...],
    model: str | None,
    device: str | None,
    offline: bool,
    fps: float | None,
    recursive: bool,
    limit: int,
    min_score: float | None,
    as_json: bool,
    quiet: bool,
    cache: CacheSettings | None,
    **limits: Any,
) -> None:
    """Rank the moments of an archive by how well they match a text, and print their times.

    Without --model the captions and earlier queries in stored results (JSON) are searched by
    words: captions score higher the more words of the text they contain, the shorter they are,
    and the rarer the words are (BM25). Case, accents and a plural s are ignored; synonyms are not
    known. A caption equal to the text has the score 1.

    With --model the model searches every video for the text. The score is the mean relevance of
    the moment, as in `query`. Encoded videos are cached, so that the next search is fast.

    In a terminal that supports links, a path opens its video, and a time opens the video at that
    time, in players that accept times in URLs, as browsers do.

    \b
    vidground search "a player scores" results --recursive
    vidground search "a red card" archive --recursive --model toy --limit 5
    """
    if not text.strip():
        raise click.UsageError("TEXT is empty; say what to look for.")
    decode_on, isolation = limits.pop("decode_on"), take_isolation(limits)
    if model is None:
        _refuse_what_a_model_needs(
            of_a_model=device is not None or offline or fps is not None,
            of_its_videos=isolation != IsolationSettings() or decode_on != CPU,
        )
        outcome = _in_results(text, inputs, recursive, min_score or 0.0, quiet)
        noun = "moment"
    else:
        grounding = GroundingSettings() if min_score is None else GroundingSettings(min_score)
        with usage_errors():
            sampling = SamplingSettings() if fps is None else SamplingSettings(fps=fps)
        load = partial(
            _load,
            model,
            offline=offline,
            device=device,
            sampling=sampling,
            grounding=grounding,
            cache=cache,
            isolation=isolation,
            decode_on=decode_on,
        )
        outcome = _in_videos(text, inputs, recursive, load, quiet)
        noun = "video"
    _tell(outcome, noun, limit=limit, as_json=as_json, quiet=quiet)
    if outcome.failed:
        raise click.exceptions.Exit(FAILED)


def _refuse_what_a_model_needs(*, of_a_model: bool, of_its_videos: bool) -> None:
    if of_a_model:
        raise click.UsageError("--device, --offline and --fps have an effect only with --model.")
    if of_its_videos:
        raise click.UsageError(
            "--decode-on, --isolation, --timeout and --memory-limit have an effect only with "
            "--model."
        )
    if cache_is_named():
        raise click.UsageError("The options of the cache have an effect only with --model.")


def _tell(outcome: SearchOutcome, noun: str, *, limit: int, as_json: bool, quiet: bool) -> None:
    """Print the best moments to stdout, and counts and failures to stderr."""
    hits = outcome.hits[:limit]
    if as_json:
        click.echo(json.dumps([asdict(hit) for hit in hits], indent=2))
    for hit in () if as_json else hits:
        click.echo(_line(hit, linked=sys.stdout.isatty() and os.environ.get("TERM") != "dumb"))
    if not quiet:
        cut = len(hits) < len(outcome.hits)
        left = f", showing the best {len(hits)} (--limit)" if cut else ""
        plural = "" if outcome.searched == 1 else "s"
        said = f"{len(outcome.hits)} found among {outcome.searched} {noun}{plural}{left}"
        click.echo(said, err=True)
    for _, error in outcome.failed:
        say_failure(error)


def _in_results(
    text: str, inputs: tuple[str, ...], recursive: bool, min_score: float, quiet: bool
) -> SearchOutcome:
    found = find_stored(inputs, recursive=recursive)
    _require_some(found.files, found.missing)
    paths = [file.path for file in found.files]
    with bar("result", len(paths), quiet=quiet) as on_done:
        outcome = search_results(text, paths, min_score=min_score, on_done=on_done)
    return _with_missing(outcome, found.missing)


def _in_videos(
    text: str, inputs: tuple[str, ...], recursive: bool, load: Callable[[], Grounder], quiet: bool
) -> SearchOutcome:
    found = find_videos(inputs, recursive=recursive)
    _require_some(found.videos, found.missing)
    with loading_shown(quiet=quiet), usage_errors():
        grounder = load()
    paths = [video.path for video in found.videos]
    with bar("video", len(paths), quiet=quiet) as on_done:
        outcome = search_videos(text, paths, grounder, on_done=on_done)
    return _with_missing(outcome, found.missing)


def _load(model: str, *, offline: bool, **settings: Any) -> Grounder:
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    announce_model(model, offline=offline, device=settings["device"])
    # Here, so that --help needs no torch.
    from vidground.grounder import Grounder

    options: dict[str, Any] = {"local_files_only": True} if offline else {}
    return Grounder(model, **settings, **options)


def _require_some(
    found: tuple[object, ...], missing: tuple[tuple[str, VidgroundError], ...]
) -> None:
    if not found:
        reasons = "; ".join(shown(str(error)) for _, error in missing)
        raise click.UsageError(f"Nothing to search. {reasons}")


def _with_missing(
    outcome: SearchOutcome, missing: tuple[tuple[str, VidgroundError], ...]
) -> SearchOutcome:
    return SearchOutcome(outcome.hits, outcome.searched, (*missing, *outcome.failed))


def _line(hit: Hit, *, linked: bool) -> str:
    path, times = shown(hit.video), f"{_clock(hit.start_s)} - {_clock(hit.end_s)}"
    if linked and hit.found:
        address = file_uri(hit.video)
        path, times = _link(path, address), _link(times, f"{address}#t={hit.start_s:.3f}")
    return f"{path}  {times}  {hit.score:.2f}  {shown(hit.text)}"


def _link(text: str, address: str) -> str:
    return f"\x1b]8;;{address}\x1b\\{text}\x1b]8;;\x1b\\"


def _clock(seconds: float) -> str:
    """Return seconds as 00:01:23.4."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{tenths // 10:02d}.{tenths % 10}"
