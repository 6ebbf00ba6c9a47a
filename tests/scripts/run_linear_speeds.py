"""Speed of linear layers with weights in 8 and 4 bits beside those of full size, on one CPU thread.

    python -m tests.scripts.run_linear_speeds [--inputs 3072] [--outputs 9216]

The default is the released language model's largest layer. Prints milliseconds by rows (the best of
several calls, which alternate) and the relative error of the product with random weights.
"""

import argparse
import time

import torch
from torch import nn

from vidground.model.int4_linear import Int4Linear
from vidground.model.int8_linear import Int8Linear

ROWS = (1, 8, 32, 128, 500)
ROUNDS = 7


def fastest(layers: dict[str, nn.Module], inputs: torch.Tensor) -> dict[str, float]:
    """Time each layer several times, in turns; return the best in milliseconds."""
    best = dict.fromkeys(layers, float("inf"))
    for _ in range(ROUNDS):
        for name, layer in layers.items():
            begin = time.perf_counter()
            layer(inputs)
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begin))
    return best


def main() -> None:
    """Print a table for each dtype."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=3072)
    parser.add_argument("--outputs", type=int, default=9216)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    exact = nn.Linear(arguments.inputs, arguments.outputs, bias=False)
    for dtype in (torch.bfloat16, torch.float32):
        full = nn.Linear(arguments.inputs, arguments.outputs, bias=False, dtype=dtype)
        full.load_state_dict(exact.state_dict())
        layers = {"full": full, "int8": Int8Linear(full), "int4": Int4Linear(full)}
        print(f"\n| {dtype}, rows | {' | '.join(f'{n} ms | {n} error' for n in layers)} |")
        print(f"|---|{'---|' * 2 * len(layers)}")
        for rows in ROWS:
            inputs = torch.randn(rows, arguments.inputs, dtype=dtype)
            with torch.inference_mode():
                truth = exact.double()(inputs.double())
                errors = {
                    name: float((layer(inputs) - truth).norm() / truth.norm())
                    for name, layer in layers.items()
                }
                taken = fastest(layers, inputs)
            cells = " | ".join(f"{taken[n]:.1f} | {100 * errors[n]:.1f} %" for n in layers)
            print(f"| {rows} | {cells} |", flush=True)
            exact.float()


if __name__ == "__main__":
    main()
