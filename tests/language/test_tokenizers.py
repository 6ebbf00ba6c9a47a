import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers as tokenizers_library
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from tests.helpers.tokenizer_files import (
    GOLDEN_CHECKPOINT,
    QUESTION_TOKENIZER,
    make_language_tokenizer,
    released_checkpoint,
)
from vidground.errors import CheckpointError
from vidground.language.tokenizers import TokenIds, Tokenizers, check_sizes

pytestmark = pytest.mark.smoke


QUESTION = "when does the red ball appear?"


def load(folder: Path, **form: int | bool) -> Tokenizers:
    make_language_tokenizer(folder, **form)
    return Tokenizers.load(folder, question_folder=QUESTION_TOKENIZER)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers.load(released_checkpoint(tmp_path_factory.mktemp("released")))


@pytest.fixture(scope="module")
def prefixing(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return load(tmp_path_factory.mktemp("base"), prefix_space=True)


def bert_ids(*words: str) -> list[int]:
    lines = (QUESTION_TOKENIZER / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return [lines.index(word) for word in words]


def edit_config(folder: Path, *, remove: tuple[str, ...]) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in remove}
    path.write_text(json.dumps(kept), encoding="utf-8")


def test_ids_are_those_of_the_golden_checkpoint(tokenizers: Tokenizers) -> None:
    config = json.loads((GOLDEN_CHECKPOINT / "config.json").read_text(encoding="utf-8"))
    assert tokenizers.ids == TokenIds(
        evidence=config["evidence_token_id"],
        evidence_end=config["evidence_end_token_id"],
        turn_end=config["eos_token_id"],
        pad=config["pad_token_id"],
    )
    check_sizes(
        tokenizers,
        language_rows=config["vocab_size"],
        question_rows=config["tiny_overrides"]["qformer"]["vocab_size"],
    )


def test_ids_are_read_from_the_tokenizer(tmp_path: Path) -> None:
    tokenizers = load(
        tmp_path, vocab_size=400, evidence_id=7, evidence_end_id=350, turn_end_id=9, pad_id=3
    )
    assert tokenizers.ids == TokenIds(evidence=7, evidence_end=350, turn_end=9, pad=3)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<"), min_size=1)


@given(TEXT)
def test_every_text_survives_a_round_trip(
    tokenizers: Tokenizers, prefixing: Tokenizers, text: str
) -> None:
    for each in (tokenizers, prefixing):
        assert each.decode(each.encode(text)) == text


def test_control_tokens_in_text_become_their_ids(tokenizers: Tokenizers) -> None:
    ids = tokenizers.ids
    assert tokenizers.encode("<evi><evi></evi><|end|>") == [
        ids.evidence,
        ids.evidence,
        ids.evidence_end,
        ids.turn_end,
    ]


def test_a_newline_stays_after_evidence_and_is_swallowed_after_a_chat_token(
    tokenizers: Tokenizers,
) -> None:
    ids, newline = tokenizers.ids, tokenizers.encode("\n")
    assert len(newline) == 1
    assert tokenizers.encode("</evi>\n") == [ids.evidence_end, *newline]
    assert tokenizers.encode("<|end|>\n") == [ids.turn_end]


def test_spaces_are_treated_as_tokenizer_json_says(
    tokenizers: Tokenizers, prefixing: Tokenizers
) -> None:
    for each, pieces in ((tokenizers, ["a"]), (prefixing, ["▁a"])):
        assert each.language is not None
        user, *rest = each.encode("<|user|>a")
        assert each.language.convert_ids_to_tokens([user, *rest]) == ["<|user|>", *pieces]


def test_no_bos_even_if_the_tokenizer_would_add_one(tmp_path: Path) -> None:
    make_language_tokenizer(tmp_path)
    backend = tokenizers_library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    backend.save(str(tmp_path / "tokenizer.json"))
    edit_config(tmp_path, remove=("add_bos_token", "add_eos_token"))
    tokenizers = Tokenizers.load(tmp_path, question_folder=QUESTION_TOKENIZER)
    assert tokenizers.language is not None
    assert tokenizers.language.encode("a red ball")[0] == 2
    assert tokenizers.decode(tokenizers.encode("a red ball")) == "a red ball"


def test_question_is_read_word_by_word(tokenizers: Tokenizers) -> None:
    words = ("[CLS]", "when", "does", "the", "red", "ball", "appear", "?", "[SEP]")
    assert tokenizers.question_ids(QUESTION) == bert_ids(*words)
    assert tokenizers.question_ids(QUESTION.upper()) == bert_ids(*words)


def test_long_question_loses_its_beginning(tokenizers: Tokenizers) -> None:
    start, end, red, ball = bert_ids("[CLS]", "[SEP]", "red", "ball")
    assert tokenizers.question_ids("ball " + "red " * 253) == [start, ball, *[red] * 253, end]
    assert tokenizers.question_ids("ball " + "red " * 254) == [start, *[red] * 254, end]
    assert tokenizers.question_ids("red " * 300 + "ball") == [start, *[red] * 253, ball, end]


def test_special_tokens_in_a_question_are_plain_text(tokenizers: Tokenizers) -> None:
    ids = tokenizers.question_ids("[SEP] red [CLS] [DEC]")
    specials = set(bert_ids("[CLS]", "[SEP]", "[PAD]", "[MASK]")) | {100}
    assert not specials & set(ids[1:-1])


def test_question_tokenizer_gets_its_start_token_once(
    tokenizers: Tokenizers, tmp_path: Path
) -> None:
    assert len(tokenizers.question) == 101
    assert tokenizers.question.convert_tokens_to_ids("[DEC]") == 100
    tokenizers.save(tmp_path)
    assert len(Tokenizers.load(tmp_path).question) == 101


def test_saved_tokenizers_read_the_same(
    tokenizers: Tokenizers, prefixing: Tokenizers, tmp_path: Path
) -> None:
    text = "<|user|>\n find <evi> the é日 <|end|>\n</evi>\n<evi>, a b"
    for number, each in enumerate((tokenizers, prefixing)):
        each.save(tmp_path / str(number))
        again = Tokenizers.load(tmp_path / str(number))
        assert again.ids == each.ids
        assert again.encode(text) == each.encode(text)
        assert again.decode(each.encode(text)) == each.decode(each.encode(text))
        assert again.question_ids(QUESTION * 99) == each.question_ids(QUESTION * 99)


def test_saving_twice_writes_the_same_bytes_whatever_was_read(
    tokenizers: Tokenizers, tmp_path: Path
) -> None:
    tokenizers.save(tmp_path / "first")
    tokenizers.question_ids(QUESTION * 99)
    again = Tokenizers.load(tmp_path / "first")
    again.save(tmp_path / "second")
    files = [p.relative_to(tmp_path / "first") for p in (tmp_path / "first").rglob("*.json")]
    assert len(files) == 4
    for file in files:
        first, second = (tmp_path / side / file for side in ("first", "second"))
        assert first.read_bytes() == second.read_bytes(), file
        assert "local_files_only" not in first.read_text(encoding="utf-8")


def test_loading_uses_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a tokenizer was looked up on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    tokenizers = Tokenizers.load(released_checkpoint(tmp_path))
    assert tokenizers.encode("<evi>") == [301]


def test_a_missing_language_tokenizer_is_reported_when_it_is_needed() -> None:
    tokenizers = Tokenizers.load(GOLDEN_CHECKPOINT)
    assert tokenizers.language is None
    assert len(tokenizers.question_ids(QUESTION)) == 9
    for use in (lambda: tokenizers.encode("a"), lambda: tokenizers.decode([1])):
        with pytest.raises(CheckpointError, match=r"no language tokenizer.*tokenizer\.json"):
            use()
    with pytest.raises(CheckpointError, match="no language tokenizer"):
        _ = tokenizers.ids


@pytest.mark.parametrize("token", ["<evi>", "</evi>", "<|end|>"])
def test_missing_control_token_is_named(tmp_path: Path, token: str) -> None:
    make_language_tokenizer(tmp_path, pad_id=3)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(f'"{token}"', '"<gone>"'), encoding="utf-8")
    tokenizers = Tokenizers.load(tmp_path, question_folder=QUESTION_TOKENIZER)
    with pytest.raises(CheckpointError) as raised:
        _ = tokenizers.ids
    assert f"lacks the token {token};" in str(raised.value)


