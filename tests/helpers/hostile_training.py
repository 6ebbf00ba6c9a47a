"""Annotations and training configurations that are damaged or made to harm, for tests."""

from collections.abc import Iterator, Mapping

from tests.helpers.annotation_files import sft_sample
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

_SAMPLE = sft_sample(video="a.mp4")
_SAMPLE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "video": ("list", "object", "null", "true", "long", "absent"),
    "duration": NUMBERS,
    "conversations": ("list", "object", "text", "null", "true", "absent"),
    "tgt": ("object", "text", "true"),
    "task": ("list", "object", "long"),
}


def annotations() -> Iterator[HostileCase]:
    """Yield annotations that `data validate` must refuse."""

    def case(name: str, content: bytes | str, file: str = "bad.json") -> HostileCase:
        command = ("data", "validate", file, "--video-root", ".")
        return HostileCase(f"annotations_{name}", file, content, command)

    for field, kinds in _SAMPLE_FIELDS.items():
        for kind in kinds:
            yield case(f"{field}_{kind}", raw_json([with_value(_SAMPLE, (field,), WRONG[kind])]))
    for name, value in (
        ("name_long", LONG_NAME),
        ("name_nul", "a\0b.mp4"),
        ("name_outside", "../../etc/passwd"),
        ("name_absolute", "/etc/passwd"),
        ("name_surrogate", "\ud800.mp4"),
        ("name_deep", "a/" * 3000 + "a.mp4"),
    ):
        yield case(name, raw_json([with_value(_SAMPLE, ("video",), value)]))
    for name, content in (
        ("empty", b""),
        ("no_samples", b"[]"),
        ("text", b'"text"'),
        ("number", LONG_INTEGER.encode()),
        ("null", b"null"),
        ("samples_of_lists", b"[[1, 2], 3, null]"),
        ("deep", b"[" * DEEP),
        ("deep_sample", b"[" + b'{"a":' * DEEP),
        ("not_utf8", b"\xff\xfe[]"),
        ("cut", b'[{"video": "a.mp4"'),
        ("duration_1e308", raw_json([with_value(_SAMPLE, ("duration",), 1e308)])),
        (
            "turn_10mb",
            raw_json([with_value(_SAMPLE, ("conversations", 1, "value"), "a" * MEGABYTES)]),
        ),
    ):
        yield case(name, content)
        if name not in ("no_samples", "samples_of_lists"):
            yield case(f"{name}_line", content, "bad.jsonl")
    for kind in ("pipe", "folder", "device"):
        yield case(kind, kind)
        yield case(f"{kind}_lines", kind, "bad.jsonl")


def _bomb(levels: int, width: int = 10) -> str:
    lines = ["a0: &a0 [x, x]"]
    for level in range(1, levels):
        names = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} [{names}]")
    return "\n".join(lines) + f"\nmodel: *a{levels - 1}\n"


def configs() -> Iterator[HostileCase]:
    """Yield training configurations that `train sft --dry-run` must refuse."""

    def case(name: str, content: bytes | str) -> HostileCase:
        command = ("train", "sft", "--config", "bad.yaml", "--dry-run")
        return HostileCase(f"config_{name}", "bad.yaml", content, command)

    for name, text in (
        ("empty", ""),
        ("list", "- a\n- b\n"),
        ("text", "text"),
        ("number", LONG_INTEGER),
        ("long_integer", f"seed: {LONG_INTEGER}\n"),
        ("long_key", f"{LONG_NAME}: 1\n"),
        ("long_text", f"output_dir: {LONG_NAME}\n"),
        ("sexagesimal", f"seed: {':'.join(['59'] * 4000)}\n"),
        ("bad_date", "seed: 2024-99-99\n"),
        ("bad_binary", "seed: !!binary '*'\n"),
        ("python_object", "seed: !!python/object/apply:os.system ['touch executed']\n"),
        ("python_name", "seed: !!python/name:os.system\n"),
        ("unknown_tag", "seed: !unknown 1\n"),
        ("bomb_repr", _bomb(9)),
        ("bomb_wide", _bomb(5, 100)),
        ("bomb_merge", "a: &a {x: 1}\nb: {<<: [" + ", ".join(["*a"] * 100_000) + "]}\n"),
        ("cycle", "model: &a [*a]\n"),
        ("cycle_map", "model: &a {b: *a}\n"),
        ("unknown_alias", "model: *none\n"),
        ("deep_flow", "model: " + "[" * DEEP),
        ("deep_flow_closed", "model: " + "[" * 5000 + "]" * 5000),
        ("deep_map", "".join(" " * n + "a:\n" for n in range(1500))),
        ("deep_flow_map", "model: " + "{a: " * 2000 + "}" * 2000),
        ("many_keys", "".join(f"k{n}: 1\n" for n in range(50_000))),
        ("duplicate", "seed: 1\nseed: 2\n"),
        ("list_key", "? [a, b]\n: 1\n"),
        ("map_key", "? {a: b}\n: 1\n"),
        ("nan", "optimization: {learning_rate: .nan}\n"),
        ("infinite", "optimization: {learning_rate: .inf}\n"),
        ("documents", "a: 1\n---\nb: 2\n"),
        ("nul", "seed: \0\n"),
        ("tab", "\tseed: 1\n"),
        ("anchor_long", f"seed: &{LONG_NAME} x\n"),
        ("null_model", "model: null\n"),
    ):
        yield case(name, text.encode())
    yield case("not_utf8", b"\xff\xfa\x00")
    for kind in ("pipe", "folder", "device"):
        yield case(kind, kind)
