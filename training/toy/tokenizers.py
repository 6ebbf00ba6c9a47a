"""Two small tokenizers for the toy world, of the same kinds as the full model's.

The language tokenizer is a byte-fallback BPE as Phi-3's, the Q-Former's a WordPiece as BERT's.
Every word of the toy world's questions and answers is one token, and so is every sentence that all
questions of a task share, so that prompts are short. Other text is split into characters, and by
the language tokenizer into bytes. The Q-Former's tokenizer drops the words and marks that all
questions of a task share: a Q-Former of two layers, trained from scratch, would not find the few
words that matter among them. Knows neither the model nor its sizes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from string import ascii_letters, digits, punctuation

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from vidground.language.prompts import chat_prompt
from vidground.language.tokenizers import (
    EVIDENCE,
    EVIDENCE_END,
    MATCH,
    QUESTION_START,
    TURN_END,
    Tokenizers,
)
from vidground.settings import TimeTokens
from vidground.training.toy.captions import ACTION_PHRASES, COLORS, SHAPES, plural, words
from vidground.training.toy.questions import phrases, vocabulary

_SPACE = "▁"
"""The space in pieces of the language tokenizer."""
_UNKNOWN, _TEXT_START, _TEXT_END, _PAD = "<unk>", "<s>", "</s>", "<|endoftext|>"
_CHAT = (_PAD, "<|system|>", "<|user|>", "<|assistant|>", TURN_END)
_BERT_ROLES = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_TASK_WORDS = {"action", "colour", "describe", "letter", "locates", "sentence", "steps"}
"""One or two words of each task's question, from which the Q-Former recognizes the task."""
_SYSTEM = "You are a helpful AI assistant."
_MAX_TOKENS = 1024
_ENOUGH = 1 << 14
"""More pieces than the merges of all words can make, so that training ends at whole words."""


def make_toy_tokenizers(time_tokens: TimeTokens = "evidence") -> Tokenizers:
    """Return the tokenizers of a toy model, about 700 and 150 tokens; the same in every call.

    Args:
        time_tokens: of the model; `<vid>` has the id that `<evi>` has otherwise.
    """
    language = _language_tokenizer(MATCH if time_tokens == "matching" else EVIDENCE)
    return Tokenizers(language, _question_tokenizer(), time_tokens)


def _known_words() -> list[str]:
    """Return the words of the toy world and the chat template, sorted, without control tokens."""
    chat = chat_prompt("a")
    found = {*vocabulary(), *words(chat.before), *words(chat.after)}
    return sorted(word for word in found if word.isalpha())


def _language_tokenizer(time_token: str) -> PreTrainedTokenizerFast:
    merges = _merges(_known_words())
    pieces = [
        *(_UNKNOWN, _TEXT_START, _TEXT_END),
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *(_SPACE, *ascii_letters, *digits, *punctuation),
        *("".join(pair) for pair in merges),
    ]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    model = models.BPE(
        vocab=ids, merges=merges, unk_token=_UNKNOWN, fuse_unk=True, byte_fallback=True
    )
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement=_SPACE, prepend_scheme="never", split=False
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_tokens([AddedToken(text, normalized=False) for text in (_SYSTEM, *phrases())])
    controls = (_UNKNOWN, _TEXT_START, _TEXT_END, *_CHAT, time_token, EVIDENCE_END)
    backend.add_special_tokens([_control(token) for token in controls])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=_TEXT_START,
        eos_token=_PAD,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        additional_special_tokens=[time_token, EVIDENCE_END],
        clean_up_tokenization_spaces=False,
        model_max_length=_MAX_TOKENS,
    )


def _control(token: str) -> AddedToken:
    # Phi-3's chat tokens absorb the whitespace that follows them.
    return AddedToken(token, special=True, normalized=False, rstrip=token.startswith("<|"))


def _merges(known: list[str]) -> list[tuple[str, str]]:
    """Return merges that make every known word one piece, then those that prepend a space.

    The space comes last, so that a word is merged in the same way with and without it.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(
        known, trainers.BpeTrainer(vocab_size=_ENOUGH, min_frequency=1, show_progress=False)
    )
    within = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    return [*within, *((_SPACE, word) for word in (*known, *punctuation))]


def _question_tokenizer() -> PreTrainedTokenizerFast:
    characters = [*sorted({*ascii_letters.lower(), *digits}), *punctuation]
    kept, dropped = _by_relevance(word.lower() for word in _known_words())
    pieces = [
        *_BERT_ROLES.values(),
        *characters,
        *(f"##{character}" for character in characters if character.isalnum()),
        *kept,
    ]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocab=ids, unk_token=_BERT_ROLES["unk_token"]))
    phrase = rf"\b(?:{'|'.join(dropped)})\b|[^\w\s]"
    backend.normalizer = normalizers.Sequence(
        [normalizers.BertNormalizer(lowercase=True), normalizers.Replace(Regex(phrase), " ")]
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=QUESTION_START,
        **_BERT_ROLES,
        model_max_length=512,
    )


def _by_relevance(known: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the words that say what is asked for, and those that all questions of a task have."""
    relevant = {word for text in (*COLORS, *SHAPES, *ACTION_PHRASES) for word in words(text)}
    relevant |= {plural(shape) for shape in SHAPES} | _TASK_WORDS
    found = list(dict.fromkeys(known))
    return [w for w in found if w in relevant], [w for w in found if w not in relevant]
