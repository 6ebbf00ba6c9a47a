"""The two tokenizers of a model: the language model's, and the one the compressor's Q-Former reads.

Every id is read from the tokenizer files, never assumed. All reading is from local folders;
nothing is looked up on a hub. Knows neither prompts nor weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidground.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EVIDENCE = "<evi>"
"""Stands for one interval of the video (paper, section 3.2)."""
EVIDENCE_END = "</evi>"
"""Closes the evidence stage of a response; the answer follows."""
TURN_END = "<|end|>"
"""Closes every turn of the chat, the model's answer too."""

QUESTION_FOLDER = "qformer_tokenizer"
"""Where a saved model keeps the Q-Former's tokenizer, relative to the model's folder."""
MAX_QUESTION_TOKENS = 256
"""The Q-Former was trained on questions of at most so many tokens, [CLS] and [SEP] included."""
QUESTION_START = "[DEC]"
"""The one token the Q-Former's training added to BERT's vocabulary."""
_GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Names of the class that takes tokenizer.json as it is, in older and newer transformers."""


@dataclass(frozen=True, slots=True)
class TokenIds:
    """The ids in the language tokenizer that the model's own logic turns on."""

    evidence: int
    evidence_end: int
    turn_end: int
    pad: int


class Tokenizers:
    """The language tokenizer and the Q-Former's tokenizer of one model.

    language: None for a checkpoint that ships without one; such a model runs on token ids, and
        every call here that needs the tokenizer raises CheckpointError.
    """

    language: PreTrainedTokenizerBase | None
    question: PreTrainedTokenizerBase

    def __init__(
        self, language: PreTrainedTokenizerBase | None, question: PreTrainedTokenizerBase
    ) -> None:
        self.language = language
        self.question = question

    @classmethod
    def load(cls, folder: str | Path, *, question_folder: str | Path | None = None) -> Tokenizers:
        """Read both tokenizers from local files.

        folder: of the model; the language tokenizer is its tokenizer.json.
        question_folder: of the Q-Former's tokenizer (for released weights, a copy of
            bert-base-uncased's); None for the one that the model's folder carries.

        Raises:
            CheckpointError: there is no Q-Former tokenizer, or a tokenizer cannot be read.
        """
        root = Path(folder)
        question = Path(question_folder) if question_folder is not None else root / QUESTION_FOLDER
        return cls(_load_language(root), _load_question(question))

    def save(self, folder: str | Path) -> None:
        """Write the language files to `folder` and the Q-Former's to its `qformer_tokenizer`."""
        root = Path(folder)
        if self.language is not None:
            self.language.save_pretrained(root)
        self.question.save_pretrained(root / QUESTION_FOLDER)

    @cached_property
    def ids(self) -> TokenIds:
        """The ids of the control tokens.

        Raises:
            CheckpointError: the language tokenizer is missing, or lacks one of the tokens.
        """
        pad = self._language.pad_token_id
        if pad is None:
            raise CheckpointError(
                "the language tokenizer names no padding token; set pad_token in its "
                "tokenizer_config.json"
            )
        return TokenIds(
            evidence=self._control_id(EVIDENCE),
            evidence_end=self._control_id(EVIDENCE_END),
            turn_end=self._control_id(TURN_END),
            pad=int(pad),
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of one chunk of text, without BOS; special tokens in it become their ids."""
        return list(self._language.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens written out, spaces as the tokenizer has them."""
        text = self._language.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)

    def question_ids(self, question: str) -> list[int]:
        """What the Q-Former reads: [CLS] question [SEP], at most 256 ids, cut on the left.

        Special tokens of the Q-Former that stand in the question are read as plain text.
        """
        ids = self.question.encode(
            question, add_special_tokens=False, split_special_tokens=True, verbose=False
        )
        kept = list(ids)[-(MAX_QUESTION_TOKENS - 2) :]
        return [self.question.cls_token_id, *kept, self.question.sep_token_id]

    @property
    def _language(self) -> PreTrainedTokenizerBase:
        if self.language is None:
            raise CheckpointError(
                "this model has no language tokenizer; put its tokenizer.json and "
                "tokenizer_config.json into the model's folder, or work with token ids"
            )
        return self.language

    def _control_id(self, token: str) -> int:
        token_id = self._language.get_vocab().get(token)
        if token_id is None:
            raise CheckpointError(
                f"the language tokenizer lacks the token {token}; use the tokenizer that was "
                "saved with the trained model, not the one of its base model"
            )
        return int(token_id)


def check_sizes(tokenizers: Tokenizers, *, language_rows: int, question_rows: int) -> None:
    """See that every id has a row in its embedding table.

    language_rows: rows of the language model's table, which may be padded beyond the tokenizer.
    question_rows: rows of the Q-Former's word table, which has exactly one row per token.

    Raises:
        CheckpointError: a tokenizer belongs to another model.
    """
    if tokenizers.language is not None:
        needed = max(tokenizers.language.get_vocab().values()) + 1
        if needed > language_rows:
            raise CheckpointError(
                f"the language tokenizer needs {needed} embedding rows, the model has "
                f"{language_rows}; use the tokenizer that was saved with these weights"
            )
    if len(tokenizers.question) != question_rows:
        raise CheckpointError(
            f"the Q-Former's tokenizer has {len(tokenizers.question)} tokens, the model's table "
            f"{question_rows} rows; use the tokenizer that was saved with these weights "
            "(bert-base-uncased for the released ones)"
        )


def _load_language(folder: Path) -> PreTrainedTokenizerBase | None:
    if not (folder / "tokenizer.json").is_file():
        return None
    # The class that takes tokenizer.json as it is. LlamaTokenizer, which such folders name, builds
    # the treatment of spaces anew and gives other ids than the model was trained with.
    from transformers import PreTrainedTokenizerFast

    return _read(PreTrainedTokenizerFast, folder)


def _load_question(folder: Path) -> PreTrainedTokenizerBase:
    if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise CheckpointError(
            f"no Q-Former tokenizer in {folder}: needs vocab.txt or tokenizer.json; released "
            "weights use the one of bert-base-uncased, give its folder"
        )
    from transformers import BertTokenizer, PreTrainedTokenizerFast

    # BertTokenizer builds BERT's treatment of text anew; a tokenizer with another one says so.
    as_it_is = _saved_class(folder) in _GENERIC_CLASSES
    tokenizer = _read(PreTrainedTokenizerFast if as_it_is else BertTokenizer, folder)
    if QUESTION_START not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"bos_token": QUESTION_START})
    return tokenizer


def _saved_class(folder: Path) -> str | None:
    """The class that a tokenizer's folder names; None if it names none."""
    try:
        values = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # reading the tokenizer itself tells what is wrong
    found = values.get("tokenizer_class") if isinstance(values, dict) else None
    return found if isinstance(found, str) else None


def _read(tokenizer_class: Any, folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = tokenizer_class.from_pretrained(
            str(folder), local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot read the tokenizer in {folder}: {error}") from error
    # How the files were read is no property of the tokenizer, and would be saved with it.
    tokenizer.init_kwargs.pop("local_files_only", None)
    return tokenizer