def test_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    make_language_tokenizer(tmp_path)
    edit_config(tmp_path, remove=("pad_token",))
    with pytest.raises(CheckpointError, match="pad_token"):
        _ = Tokenizers.load(tmp_path, question_folder=QUESTION_TOKENIZER).ids


def test_a_missing_question_tokenizer_says_how_to_get_it(tmp_path: Path) -> None:
    make_language_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match=r"qformer_tokenizer.*bert-base-uncased"):
        Tokenizers.load(tmp_path)


def test_unreadable_tokenizer_names_its_folder(tmp_path: Path) -> None:
    released_checkpoint(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{cut off", encoding="utf-8")
    with pytest.raises(CheckpointError) as raised:
        Tokenizers.load(tmp_path)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"language_rows": 315, "question_rows": 101}, None),
        ({"language_rows": 314, "question_rows": 101}, "needs 315 embedding rows.*314"),
        ({"language_rows": 320, "question_rows": 100}, "101 tokens.*100 rows"),
        ({"language_rows": 320, "question_rows": 102}, "101 tokens.*102 rows"),
    ],
)
def test_sizes_must_fit_the_tables(
    tokenizers: Tokenizers, rows: dict[str, int], message: str | None
) -> None:
    if message is None:
        check_sizes(tokenizers, **rows)
        return
    with pytest.raises(CheckpointError, match=message):
        check_sizes(tokenizers, **rows)


def test_importing_the_text_modules_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, vidground.language.tokenizers, vidground.language.prompts;"
        "import vidground.language.response_parsing;"
        "print(*({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
