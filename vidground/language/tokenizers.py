"""The two tokenizers of a model: the language model's, and that of the compressor's Q-Former.

Every id is read from the tokenizer files, never assumed. Reads local folders only. Imports
transformers when a tokenizer is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidground.errors import CheckpointError
from vidground.settings import TimeTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EVIDENCE = "<evi>"
"""Stands for one interval of the video (paper, section 3.2)."""
MATCH = "<vid>"
"""Stands for one instant of the video, in models that match frames (E.T. Chat)."""
EVIDENCE_END = "</evi>"
"""Ends the evidence stage of a response; the answer follows."""
TURN_END = "<|end|>"
"""Ends every turn of the chat, including the model's answer."""

QUESTION_FOLDER = "qformer_tokenizer"
"""Folder of the Q-Former's tokenizer inside a saved model's folder."""
MAX_QUESTION_TOKENS = 256
"""Longest question that the Q-Former was trained on, with [CLS] and [SEP]."""
QUESTION_START = "[DEC]"
"""The token that the Q-Former's training added to BERT's vocabulary."""
_GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""The class that uses tokenizer.json unchanged, as older and newer transformers name it."""


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Ids of the language tokenizer's control tokens.

    Attributes:
        evidence: of `<evi>`, or of `<vid>` for a model that matches frames.
        evidence_end: of `</evi>`; None for a model that matches frames.
        turn_end: of `<|end|>`.
        pad: of the padding token.
    """

    evidence: int
    evidence_end: int | None
    turn_end: int
    pad: int


class Tokenizers:
    """The language tokenizer and the Q-Former's tokenizer of one model.

    Attributes:
        language: None for a checkpoint without one; such a model runs on token ids, and methods
            that need the tokenizer raise CheckpointError.
        question: the Q-Former's tokenizer.
        time_tokens: how the model expresses times, which decides on the control tokens.
    """

    language: PreTrainedTokenizerBase | None
    question: PreTrainedTokenizerBase
    time_tokens: TimeTokens

    def __init__(
        self,
        language: PreTrainedTokenizerBase | None,
        question: PreTrainedTokenizerBase,
        time_tokens: TimeTokens = "evidence",
    ) -> None:
        self.language = language
        self.question = question
        self.time_tokens = time_tokens

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        question_folder: str | Path | None = None,
        time_tokens: TimeTokens = "evidence",
    ) -> Tokenizers:
        """Read both tokenizers from local files.

        Args:
            folder: of the model; its tokenizer.json is the language tokenizer.
            question_folder: of the Q-Former's tokenizer (for released weights, a copy of
                bert-base-uncased's); None for the one inside the model's folder.
            time_tokens: of the model, see `D2VLMConfig`.

        Raises:
            CheckpointError: there is no Q-Former tokenizer, or a tokenizer cannot be read.
        """
        root = Path(folder)
        question = Path(question_folder) if question_folder is not None else root / QUESTION_FOLDER
        return cls(_load_language(root), _load_question(question), time_tokens)

    def save(self, folder: str | Path) -> None:
        """Write the language files to `folder` and the Q-Former's to its `qformer_tokenizer`."""
        root = Path(folder)
        if self.language is not None:
            self.language.save_pretrained(root)
        self.question.save_pretrained(root / QUESTION_FOLDER)

    @cached_property
    def ids(self) -> TokenIds:
        """Ids of the control tokens.

        Raises:
            CheckpointError: the language tokenizer is missing, or lacks one of the tokens.
        """
        pad = self._language.pad_token_id
        if pad is None:
            raise CheckpointError(
                "the language tokenizer has no padding token; set pad_token in its "
                "tokenizer_config.json"
            )
        matches = self.time_tokens == "matching"
        return TokenIds(
            evidence=self._control_id(MATCH if matches else EVIDENCE),
            evidence_end=None if matches else self._control_id(EVIDENCE_END),
            turn_end=self._control_id(TURN_END),
            pad=int(pad),
        )

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without BOS; special tokens in it become their ids."""
        return _encode(self._language, text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, with special tokens and the tokenizer's own spaces."""
        text = self._language.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)

    def question_ids(self, question: str) -> list[int]:
        """Return the Q-Former's input, [CLS] question [SEP]: at most 256 ids, cut on the left.

        The Q-Former's special tokens in the question are read as plain text.
        """
        ids = _encode(self.question, question, split_special_tokens=True, verbose=False)
        end = ids[-(MAX_QUESTION_TOKENS - 2) :]
        return [self.question.cls_token_id, *end, self.question.sep_token_id]

    @property
    def _language(self) -> PreTrainedTokenizerBase:
        if self.language is None:
            raise CheckpointError(
                "this model has no language tokenizer; copy its tokenizer.json and "
                "tokenizer_config.json to the model's folder, or use token ids"
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
    """Check that the tokenizers fit the model's embedding tables.

    Args:
        tokenizers: to check.
        language_rows: rows of the language model's table, which may have more than one per token.
        question_rows: rows of the Q-Former's table, which has exactly one per token.

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
    # This class uses tokenizer.json unchanged. LlamaTokenizer, which the configuration names,
    # rebuilds the treatment of spaces and gives other ids than the model was trained with.
    from transformers import PreTrainedTokenizerFast

    return _read(PreTrainedTokenizerFast, folder)


def _load_question(folder: Path) -> PreTrainedTokenizerBase:
    if not any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        raise CheckpointError(
            f"no Q-Former tokenizer in {folder}: needs vocab.txt or tokenizer.json; for released "
            "weights, use the folder of bert-base-uncased's tokenizer"
        )
    from transformers import BertTokenizer, PreTrainedTokenizerFast

    # BertTokenizer rebuilds BERT's normalisation; tokenizers without it are saved as generic.
    is_generic = _saved_class(folder) in _GENERIC_CLASSES
    tokenizer = _read(PreTrainedTokenizerFast if is_generic else BertTokenizer, folder)
    if QUESTION_START not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"bos_token": QUESTION_START})
    return tokenizer


def _saved_class(folder: Path) -> str | None:
    """Return the class that a tokenizer's configuration names; None if it names none."""
    try:
        values = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # reading the tokenizer itself reports what is wrong
    found = values.get("tokenizer_class") if isinstance(values, dict) else None
    return found if isinstance(found, str) else None


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, **options: bool) -> list[int]:
    """Return token ids without those that a tokenizer adds by itself.

    Raises:
        CheckpointError: the tokenizer gives up, as on a regular expression that runs away.
    """
    try:
        return list(tokenizer.encode(text, add_special_tokens=False, **options))
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a class that the library does not export
            raise
        raise CheckpointError(
            f"the tokenizer cannot read {text[:40]!r}: {error}; fetch the model again"
        ) from error


def _read(tokenizer_class: Any, folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = tokenizer_class.from_pretrained(
            str(folder), local_files_only=True
        )
    except Exception as error:  # the library raises nearly anything for damaged files
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"cannot read the tokenizer in {folder}: {reason}") from error
    if not isinstance(tokenizer.model_max_length, int | float):
        raise CheckpointError(
            f"the tokenizer in {folder}: model_max_length is {tokenizer.model_max_length!r}; it "
            "must be a number; fetch the model again"
        )
    # This option of loading would be saved with the tokenizer.
    tokenizer.init_kwargs.pop("local_files_only", None)
    return tokenizer
