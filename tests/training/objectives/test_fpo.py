"""Factorized preference optimization: the released code's numbers, and its symmetries."""

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
    preference_samples,
)
from vidground.model.d2vlm import D2VLM
from vidground.training.data.collation import Collator
from vidground.training.data.samples import PreferenceSample, Response, SftSample
from vidground.training.objectives.fpo import FpoLosses, fpo_losses, reference_log_probs
from vidground.training.objectives.objective import FpoObjective
from vidground.training.objectives.settings import FpoSettings, SftSettings
from vidground.training.objectives.sft import sft_losses

pytestmark = pytest.mark.numbers

SETTINGS = FpoSettings()
CLOSE = {"rtol": 2e-6, "atol": 1e-6}


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return golden_model()


@pytest.fixture(scope="module")
def samples(model: D2VLM) -> list[PreferenceSample]:
    return preference_samples(model)


def losses_of(
    model: D2VLM, samples: list[PreferenceSample], settings: FpoSettings = SETTINGS
) -> FpoLosses:
    return fpo_losses(model, Collator.of(model.config, settings.sft)(samples), settings)


def test_losses_and_gradients(model: D2VLM, samples: list[PreferenceSample]) -> None:
    expected = golden_tensors("fpo")
    found = losses_of(model, samples)
    mean = found.sft.cross_entropy.sum() / found.sft.counts.tokens
    torch.testing.assert_close(mean[None], expected["loss_lm"], **CLOSE)
    torch.testing.assert_close(found.sft.grounding, expected["grounding_bce"], **CLOSE)
    torch.testing.assert_close(found.sft.consistency, expected["consistency_l1"], **CLOSE)
    torch.testing.assert_close(found.preference.loss, expected["loss_dpo"], **CLOSE)
    log_probs = torch.stack(
        [factors.text + factors.grounding for factors in (found.chosen, found.rejected)], dim=1
    )
    torch.testing.assert_close(log_probs.double(), expected["logps_chosen_rejected"], **CLOSE)
    total = found.total(SETTINGS)
    torch.testing.assert_close(total[None], expected["loss"], **CLOSE)
    assert_golden_gradients(gradients(model, total), expected)


def test_swapping_chosen_and_rejected_negates_the_margins(
    model: D2VLM, samples: list[PreferenceSample]
) -> None:
    swapped = [replace(s, chosen=s.rejected, rejected=s.chosen) for s in samples]
    found, other = losses_of(model, samples), losses_of(model, swapped)
    for factor in ("text_margin", "grounding_margin"):
        margin = getattr(found.preference, factor)
        assert margin.abs().min().item() > 1
        torch.testing.assert_close(getattr(other.preference, factor), -margin, **CLOSE)


@pytest.mark.parametrize("imitation", [SftSettings(), SftSettings(visual_semantics=False)])
def test_responses_do_not_see_each_other(
    model: D2VLM, samples: list[PreferenceSample], imitation: SftSettings
) -> None:
    """Each has the probability that it has as the only response of its prompt."""
    settings, collate = FpoSettings(sft=imitation), Collator.of(model.config, imitation)
    found = losses_of(model, samples, settings)
    reference = reference_log_probs(model, collate(samples), settings)
    for index, name in enumerate(("chosen", "rejected")):
        alone = [SftSample(sample.prompt, getattr(sample, name)) for sample in samples]
        expected = -sft_losses(model, collate(alone), imitation).cross_entropy
        torch.testing.assert_close(getattr(found, name).text, expected, **CLOSE)
        torch.testing.assert_close(reference[index].text, expected.detach(), **CLOSE)


def test_accumulated_parts_are_the_batch(model: D2VLM, samples: list[PreferenceSample]) -> None:
    without_evidence = PreferenceSample(
        replace(samples[0].prompt, frames=samples[0].prompt.frames[:5]),
        Response([302, 60, 61, 0]),
        Response([302, 62, 0]),
    )
    samples = [*samples, without_evidence]
    whole = losses_of(model, samples)
    assert whole.grounded.tolist() == [True, True, False]
    assert whole.preference.grounding_margin[2].item() == 0
    preferred = whole.total(SETTINGS) - whole.sft.total(SETTINGS.sft)
    torch.testing.assert_close(preferred, whole.preference.loss.sum() / 3, rtol=0, atol=ROUNDING)
    expected = gradients(model, whole.total(SETTINGS))
    parts = [losses_of(model, [sample]) for sample in samples]
    counts = parts[0].sft.counts + parts[1].sft.counts + parts[2].sft.counts
    total = torch.stack([part.total(SETTINGS, counts) for part in parts]).sum()
    torch.testing.assert_close(total, whole.total(SETTINGS), **CLOSE)
    assert_alike(gradients(model, total), expected)


