"""Prompts as tensors: text and frames embedded, padded to a batch, with their attention mask.

Knows the model's embeddings only; neither the decode loop nor text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidground.errors import InputError
from vidground.model.d2vlm import D2VLM
from vidground.model.evidence import interval_frames, interval_mean


@dataclass(frozen=True)
class PromptInputs:
    """One prompt, before it is embedded.

    Attributes:
        before: token ids of the text before the frames.
        after: token ids of the text after the frames.
        frame_tokens: (T, H), T >= 1.
        spans: interval that each time token of the text refers to, in order, in frames (seconds
            times sampled frames per second); rounded and clamped to the T frames.
    """

    before: Sequence[int]
    after: Sequence[int]
    frame_tokens: Tensor
    spans: Sequence[tuple[float, float]] = ()

    def __len__(self) -> int:
        return len(self.before) + self.frame_tokens.shape[0] + len(self.after)


@dataclass(frozen=True)
class PromptBatch:
    """B prompts, padded on the right to one length L, with at most T frames.

    Attributes:
        embeds: (B, L, H).
        position_ids: (B, L), 0 at the first token of the prompt.
        lengths: number of tokens and frames of each prompt.
        frame_index: (B, T), position of each frame; 0 at padding.
        frame_mask: (B, T) bool, false at padding.
        token_ids: text tokens of each prompt, without frames.
        prefix: text tokens that all prompts begin with.
        skipped: number of positions before `embeds`, which are cached.
    """

    embeds: Tensor
    position_ids: Tensor
    lengths: tuple[int, ...]
    frame_index: Tensor
    frame_mask: Tensor
    token_ids: tuple[tuple[int, ...], ...]
    prefix: tuple[int, ...]
    skipped: int = 0

    def after_prefix(self) -> PromptBatch:
        """Return the same prompts without the positions of `prefix`."""
        embeds, position_ids = (x[:, len(self.prefix) :] for x in (self.embeds, self.position_ids))
        skipped = self.skipped + len(self.prefix)
        return replace(self, embeds=embeds, position_ids=position_ids, prefix=(), skipped=skipped)

    def visible(self) -> Tensor:
        """Return the attention mask, (B, L, skipped + L) bool.

        It is causal, except that frames see each other in both directions (paper, section 4.1).
        Padding comes last, so that no real position sees it.
        """
        positions = self.position_ids
        rows, length = len(positions), self.skipped + positions.shape[1]
        is_frame = torch.zeros(rows, length, dtype=torch.bool, device=positions.device)
        is_frame.scatter_(1, self.frame_index, self.frame_mask)
        # scatter wrote padding to position 0, which may be a frame.
        is_frame[:, 0] = (self.frame_mask & (self.frame_index == 0)).any(1)
        among_frames = is_frame[:, self.skipped :, None] & is_frame[:, None, :]
        columns = torch.arange(length, device=positions.device)
        return (columns <= positions[:, :, None]) | among_frames

    def at_end(self, states: Tensor) -> Tensor:
        """Select the states of each prompt's last token: (B, L, H) to (B, H)."""
        rows = torch.arange(len(self.lengths), device=states.device)
        return states[rows, torch.tensor(self.lengths, device=states.device) - 1 - self.skipped]

    def at_frames(self, states: Tensor) -> Tensor:
        """Select the states of the frames: (B, L, H) to (B, T, H); arbitrary values at padding."""
        index = (self.frame_index - self.skipped).clamp(min=0)
        return states.gather(1, index.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


def check_prompt(model: D2VLM, prompt: PromptInputs) -> None:
    """Check that there are frames, and a span for every time token of the text.

    Raises:
        InputError: there are not.
    """
    if prompt.frame_tokens.shape[0] == 0:
        raise InputError("a prompt has 0 frames; it needs at least 1")
    references = [*prompt.before, *prompt.after].count(model.config.time_token_id)
    if references != len(prompt.spans):
        raise InputError(
            f"the question holds {references} time tokens and {len(prompt.spans)} spans are "
            "given; give one for each"
        )


def embed_prompt(model: D2VLM, prompt: PromptInputs) -> Tensor:
    """Embed a prompt; time tokens of the text add the mean of the frames that they refer to.

    Args:
        model: embeds the text.
        prompt: of L tokens and frames.

    Returns:
        (L, H).

    Raises:
        InputError: see `check_prompt`.
    """
    check_prompt(model, prompt)
    frames = prompt.frame_tokens
    ids = torch.tensor([*prompt.before, *prompt.after], device=frames.device, dtype=torch.long)
    text = model.get_input_embeddings()(ids)  # (L - T, H)
    places = (ids == model.config.time_token_id).nonzero().squeeze(1)  # (E,)
    if prompt.spans:
        start, end = torch.tensor(prompt.spans, device=frames.device, dtype=torch.float64).T
        first, last = interval_frames(start, end, frames.shape[0])  # (E,), (E,)
        meaning = interval_mean(frames.expand(len(places), -1, -1), first, last)  # (E, H)
        text = text.index_add(0, places, meaning.to(text.dtype))
    split = len(prompt.before)
    return torch.cat((text[:split], frames.to(text.dtype), text[split:]))


def batch_prompts(model: D2VLM, prompts: Sequence[PromptInputs], *, length: int = 0) -> PromptBatch:
    """Embed prompts and pad them to one batch.

    Args:
        model: embeds the text.
        prompts: at least one.
        length: minimum length of the padded prompts.

    Raises:
        InputError: see `check_prompt`.
    """
    device = prompts[0].frame_tokens.device
    lengths = tuple(len(prompt) for prompt in prompts)
    length = max(length, *lengths)
    max_frames = max(prompt.frame_tokens.shape[0] for prompt in prompts)
    rows = [embed_prompt(model, prompt) for prompt in prompts]
    embeds = rows[0].new_zeros(len(rows), length, rows[0].shape[-1])  # (B, L, H)
    for row, embedded in enumerate(rows):
        embeds[row, : len(embedded)] = embedded
    frames = torch.tensor([p.frame_tokens.shape[0] for p in prompts], device=device)  # (B,)
    first_frame = torch.tensor([len(p.before) for p in prompts], device=device)  # (B,)
    columns = torch.arange(max_frames, device=device)
    frame_mask = columns < frames[:, None]  # (B, T)
    return PromptBatch(
        embeds=embeds,
        position_ids=torch.arange(length, device=device).expand(len(rows), -1),
        lengths=lengths,
        frame_index=(first_frame[:, None] + columns).masked_fill(~frame_mask, 0),
        frame_mask=frame_mask,
        token_ids=tuple((*p.before, *p.after) for p in prompts),
        prefix=_common_prefix(model, prompts),
    )


def _common_prefix(model: D2VLM, prompts: Sequence[PromptInputs]) -> tuple[int, ...]:
    """Return the text before the frames if it is the same in all prompts and refers to no frame."""
    first = tuple(prompts[0].before)
    refers = model.config.time_token_id in first
    same = all(tuple(prompt.before) == first for prompt in prompts)
    return first if same and not refers else ()
