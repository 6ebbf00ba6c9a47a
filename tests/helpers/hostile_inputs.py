"""Results and corrections that are damaged or made to harm, for tests; and the whole corpus."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.helpers.hostile_case import (
    DEEP,
    LONG_INTEGER,
    LONG_NAME,
    MEGABYTES,
    NUMBERS,
    WRONG,
    HostileCase,
    raw_json,
    with_value,
)
from tests.helpers.hostile_training import annotations, configs
from tests.helpers.result_makers import ASKED, PROVENANCE, TWO, captions
from vidground.results.documents import to_dict, to_json
from vidground.results.types import Event

_CAPTIONS = to_dict(TWO)
_GROUNDING = to_dict(ASKED)

_CAPTION_FIELDS: Mapping[tuple[str | int, ...], tuple[str, ...]] = {
    ("schema_version",): ("list", "text", "null", "true", "long"),
    ("kind",): ("list", "object", "null", "text"),
    ("video",): ("list", "text", "null", "true"),
    ("video", "path"): ("list", "null", "long", "true"),
    ("video", "duration_s"): NUMBERS,
    ("video", "width"): NUMBERS,
    ("video", "fps"): ("long", "huge", "nan", "text"),
    ("video", "frames"): ("huge", "text", "null"),
    ("video", "size_bytes"): ("huge", "text", "null"),
    ("events",): ("object", "text", "null", "true"),
    ("events", 0): ("list", "text", "null", "long"),
    ("events", 0, "start_s"): NUMBERS,
    ("events", 0, "end_s"): NUMBERS,
    ("events", 0, "text"): ("list", "null", "long", "absent"),
    ("events", 0, "score"): ("list", "text", "huge", "nan", "long"),
    ("provenance",): ("list", "text", "null"),
    ("provenance", "windows_s"): ("object", "text", "null"),
    ("provenance", "windows_s", 0): ("list", "text", "null"),
    ("provenance", "decoding"): ("list", "text", "null"),
    ("provenance", "fps"): NUMBERS,
}
_VALUES: Mapping[str, tuple[tuple[str | int, ...], Any]] = {
    "duration_1e308": (("video", "duration_s"), 1e308),
    "duration_negative": (("video", "duration_s"), -1.0),
    "width_negative": (("video", "width"), -1),
    "width_1e12": (("video", "width"), 10**12),
    "fps_1e308": (("video", "fps"), 1e308),
    "fps_tiny": (("video", "fps"), 5e-324),
    "frames_negative": (("video", "frames"), -5),
    "size_negative": (("video", "size_bytes"), -5),
    "start_negative": (("events", 0, "start_s"), -1e300),
    "end_1e308": (("events", 0, "end_s"), 1e308),
    "end_before_start": (("events", 0, "end_s"), 0.0),
    "score_2": (("events", 0, "score"), 2),
    "text_10mb": (("events", 0, "text"), "a" * MEGABYTES),
    "prompt_10mb": (("provenance", "prompt"), "a" * MEGABYTES),
    "model_10mb": (("provenance", "model"), "a" * MEGABYTES),
    "window_1e308": (("provenance", "windows_s", 0), [0.0, 1e308]),
    "sampled_1e308": (("provenance", "fps"), 1e308),
    "path_long": (("video", "path"), LONG_NAME),
    "timecode_long": (("video", "timecode"), "1" * 5000),
}


def results() -> Iterator[HostileCase]:
    """Yield results that `convert` must refuse."""

    def case(name: str, content: bytes | str) -> HostileCase:
        return HostileCase(
            f"result_{name}", "bad.json", content, ("convert", "bad.json", "--to", "edl")
        )

    for keys, kinds in _CAPTION_FIELDS.items():
        for kind in kinds:
            name = f"{'_'.join(map(str, keys))}_{kind}"
            yield case(name, raw_json(with_value(_CAPTIONS, keys, WRONG[kind])))
    for name, (keys, value) in _VALUES.items():
        yield case(name, raw_json(with_value(_CAPTIONS, keys, value)))
    for kind in ("list", "text", "null", "absent"):
        yield case(f"results_{kind}", raw_json(with_value(_GROUNDING, ("results",), WRONG[kind])))
    for key in ("relevance", "moments", "query", "threshold", "provenance"):
        wrong = with_value(_GROUNDING, ("results", 0, key), "@HUGE@")
        yield case(f"results_0_{key}", raw_json(wrong))
    whole = to_json(TWO).encode()
    yield case("empty", b"")
    yield case("cut", whole[: len(whole) // 2])
    yield case("not_utf8", b"\xff\xfe\xfa" + whole)
    yield case("nul", whole.replace(b"dog", b"\x00"))
    yield case("deep_list", b"[" * DEEP + b"]" * DEEP)
    yield case("deep_object", b'{"a":' * DEEP + b"1" + b"}" * DEEP)
    deep = "@DEEP@"
    nested = b"[" * 900 + b"]" * 900
    for key in ("quality", "events", "warnings"):
        content = json.dumps(with_value(_CAPTIONS, (key,), deep)).encode()
        yield case(f"deep_{key}", content.replace(b'"@DEEP@"', nested))
    yield case("many_events", many_events(300_000))
    yield case("pipe", "pipe")
    yield case("folder", "folder")
    yield case("device", "device")


def many_events(count: int) -> bytes:
    """Return a result with many events."""
    one = json.dumps({"start_s": 0.0, "end_s": 1.0, "text": "a", "score": None})
    text = json.dumps(with_value(_CAPTIONS, ("events",), ["@"]))
    return text.replace('"@"', ", ".join([one] * count)).encode()


_ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
_BOMB = (
    f'<!DOCTYPE x [<!ENTITY e0 "lol">{_ENTITIES}]><ANNOTATION_DOCUMENT>&e9;</ANNOTATION_DOCUMENT>'
)
_EXTERNAL = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><ANNOTATION_DOCUMENT>&e;</ANNOTATION_DOCUMENT>'


def _elan(start: str, end: str, origin: str = "0") -> str:
    return (
        f'<ANNOTATION_DOCUMENT><HEADER><MEDIA_DESCRIPTOR TIME_ORIGIN="{origin}"/></HEADER>'
        f'<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="{start}"/>'
        f'<TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="{end}"/></TIME_ORDER><TIER><ANNOTATION>'
        '<ALIGNABLE_ANNOTATION ANNOTATION_ID="x" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b">'
        "<ANNOTATION_VALUE>t</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>"
        "</ANNOTATION_DOCUMENT>"
    )


_VIA_HEAD = {"project": {}, "attribute": {}, "file": {}, "view": {}}


def corrections() -> Iterator[HostileCase]:
    """Yield corrected files that `convert --from` must refuse."""

    def case(name: str, file: str, content: bytes | str) -> HostileCase:
        command = ("convert", file, "--from", "good.json", "--to", "vtt", "-o", "made")
        return HostileCase(f"correction_{name}", file, content, command)

    for name, text in (
        ("bomb", _BOMB),
        ("external", _EXTERNAL),
        ("other_root", "<x/>"),
        ("not_xml", "text"),
        ("deep", "<a>" * DEEP),
        ("deep_closed", "<a>" * DEEP + "</a>" * DEEP),
        ("encoding", '<?xml version="1.0" encoding="none"?><ANNOTATION_DOCUMENT/>'),
        ("long_time", _elan("0", LONG_INTEGER)),
        ("huge_time", _elan("0", "9" * 15)),
        ("negative_time", _elan("-5", "5")),
        ("text_time", _elan("a", "b")),
        ("digit_time", _elan("²", "٣")),
        ("long_origin", _elan("0", "1", LONG_INTEGER)),
        ("no_slots", _elan("0", "1").replace("TIME_SLOT_ID", "ID")),
        ("attributes", "<ANNOTATION_DOCUMENT " + " ".join(f'a{n}=""' for n in range(50_000))),
    ):
        yield case(f"elan_{name}", "good.eaf", text.encode())
    for name, text in (
        ("text", "hello"),
        ("reversed", "1\n00:00:05,000 --> 00:00:01,000\na\n"),
        ("minutes", "1\n00:99:00,000 --> 01:00:01,000\na\n"),
        ("long_hours", f"1\n{LONG_INTEGER}:00:00,000 --> {LONG_INTEGER}:00:01,000\na\n"),
        ("huge_hours", "1\n00:00:00,000 --> 99999999999999:00:01,000\na\n"),
        ("digits", "1\n00:00:0²,000 --> 00:00:01,000\na\n"),
        ("nul", "1\n00:00:00,000 --> 00:00:01,000\n\0\n"),
        ("almost", "1\n00:00 -> --> 00:00:01\na\n"),
        ("settings", "1\n00:00:00,000 --> 00:00:01,000 " + "a:b " * 50_000 + "!\na\n"),
    ):
        yield case(f"srt_{name}", "good.srt", text.encode())
        yield case(f"vtt_{name}", "good.vtt", ("WEBVTT\n\n" + text).encode())
    yield case("srt_not_utf8", "good.srt", b"\xff\xff\xff")
    for name, value in (
        ("deep", None),
        ("list_of_numbers", [1, 2]),
        ("list_of_lists", [[], []]),
        ("empty_object", {}),
        ("file_list", {**_VIA_HEAD, "file": []}),
        ("metadata_text", {**_VIA_HEAD, "metadata": "x"}),
        (
            "metadata_z",
            {**_VIA_HEAD, "metadata": {"1": {"vid": "1", "z": ["@HUGE@", 1], "av": {}}}},
        ),
        ("metadata_long", {**_VIA_HEAD, "metadata": {"1": {"vid": "1", "z": [0, "@LONG@"]}}}),
        ("studio_result", [{"data": {"video": "match.mp4"}, "annotations": [{"result": 5}]}]),
        ("studio_video", [{"data": {"video": ["x"]}, "annotations": []}]),
        ("studio_null", [{"data": None, "annotations": None}]),
    ):
        content = b"[" * DEEP if value is None else raw_json(value)
        yield case(f"json_{name}", "good.via.json", content)
    for name, text in (
        ("text", "hello"),
        ("field", "a" * 200_000),
        ("nul", "\0,\0"),
        ("json", '# x\nid,"[""a""]","[1e999,2]","[]","{}"\n'),
    ):
        yield case(f"csv_{name}", "good.csv", text.encode())
    for kind in ("pipe", "folder", "device"):
        for suffix in ("srt", "vtt", "eaf", "csv"):
            yield case(f"{suffix}_{kind}", f"good.{suffix}", kind)


def replays() -> Iterator[HostileCase]:
    """Yield results with settings that `replay` must refuse before it loads a model."""
    changes: Mapping[str, tuple[tuple[str | int, ...], Any]] = {
        "device_meta": (("runtime", "device"), "meta"),
        "device_unknown": (("runtime", "device"), "abacus"),
        "dtype_int8": (("dtype",), "int8"),
        "dtype_unknown": (("dtype",), "float1000"),
        "dtype_complex": (("dtype",), "complex64"),
        "bits_superscript": (("runtime", "features"), "² bit"),
        "bits_7": (("runtime", "features"), "7 bit"),
        "bits_long": (("runtime", "features"), f"{LONG_INTEGER} bit"),
        "weight_bits_3": (("settings", "weight_bits"), 3),
        "window_negative": (("settings", "window_s"), -1.0),
        "overlap_2": (("settings", "overlap"), 2.0),
        "max_new_tokens_0": (("decoding", "max_new_tokens"), 0),
        "max_new_tokens_real": (("decoding", "max_new_tokens"), 1.5),
        "max_new_tokens_huge": (("decoding", "max_new_tokens"), 10**12),
        "temperature_negative": (("decoding", "temperature"), -1.0),
        "decoding_unknown": (("decoding", "beams"), 5),
        "fps_0": (("fps",), 0.0),
        "fps_1e300": (("fps",), 1e300),
        "model_pipe": (("model",), "bad.json/x\0y"),
        "revision_outside": (("revision",), "../../../etc"),
    }
    base = to_dict(replace(captions(Event(0.0, 1.0, "a")), provenance=PROVENANCE))
    base["provenance"] |= {"settings": {}, "runtime": {"device": "cpu"}}
    base["video"]["path"] = "film.mp4"
    for name, (keys, value) in changes.items():
        content = raw_json(with_value(base, ("provenance", *keys), value))
        yield HostileCase(
            f"replay_{name}", "bad.json", content, ("replay", "bad.json", "--offline")
        )


def all_cases() -> list[HostileCase]:
    """Return every case of this corpus."""
    return [*results(), *annotations(), *configs(), *corrections(), *replays()]
