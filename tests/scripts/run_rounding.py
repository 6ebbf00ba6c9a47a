"""Count how many intervals stay the same when features or weights are rounded.

Not a test: it takes minutes.

    vidground data toy --out held-out --videos 60 --seed 99 --test-share 1
    python -m tests.scripts.run_rounding held-out --limit 40

Of every film the captions and all events that it holds are asked of the toy model as it is, with
features rounded to 16 and to 8 bits, and with the language model's weights in 8 bits. Intervals are
compared in their order: equal, and alike (an intersection over union of 0.9 or more).
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from vidground import CacheSettings, DecodingSettings
from vidground.export.parity import interval_overlaps
from vidground.inference.engine import Engine
from vidground.inference.inference_settings import InferenceSettings
from vidground.language.prompts import captioning_question, chat_prompt, grounding_question

LIKE = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="toy")
    parser.add_argument("--limit", type=int, default=40, help="films to ask about")
    options = parser.parse_args()
    films = json.loads((options.folder / "etbench" / "dvc.json").read_text())[: options.limit]
    settings = InferenceSettings(decoding=DecodingSettings(max_new_tokens=256))
    settings = replace(settings, dtype="float32")
    exact = Engine(options.model, settings)
    rounded = {
        f"features of {bits} bits": Engine(
            exact.model, replace(settings, cache=CacheSettings(max_gib=0, bits=bits))
        )
        for bits in (16, 8)
    }
    rounded["bfloat16"] = Engine(options.model, replace(settings, dtype="bfloat16"))
    for bits, weights in ((8, "int8"), (4, "int4")):
        rounded[f"weights of {bits} bits"] = Engine(
            options.model, replace(settings, weights=weights)
        )
    overlaps: dict[str, list[float]] = {name: [] for name in rounded}
    answers, same = 0, dict.fromkeys(rounded, 0)
    for film in films:
        texts = [captioning_question(), *map(grounding_question, dict.fromkeys(film["g"]))]
        prompts = [chat_prompt(text) for text in texts]
        path = options.folder / film["video"]
        wanted = [answer.generation for answer in exact.answer(path, prompts).answers]
        answers += len(wanted)
        for name, engine in rounded.items():
            found = [answer.generation for answer in engine.answer(path, prompts).answers]
            for mine, other in zip(wanted, found, strict=True):
                overlaps[name] += interval_overlaps(mine, other)
                same[name] += mine.token_ids == other.token_ids
    print(f"{len(films)} films, {answers} answers")
    for name, values in overlaps.items():
        alike = sum(value >= LIKE for value in values)
        equal = sum(value == 1 for value in values)
        print(
            f"{name}: {same[name]} answers of the same tokens; of {len(values)} intervals "
            f"{equal} are equal, {alike} alike ({alike / len(values):.1%})"
        )


if __name__ == "__main__":
    main()
