import json
from math import prod

import pytest
import torch

from tests.helpers.paths import GOLDEN
from tests.helpers.random_models import prompts, tiny_config
from vidground import DecodingSettings, DenseCaptioner
from vidground.benchmark.random_model import mid_config, official_config, random_model, randomized
from vidground.errors import InputError
from vidground.generation.generation_queue import generate
from vidground.generation.prompt_batch import PromptInputs
from vidground.model.d2vlm import D2VLM

LAYOUT = GOLDEN / "official_layout.json"


@pytest.fixture(scope="module")
def model() -> D2VLM:
    return randomized(tiny_config())


def test_every_tenth_token_is_evidence_and_no_answer_ends(model) -> None:
    settings = DecodingSettings(max_new_tokens=43, loop_tokens=0)
    for answer in generate(model, prompts(model, 3, 9), settings):
        assert model.tokenizers.decode(answer.token_ids).replace(" ", "") == (
            "</evi>" + "<evi>abcdefghi" * 4 + "<evi>a"
        )
        assert answer.truncated
        assert [evidence.position for evidence in answer.evidence] == [1, 11, 21, 31, 41]


def test_answers_depend_on_all_layers(model) -> None:
    """Were the last layer left out, logits would differ; were evidence, what follows it would."""
    one, other = prompts(model, 5, 5)
    other = PromptInputs(other.before, other.after, other.frame_tokens.flip(0) * 1.5)
    settings = DecodingSettings(max_new_tokens=12, loop_tokens=0)
    first, second = (generate(model, [prompt], settings)[0] for prompt in (one, other))
    assert first.token_ids == second.token_ids
    assert not torch.allclose(first.evidence[1].curve, second.evidence[1].curve, atol=1e-3)


def test_relevance_is_spread(model) -> None:
    (answer,) = generate(model, prompts(model, 12), DecodingSettings(max_new_tokens=22))
    curves = torch.stack([evidence.curve for evidence in answer.evidence])
    assert curves.max() - curves.min() > 0.2


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        made = randomized(tiny_config(), seed=seed)
        return torch.cat([parameter.flatten() for parameter in made.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_the_official_size_is_the_released_one() -> None:
    with torch.device("meta"):
        ours = sum(parameter.numel() for parameter in D2VLM(official_config()).parameters())
    released = sum(
        prod(shape)
        for name, shape in json.loads(LAYOUT.read_text()).items()
        if not name.endswith("position_ids")
    )
    assert ours == pytest.approx(released, rel=1e-3)


def test_the_mid_size_works_with_a_captioner() -> None:
    assert mid_config().evidence_layer < mid_config().matching_layer
    captioner = DenseCaptioner(random_model("mid"))
    assert captioner.engine.model.config.image_size == 224


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"'large'.*official or mid"):
        random_model("large")
