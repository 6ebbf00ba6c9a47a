"""A batch of rows that are decoded token by token; rows can be added and removed in between.

Rows do not see each other or padding; only the grouping of sums can depend on the other rows. Knows
neither text nor settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from vidground.generation.cuda_graphs import Recorder, StepGraphs, StepInputs, StepOutputs
from vidground.generation.prefix_cache import shared_prefix
from vidground.generation.prompt_batch import PromptBatch
from vidground.generation.weight_memo import cached_for_weights
from vidground.model.d2vlm import D2VLM, DecoderContext
from vidground.model.evidence import interval_mean, widened
from vidground.model.kv_cache import RowCache
from vidground.model.rows import keep_rows

_SPAN = 64
"""Attention reads a multiple of this many cached positions, so that sums over them are grouped in
the same way whatever the other rows are."""
_RECORDED_SPAN = 256
"""The same for recorded steps, of which there should be few."""


class BatchDecoder:
    """B rows that are decoded together: their cache, and the states of their frames.

    `add` and `keep` change the rows; `step` feeds one token to each.

    Args:
        model: decodes the rows.
        recorded_rows: maximum number of rows, if steps are recorded and replayed (`StepGraphs`).
            Memory for all of them is allocated once there are two, because growing it later would
            invalidate every recording. 0 does not record steps.
        recorder: see `StepGraphs`.
    """

    def __init__(
        self,
        model: D2VLM,
        *,
        recorded_rows: int = 0,
        recorder: Recorder | None = None,
    ) -> None:
        self.model = model
        self.recorded_rows = recorded_rows
        self._cache = RowCache(model.config.text_config.num_hidden_layers)
        self._lengths: list[int] = []
        self._state: dict[str, Tensor] = {}
        # Not a method: in a reference cycle, memory would be freed only by the garbage collector.
        compute = partial(compute_step, model, self._cache)
        self._graphs = StepGraphs(compute, recorder) if recorded_rows else None
        self._moves = 0

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def room(self) -> int:
        """Number of rows that memory is allocated for."""
        return self._cache.rows

    @property
    def logits(self) -> Tensor:
        """(B, V): predict the next token of each row."""
        return self._state["logits"][: len(self)]

    @property
    def matching(self) -> Tensor:
        """(B, H): states that a predicted time token is compared with frames by."""
        return self._state["matching"][: len(self)]

    @property
    def memory(self) -> Tensor:
        """(B, T, H): states of the frames that a time token adds to its embedding; 0 at padding."""
        return self._state["memory"][: len(self)]

    def add(self, batch: PromptBatch) -> None:
        """Prefill new prompts, which become the last rows; their common prefix is cached."""
        model, config = self.model, self.model.config
        first, rows, length = len(self), len(batch.lengths), batch.embeds.shape[1]
        if first + rows > 1:
            self._cache.reserve(self.recorded_rows, length)
        self._cache.add(first, rows, length, shared_prefix(model, batch.prefix))
        batch = batch.after_prefix()
        context = model.context(batch.position_ids, batch.visible(), self._cache)
        hidden = model.run_layers(batch.embeds, 0, config.memory_layer, context)  # (B, L, H)
        memory = batch.at_frames(hidden)  # (B, T, H)
        hidden = model.run_layers(hidden, config.memory_layer, config.matching_layer, context)
        last = model.run_layers(hidden, config.matching_layer, config.layers, context)  # (B, L, H)
        keys = last if config.frame_key_layer == config.layers else hidden  # (B, L, H)
        frame_keys = model.frame_head(batch.at_frames(keys))  # (B, T, H)
        matching, logits = batch.at_end(hidden), model.logits(batch.at_end(last))  # (B, H), (B, V)
        memory = memory.masked_fill(~batch.frame_mask[..., None], 0)
        self._put(first, "memory", widened(memory))  # here, not at every step
        self._put(first, "frame_keys", widened(frame_keys))
        self._put(first, "frame_mask", batch.frame_mask)
        self._put(first, "matching", matching)
        self._put(first, "logits", logits)
        lengths = torch.tensor(batch.lengths, device=logits.device)
        self._put(first, "positions", lengths[:, None])
        self._lengths += batch.lengths

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; see `remaining_rows`."""
        self._cache.keep(rows, self._lengths)
        for store in self._state.values():
            keep_rows(store, rows)
        self._lengths = [self._lengths[row] for row in rows]

    def erase(self, row: int) -> None:
        """Overwrite a row that holds NaN or infinity with zeros, before it is removed."""
        self._cache.erase(row)
        for name in ("matching", "logits", "memory", "frame_keys"):
            self._state[name][row] = 0

    def step(self, embeds: Tensor) -> None:
        """Feed one token to each row.

        Args:
            embeds: (B, H), embeddings of the tokens.

        Raises:
            ReplayError: the first replay of a recorded step was wrong.
        """
        inputs = self._inputs(embeds)
        if self._graphs is None:
            outputs = compute_step(self.model, self._cache, inputs)
        else:
            self._cache.reserve(*inputs.shape)
            if self._cache.moves != self._moves:
                self._graphs.forget()
                self._moves = self._cache.moves
            outputs = self._graphs(inputs)
        self._state["matching"], self._state["logits"] = outputs
        self._state["positions"][: len(self)] += 1
        self._lengths = [length + 1 for length in self._lengths]

    def clear(self) -> None:
        """Remove all rows; memory and recordings remain."""
        self._lengths = []

    def _inputs(self, embeds: Tensor) -> StepInputs:
        """Return the inputs of a step; a recorded step has padding rows at position 0."""
        rows, block = len(self), _SPAN
        if self._graphs is not None:
            rows, block = step_rows(rows, max(rows, self.recorded_rows)), _RECORDED_SPAN
            embeds = torch.nn.functional.pad(embeds, (0, 0, 0, rows - len(self)))
        # Positions are not copied from the host, because the GPU would wait for the copy.
        positions = self._state["positions"][: len(self), 0]  # (B,)
        positions = torch.nn.functional.pad(positions, (0, rows - len(self)))
        span = -(-(max(self._lengths) + 1) // block) * block
        visible = torch.arange(span, device=embeds.device) <= positions[:, None, None]  # (B, 1, S)
        context = self.model.context(positions[:, None], visible)
        return StepInputs(embeds[:, None], positions, *context.rotary, context.mask)

    def evidence(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a time token would mean if it were predicted now.

        Returns:
            Relevance of the frames, (B, T), and the first and last frame of the interval, (B,)
            each, inclusive.
        """
        rows = slice(len(self))
        frame_mask = self._state["frame_mask"][rows]
        keys = self._state["frame_keys"][rows]
        return self.model.find_time(self.matching, keys, frame_mask)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed tokens: (B,) to (B, H), without the meaning of time tokens."""
        return self.model.get_input_embeddings()(tokens)  # type: ignore[no-any-return]

    def meaning(self, first: Tensor, last: Tensor) -> Tensor:
        """Return what time tokens add to their embeddings (paper, eq. 4).

        Args:
            first: (B,), first frame of each interval.
            last: (B,), last frame, inclusive.

        Returns:
            (B, H).
        """
        return interval_mean(self.memory, first, last).to(self.logits.dtype)

    def _put(self, first: int, name: str, values: Tensor) -> None:
        """Write rows of a state, (rows, T, ...); its memory grows as needed."""
        store, rows = self._state.get(name), first + len(values)
        frames = values.shape[1]
        if store is None or store.shape[0] < rows or store.shape[1] < frames:
            old = values.new_zeros(0, frames, *values.shape[2:]) if store is None else store
            shape = max(old.shape[0], rows), max(old.shape[1], frames), *values.shape[2:]
            store = values.new_zeros(shape)
            store[: old.shape[0], : old.shape[1]] = old
            self._state[name] = store
        store[first:rows, :frames] = values
        store[first:rows, frames:] = 0


def step_rows(rows: int, max_rows: int) -> int:
    """Return the number of rows that a recorded step computes.

    It is a power of two or `max_rows`, so that there are few recordings and no more memory than
    planned.

    Args:
        rows: number of rows to decode.
        max_rows: maximum number of rows.
    """
    return min(1 << (rows - 1).bit_length(), max_rows)


def compute_step(model: D2VLM, cache: RowCache, inputs: StepInputs) -> StepOutputs:
    """Compute a step.

    Args:
        model: decodes the rows.
        cache: keys and values of earlier positions.
        inputs: see `StepInputs`.

    Returns:
        States to compare with frames, (B, H), and logits, (B, V).
    """
    cache.step(inputs.positions, inputs.shape[1])
    rotary = inputs.cosines, inputs.sines
    context = DecoderContext(rotary, inputs.positions[:, None], inputs.mask, cache)
    config = model.config
    hidden = model.run_layers(inputs.embeds, 0, config.matching_layer, context)  # (B, 1, H)
    last = model.run_layers(hidden, config.matching_layer, config.layers, context)  # (B, 1, H)
    return hidden[:, -1], model.logits(last[:, -1])


class _IdleDecoders(list[BatchDecoder]):
    """Decoders without rows that have recorded steps of a model."""


def borrow_decoder(model: D2VLM, rows: int) -> BatchDecoder:
    """Return a decoder that records its steps; an idle one of this model if there is one.

    Args:
        model: decodes the rows.
        rows: maximum number of rows. An idle decoder for fewer rows is dropped, with its memory.
    """
    idle = cached_for_weights(model, _IdleDecoders)
    with suppress(IndexError):
        decoder = idle.pop()
        if decoder.recorded_rows >= rows:
            return decoder
    return BatchDecoder(model, recorded_rows=rows)


def give_back_decoder(decoder: BatchDecoder) -> None:
    """Remove a decoder's rows and keep it for the next call of `borrow_decoder`."""
    decoder.clear()
    cached_for_weights(decoder.model, _IdleDecoders)[:] = [decoder]
