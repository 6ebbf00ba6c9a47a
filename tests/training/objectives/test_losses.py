"""The losses by hand arithmetic."""

import math

import pytest
import torch
from torch import Tensor

from vidground.errors import InputError
from vidground.training.objectives.losses import (
    FactorLogProbs,
    consistency_l1,
    grounding_bce,
    grounding_log_likelihood,
    preference,
    relevance_targets,
    sequence_log_prob,
    token_log_probs,
)
from vidground.training.objectives.settings import (
    FpoSettings,
    LoraSettings,
    ParameterSettings,
    SftSettings,
)

ALL = torch.tensor([[True]])


def factors(text: float, grounding: float) -> FactorLogProbs:
    return FactorLogProbs(torch.tensor([float(text)]), torch.tensor([float(grounding)]))


def targets_of(start: int, end: int, frames: int, decay: float) -> list[float]:
    found = relevance_targets(torch.tensor(start), torch.tensor(end), frames, decay=decay)
    return found.tolist()


def test_relevance_falls_by_the_decay_per_frame() -> None:
    assert targets_of(2, 3, 6, 2) == [0.25, 0.5, 1, 1, 0.5, 0.25]
    assert targets_of(0, 0, 3, 10) == pytest.approx([1, 0.1, 0.01])


def test_an_interval_beyond_the_last_frame_keeps_its_distance() -> None:
    assert targets_of(5, 7, 4, 2) == [2**-5, 2**-4, 2**-3, 2**-2]


def test_token_log_probs_and_their_sum() -> None:
    # softmax of (0, log 3) is (1/4, 3/4)
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, math.log(3)], [5.0, 1.0]]])
    log_probs = token_log_probs(logits, torch.tensor([[0, 1, 0]]))
    assert log_probs[0, :2].tolist() == pytest.approx([math.log(1 / 4), math.log(3 / 4)])
    total = sequence_log_prob(log_probs, torch.tensor([[True, True, False]]))
    assert total.item() == pytest.approx(math.log(3 / 16))


def test_token_log_probs_of_16_bit_logits_are_summed_in_32() -> None:
    logits = torch.zeros(1, 1, 1000, dtype=torch.bfloat16)
    found = token_log_probs(logits, torch.tensor([[7]]))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(-math.log(1000), rel=1e-6)


def grid(values: list[list[float]]) -> Tensor:
    """(B, 1, K = 1, T): one <evi> in one stage."""
    return torch.tensor(values)[:, None, None, :]


def test_grounding_bce_is_a_mean_over_real_entries() -> None:
    similarities = grid([[0.0, math.log(3), 99.0], [1.0, 2.0, 3.0]])  # p = 1/2, 3/4
    targets = torch.tensor([[[0.5, 1.0, 0.0]], [[1.0, 1.0, 1.0]]])
    evidence = torch.tensor([[True], [False]])
    frames = torch.tensor([[True, True, False], [True, True, True]])
    found = grounding_bce(similarities, targets, evidence, frames)
    assert found[0].item() == pytest.approx((math.log(2) - math.log(3 / 4)) / 2)
    assert found[1].item() == 0


def test_grounding_bce_weighs_both_stages_alike() -> None:
    one, two = grid([[0.3, -1.0]]), grid([[2.0, 0.1]])
    targets, frames = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[True, True]])
    both = grounding_bce(torch.cat((one, two), 1), targets, ALL, frames)
    single = [grounding_bce(stage, targets, ALL, frames) for stage in (one, two)]
    torch.testing.assert_close(both, (single[0] + single[1]) / 2)


def test_grounding_log_likelihood_is_a_sum() -> None:
    similarities = grid([[0.0, math.log(3), 99.0]])  # p = 1/2, 3/4
    targets = torch.tensor([[[1.0, 0.25, 0.0]]])
    frames = torch.tensor([[True, True, False]])
    found = grounding_log_likelihood(similarities, targets, ALL, frames)
    # y p + (1 - y)(1 - p): 1/2, and 3/16 + 3/16
    assert found.item() == pytest.approx(math.log(1 / 2) + math.log(3 / 8))


def test_grounding_log_likelihood_stays_finite_where_the_model_is_sure_and_wrong() -> None:
    similarities = grid([[-200.0]]).requires_grad_()
    found = grounding_log_likelihood(similarities, torch.ones(1, 1, 1), ALL, ALL)
    found.sum().backward()
    assert found.item() == pytest.approx(math.log(1e-10))
    assert similarities.grad is not None
    assert bool(similarities.grad.isfinite().all())


def test_consistency_is_a_mean_over_intervals_and_width() -> None:
    evidence = torch.zeros(2, 2, 2, 2)
    evidence[0, 0] = torch.tensor([[1.0, 2.0], [50.0, 50.0]])
    evidence[0, 1] = torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    mask = torch.tensor([[True, False], [False, False]])
    assert consistency_l1(evidence, mask).tolist() == [1.5, 0]
    assert consistency_l1(evidence, ~mask)[0].item() == 50
    assert consistency_l1(evidence[:, :1], mask).tolist() == [0, 0]  # one stage


def test_preference() -> None:
    terms = preference(factors(-3, -5), factors(-4, -8), beta=0.5)
    assert (terms.text_margin.item(), terms.grounding_margin.item()) == (1, 3)
    assert terms.loss.item() == pytest.approx(math.log(1 + math.exp(-0.5 * 4)))


def test_preference_swapped() -> None:
    one, other = factors(-3, -5), factors(-4, -8)
    swapped = preference(other, one, beta=0.5)
    assert (swapped.text_margin.item(), swapped.grounding_margin.item()) == (-1, -3)
    assert swapped.loss.item() == pytest.approx(math.log(1 + math.exp(0.5 * 4)))


def test_preference_in_one_factor_or_against_a_reference() -> None:
    one, other = factors(-3, -5), factors(-4, -8)
    text = preference(one, other, beta=1, grounding=False)
    assert text.loss.item() == pytest.approx(math.log(1 + math.exp(-1)))
    grounding = preference(one, other, beta=1, text=False)
    assert grounding.loss.item() == pytest.approx(math.log(1 + math.exp(-3)))
    reference = (factors(-1, -1), factors(-1.5, -2))
    against = preference(one, other, beta=1, reference=reference)
    assert (against.text_margin.item(), against.grounding_margin.item()) == (0.5, 2)
    assert against.loss.item() == pytest.approx(math.log(1 + math.exp(-2.5)))


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        (SftSettings, {"grounding_weight": -1}),
        (SftSettings, {"consistency_weight": -0.1}),
        (SftSettings, {"target_decay": 1}),
        (FpoSettings, {"beta": 0}),
        (FpoSettings, {"text": False, "grounding": False}),
        (LoraSettings, {"rank": 0}),
        (LoraSettings, {"alpha": 0}),
        (LoraSettings, {"dropout": 1}),
        (ParameterSettings, {"trained": "half"}),
        (ParameterSettings, {"learning_rate": 0}),
        (ParameterSettings, {"lora_learning_rate": 0}),
        (ParameterSettings, {"weight_decay": -1}),
    ],
)
def test_settings_refuse_what_has_no_meaning(settings: type, values: dict[str, object]) -> None:
    settings()
    with pytest.raises(InputError):
        settings(**values)
