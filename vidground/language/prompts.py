"""What the model is asked: question templates it was trained on, and the chat form around them.

A prompt is two texts with the frames between them. Text of a user is untrusted: control tokens
typed in it are broken up, so that they reach the model as plain characters (see `chat_prompt`).
Knows neither torch nor how frames become tokens.
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
"""Where the frames stand in an annotated conversation."""

_HEAD = f"<|system|>\nYou are a helpful AI assistant.{TURN_END}\n<|user|>\n"
_TAIL = f"{TURN_END}\n<|assistant|>\n"
# Every form that a control token takes in Phi-3's tokenizer, and the placeholder of the frames.
_CONTROL = re.compile(r"<\|[^\s<>]*\|>|</?(?:evi|image|s|unk)>")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The texts before and after the frame tokens, and the question that the Q-Former reads.

    question: the user's text without the placeholder, as it was given.
    """

    before: str
    after: str
    question: str


@dataclass(frozen=True, slots=True)
class PromptIds:
    """A prompt as token ids: `before`, the frames, `after` are what the language model reads;
    `question`, in the Q-Former's own ids, is what the compressor reads beside every frame.
    """

    before: list[int]
    after: list[int]
    question: list[int]


def chat_prompt(question: str, *, references: int = 0) -> Prompt:
    """The chat form with the frames first, then the question on a line of its own.

    question: the user's text. Control tokens in it, such as <|end|>, </evi> or <image>, get a
        space after their first character, which makes them plain text; all else stays as it is.
    references: how many intervals of the video come with the question. Above 0, the question
        holds so many <evi>, and they are the only control tokens that pass.

    Raises:
        InputError: the question is blank, or holds another number of <evi> than `references`.
    """
    text = _checked(question, "question")
    after = "\n" + _plain(text, references=references) + _TAIL
    return Prompt(before=_HEAD, after=after, question=text)


def chat_prompt_from_turn(text: str, *, references: int = 0) -> Prompt:
    """The chat form of an annotated human turn, which says by <image> where the frames stand.

    A turn without the placeholder gets it first. For `references` and control tokens see
    `chat_prompt`.

    Raises:
        InputError: the turn has several placeholders, no text beside them, or another number of
            <evi> than `references`.
    """
    turn = text.strip()
    if turn.count(FRAMES) > 1:
        raise InputError(f"a turn has {turn.count(FRAMES)} times {FRAMES}; it may have one")
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
    """Token ids of a prompt; the texts before and after the frames are tokenized on their own."""
    return PromptIds(
        before=tokenizers.encode(prompt.before),
        after=tokenizers.encode(prompt.after),
        question=tokenizers.question_ids(prompt.question),
    )


def grounding_question(text: str, *, domain: str = "daily activities") -> str:
    """Ask when the event that a sentence describes happens.

    domain: what the video is about, e.g. "indoor activities".
    """
    sentence = _checked(text, "text").strip(".")
    return (
        f"You are given a video about {_checked(domain, 'domain')}. Watch the video carefully "
        f"and find a visual event described by the sentence: '{_checked(sentence, 'text')}'. "
        "The format of your response should be: 'The event happens in <start time> - <end time>'."
    )


def localization_question(action: str, *, domain: str = "human actions") -> str:
    """Ask for every event of an action category."""
    return (
        f"You are given a video about {_checked(domain, 'domain')}. Watch the video carefully "
        "and find all the visual events belonging to the action category: "
        f"'{_checked(action, 'action')}'. "
        "The format of your response should be: 'The action happens in <start time> - <end time>, "
        "<start time> - <end time>, and <start time> - <end time>'."
    )


def captioning_question(*, topic: str | None = None, noun: str = "event") -> str:
    """Ask for all events of a video with a caption each.

    topic: title of the video, e.g. "making fattoush"; None if it has none.
    noun: what is to be described, in the singular, e.g. "cooking step".
    """
    about = "daily activities" if topic is None else f"'{_checked(topic, 'topic')}'"
    noun = _checked(noun, "noun")
    # "densly" and "ends times" stand so in the text that the weights were trained with.
    return (
        f"You are given a video about {about}. Watch the video carefully and densly describe all "
        f"the {noun}s. For each {noun.split()[-1]}, you need to determine the start and ends times "
        "and provide a concise description. The format of your response should be: "
        "'<start time> - <end time>, <description>'."
    )


def _checked(text: str, name: str) -> str:
    text = text.strip()
    if not text:
        raise InputError(f"{name} is blank; say in words what is asked of the video")
    return text


def _check_references(text: str, references: int) -> None:
    found = text.count(EVIDENCE)
    if references and found != references:
        raise InputError(
            f"the question holds {found} times {EVIDENCE}, but {references} intervals come with "
            "it; it needs one for each"
        )


def _plain(text: str, *, references: int, check: bool = True) -> str:
    """Break up control tokens, but the <evi> that stand for given intervals."""
    if check:
        _check_references(text, references)

    def broken(match: re.Match[str]) -> str:
        token = match.group()
        return token if references and token == EVIDENCE else f"< {token[1:]}"

    return _CONTROL.sub(broken, text)
