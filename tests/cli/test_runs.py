import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import vidground.cli.caption
import vidground.cli.query
from tests.helpers.result_makers import VIDEO, answer, captions
from tests.helpers.workers import worker_of
from vidground.cli.main import cli
from vidground.errors import CheckpointError, FormatError, VideoError
from vidground.progress import Progress
from vidground.results.types import Event, Groundings, Moment
from vidground.settings import DecodingSettings, SamplingSettings


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder; environment variables that a command sets are undone."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def model(monkeypatch):
    """Stands in for the model; holds what it was loaded with and the videos it was given.

    Every video has one event but quiet.mp4; a video named in `errors` raises that.
    """

    class Model:
        def __init__(self):
            self.errors = {}
            self.loaded_with = []
            self.videos = []

        def load(self, *arguments):
            self.loaded_with.append(arguments)
            if "model" in self.errors:
                raise self.errors["model"]
            return worker_of(self.caption)

        def caption(self, job, on_progress):
            self.videos.append(str(job.path))
            on_progress(Progress(str(job.path), 5, 10, 0, 1))
            if job.path.name in self.errors:
                raise self.errors[job.path.name]
            events = () if job.path.name == "quiet.mp4" else (Event(0.0, 1.0, "a goal"),)
            video = replace(VIDEO, path=str(job.path), sha256=None)
            return replace(captions(*events), video=video)

        def load_grounder(self, options, texts, grounding):
            self.loaded_with.append((options, texts, grounding))
            video = replace(VIDEO, sha256=None)
            found = Groundings(
                tuple(answer(text, Moment(1.0, 2.0, 0.75), video=video) for text in texts)
            )
            return worker_of(lambda *_: found)

    model = Model()
    monkeypatch.setattr(vidground.cli.caption, "load", model.load)
    monkeypatch.setattr(vidground.cli.query, "_load", model.load_grounder)
    return model


SRT = "1\n00:00:00,000 --> 00:00:01,000\na goal\n\n"


def run(*arguments, **options):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], **options)


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"content")


def last_line(result):
    """The counts that a run ends with, without its speed."""
    return result.stderr.splitlines()[-1].partition(";")[0]


def log_of(result):
    return [json.loads(line) for line in result.stderr.splitlines()]


def files():
    """All files but the record of results."""
    paths = [path for path in Path().rglob("*") if path.is_file()]
    return sorted(str(path) for path in paths if not path.name.startswith(".vidground."))


@pytest.mark.usefixtures("model")
def test_a_result_lies_beside_its_video():
    touch("match.mp4")
    result = run("caption", "match.mp4", "--out", "srt,json")
    assert (result.exit_code, result.stdout) == (0, "")
    assert Path("match.srt").read_text() == SRT
    assert json.loads(Path("match.json").read_text())["kind"] == "captions"
    assert "done: match.mp4 -> match.srt, match.json (1 event, " in result.stderr
    assert last_line(result) == "1 done (0 empty), 0 skipped, 0 failed"


