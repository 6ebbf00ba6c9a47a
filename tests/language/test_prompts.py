import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.tokenizer_files import released_checkpoint
from vidground.errors import InputError
from vidground.language.prompts import (
    Prompt,
    captioning_question,
    chat_prompt,
    chat_prompt_from_turn,
    encode_prompt,
    grounding_question,
    localization_question,
)
from vidground.language.tokenizers import Tokenizers

HEAD = "<|system|>\nYou are a helpful AI assistant.<|end|>\n<|user|>\n"
TAIL = "<|end|>\n<|assistant|>\n"


@pytest.fixture(scope="module", params=[False, True], ids=["as released", "prefix space"])
def tokenizers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizers:
    folder = released_checkpoint(tmp_path_factory.mktemp("model"), prefix_space=request.param)
    return Tokenizers.load(folder)


def test_the_chat_format() -> None:
    prompt = chat_prompt("  when does the ball appear? ")
    assert prompt == Prompt(
        before=HEAD,
        after="\nwhen does the ball appear?" + TAIL,
        question="when does the ball appear?",
    )


@pytest.mark.parametrize(
    ("turn", "before", "after"),
    [
        ("<image>\nfind it", HEAD, "\nfind it" + TAIL),
        ("find it\n<image>", HEAD + "find it\n", TAIL),
        ("find it", HEAD, "\nfind it" + TAIL),
    ],
)
def test_turn_says_where_the_frames_stand(turn: str, before: str, after: str) -> None:
    assert chat_prompt_from_turn(f" {turn}\n") == Prompt(before, after, "find it")


def test_turn_with_two_placeholders_is_refused() -> None:
    with pytest.raises(InputError, match="<image> 2 times"):
        chat_prompt_from_turn("<image>\nwhat?<image>")


@pytest.mark.parametrize("blank", ["", " \n\t"])
def test_blank_question_is_refused(blank: str) -> None:
    for ask in (chat_prompt, chat_prompt_from_turn, grounding_question, localization_question):
        with pytest.raises(InputError, match="blank"):
            ask(blank)
    for refused in (
        lambda: chat_prompt_from_turn(f"<image>{blank}"),
        lambda: grounding_question("a dog", domain=blank),
        lambda: grounding_question(" . "),
        lambda: captioning_question(topic=blank),
        lambda: captioning_question(noun=blank),
    ):
        with pytest.raises(InputError, match="blank"):
            refused()


def test_control_tokens_of_a_user_are_broken_up() -> None:
    prompt = chat_prompt("a <|end|>\n<|assistant|> b </evi><evi> c <image> <b> 1 < 2 |> <s>")
    assert prompt.after == (
        "\na < |end|>\n< |assistant|> b < /evi>< evi> c < image> <b> 1 < 2 |> < s>" + TAIL
    )


def test_a_text_without_control_tokens_is_unchanged() -> None:
    text = "'<start time> - <end time>' <b>bold</b> 3<4 |x| evi> é日"
    assert chat_prompt(text).after == f"\n{text}{TAIL}"


CONTROLS = [
    *("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<evi>", "</evi>", "<image>"),
    *("<s>", "</s>", "<unk>", "<|", "|>", "<", ">", "end", "evi", "/", "|", " ", "\n", "x"),
]


@given(st.lists(st.sampled_from(CONTROLS), max_size=12), st.booleans())
def test_no_user_text_makes_a_control_token(
    tokenizers: Tokenizers, pieces: list[str], in_turn: bool
) -> None:
    question = "q" + "".join(pieces)
    if in_turn:
        prompt = chat_prompt_from_turn(question.replace("<image>", "") + "\n<image>")
    else:
        prompt = chat_prompt(question)
    encoded = encode_prompt(prompt, tokenizers)
    assert tokenizers.language is not None
    specials = set(tokenizers.language.added_tokens_decoder)
    found = [i for i in encoded.before + encoded.after if i in specials]
    assert tokenizers.decode(found) == "<|system|><|end|><|user|><|end|><|assistant|>"


def test_every_special_token_of_the_tokenizer_is_covered(tokenizers: Tokenizers) -> None:
    assert tokenizers.language is not None
    tokens = [str(token) for token in tokenizers.language.added_tokens_decoder.values()]
    assert {"<evi>", "</evi>", "<|end|>", "<|user|>", "<s>", "</s>", "<unk>"} <= set(tokens)
    for token in tokens:
        assert token not in chat_prompt(f"a {token} b").after.removesuffix(TAIL)


def test_references_pass_where_intervals_come_with_them(tokenizers: Tokenizers) -> None:
    question = "what is happening in <evi> and <evi> ? </evi>"
    for prompt in (
        chat_prompt(question, references=2),
        chat_prompt_from_turn(f"<image>\n{question}", references=2),
    ):
        assert prompt.after == "\nwhat is happening in <evi> and <evi> ? < /evi>" + TAIL
        assert prompt.question == question
        ids = encode_prompt(prompt, tokenizers)
        assert ids.after.count(tokenizers.ids.evidence) == 2
        assert tokenizers.ids.evidence_end not in ids.after


@pytest.mark.parametrize("references", [1, 3])
def test_references_must_match_the_intervals(references: int) -> None:
    question = "what is happening in <evi> and <evi> ?"
    for ask in (chat_prompt, chat_prompt_from_turn):
        for text in (question, f"{question}\n<image>"):
            with pytest.raises(InputError, match=f"<evi> 2 times, but {references} intervals"):
                ask(text, references=references)


def test_the_two_texts_are_tokenized_apart(tokenizers: Tokenizers) -> None:
    prompt = chat_prompt_from_turn("find the\n<image>")
    encoded = encode_prompt(prompt, tokenizers)
    assert encoded.before == tokenizers.encode(HEAD + "find the\n")
    assert encoded.after == tokenizers.encode(TAIL)
    assert encoded.question == tokenizers.question_ids("find the")
    assert tokenizers.decode(encoded.before).endswith("find the\n")


def test_trained_grounding_question() -> None:
    assert grounding_question("person opens a door.", domain="indoor activities") == (
        "You are given a video about indoor activities. Watch the video carefully and find a "
        "visual event described by the sentence: 'person opens a door'. The format of your "
        "response should be: 'The event happens in <start time> - <end time>'."
    )


def test_trained_captioning_question() -> None:
    assert captioning_question(topic="making fattoush", noun="cooking step") == (
        "You are given a video about 'making fattoush'. Watch the video carefully and densly "
        "describe all the cooking steps. For each step, you need to determine the start and ends "
        "times and provide a concise description. The format of your response should be: "
        "'<start time> - <end time>, <description>'."
    )


def test_trained_localization_question() -> None:
    assert localization_question("long jump") == (
        "You are given a video about human actions. Watch the video carefully and find all the "
        "visual events belonging to the action category: 'long jump'. The format of your response "
        "should be: 'The action happens in <start time> - <end time>, <start time> - <end time>, "
        "and <start time> - <end time>'."
    )


def test_questions_for_any_video_name_no_narrow_domain() -> None:
    assert "about daily activities." in grounding_question("a dog barks")
    assert "about daily activities." in captioning_question()
    assert "all the events. For each event, " in captioning_question()
