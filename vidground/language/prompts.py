"""Build prompts: the question templates of training, and the chat format around them.

A prompt is two texts with the frames between them. User text is untrusted: control tokens in it are
broken up, so that they reach the model as plain characters (see `chat_prompt`). Imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidground.errors import InputError
from vidground.language.tokenizers import EVIDENCE, TURN_END

if TYPE_CHECKING:
    from vidground.language.tokenizers import Tokenizers

FRAMES = "<image>"
"""Marks the position of the frames in an annotated conversation."""

_HEAD = f"<|system|>\nYou are a helpful AI assistant.{TURN_END}\n<|user|>\n"
_TAIL = f"{TURN_END}\n<|assistant|>\n"
# Every control token of Phi-3's tokenizer has one of these forms; so does the frames' placeholder.
_CONTROL = re.compile(r"<\|[^\s<>]*\|>|</?(?:evi|vid|image|s|unk)>")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as text.

    Attributes:
        before: text before the frame tokens.
        after: text after them.
        question: the user's text without the placeholder, for the Q-Former.
    """

    before: str
    after: str
    question: str


@dataclass(frozen=True, slots=True)
class PromptIds:
    """A prompt as token ids.

    Attributes:
        before: ids before the frame tokens, for the language model.
        after: ids after them, for the language model.
        question: ids of the Q-Former's tokenizer, which the compressor reads with every frame.
    """

    before: list[int]
    after: list[int]
    question: list[int]


def chat_prompt(question: str, *, references: int = 0) -> Prompt:
    """Return the chat prompt of a question: the frames first, then the question on its own line.

    Args:
        question: the user's text. Control tokens in it, such as <|end|>, </evi> or <image>, get a
            space after their first character, which makes them plain text; the rest is unchanged.
        references: number of intervals that come with the question. If above 0, the question must
            contain as many <evi>, which are the only control tokens that are kept.

    Raises:
        InputError: the question is blank, or its number of <evi> is not `references`.
    """
    text = _checked(question, "question")
    after = "\n" + _plain(text, references=references) + _TAIL
    return Prompt(before=_HEAD, after=after, question=text)


def chat_prompt_from_turn(text: str, *, references: int = 0) -> Prompt:
    """Return the chat prompt of an annotated human turn, in which <image> stands for the frames.

    Args:
        text: of the turn; without <image>, the frames come first.
        references: see `chat_prompt`.

    Raises:
        InputError: the turn has several <image>, no other text, or its number of <evi> is not
            `references`.
    """
    turn = text.strip()
    if turn.count(FRAMES) > 1:
        raise InputError(
            f"the turn contains {FRAMES} {turn.count(FRAMES)} times; the limit is once"
        )
    if FRAMES not in turn:
        return chat_prompt(turn, references=references)
    left, right = turn.split(FRAMES)
    question = _checked(left + right, "question")
    _check_references(question, references)
    return Prompt(
        before=_HEAD + _plain(left, references=references, check=False),
        after=_plain(right, references=references, check=False) + _TAIL,
        question=question,
    )


def encode_prompt(prompt: Prompt, tokenizers: Tokenizers) -> PromptIds:
    """Return a prompt's token ids; the texts before and after the frames are tokenized apart."""
    return PromptIds(
        before=tokenizers.encode(prompt.before),
        after=tokenizers.encode(prompt.after),
        question=tokenizers.question_ids(prompt.question),
    )


def grounding_question(text: str, *, domain: str = "daily activities") -> str:
    """Return the question when the event that a sentence describes happens.

    Args:
        text: describes the event.
        domain: subject of the video, for example "indoor activities".

    Raises:
        InputError: an argument is blank.
    """
    sentence = _checked(text, "text").strip(".")
    return (
        f"You are given a video about {_checked(domain, 'domain')}. Watch the video carefully "
        f"and find a visual event described by the sentence: '{_checked(sentence, 'text')}'. "
        "The format of your response should be: 'The event happens in <start time> - <end time>'."
    )


def localization_question(action: str, *, domain: str = "human actions") -> str:
    """Return the question for every event of an action category.

    Args:
        action: name of the category.
        domain: subject of the video.

    Raises:
        InputError: an argument is blank.
    """
    return (
        f"You are given a video about {_checked(domain, 'domain')}. Watch the video carefully "
        "and find all the visual events belonging to the action category: "
        f"'{_checked(action, 'action')}'. "
        "The format of your response should be: 'The action happens in <start time> - <end time>, "
        "<start time> - <end time>, and <start time> - <end time>'."
    )


def captioning_question(*, topic: str | None = None, noun: str = "event") -> str:
    """Return the question for all events of a video, each with a caption.

    Args:
        topic: title of the video, for example "making fattoush"; None for none.
        noun: what to describe, in the singular, for example "cooking step".

    Raises:
        InputError: an argument is blank.
    """
    about = "daily activities" if topic is None else f"'{_checked(topic, 'topic')}'"
    noun = _checked(noun, "noun")
    # The weights were trained with the misspelt "densly" and "ends times".
    return (
        f"You are given a video about {about}. Watch the video carefully and densly describe all "
        f"the {noun}s. For each {noun.split()[-1]}, you need to determine the start and ends times "
        "and provide a concise description. The format of your response should be: "
        "'<start time> - <end time>, <description>'."
    )


def _checked(text: str, name: str) -> str:
    text = text.strip()
    if not text:
        raise InputError(f"{name} is blank; it must contain text")
    return text


def _check_references(text: str, references: int) -> None:
    found = text.count(EVIDENCE)
    if references and found != references:
        raise InputError(
            f"the question contains {EVIDENCE} {found} times, but {references} intervals are given "
            "with it; it must contain one for each"
        )


def _plain(text: str, *, references: int, check: bool = True) -> str:
    """Break up control tokens, except <evi> that refer to given intervals."""
    if check:
        _check_references(text, references)

    def broken(match: re.Match[str]) -> str:
        token = match.group()
        return token if references and token == EVIDENCE else f"< {token[1:]}"

    return _CONTROL.sub(broken, text)
