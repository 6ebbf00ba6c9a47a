"""The FPO step as the released code does it, on our model's weights: what ours is measured against.

One sample at a time. A first pass takes the prompt up to its frames through all layers, although
the evidence memory comes out of an early one; a second pass takes everything again, chosen and
rejected response packed behind the prompt and hidden from each other by a mask. Both give logits
at every position, in float32, and both heads run over every position. What the released code does
beyond that to check itself, or in Python loops over frames, is left out.
"""

import torch
from torch import Tensor
from torch.nn import functional

from vidground.model.d2vlm import D2VLM
from vidground.model.evidence import interval_means
from vidground.training.objectives.batches import TrainingBatch
from vidground.training.objectives.forward import at_columns, embed
from vidground.training.objectives.losses import relevance_targets
from vidground.training.objectives.settings import FpoSettings


def packed_fpo_loss(model: D2VLM, batch: TrainingBatch, settings: FpoSettings) -> Tensor:
    """The loss of one sample; `batch` is of one row, so that nothing in it is padding."""
    assert len(batch.token_ids) == 1
    assert bool(batch.real.all())
    assert settings.text
    assert settings.grounding
    layers = model.config.text_config.num_hidden_layers
    visible, split = batch.visible(), batch.prefix_length
    embeds = embed(model, batch)
    states, _ = _whole_pass(
        model, embeds[:, :split], batch.position_ids[:, :split], visible[:, :split, :split]
    )
    memory = at_columns(states[model.config.evidence_layer], batch.frame_columns)
    meaning = interval_means(memory, batch.evidence.first, batch.evidence.last)
    columns = batch.evidence.columns.unsqueeze(-1).expand_as(meaning)
    embeds = embeds.scatter_add(1, columns, meaning)
    states, logits = _whole_pass(model, embeds, batch.position_ids, visible)
    frames = at_columns(model.frame_head(states[layers - 1]), batch.frame_columns)[0]
    evidence = model.evidence_head(states[layers - 1])[0]
    chosen, rejected = (
        _log_prob(model, batch, index, logits[0], evidence, frames) for index in (0, 1)
    )
    preference = -functional.logsigmoid(settings.beta * (chosen - rejected))
    return preference + _imitation(model, batch, settings, logits[0], evidence, frames)


def _whole_pass(
    model: D2VLM, embeds: Tensor, position_ids: Tensor, visible: Tensor
) -> tuple[list[Tensor], Tensor]:
    """The states before and after every layer, and the logits at every position."""
    context = model.context(position_ids, visible)
    states = [embeds]
    for layer in range(model.config.text_config.num_hidden_layers):
        states.append(model.run_layers(states[-1], layer, layer + 1, context))
    return states, model.logits(states[-1]).float()


def _log_prob(
    model: D2VLM, batch: TrainingBatch, index: int, logits: Tensor, evidence: Tensor, frames: Tensor
) -> Tensor:
    """log π of a response: its tokens, and its intervals."""
    response = batch.responses[index]
    text = logits[response.columns[0]].log_softmax(-1).gather(1, response.labels[0][:, None]).sum()
    if response.evidence_mask.shape[1] == 0:
        return text
    p = _similarities(batch, index, evidence, frames).sigmoid()
    y = _targets(model, batch, index)
    return text + (y * p + (1 - y) * (1 - p) + 1e-10).log().sum()


def _imitation(
    model: D2VLM,
    batch: TrainingBatch,
    settings: FpoSettings,
    logits: Tensor,
    evidence: Tensor,
    frames: Tensor,
) -> Tensor:
    """The SFT loss of the chosen response; cross-entropy over all positions, most of them void."""
    response = batch.responses[0]
    labels = torch.full_like(batch.token_ids[0], -100)
    labels[response.columns[0]] = response.labels[0]
    loss = functional.cross_entropy(logits, labels)
    if response.evidence_mask.shape[1] == 0:
        return loss
    scores = _similarities(batch, 0, evidence, frames)
    bce = functional.binary_cross_entropy_with_logits(scores, _targets(model, batch, 0))
    both = evidence[response.evidence_columns[0]]
    l1 = functional.l1_loss(both[0], both[1])
    return loss + settings.sft.grounding_weight * bce + settings.sft.consistency_weight * l1


def _similarities(batch: TrainingBatch, index: int, evidence: Tensor, frames: Tensor) -> Tensor:
    """(2K, T): the `<evi>` of both stages against the frames."""
    said = evidence[batch.responses[index].evidence_columns[0].flatten()]
    return (said @ frames.t() / frames.shape[-1] ** 0.5).float()


def _targets(model: D2VLM, batch: TrainingBatch, index: int) -> Tensor:
    response = batch.responses[index]
    starts, ends = response.starts[0].repeat(2), response.ends[0].repeat(2)
    decay = model.config.target_decay
    return relevance_targets(starts, ends, batch.frame_mask.shape[1], decay=decay)
