"""Matching: from similarities between `<vid>` and frames to the one frame that it stands for.

How E.T. Chat says times. Pure functions over tensors, batched, without a copy to the host. Knows no
model.
"""

from torch import Tensor

from vidground.model.evidence import similarity


def match_probabilities(said: Tensor, frame_keys: Tensor, frame_mask: Tensor) -> Tensor:
    """Probability that a `<vid>` means each frame: softmax over frames of said · frame_t.

    The frame of the highest probability is the one that the `<vid>` stands for. As in the released
    code, similarities are divided by √H in training only. That leaves the best frame the same, and
    makes these probabilities sharper than the trained ones.

    Args:
        said: (B, H) outputs of the head on the states that predict a `<vid>`.
        frame_keys: (B, T, H) outputs of the frame head.
        frame_mask: (B, T), false at padding.

    Returns:
        (B, T) float32 that sum to 1, 0 at padding.
    """
    scores = similarity(said, frame_keys) * float(said.shape[-1] ** 0.5)
    return scores.masked_fill(~frame_mask, float("-inf")).softmax(-1)
