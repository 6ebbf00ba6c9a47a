"""Rows in decoding: one token further for all of them, whoever comes and goes.

No row sees another one or its padding; only how sums are grouped can depend on the other rows.
Knows no text and no settings.
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
"""Cached positions are looked at in multiples of this: sums over them are grouped alike then,
whatever the other rows are."""
_RECORDED_SPAN = 256
"""The same for steps that are recorded, of which there should be few."""


class Decoder:
    """Rows that are decoded together: their cache, evidence memory, and frames to match with.

    Rows stand at 0 … B - 1. `logits` (B, V) predict each row's next token, and `matching` (B, H)
    is the state to match evidence with. `add` and `keep` change the rows, `step` moves all of
    them on by one token.

    Args:
        recorded_rows: rows there will be at most, if steps are to be recorded and replayed
            (`StepGraphs`); memory for all of them is taken as soon as there are two, because
            growing it later would make every recording useless. 0: steps are not recorded.
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
        # Not a method of this object: in a cycle its memory would outlive it until a collection.
        compute = partial(compute_step, model, self._cache)
        self._graphs = StepGraphs(compute, recorder) if recorded_rows else None
        self._moves = 0

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def room(self) -> int:
        """Rows that memory is taken for."""
        return self._cache.rows

    @property
    def logits(self) -> Tensor:
        """(B, V): what comes next."""
        return self._state["logits"][: len(self)]

    @property
    def matching(self) -> Tensor:
        """(B, H): what a time token predicted now is matched by."""
        return self._state["matching"][: len(self)]

    @property
    def memory(self) -> Tensor:
        """(B, T, H): what the frames add to a time token; 0 at padding."""
        return self._state["memory"][: len(self)]

    def add(self, batch: PromptBatch) -> None:
        """Read new prompts, which become the last rows; what all begin with was read once."""
        model, config = self.model, self.model.config
        first, rows, length = len(self), len(batch.lengths), batch.embeds.shape[1]
        if first + rows > 1:
            self._cache.reserve(self.recorded_rows, length)
        self._cache.add(first, rows, length, shared_prefix(model, batch.prefix))
        batch = batch.after_prefix()
        context = model.context(batch.position_ids, batch.visible(), self._cache)
        hidden = model.run_layers(batch.embeds, 0, config.memory_layer, context)
        memory = batch.at_frames(hidden)
        hidden = model.run_layers(hidden, config.memory_layer, config.matching_layer, context)
        last = model.run_layers(hidden, config.matching_layer, config.layers, context)
        keys = last if config.frame_key_layer == config.layers else hidden
        frame_keys = model.frame_head(batch.at_frames(keys))
        matching, logits = batch.at_end(hidden), model.logits(batch.at_end(last))
        memory = memory.masked_fill(~batch.frame_mask[..., None], 0)
        self._put(first, "memory", widened(memory))  # once, and not at every step
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
        """Write zeros over a row that holds NaN or infinity, before it is removed."""
        self._cache.erase(row)
        for name in ("matching", "logits", "memory", "frame_keys"):
            self._state[name][row] = 0

    def step(self, embeds: Tensor) -> None:
        """Feed one embedded token per row, (B, H)."""
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
        """Remove all rows; memory and recordings are kept for others."""
        self._lengths = []

    def _inputs(self, embeds: Tensor) -> StepInputs:
        """The inputs of a step; recorded ones have rows of padding, at position 0."""
        rows, block = len(self), _SPAN
        if self._graphs is not None:
            rows, block = step_rows(rows, max(rows, self.recorded_rows)), _RECORDED_SPAN
            embeds = torch.nn.functional.pad(embeds, (0, 0, 0, rows - len(self)))
        # What the host knows of lengths is not copied to the GPU, which would wait for that.
        positions = self._state["positions"][: len(self), 0]
        positions = torch.nn.functional.pad(positions, (0, rows - len(self)))
        span = -(-(max(self._lengths) + 1) // block) * block
        visible = torch.arange(span, device=embeds.device) <= positions[:, None, None]
        context = self.model.context(positions[:, None], visible)
        return StepInputs(embeds[:, None], positions, *context.rotary, context.mask)

    def evidence(self) -> tuple[Tensor, Tensor, Tensor]:
        """Relevance (B, T) of the frames to a time token predicted now, and its interval.

        Returns:
            curve, and first and last frame, (B,) each, inclusive.
        """
        rows = slice(len(self))
        frame_mask = self._state["frame_mask"][rows]
        keys = self._state["frame_keys"][rows]
        return self.model.find_time(self.matching, keys, frame_mask)

    def embed(self, tokens: Tensor) -> Tensor:
        """(B,) tokens to (B, H) embeddings, without the meaning of evidence."""
        return self.model.get_input_embeddings()(tokens)  # type: ignore[no-any-return]

    def meaning(self, first: Tensor, last: Tensor) -> Tensor:
        """What a time token with these intervals adds to its embedding (paper, eq. 4): (B, H)."""
        return interval_mean(self.memory, first, last).to(self.logits.dtype)

    def _put(self, first: int, name: str, values: Tensor) -> None:
        """Write rows of a state, (rows, …) or (rows, T, …), which grows as needed."""
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


def step_rows(rows: int, most: int) -> int:
    """Rows that a recorded step computes for `rows` prompts, of which there are at most `most`.

    A power of two or `most`, so that there are few recordings and no more memory than planned.
    """
    return min(1 << (rows - 1).bit_length(), most)


def compute_step(model: D2VLM, cache: RowCache, inputs: StepInputs) -> StepOutputs:
    """The state to match with, and logits, after a step: (B, H) and (B, V)."""
    cache.step(inputs.positions, inputs.shape[1])
    rotary = inputs.cosines, inputs.sines
    context = DecoderContext(rotary, inputs.positions[:, None], inputs.mask, cache)
    config = model.config
    hidden = model.run_layers(inputs.embeds, 0, config.matching_layer, context)
    last = model.run_layers(hidden, config.matching_layer, config.layers, context)
    return hidden[:, -1], model.logits(last[:, -1])


class _IdleDecoders(list[Decoder]):
    """Decoders that have recorded steps for a model, and no rows."""


def borrow_decoder(model: D2VLM, rows: int) -> Decoder:
    """A decoder that records its steps, if possible one that has recorded some for this model.

    Args:
        rows: there will be at most. A decoder for fewer is let go, and its memory with it.
    """
    idle = cached_for_weights(model, _IdleDecoders)
    with suppress(IndexError):
        decoder = idle.pop()
        if decoder.recorded_rows >= rows:
            return decoder
    return Decoder(model, recorded_rows=rows)


def give_back_decoder(decoder: Decoder) -> None:
    """Keep a decoder for the next one to borrow; its rows are removed."""
    decoder.clear()
    cached_for_weights(decoder.model, _IdleDecoders)[:] = [decoder]
