"""The decode loop: prompts to answers in one batch, with each time token resolved and fed back.

A waiting prompt takes the place of a row that has ended, so that the batch stays full (continuous
batching). Rows do not see each other or padding; only the grouping of sums can depend on the other
rows. On a GPU nothing is copied to the host within a step; every few steps the rows are checked for
their end.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from vidground.errors import InputError, NumericError
from vidground.generation.batch_decoder import BatchDecoder, borrow_decoder, give_back_decoder
from vidground.generation.cuda_graphs import ReplayError
from vidground.generation.finite import not_finite
from vidground.generation.generated import Evidence, Generation, Row, StepEvidence
from vidground.generation.prompt_batch import PromptInputs, batch_prompts, check_prompt
from vidground.generation.token_choice import TokenChooser
from vidground.memory import BatchSize, is_out_of_memory, release_memory
from vidground.model.d2vlm import D2VLM
from vidground.model.rows import keep_rows, remaining_rows
from vidground.settings import DecodingSettings

__all__ = ["Evidence", "Generation", "GenerationQueue", "generate", "generate_each"]

_GPU_STEPS = 16
"""Steps between checks for ended rows, each of which waits for the GPU."""
_NO_TOKEN = -1
"""Token of a row whose logits are not finite: this costs no further copy to the host."""


def generate(
    model: D2VLM,
    prompts: Sequence[PromptInputs],
    settings: DecodingSettings | Sequence[DecodingSettings],
) -> list[Generation]:
    """Answer prompts of any lengths in one batch.

    Args:
        model: answers the prompts.
        prompts: at least one.
        settings: for all prompts, or one per prompt.

    Returns:
        An answer per prompt, in order.

    Raises:
        InputError: a prompt leaves no room for an answer in the model's context.
        NumericError: the model computed NaN or infinity.
    """
    rows = len(prompts)
    per_row = [settings] * rows if isinstance(settings, DecodingSettings) else list(settings)
    queue = GenerationQueue(model, BatchSize(rows))
    tickets = [queue.add(*row) for row in zip(prompts, per_row, strict=True)]
    answers: dict[int, Generation] = {}
    while len(queue):
        for ticket, answer in queue.advance():
            if isinstance(answer, Exception):
                raise answer
            answers[ticket] = answer
    return [answers[ticket] for ticket in tickets]


def generate_each(
    model: D2VLM,
    prompts: Iterable[PromptInputs],
    settings: DecodingSettings,
    size: BatchSize,
    *,
    graphs: bool | None = None,
) -> Iterator[Generation]:
    """Answer a stream of prompts; yield the answers in the order of the prompts.

    Args:
        model: answers the prompts.
        prompts: taken one at a time, each when there is room for it.
        settings: how answers are decoded.
        size: maximum number of prompts decoded at once.
        graphs: see `GenerationQueue`.

    Raises:
        InputError: a prompt leaves no room for an answer in the model's context.
        NumericError: the model computed NaN or infinity.
    """
    queue = GenerationQueue(model, size, graphs=graphs)
    waited_for: deque[int] = deque()
    answers: dict[int, Generation | Exception] = {}
    rest = iter(prompts)
    while True:
        while not queue.is_full and (prompt := next(rest, None)) is not None:
            waited_for.append(queue.add(prompt, settings))
        if not waited_for:
            return
        while waited_for[0] not in answers:
            answers |= dict(queue.advance())
        answer = answers.pop(waited_for.popleft())
        if isinstance(answer, Exception):
            raise answer
        yield answer


class GenerationQueue:
    """Waiting prompts and the rows that are being decoded.

    Args:
        model: answers the prompts.
        size: maximum number of rows; halved when memory runs out.
        graphs: whether steps are recorded and replayed (CUDA graphs); None for on a GPU only.
    """

    def __init__(self, model: D2VLM, size: BatchSize, *, graphs: bool | None = None) -> None:
        self._model = model
        self._turn_end = model.config.turn_end_token_id
        self._size = size
        self._graphs = model.device.type == "cuda" if graphs is None else graphs
        self._waiting: list[Row] = []
        self._tickets = 0
        self._lent: BatchDecoder | None = None
        self._attempted = 0  # number of rows including those being prefilled
        self._clear()

    def _clear(self) -> None:
        config, device = self._model.config, self._model.device
        vocabulary = self._model.lm_head.out_features
        self._rows: list[Row] = []
        self._lent = None
        self._chooser = TokenChooser(vocabulary, config.time_token_id, device)
        self._next = torch.empty(0)  # (B, H): embeddings for the next step

    @property
    def _decoder(self) -> BatchDecoder:
        """The decoder; created or borrowed at the first access."""
        if self._lent is None and self._graphs:
            self._lent = borrow_decoder(self._model, self._size.now)
        elif self._lent is None:
            self._lent = BatchDecoder(self._model)
        return self._lent

    def __len__(self) -> int:
        """Return the number of prompts without an answer."""
        return len(self._waiting) + len(self._rows)

    @property
    def is_full(self) -> bool:
        """Whether there are as many prompts as can be decoded at once."""
        return len(self) >= self._size.now

    def add(self, prompt: PromptInputs, settings: DecodingSettings) -> int:
        """Add a prompt.

        Returns:
            Its ticket, a number that `advance` returns with the answer.

        Raises:
            InputError: it leaves no room for an answer, or is invalid (`check_prompt`).
        """
        check_prompt(self._model, prompt)
        cap = _token_cap(self._model, prompt, settings)
        self._tickets += 1
        self._waiting.append(Row(self._tickets, prompt, settings, cap))
        return self._tickets

    @torch.inference_mode()
    def advance(self) -> list[tuple[int, Generation | Exception]]:
        """Prefill prompts that there is room for, and decode some tokens.

        When memory runs out, all rows start again with a smaller batch; a single prompt that does
        not fit ends with the error. After a wrong replay of a recorded step, all rows start again
        without recordings.

        Returns:
            Ticket and answer of each prompt that has ended; its error if it failed, a NumericError
            if the model computed NaN or infinity.
        """
        try:
            tokens, found = self._decode(_GPU_STEPS if self._model.device.type == "cuda" else 1)
        except ReplayError:
            self._restart_rows()
            self._release_decoder()
            return []
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            failed = self._shrink(error)
            traceback.clear_frames(error.__traceback__)  # they hold tensors
        else:
            self._record(tokens, found)
            return self._remove_ended()
        release_memory()  # here, where the error no longer holds tensors
        return failed

    def _remove_ended(self) -> list[tuple[int, Generation | Exception]]:
        """Remove the rows that have ended; return their tickets and answers."""
        found = {index: self._answer(row) for index, row in enumerate(self._rows)}
        answers = {index: answer for index, answer in found.items() if answer is not None}
        ended = [(self._rows[index].ticket, answer) for index, answer in answers.items()]
        for index, answer in answers.items():
            if isinstance(answer, NumericError):
                self._decoder.erase(index)  # before another row takes its place
        if answers:
            self._keep(remaining_rows(len(self._rows), answers))
        if not len(self):
            self._release_decoder()
        return ended

    def _keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order, in everything that holds data of rows."""
        self._decoder.keep(rows)
        self._chooser.keep(rows)
        self._next = keep_rows(self._next, rows)
        self._rows = [self._rows[row] for row in rows]

    def _decode(self, steps: int) -> tuple[Tensor, list[StepEvidence | None]]:
        """Decode some tokens of every row, after prefilling waiting prompts into free rows.

        Returns:
            Tokens (B, steps), `_NO_TOKEN` where logits are not finite, and the evidence of each
            step; None for a step that has none.
        """
        config, decoder = self._model.config, self._decoder
        if self._rows:
            decoder.step(self._next)  # (B, H): the tokens that the previous call chose last
        self._admit()
        tokens: list[Tensor] = []
        found: list[StepEvidence | None] = []
        for step in range(steps):
            if step:
                decoder.step(self._next)  # (B, H)
            logits = decoder.logits  # (B, V)
            token = self._chooser.choose(logits)  # (B,)
            is_time = token == config.time_token_id  # (B,)
            self._next = decoder.embed(token)  # (B, H)
            evidence = None
            if is_time.is_cuda or bool(is_time.any()):  # on a GPU always, without waiting for it
                evidence = StepEvidence(*decoder.evidence())  # (B, T), (B,), (B,)
                if config.evidence_semantics:
                    meaning = decoder.meaning(evidence.first, evidence.last)  # (B, H)
                    self._next = torch.where(is_time[:, None], self._next + meaning, self._next)
            tokens.append(token.where(logits.isfinite().all(-1), _NO_TOKEN))  # (B,)
            found.append(evidence)
        return torch.stack(tokens, 1), found

    def _admit(self) -> None:
        """Prefill waiting prompts into free rows, those of the same kind together."""
        while self._waiting and len(self._rows) < self._size.now:
            first, room = self._waiting[0], self._size.now - len(self._rows)
            group = [row for row in self._waiting if row.kind == first.kind][:room]
            self._attempted = len(self._rows) + len(group)
            batch = batch_prompts(self._model, [row.prompt for row in group], length=first.padded)
            self._decoder.add(batch)
            curves = self._decoder.evidence()[0][len(self._rows) :]
            for row, ids, curve in zip(group, batch.token_ids, curves, strict=True):
                self._chooser.add(ids, row.settings)
                row.prompt_curve = curve[: row.frames]
                self._waiting.remove(row)
            self._rows += group
            self._attempted = 0

    def _record(self, tokens: Tensor, found: Sequence[StepEvidence | None]) -> None:
        """Append new tokens and evidence to every row, up to its end.

        Args:
            tokens: (B, steps).
            found: evidence of each step.
        """
        time_token_id = self._model.config.time_token_id
        chosen: list[tuple[Row, int, int, int]] = []  # row, its index, step, position
        for index, (row, ids) in enumerate(zip(self._rows, tokens.tolist(), strict=True)):
            for step, token in enumerate(ids):
                if row.generation(self._turn_end) is not None:
                    break
                if token == _NO_TOKEN:
                    row.finite = False
                    break
                if token == time_token_id:
                    chosen.append((row, index, step, len(row.token_ids)))
                row.token_ids.append(token)
        if not chosen:
            return
        steps = [found[step] for _, _, step, _ in chosen]
        at = [(s, index) for s, (_, index, _, _) in zip(steps, chosen, strict=True) if s]
        spans = torch.stack([torch.stack((s.first[i], s.last[i])) for s, i in at]).tolist()
        curves = torch.stack([s.curve[i] for s, i in at]).cpu()
        for (row, _, _, position), (first, last), curve in zip(chosen, spans, curves, strict=True):
            matched = (first,) if self._model.config.matches else ()
            curve = curve[: row.frames]
            row.evidence.append(Evidence(position, first, last, curve.clone(), matched))
            row.finite = row.finite and bool(curve.isfinite().all())

    def _answer(self, row: Row) -> Generation | Exception | None:
        """Return the answer or the error of a row that has ended, else None."""
        generation = row.generation(self._turn_end) if row.finite else None
        if generation is None and row.finite:
            return None
        if generation is None or not bool(generation.prompt_curve.isfinite().all()):
            return not_finite(self._model, row.prompt)
        return generation

    def _release_decoder(self) -> None:
        """Give the decoder back until there is a prompt again."""
        if self._graphs:
            give_back_decoder(self._decoder)
        self._clear()

    def _restart_rows(self) -> None:
        """Let all rows wait as if they had not been decoded."""
        self._waiting = [row.again() for row in self._rows] + self._waiting
        self._rows = []

    def _shrink(self, error: Exception) -> list[tuple[int, Generation | Exception]]:
        """Restart all rows with a smaller batch; return a single row with its error."""
        room = 0 if self._lent is None else self._lent.room
        attempted = max(len(self._rows), self._attempted, room)
        self._restart_rows()
        self._clear()
        if attempted > 1:
            self._size.halve(attempted)
            return []
        return [(self._waiting.pop(0).ticket, error)]


def _token_cap(model: D2VLM, prompt: PromptInputs, settings: DecodingSettings) -> int:
    context = int(model.config.text_config.max_position_embeddings)
    room = context - len(prompt)
    if room < 1:
        raise InputError(
            f"a prompt of {len(prompt)} tokens leaves no room for an answer: the model's context "
            f"holds {context}; use a shorter window or a lower fps"
        )
    return min(settings.max_new_tokens, room)
