"""Results that nobody's model made: refused in a line, and the results after them are converted."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.helpers.result_makers import TWO
from vidground.cli.main import cli
from vidground.errors import FormatError
from vidground.results.documents import MOST_EVENTS, to_dict
from vidground.results.formats import load, save

DOCUMENT = to_dict(TWO)
EVENT = DOCUMENT["events"][0]


def changed(**values: object) -> str:
    return json.dumps(DOCUMENT | values)


HOSTILE = {
    "empty": "",
    "null": "null",
    "deep": "[" * 100_000,
    "digits": '{"schema_version": ' + "9" * 5000 + "}",
    "infinite": changed(events=[EVENT | {"end_s": 1e308}]).replace("1e+308", "1e999"),
    "late": changed(events=[EVENT | {"end_s": 1e308}]),
    "past": changed(events=[EVENT | {"start_s": -1}]),
    "reversed": changed(events=[EVENT | {"start_s": 9, "end_s": 1}]),
    "text": changed(events=[EVENT | {"text": ["x"]}]),
    "many": changed(events=[EVENT] * (MOST_EVENTS + 1)),
    "object": changed(events={}),
    "version": changed(schema_version="1"),
    "kind": changed(kind=[1]),
    "video": changed(video=3),
    "score": changed(events=[EVENT | {"score": 2}]),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_result_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FormatError) as error:
        load(tmp_path / "a.json")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_the_good_results_of_a_folder_are_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in HOSTILE.items():
        Path(f"{name}.json").write_text(text)
    os.mkfifo("pipe.json")
    save(TWO, "zzz.json")
    done = CliRunner().invoke(cli, ["convert", ".", "pipe.json", "--to", "srt"])
    assert done.exit_code == 1
    assert "done: zzz.json -> zzz.srt (2 events" in done.stderr
    assert "failed: 'pipe.json': not a regular file" in done.stderr
    # "null" is other JSON, and passed over in a folder; the counts name the others again.
    assert f"1 done (0 empty), 0 skipped, {len(HOSTILE)} failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