@pytest.mark.usefixtures("model")
def test_a_folder_is_mirrored_below_the_output_folder():
    touch("tv/a/x.mp4", "tv/b/x.mp4")
    result = run("caption", "tv", "--recursive", "-o", "out", "-f", "txt", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert files() == ["out/a/x.txt", "out/b/x.txt", "tv/a/x.mp4", "tv/b/x.mp4"]


def test_a_file_that_fails_is_told_and_the_others_are_done(model):
    touch("a.mp4", "b.mp4", "quiet.mp4")
    model.errors["b.mp4"] = VideoError("'b.mp4': no frame can be decoded")
    result = run("caption", "*.mp4", "gone.mp4", "--summary", "runs/1.json")
    assert result.exit_code == 1
    assert files() == ["a.mp4", "a.srt", "b.mp4", "quiet.mp4", "quiet.srt", "runs/1.json"]
    assert "failed: 'b.mp4': no frame can be decoded\n" in result.stderr
    assert last_line(result) == "2 done (1 empty), 0 skipped, 2 failed: gone.mp4, b.mp4"
    assert " s of video per second, " in result.stderr.splitlines()[-1]
    summary = json.loads(Path("runs/1.json").read_text())
    counts = {key: summary[key] for key in ("done", "empty", "skipped", "failed", "interrupted")}
    assert counts == {"done": 2, "empty": 1, "skipped": 0, "failed": 2, "interrupted": False}
    assert {file["path"]: file["status"] for file in summary["files"]} == {
        "gone.mp4": "failed",
        "a.mp4": "done",
        "b.mp4": "failed",
        "quiet.mp4": "done",
    }


def test_what_exists_is_skipped_without_loading_the_model(model):
    touch("a.mp4", "a.srt")
    result = run("caption", "a.mp4")
    assert (result.exit_code, model.loaded_with) == (0, [])
    assert "skipped: a.mp4: a.srt: exists, and is not what vidground wrote" in result.stderr
    assert last_line(result) == "0 done (0 empty), 1 skipped, 0 failed"
    assert run("caption", "a.mp4", "--overwrite").exit_code == 0
    assert Path("a.srt").read_text() == SRT


def plans_of(result):
    return [line.partition(" (")[0] for line in result.stdout.splitlines()]


def test_a_second_run_does_what_is_missing_changed_or_failed(model):
    touch("a.mp4", "b.mp4", "c.mp4")
    model.errors["b.mp4"] = VideoError("'b.mp4': no frame")
    assert run("caption", ".").exit_code == 1
    assert model.videos == ["a.mp4", "b.mp4", "c.mp4"]
    model.errors.clear()
    result = run("caption", ".")
    assert (result.exit_code, len(model.loaded_with)) == (1, 1)
    assert "skipped: a.mp4: a.srt: up to date" in result.stderr
    assert "failed: 'b.mp4': no frame (failed before; --retry-failed tries again)" in result.stderr
    Path("c.mp4").write_bytes(b"other content")
    assert run("caption", ".", "--retry-failed").exit_code == 0
    assert model.videos[3:] == ["b.mp4", "c.mp4"]
    result = run("caption", ".", "--out", "json,srt", "--max-line-width", "4")
    assert (result.exit_code, len(model.loaded_with)) == (0, 2)
    assert "done: a.mp4 -> a.json, a.srt (1 event, " in result.stderr
    assert "; json, srt from the stored result)" in result.stderr
    assert Path("a.srt").read_text().endswith("\na\ngoal\n\n")


def test_a_dry_run_says_what_would_be_done_and_why(model):
    touch("a.mp4", "b.mp4", "c.mp4")
    model.errors["b.mp4"] = VideoError("'b.mp4': no frame")
    result = run("caption", ".", "--dry-run")
    assert (result.exit_code, result.stderr, files()) == (0, "", ["a.mp4", "b.mp4", "c.mp4"])
    assert result.stdout == "".join(
        f"would do: {name}.mp4 -> {name}.srt (no result yet)\n" for name in "abc"
    )
    run("caption", "a.mp4", "b.mp4")
    Path("c.srt").write_text("mine")
    videos = list(model.videos)
    result = run("caption", ".", "gone.mp4", "--dry-run")
    assert result.exit_code == 1
    assert plans_of(result) == [
        "would skip: a.mp4",
        "would fail: b.mp4",
        "would skip: c.mp4",
        "would fail: gone.mp4",
    ]
    result = run("caption", ".", "--dry-run", "--fps", "2", "--retry-failed")
    assert result.exit_code == 0
    assert "would do: a.mp4 -> a.srt (fps was 1.0, is 2.0)\n" in result.stdout
    assert plans_of(run("caption", "a.mp4", "--out", "srt,vtt", "--dry-run")) == [
        "would write: a.mp4 -> a.vtt"
    ]
    result = run("caption", "a.mp4", "--dry-run", "--log-format", "json")
    planned = {"event": "plan", "path": "a.mp4", "action": "skip", "reason": "up to date"}
    assert json.loads(result.stdout) == planned | {"outputs": []}
    assert model.videos == videos


def test_results_that_a_shell_names_are_passed_over(model):
    touch("a.mp4", "b.mp4")
    assert run("caption", "a.mp4", "b.mp4", "--out", "srt,json").exit_code == 0
    named = sorted(path.name for path in Path().iterdir())  # as the shell writes * with dotglob
    assert ".vidground.sqlite3" in named
    result = run("caption", *named, "--out", "srt,json")
    assert (result.exit_code, last_line(result)) == (0, "0 done (0 empty), 2 skipped, 0 failed")
    assert "warning: 'a.srt': a result, no video; passed over" in result.stderr
    assert len(model.videos) == 2
    result = run("caption", "a.srt")
    assert (result.exit_code, "'a.srt': a result, no video" in result.stderr) == (2, True)


def test_a_run_ends_at_failures_if_asked(model):
    touch("a.mp4", "b.mp4", "c.mp4")
    model.errors["a.mp4"] = model.errors["b.mp4"] = VideoError("no frame")
    result = run("caption", ".", "--fail-fast", "--summary", "run.json")
    assert (result.exit_code, model.videos) == (1, ["a.mp4"])
    expected = "stopped, too many failures: 0 done (0 empty), 0 skipped, 1 failed, 2 not finished"
    assert last_line(result) == f"{expected}: a.mp4"
    assert json.loads(Path("run.json").read_text())["stopped"] is True
    result = run("caption", ".", "--max-failures", "2")
    assert (result.exit_code, model.videos) == (1, ["a.mp4", "b.mp4"])


def test_results_that_are_not_good_enough_count_as_failed(model):
    touch("a.mp4", "quiet.mp4")
    result = run("caption", ".", "--fail-on", "events>9,empty", "--summary", "run.json")
    assert result.exit_code == 1
    assert "failed: quiet.mp4: refused by --fail-on empty: no event" in result.stderr
    assert files() == ["a.mp4", "a.srt", "quiet.mp4", "quiet.srt", "run.json"]
    report = json.loads(Path("run.json").read_text())["files"][1]
    assert (report["status"], report["outputs"]) == ("failed", ["quiet.srt"])
    assert run("caption", ".", "--fail-on", "empty").exit_code == 1
    assert run("caption", ".").exit_code == 0
    assert len(model.videos) == 2


def test_without_a_record_runs_go_by_names(model):
    touch("a.mp4")
    assert run("caption", "a.mp4", "--no-manifest").exit_code == 0
    assert sorted(path.name for path in Path().iterdir()) == ["a.mp4", "a.srt"]
    Path("a.mp4").write_bytes(b"other content")
    assert run("caption", "a.mp4", "--no-manifest", "--fps", "2").exit_code == 0
    assert len(model.videos) == 1


def test_a_model_that_was_trained_on_makes_results_again(model):
    touch("a.mp4", "model/config.json", "model/model.safetensors", "model/log.csv")
    options = ["--model", "model"]
    assert run("caption", "a.mp4", *options).exit_code == 0
    Path("model/log.csv").write_text("more")
    assert run("caption", "a.mp4", *options).exit_code == 0
    assert len(model.videos) == 1
    Path("model/model.safetensors").write_bytes(b"trained")
    assert "weights was " in run("caption", "a.mp4", *options, "--dry-run").stdout
    assert run("caption", "a.mp4", *options).exit_code == 0
    assert len(model.videos) == 2


def test_results_that_would_clash_are_found_before_any_work(model):
    touch("match.mp4", "match.mkv")
    result = run("caption", ".")
    assert (result.exit_code, model.loaded_with, len(files())) == (2, [], 2)
    assert "'match.mkv' and 'match.mp4' would both write 'match.srt'" in result.stderr
    assert run("caption", ".", "--keep-suffix").exit_code == 0
    assert set(files()) >= {"match.mkv.srt", "match.mp4.srt"}


@pytest.mark.usefixtures("model")
def test_a_summary_never_takes_the_place_of_a_result_or_a_video():
    touch("a.mp4")
    assert run("caption", "a.mp4", "--out", "json", "--summary", "a.json").exit_code == 2
    assert run("caption", "a.mp4", "--summary", "a.mp4").exit_code == 2
    assert run("caption", "a.mp4", "-o", "-", "--summary", "a.mp4").exit_code == 2
    assert files() == ["a.mp4"]


@pytest.mark.usefixtures("model")
def test_results_go_to_standard_output_only_when_asked():
    touch("a.mp4", "b.mp4")
    result = run("caption", "a.mp4", "-o", "-")
    assert (result.exit_code, result.stdout) == (0, SRT)
    assert run("caption", "a.mp4", "b.mp4", "-o", "-").exit_code == 2
    result = run("caption", "a.mp4", "b.mp4", "-o", "-", "--out", "jsonl", "--quiet")
    videos = [json.loads(line)["video"] for line in result.stdout.splitlines()]
    assert (videos, result.stderr) == (["a.mp4", "b.mp4"], "")
    assert files() == ["a.mp4", "b.mp4"]


def test_the_log_as_json(model):
    name = os.fsdecode(b"two\nlines \xe9.mp4")
    touch(name, "b.mp4", "c.mp4", "c.srt")
    model.errors["b.mp4"] = VideoError("broken")
    result = run("caption", name, "b.mp4", "c.mp4", "--log-format", "json")
    assert result.exit_code == 1
    log = log_of(result)
    assert [event["event"] for event in log] == [
        *("start", "done", "start", "failed", "start", "skipped", "summary")
    ]
    assert log[1]["path"] == name
    assert (log[1]["events"], log[3]["error"]) == (1, "broken")
    assert log[5]["outputs"] == ["c.srt"]
    assert (log[6]["done"], log[6]["failed_paths"]) == (1, ["b.mp4"])


HARD_NAMES = [
    "two words.mp4",
    'it\'s "quoted".mp4',
    "two\nlines.mp4",
    "-leading.mp4",
    "frame%03d.mp4",
    "http:x.mp4",
    "match [x].mp4",
    os.fsdecode(b"latin\xe9.mp4"),
    "\x1b[31mred.mp4",
]


@pytest.mark.parametrize("name", HARD_NAMES)
def test_any_file_name_works_and_is_shown_safely(model, name):
    touch(name)
    result = run("caption", "--", name)
    assert result.exit_code == 0
    assert Path(name).with_suffix(".srt").read_text() == SRT
    assert "\x1b" not in result.stderr
    assert len(result.stderr.splitlines()) == 2
    model.errors[name] = OSError("broken")
    result = run("caption", "--overwrite", "--", name)
    assert result.exit_code == 1
    assert result.stderr.replace("\n", "").isprintable()


def test_lists_of_inputs(model):
    touch("a b.mp4", "c/d.mp4", "c/e\nf.mp4")
    result = run("caption", "--from-file", "-", input=b"a b.mp4\nc/d.mp4\n")
    assert (result.exit_code, model.videos) == (0, ["a b.mp4", "c/d.mp4"])
    Path("list").write_bytes(b"c/e\nf.mp4\0")
    assert run("caption", "--from-file", "list").exit_code == 0
    assert model.videos[2:] == ["c/e\nf.mp4"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["caption"], "No input"),
        (["caption", "gone.mp4", "*.avi"], "'gone.mp4': no such file"),
        (["caption", "empty"], "'empty': no video in this folder"),
        (["caption", "a.mp4", "--out", "srt,doc"], "'doc' is not a known format"),
        (["caption", "a.mp4", "--out", ""], "'' is not a known format"),
        (["caption", "a.mp4", "-o", "-", "--out", "srt,vtt"], "writes one format"),
        (["caption", "a.mp4", "-o", "-", "--overwrite"], "-o - writes no file"),
        (["caption", "a.mp4", "-o", "a.mp4"], "is a file"),
        (["caption", "a.mp4", "--relative-to", "."], "--output-dir"),
        (["caption", "a.mp4", "-o", "out", "--relative-to", "empty"], "does not lie in 'empty'"),
        (["caption", "a.mp4", "--fps", "0"], "fps is 0"),
        (["caption", "a.mp4", "--fail-on", "blank"], "'blank' is not a condition"),
        (["caption", "a.mp4", "--fail-fast", "--max-failures", "2"], "give only one of them"),
        (["caption", "a.mp4", "-o", "-", "--retry-failed"], "the record of earlier runs"),
        (["caption", "a.mp4", "--dry-run", "--summary", "s.json"], "--dry-run does not run"),
        (["caption", "a.mp4", "--loop-tokens", "3"], "loop_tokens is 3"),
        (["caption", "a.mp4", "--batch-size", "0"], "batch size is 0"),
        (["caption", "a.mp4", "--max-line-count", "2"], "needs max_line_width"),
        (["caption", "a.mp4", "--out", "json", "--max-line-width", "9"], "add one of srt, vtt"),
        (["caption", "a.mp4", "--prompt", " "], "--prompt is empty"),
        (["query", "a.mp4"], "--text"),
        (["query", "a.mp4", "--text", " "], "--text is empty"),
        (["query", "a.mp4", "--text", "a goal", "--threshold", "2"], "threshold is 2"),
        (["frobnicate"], "No such command"),
        (["captoin"], "No such command 'captoin'. Did you mean caption?"),
    ],
)
def test_wrong_usage_is_told_before_any_work(model, arguments, reason):
    touch("a.mp4", "empty/notes.txt")
    result = run(*arguments)
    assert (result.exit_code, model.loaded_with) == (2, [])
    assert reason in result.stderr
    assert files() == ["a.mp4", "empty/notes.txt"]


