"""Running out of memory. Uses torch only where it is loaded already, so that importing is cheap."""

import sys


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the GPU or torch on the CPU had no memory left."""
    torch = sys.modules.get("torch")  # a run without torch has no such error
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # On the CPU torch raises a plain RuntimeError.
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return on_cpu or isinstance(error, MemoryError)


def release_memory() -> None:
    """Give back what torch keeps of the GPU's memory for later."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
