"""Supervised fine-tuning: the released code's numbers, and what must not change them."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.nearly import ROUNDING
from tests.helpers.training_cases import (
    assert_alike,
    assert_golden_gradients,
    golden_model,
    golden_tensors,
    gradients,
    sft_samples,
)
from vidground.errors import InputError
from vidground.model.d2vlm import D2VLM
from vidground.training.data.collation import Collator
from vidground.training.data.samples import Response, SftSample
from vidground.training.objectives.batches import LossCounts
from vidground.training.objectives.forward import at_columns, embed, run_responses
from vidground.training.objectives.settings import SftSettings
from vidground.training.objectives.sft import SftLosses, sft_losses

pytestmark = [pytest.mark.smoke, pytest.mark.numbers]


SETTINGS = SftSettings()
CLOSE = {"rtol": 2e-6, "atol": 1e-6}


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return golden_model()


@pytest.fixture(scope="module")
def samples(model: D2VLM) -> list[SftSample]:
    return [*sft_samples(model), *sft_samples(model, "sft_referring")]


def losses_of(
    model: D2VLM, samples: list[SftSample], settings: SftSettings = SETTINGS
) -> SftLosses:
    return sft_losses(model, Collator.of(model.config, settings)(samples), settings)


@pytest.mark.parametrize("name", ["sft", "sft_referring"])
def test_losses_and_gradients(model: D2VLM, name: str) -> None:
    expected = golden_tensors(name)
    found = losses_of(model, sft_samples(model, name))
    grounded = len(expected["grounding_bce"])
    mean = found.cross_entropy.sum() / found.counts.tokens
    torch.testing.assert_close(mean[None], expected["loss_lm"], **CLOSE)
    torch.testing.assert_close(found.grounding[:grounded], expected["grounding_bce"], **CLOSE)
    torch.testing.assert_close(found.consistency[:grounded], expected["consistency_l1"], **CLOSE)
    total = found.total(SETTINGS)
    torch.testing.assert_close(total[None], expected["loss"], **CLOSE)
    assert_golden_gradients(gradients(model, total), expected)


@pytest.mark.parametrize("name", ["sft", "sft_referring"])
def test_token_log_probs(model: D2VLM, name: str) -> None:
    """Only the answer's logits are computed; they are those of the released whole sequence."""
    samples = sft_samples(model, name)
    (outputs,) = run_responses(model, Collator.of(model.config, SETTINGS)(samples))
    for row, sample in enumerate(samples):
        prompt, answer = sample.prompt, torch.tensor(sample.response.token_ids)
        start = len(prompt.before) + len(prompt.frames) + len(prompt.after) - 1
        logits = golden_tensors(name)["logits"][row, start : start + len(answer)]
        expected = logits.log_softmax(-1).gather(1, answer[:, None])[:, 0]
        found = outputs.log_probs[row, : len(answer)]
        torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)


def test_a_batch_is_its_rows(model: D2VLM, samples: list[SftSample]) -> None:
    """Different lengths, frames and questions; with and without evidence: as one by one."""
    together = losses_of(model, samples)
    for row, sample in enumerate(samples):
        alone = losses_of(model, [sample])
        for part in ("cross_entropy", "grounding", "consistency"):
            torch.testing.assert_close(
                getattr(together, part)[row], getattr(alone, part)[0], rtol=5e-6, atol=1e-6
            )


def test_accumulated_parts_are_the_batch(model: D2VLM, samples: list[SftSample]) -> None:
    whole = losses_of(model, samples)
    expected = gradients(model, whole.total(SETTINGS))
    parts = [losses_of(model, part) for part in (samples[:1], samples[1:])]
    counts = parts[0].counts + parts[1].counts
    assert counts == whole.counts == LossCounts(tokens=12 + 6 + 3, grounded=2, samples=3)
    total = parts[0].total(SETTINGS, counts) + parts[1].total(SETTINGS, counts)
    torch.testing.assert_close(total, whole.total(SETTINGS), **CLOSE)
    assert_alike(gradients(model, total), expected)


def test_layers_that_are_recomputed_change_nothing(model: D2VLM, samples: list[SftSample]) -> None:
    expected = gradients(model, losses_of(model, samples).total(SETTINGS))
    other = golden_model()
    other.gradient_checkpointing_enable({"use_reentrant": False})
    other.language_model.train()  # the rest has dropout when it trains
    assert_alike(gradients(other, losses_of(other, samples).total(SETTINGS)), expected)


