"""Two small tokenizers for the toy world, in the forms of the large ones.

The language tokenizer is a byte-fallback BPE as Phi-3's, the Q-Former's a WordPiece as BERT's.
Every word of the toy world's questions and answers is one token in both, so that prompts are
short; any other text is spelled in characters, and the language tokenizer goes down to bytes.
Knows neither the model nor its sizes.
"""

from __future__ import annotations

import json
from string import ascii_letters, digits, punctuation

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from vidground.prompts import chat_prompt
from vidground.tokens import EVIDENCE, EVIDENCE_END, QUESTION_START, TURN_END, Tokenizers
from vidground.training.toy_captions import words
from vidground.training.toy_questions import vocabulary

_SPACE = "▁"
"""Stands for a space in the pieces of the language tokenizer."""
_UNKNOWN, _TEXT_START, _TEXT_END, _PAD = "<unk>", "<s>", "</s>", "<|endoftext|>"
_CHAT = (_PAD, "<|system|>", "<|user|>", "<|assistant|>", TURN_END)
_BERT_CONTROLS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MAX_TOKENS = 1024
_ENOUGH = 1 << 14
"""More pieces than the merges of all words can make: training ends when words are whole."""


def make_toy_tokenizers() -> Tokenizers:
    """The tokenizers of a toy model, about 700 and 250 tokens; the same in every call."""
    return Tokenizers(_language_tokenizer(), _question_tokenizer())


def _known_words() -> list[str]:
    """Words of the toy world and of the chat around it, sorted, each once; no control tokens."""
    chat = chat_prompt("a")
    said = {*vocabulary(), *words(chat.before), *words(chat.after)}
    return sorted(word for word in said if word.isalpha())


def _language_tokenizer() -> PreTrainedTokenizerFast:
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
    controls = (_UNKNOWN, _TEXT_START, _TEXT_END, *_CHAT, EVIDENCE, EVIDENCE_END)
    backend.add_special_tokens([_control(token) for token in controls])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=_TEXT_START,
        eos_token=_PAD,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        additional_special_tokens=[EVIDENCE, EVIDENCE_END],
        clean_up_tokenization_spaces=False,
        model_max_length=_MAX_TOKENS,
    )


def _control(token: str) -> AddedToken:
    # Phi-3's chat tokens swallow the whitespace that follows them.
    return AddedToken(token, special=True, normalized=False, rstrip=token.startswith("<|"))


def _merges(known: list[str]) -> list[tuple[str, str]]:
    """Merges that make every known word one piece, then those that join a space to its front.

    The space comes last, so that a word is put together in the same way with and without it.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(
        known, trainers.BpeTrainer(vocab_size=_ENOUGH, min_frequency=1, show_progress=False)
    )
    within = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    return [*within, *((_SPACE, word) for word in (*known, *punctuation))]


def _question_tokenizer() -> BertTokenizer:
    characters = [*sorted({*ascii_letters.lower(), *digits}), *punctuation]
    pieces = [
        *_BERT_CONTROLS,
        *characters,
        *(f"##{character}" for character in characters if character.isalnum()),
        *(word.lower() for word in _known_words()),
    ]
    tokenizer = BertTokenizer(
        vocab={piece: i for i, piece in enumerate(dict.fromkeys(pieces))},
        model_max_length=512,
    )
    tokenizer.add_special_tokens({"bos_token": QUESTION_START})
    return tokenizer
