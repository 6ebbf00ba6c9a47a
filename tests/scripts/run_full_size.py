"""Load a model of the released size with random weights and caption a short clip.

Not a test: it writes 10 GB, needs 13 GB of memory and takes minutes on a CPU.

    python -m tests.scripts.run_full_size FOLDER tests/videos/19_flower_vp8.webm

FOLDER gets a checkpoint in the released form (sharded, bfloat16), unless it holds one already.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.helpers.paths import GOLDEN
from tests.helpers.tokenizer_files import QUESTION_TOKENIZER, make_language_tokenizer
from vidground import D2VLM, DecodingSettings, DenseCaptioner

SHARD_BYTES = 2 << 30
# Phi-3-mini's sizes; the vision encoder's and the Q-Former's are never written down.
SIZES = {
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 32000,
    "eos_token_id": 32000,
    "evidence_token_id": 32011,
    "evidence_end_token_id": 32012,
    "vision_processor": "clip_center_224",
    "torch_dtype": "bfloat16",
}


def write_checkpoint(folder: Path) -> None:
    """Write random tensors of every name and shape in the official layout."""
    folder.mkdir(parents=True, exist_ok=True)
    layout = json.loads((GOLDEN / "official_layout.json").read_text())
    generator = torch.Generator().manual_seed(0)
    index: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    for name, shape in layout.items():
        if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES:
            write_shard(folder, shard, index)
        shard[name] = random_tensor(name, shape, generator)
    write_shard(folder, shard, index)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    config = json.loads((GOLDEN / "checkpoint" / "config.json").read_text()) | SIZES
    del config["tiny_overrides"]
    (folder / "config.json").write_text(json.dumps(config))
    make_language_tokenizer(
        folder,
        vocab_size=32064,
        evidence_id=32011,
        evidence_end_id=32012,
        turn_end_id=32007,
        pad_id=32000,
    )
    write_question_tokenizer(folder / "qformer_tokenizer")


def random_tensor(name: str, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    """Norms are 1 and biases 0, as at a training's start; all else is small noise."""
    if name.endswith("position_ids"):
        return torch.arange(shape[-1]).expand(shape).contiguous()
    norm = "norm" in name.lower() or name.endswith(("_ln.weight", "proj.0.weight", "head.0.weight"))
    if name.endswith("bias") or norm:
        return torch.full(shape, float(norm and name.endswith("weight")), dtype=torch.bfloat16)
    return torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02, generator=generator)


def write_shard(folder: Path, shard: dict[str, torch.Tensor], index: dict[str, str]) -> None:
    name = f"model-{len(set(index.values())) + 1:05d}.safetensors"
    save_file(shard, folder / name)
    index.update(dict.fromkeys(shard, name))
    shard.clear()


def write_question_tokenizer(folder: Path) -> None:
    """The tests' vocabulary, filled up to the rows of the official table."""
    folder.mkdir(exist_ok=True)
    words = (QUESTION_TOKENIZER / "vocab.txt").read_text().split("\n")
    words = [word for word in words if word]
    words += [f"[unused{number}]" for number in range(30522 - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    config = QUESTION_TOKENIZER / "tokenizer_config.json"
    (folder / "tokenizer_config.json").write_text(config.read_text())


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--tokens", type=int, default=8, help="new tokens per answer")
    options = parser.parse_args()
    if not (options.folder / "config.json").exists():
        start = time.perf_counter()
        write_checkpoint(options.folder)
        print(f"written: {time.perf_counter() - start:.0f} s", flush=True)
    start = time.perf_counter()
    dtype = getattr(torch, options.dtype)
    model = D2VLM.from_pretrained(options.folder, dtype=dtype, device=options.device)
    loaded = time.perf_counter()
    count = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"loaded: {count / 1e9:.2f} B parameters in {loaded - start:.0f} s, "
        f"peak {peak_gib():.1f} GiB",
        flush=True,
    )
    captioner = DenseCaptioner(model, decoding=DecodingSettings(max_new_tokens=options.tokens))
    captions = captioner.caption(options.video, on_progress=print)
    print(f"captioned: {time.perf_counter() - loaded:.0f} s, peak {peak_gib():.1f} GiB")
    print(captions.answers, captions.warnings)


if __name__ == "__main__":
    main()
