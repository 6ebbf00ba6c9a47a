"""That the two steps which `run_fpo_throughput.py` times compute the same."""

import pytest
import torch

from tests.helpers.packed_fpo import packed_fpo_loss
from tests.helpers.training_cases import golden_model, preference_samples
from tests.scripts.run_fpo_throughput import Sizes, Steps, Trained, largest_difference, make_model
from vidground.training.data.collation import Collator
from vidground.training.objectives.fpo import fpo_losses
from vidground.training.objectives.settings import FpoSettings

SETTINGS = FpoSettings()
TINY = Sizes(
    frames=5,
    answer=14,
    events=2,
    question=4,
    side=3,
    queries=4,
    vision_width=32,
    qformer_width=32,
    qformer_layers=2,
    text_width=64,
    text_layers=5,
    vocabulary=64,
)


def test_the_packed_step_gives_the_golden_losses_sample_by_sample() -> None:
    model = golden_model()
    collator = Collator.of(model.config, SETTINGS.sft)
    for sample in preference_samples(model):
        row = collator([sample])
        expected = fpo_losses(model, row, SETTINGS).total(SETTINGS)
        found = packed_fpo_loss(model, row, SETTINGS)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trained", ["released", "full-but-vision"])
@pytest.mark.parametrize("pixels", [False, True])
def test_both_steps_have_the_same_loss_and_gradients(trained: Trained, pixels: bool) -> None:
    steps = Steps(make_model(TINY, trained=trained), TINY, seed=1, pixels=pixels)
    (loss, ours), (expected, released) = steps.ours(), steps.released()
    assert loss == pytest.approx(expected, rel=1e-5)
    assert largest_difference(ours, released) < 1e-5
    names = {name for name, p in ours.named_parameters() if p.grad is not None}
    trainable = {name for name, p in ours.named_parameters() if p.requires_grad}
    assert {"evidence_head.1.weight", "frame_head.1.weight", "lm_head.weight"} < names
    # What is left out is not reached by any loss: it turns no state that is read.
    assert all("compressor" in name for name in trainable - names), trainable - names
