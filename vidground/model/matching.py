"""Matching: from the similarity of a `<vid>` to the frames to the one frame that it means.

This is how E.T. Chat expresses times. Pure functions on batched tensors, without copies to the
host. Knows no model.
"""

from torch import Tensor

from vidground.model.evidence import similarity


def match_probabilities(said: Tensor, frame_keys: Tensor, frame_mask: Tensor) -> Tensor:
    """Compute the probability that a `<vid>` means each frame: softmax of said · frame_t.

    The `<vid>` means the frame of the highest probability. As in the released code, similarities
    are divided by √H in training only. This does not change the best frame, and makes these
    probabilities sharper than the trained ones.

    Args:
        said: (B, H) outputs of the head on the states that predict a `<vid>`.
        frame_keys: (B, T, H) outputs of the frame head.
        frame_mask: (B, T), false at padding.

    Returns:
        (B, T) float32, which sum to 1 and are 0 at padding.
    """
    scores = similarity(said, frame_keys) * float(said.shape[-1] ** 0.5)
    return scores.masked_fill(~frame_mask, float("-inf")).softmax(-1)