def test_frames_as_patch_features(model: D2VLM, samples: list[SftSample]) -> None:
    def encoded(sample: SftSample) -> SftSample:
        features = model.encode_frames(sample.prompt.frames).detach()
        return replace(sample, prompt=replace(sample.prompt, frames=features))

    expected = gradients(model, losses_of(model, samples).total(SETTINGS))
    found = gradients(model, losses_of(model, list(map(encoded, samples))).total(SETTINGS))
    assert not any(name.startswith("vision") for name in found)
    assert_alike(found, {k: v for k, v in expected.items() if not k.startswith("vision")})


def test_bytes_are_normalised_as_the_released_frames_are(model: D2VLM) -> None:
    frames = torch.randint(0, 256, (3, 3, 56, 56), dtype=torch.uint8)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    sample = sft_samples(model, "sft_referring")[0]
    forms = [frames, (frames / 255 - mean) / std]
    as_bytes, as_floats = (
        losses_of(model, [replace(sample, prompt=replace(sample.prompt, frames=form))])
        for form in forms
    )
    torch.testing.assert_close(as_bytes.cross_entropy, as_floats.cross_entropy, **CLOSE)


def test_weights_leave_parts_out(model: D2VLM, samples: list[SftSample]) -> None:
    found = losses_of(model, samples)
    text = found.cross_entropy.sum() / 21
    grounding, consistency = found.grounding.sum() / 2, found.consistency.sum() / 2
    assert consistency.item() > 1
    no_consistency = found.total(SftSettings(consistency_weight=0))
    torch.testing.assert_close(no_consistency, text + 10 * grounding)
    neither = found.total(SftSettings(consistency_weight=0, grounding_weight=0))
    torch.testing.assert_close(neither, text)


def test_target_decay_of_the_settings_is_used(model: D2VLM, samples: list[SftSample]) -> None:
    same = losses_of(model, samples, SftSettings(target_decay=2.0))
    steeper = losses_of(model, samples, SftSettings(target_decay=8.0))
    torch.testing.assert_close(same.grounding, losses_of(model, samples).grounding)
    assert not torch.allclose(steeper.grounding[:2], same.grounding[:2], rtol=1e-2)


def test_without_visual_semantics_evidence_is_a_plain_token(
    model: D2VLM, samples: list[SftSample]
) -> None:
    settings = SftSettings(visual_semantics=False)
    batch = Collator.of(model.config, settings)(samples)
    (outputs,) = run_responses(model, batch, visual_semantics=False)
    logits = model(embed(model, batch), batch.position_ids, batch.visible())
    response = batch.responses[0]
    expected = at_columns(logits, response.columns).log_softmax(-1)
    expected = expected.gather(-1, response.labels[..., None])[..., 0]
    torch.testing.assert_close(
        outputs.log_probs[response.mask], expected[response.mask], rtol=0, atol=ROUNDING
    )
    (full,) = run_responses(model, batch)
    changed = (full.log_probs - outputs.log_probs).abs().detach()
    assert float(changed[:2, 0].max()) < 1e-5  # nothing was read of an <evi> before it
    assert float(changed[:2, 1:][response.mask[:2, 1:]].min()) > 1e-5


def test_without_evidence_stage_the_answer_is_left(model: D2VLM, samples: list[SftSample]) -> None:
    settings = SftSettings(evidence_stage=False)
    found = losses_of(model, samples, settings)
    assert found.counts.tokens == (12 - 3) + (6 - 2) + 3
    assert found.consistency.tolist() == [0, 0, 0]
    batch = Collator.of(model.config, settings)(samples)
    assert batch.responses[0].labels[0].tolist() == [50, 51, 301, 52, 53, 54, 301, 55, 0]
    # The <evi> before "52" is predicted by "51", the second one by "54".
    prompt = batch.prefix_length + len(samples[0].prompt.after)
    assert batch.responses[0].evidence_columns[0].tolist() == [[prompt + 1, prompt + 5]]
    assert found.grounding[:2].min().item() > 0.1


def test_16_bit_autocast_stays_close(model: D2VLM, samples: list[SftSample]) -> None:
    expected = losses_of(model, samples).total(SETTINGS)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses_of(model, samples).total(SETTINGS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=0)


@pytest.mark.parametrize(
    "response",
    [
        Response([301, 302, 301, 0], [(1, 2), (3, 4)]),
        Response([301, 301, 302, 301, 0], [(1, 2), (3, 4)]),
        Response([301, 301, 301, 301, 0], [(1, 2), (3, 4)]),
        Response([301, 302, 301, 301, 0], [(1, 2), (3, 4)]),
        Response([301, 302, 301, 0], []),
    ],
)
def test_evidence_and_intervals_must_match(model: D2VLM, response: Response) -> None:
    sample = SftSample(sft_samples(model)[0].prompt, response)
    for stage in (True, False):
        with pytest.raises(InputError, match="one <evi> for each interval"):
            losses_of(model, [sample], SftSettings(evidence_stage=stage))
