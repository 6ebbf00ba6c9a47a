"""Compute the numbers that `vidground doctor` compares with.

`python examples/make_self_test_numbers.py` is to be run after a change of the bundled model or of
the drawn film.
"""

import json
from pathlib import Path

import torch

import vidground.doctor
from vidground.checkpoints.loading import load_model
from vidground.doctor.numbers import GOLDEN, MODEL, golden_numbers


def main() -> None:
    """Write the file into the package that this interpreter imports."""
    content = golden_numbers(load_model(MODEL, dtype=torch.float64))
    path = Path(vidground.doctor.__path__[0]) / GOLDEN
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