def test_a_model_that_is_missing_ends_the_run_with_one_line(model):
    touch("a.mp4", "b.mp4")
    model.errors["model"] = CheckpointError("no model named x;\nget it")
    result = run("caption", "a.mp4", "b.mp4")
    assert (result.exit_code, result.stderr) == (1, "error: no model named x;\\nget it\n")
    result = run("caption", "a.mp4", "--log-format", "json")
    assert log_of(result) == [{"event": "error", "message": "no model named x;\nget it"}]


def test_a_model_too_large_for_the_memory_is_told(model):
    touch("a.mp4")
    model.errors["model"] = MemoryError()
    result = run("caption", "a.mp4", "--model", "huge")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: huge does not fit into memory")


def test_a_mistake_while_the_model_is_loaded_is_told_as_such(model):
    touch("a.mp4")
    model.errors["model"] = RuntimeError("a bug")
    result = run("caption", "a.mp4")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: internal error: RuntimeError: a bug (in vidground.")
    assert "Traceback" in run("--traceback", "caption", "a.mp4").stderr
    (event,) = log_of(run("caption", "a.mp4", "--log-format", "json"))
    assert (event["event"], "error: " + event["message"]) == ("error", line)
    assert "Traceback" in event["traceback"]


@pytest.mark.usefixtures("model")
def test_a_summary_that_cannot_be_written_is_a_failure(monkeypatch):
    touch("a.mp4")

    def refuse(path, _, **__):
        raise FormatError(f"{path}: cannot be written: the disk is full")

    monkeypatch.setattr("vidground.cli.running.finish.write_atomically", refuse)
    result = run("caption", "a.mp4", "--summary", "run.json")
    assert result.exit_code == 1
    assert "error: run.json: cannot be written: the disk is full\n" in result.stderr
    assert last_line(result) == "1 done (0 empty), 0 skipped, 0 failed"


def test_a_run_stopped_while_the_model_loads_has_a_summary(model):
    touch("a.mp4")
    model.errors["model"] = KeyboardInterrupt()
    result = run("caption", "a.mp4", "gone.mp4", "--summary", "run.json")
    assert result.exit_code == 130
    assert last_line(result) == (
        "interrupted: 0 done (0 empty), 0 skipped, 0 failed, 2 not finished"
    )
    assert json.loads(Path("run.json").read_text())["unfinished"] == 2


def test_options_reach_the_model_and_the_defaults_are_those_of_the_settings(model):
    touch("a.mp4")
    assert run("caption", "a.mp4").exit_code == 0
    options, question = model.loaded_with[0]
    assert (options.sampling, options.decoding) == (SamplingSettings(), DecodingSettings())
    assert (question, options.model.load_options) == (None, {})
    given = "--fps 2 --window 60 --window-overlap 0.2 --batch-size 3 --temperature 0.5 --seed 7"
    given += " --max-new-tokens 9 --repetition-penalty 1.5 --revision r --subfolder s --offline"
    given += " --device cpu --dtype float32 --model m --overwrite --prompt why?"
    given += " --stream 3 --raw-fps 29.97"
    assert run("caption", "a.mp4", *given.split()).exit_code == 0
    options, question = model.loaded_with[1]
    assert options.sampling == SamplingSettings(2.0, 60.0, 0.2, 3, 29.97)
    assert options.decoding == DecodingSettings(9, 0.5, 7, 1.5)
    assert (options.batch.prompts, question) == (3, "why?")
    loaded = {"revision": "r", "subfolder": "s", "local_files_only": True}
    assert options.model.load_options == loaded
    assert (options.model.model, options.model.device, options.model.dtype) == (
        *("m", "cpu", "float32"),
    )


@pytest.mark.usefixtures("model")
def test_offline_is_set_before_the_hub_client_is_loaded():
    touch("a.mp4")
    assert run("caption", "a.mp4").exit_code == 0
    assert "HF_HUB_OFFLINE" not in os.environ
    assert run("caption", "a.mp4", "--offline", "--overwrite").exit_code == 0
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.usefixtures("model")
def test_subtitles_are_shaped():
    touch("a.mp4")
    assert run("caption", "a.mp4", "--max-line-width", "4").exit_code == 0
    assert Path("a.srt").read_text().endswith("\na\ngoal\n\n")
    shape = ["--max-duration", "0.5", "--min-duration", "0.5", "--overwrite"]
    assert run("caption", "a.mp4", *shape).exit_code == 0
    assert Path("a.srt").read_text().count("-->") == 2


def test_queries_share_a_file_of_their_own(model):
    touch("a.mp4", "a.json")
    arguments = ["query", "a.mp4", "--text", "a goal", "-t", "a card", "--threshold", "0.25"]
    assert run(*arguments, "--quiet").exit_code == 0
    result = run(*arguments, "--overwrite")
    assert result.exit_code == 0
    assert run(*arguments).exit_code == 0
    assert len(model.loaded_with) == 2
    planned = run("query", "a.mp4", "-t", "a goal", "--threshold", "0.25", "--dry-run").stdout
    assert "(texts was ['a goal', 'a card'], is ['a goal'])" in planned
    assert "(2 moments, " in result.stderr
    document = json.loads(Path("a.query.json").read_text())
    assert [answer["query"] for answer in document["results"]] == ["a goal", "a card"]
    _, texts, grounding = model.loaded_with[0]
    assert (texts, grounding.found_threshold) == (("a goal", "a card"), 0.25)


@pytest.mark.usefixtures("model")
def test_a_run_says_what_it_passes_over():
    touch("in/a.mp4", "in/b.xyz", "in/c.xyz", "in/d.abc", "in/old.srt", "in/e/f.mp4", "in/e/g.mp4")
    result = run("caption", "in", "-o", "out")
    assert result.exit_code == 0
    assert (
        "3 files with other suffixes (.xyz 2, .abc 1) passed over; 2 videos in subfolders passed "
        "over (see --recursive)"
    ) in result.stderr
    assert "passed over" not in run("caption", "in/a.mp4", "-o", "out").stderr


@pytest.mark.usefixtures("model")
def test_a_folder_without_videos_names_what_it_holds():
    touch("in/b.xyz")
    result = run("caption", "in", "-o", "out")
    assert result.exit_code == 2
    assert "1 file with other suffixes (.xyz 1) passed over" in " ".join(result.stderr.split())


def test_another_track_or_rate_makes_another_result(model):
    touch("a.mp4")
    for options in ((), (), ("--stream", 1), ("--stream", 1), ("--raw-fps", 20)):
        assert run("caption", "a.mp4", *options).exit_code == 0
    assert len(model.videos) == 3


@pytest.mark.parametrize("options", [("--stream", "-1"), ("--raw-fps", "0"), ("--raw-fps", "1e9")])
@pytest.mark.usefixtures("model")
def test_impossible_tracks_and_rates_are_refused(options):
    touch("a.mp4")
    assert run("caption", "a.mp4", *options).exit_code == 2


@pytest.mark.usefixtures("model")
def test_the_result_of_one_video_goes_to_a_file_with_a_name_of_its_own():
    touch("match.mp4", "b.mp4")
    result = run("caption", "match.mp4", "-o", "out/first half.vtt")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "done: match.mp4 -> out/first half.vtt (1 event" in result.stderr
    assert files() == ["b.mp4", "match.mp4", "out/first half.vtt"]
    assert "skipped" in run("caption", "match.mp4", "-o", "out/first half.vtt").stderr
    for arguments, reason in (
        (["match.mp4", "b.mp4", "-o", "x.srt"], "names a file, which is for one video"),
        (["match.mp4", "-o", "x.srt", "--out", "vtt"], "name different formats"),
        (["match.mp4", "-o", "match.mp4.srt", "--out", "srt,vtt"], "name different formats"),
        (["match.mp4", "-o", "x.json", "--summary", "x.json"], "would take the place of"),
    ):
        refused = run("caption", *arguments)
        assert refused.exit_code == 2
        assert reason in " ".join(refused.stderr.split())
    assert run("caption", "match.mp4", "-o", "x.srt", "--out", "srt").exit_code == 0
