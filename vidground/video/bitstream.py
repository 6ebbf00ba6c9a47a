"""Facts about coded pictures that containers do not store, read from their first bytes.

Knows bytes only: no files, no decoder.
"""

import re


def is_hidden_vp8(packet: memoryview) -> bool:
    """Return whether a VP8 picture is only for reference: bit 4 of its header is 0 (RFC 6386)."""
    return not packet[0] & 0x10


def holds_idr(packet: memoryview, parameter_sets: bytes) -> bool:
    """Return whether an H.264 packet holds a picture after which nothing refers to earlier ones.

    Such pictures are units of type 5 (ITU-T H.264, 7.3.1). Units follow start codes, or their
    length where the parameter sets have the form of ISO/IEC 14496-15, which starts with a 1.
    """
    if parameter_sets[:1] != b"\x01" or len(parameter_sets) < 5:
        return re.search(rb"\x00\x00\x01[\x25\x45\x65]", packet) is not None
    length_bytes = (parameter_sets[4] & 3) + 1
    start = 0
    while start + length_bytes < len(packet):
        unit = start + length_bytes
        if packet[unit] & 0x1F == 5:
            return True
        start = unit + int.from_bytes(packet[start:unit], "big")
    return False


def hevc_temporal_layers(parameter_sets: bytes) -> int | None:
    """Return the number of temporal layers the video parameter set states; None if not found.

    The set starts with its two-byte header (type 32, layer 0); two bytes on, after three flags
    and fields, three bits hold the number less one (ITU-T H.265, 7.3.2.1).
    """
    start = parameter_sets.find(b"\x40\x01")
    if start < 0 or len(parameter_sets) < start + 4:
        return None
    return (parameter_sets[start + 3] >> 1 & 7) + 1
