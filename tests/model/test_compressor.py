"""Several questions about the same frames: the same tokens, with shared work done once."""

import threading

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers.onnx_exports import golden_model
from vidground.model.d2vlm import D2VLM

QUESTIONS = [[7, 8, 9], [4], [9, 9, 2, 5]]


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return golden_model()


def patches(model: D2VLM, count: int, seed: int = 0) -> Tensor:
    vision = model.config.vision_config
    number = (vision.image_size // vision.patch_size) ** 2
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, number, vision.hidden_size, generator=generator)


def alone(model: D2VLM, frames: Tensor) -> Tensor:
    """The tokens of every question alone."""
    return torch.stack([model.compress(frames, torch.tensor([q])) for q in QUESTIONS], dim=1)


@torch.inference_mode()
def test_questions_together_give_the_same_tokens_as_alone(model: D2VLM) -> None:
    for frames in (patches(model, 3), patches(model, 3, seed=1), patches(model, 1)):
        assert model.compress_each(frames, QUESTIONS).equal(alone(model, frames))
    # And nothing of them is left for later calls.
    assert not alone(model, patches(model, 3)).equal(alone(model, patches(model, 3, seed=1)))


@torch.inference_mode()
def test_threads_do_not_share_frames(model: D2VLM) -> None:
    wrong: list[int] = []
    wanted = [alone(model, patches(model, 2, seed)) for seed in range(4)]

    @torch.inference_mode()
    def ask(seed: int) -> None:
        found = [model.compress_each(patches(model, 2, seed), QUESTIONS) for _ in range(20)]
        wrong.extend(seed for tokens in found if not tokens.equal(wanted[seed]))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@torch.inference_mode()
def test_layers_that_do_not_depend_on_the_question_run_once(model: D2VLM) -> None:
    frames = patches(model, 2)
    reader, width = model.config.qformer_config, model.config.vision_config.hidden_size

    def counted(questions: list[list[int]]) -> int:
        with FlopCounterMode(display=False) as counter:
            model.compress_each(frames, questions)
        return int(counter.get_total_flops())

    crossing = len(range(0, reader.num_hidden_layers, reader.cross_attention_frequency))
    once = 2 * frames[..., 0].numel() * width * (2 * crossing * reader.hidden_size + width)
    assert counted([[4, 5]] * 3) == 3 * counted([[4, 5]]) - 2 * once