def test_layers_that_are_recomputed_change_nothing(
    model: D2VLM, samples: list[PreferenceSample]
) -> None:
    expected = gradients(model, losses_of(model, samples).total(SETTINGS))
    other = golden_model()
    other.gradient_checkpointing_enable({"use_reentrant": False})
    other.language_model.train()  # the rest has dropout when it trains
    assert_alike(gradients(other, losses_of(other, samples).total(SETTINGS)), expected)


def test_one_factor_alone(model: D2VLM, samples: list[PreferenceSample]) -> None:
    both = losses_of(model, samples).preference
    for factor in ("text", "grounding"):
        settings = replace(SETTINGS, **{"text": False, "grounding": False, factor: True}, beta=0.02)
        found = losses_of(model, samples, settings).preference
        margin = getattr(both, f"{factor}_margin")
        expected = -torch.log(torch.sigmoid(0.02 * margin))
        torch.testing.assert_close(found.loss, expected)
        torch.testing.assert_close(found.text_margin, both.text_margin)
        torch.testing.assert_close(found.grounding_margin, both.grounding_margin)


def test_a_model_is_indifferent_against_itself(
    model: D2VLM, samples: list[PreferenceSample]
) -> None:
    batch = Collator.of(model.config, SETTINGS.sft)(samples)
    reference = reference_log_probs(model, batch, SETTINGS)
    assert not reference[0].text.requires_grad
    found = fpo_losses(model, batch, SETTINGS, reference=reference)
    expected = torch.full((2,), 0.6931472)  # log 2
    torch.testing.assert_close(found.preference.loss, expected, rtol=0, atol=ROUNDING)


def means_of(model: D2VLM, samples: list[PreferenceSample]) -> dict[str, float]:
    """What is logged of a batch."""
    objective = FpoObjective(model, FpoSettings())
    batch = Collator.of(objective.config, SftSettings())(samples)
    return objective.means(objective(batch)["parts"].double().sum(0))


def test_the_log_has_the_means_of_each_factor(
    model: D2VLM, samples: list[PreferenceSample]
) -> None:
    means = means_of(model, samples)
    log_probs = golden_tensors("fpo")["logps_chosen_rejected"]
    chosen = means["text_chosen"] + means["grounding_chosen"]
    assert chosen == pytest.approx(float(log_probs[:, 0].mean()), rel=1e-5)
    margin = float((log_probs[:, 0] - log_probs[:, 1]).mean())
    assert means["text_margin"] + means["grounding_margin"] == pytest.approx(margin, rel=1e-5)
    assert means["preference"] == pytest.approx((7.36304235 + 0.01513016) / 2, rel=1e-5)
    likelier = losses_of(model, samples).preference.text_margin > 0
    assert means["text_accuracy"] == float(likelier.float().mean())
    text_only = [PreferenceSample(samples[0].prompt, Response([302, 60, 0]), Response([302, 0]))]
    assert not any("grounding" in name for name in means_of(model, text_only))


def test_ablations_of_the_imitation_hold_for_preferences(
    model: D2VLM, samples: list[PreferenceSample]
) -> None:
    settings = FpoSettings(sft=SftSettings(evidence_stage=False, visual_semantics=False))
    found = losses_of(model, samples, settings)
    assert found.sft.counts.tokens == (12 - 3) + (6 - 2)
    assert found.sft.consistency.tolist() == [0, 0]
    # Half as many <evi> are scored as with the evidence stage.
    assert found.chosen.grounding[0] > losses_of(model, samples).chosen.grounding[0] * 0.75


def test_steps_make_the_chosen_responses_likelier_in_both_factors(
    samples: list[PreferenceSample],
) -> None:
    model = golden_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before = losses_of(model, samples)
    for _ in range(10):
        optimizer.zero_grad()
        losses_of(model, samples).total(SETTINGS).backward()
        optimizer.step()
    after = losses_of(model, samples)
    assert after.total(SETTINGS).item() < 0.7 * before.total(SETTINGS).item()
    for factor in ("text_margin", "grounding_margin"):
        gained = getattr(after.preference, factor) - getattr(before.preference, factor)
        assert gained[0].item() > 1  # the pair that was ordered wrongly
