"""The smallest valid gzip of some bytes: what a download has to carry.

`gzip -9` looks for repeated runs first, and on weights that take few values it finds short ones that cost more than they
save. zlib has other strategies, one of which is usually smaller, and another one suits the rest of a file; every gzip
reads them all.
"""

import itertools
import struct
import zlib
from collections.abc import Iterator

STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)
MEMORY_LEVELS = (6, 7, 8, 9)
"""How many symbols share one table of codes: fewer follow the data more closely, more need fewer tables."""
PIECES, SMALLEST_PIECE = 16, 1024
"""Into how many pieces the bytes are cut to see which strategy suits each, and the fewest bytes of one."""
HOW = "bytes of the smallest gzip (zlib's strategies)"
_WINDOW = 1 << zlib.MAX_WBITS
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\2\xff"
"""gzip's, without a name or a time."""


def smallest_gzip(data: bytes) -> bytes:
    """The smallest gzip that zlib's strategies make of some bytes, whole or in pieces; equal bytes give equal ones."""
    whole = (_deflated(data, 0, len(data), strategy, memory) for strategy in STRATEGIES for memory in (8, 9))
    stream = min((*whole, _in_pieces(data)), key=len)
    return _HEADER + stream + struct.pack("<II", zlib.crc32(data), len(data) % (1 << 32))


def _in_pieces(data: bytes) -> bytes:
    """Neighbouring pieces that one strategy suits best, each run of them by that one."""
    runs = [
        min((_deflated(data, start, end, strategy, memory) for memory in MEMORY_LEVELS), key=len)
        for strategy, start, end in _runs(data)
    ]
    return b"".join(runs)


def _runs(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Strategy, first byte and end of each run of pieces."""
    size = max(SMALLEST_PIECE, -(-len(data) // PIECES))
    starts = range(0, max(len(data), 1), size)
    # A lower level finds the same strategies in a fraction of the time.
    best = [min(STRATEGIES, key=lambda s: len(_deflated(data, at, at + size, s, 8, level=6))) for at in starts]
    for strategy, run in itertools.groupby(zip(best, starts, strict=True), key=lambda one: one[0]):
        places = [start for _, start in run]
        yield strategy, places[0], min(places[-1] + size, len(data))


def _deflated(
    data: bytes, start: int, end: int, strategy: int, memory: int, level: int = zlib.Z_BEST_COMPRESSION
) -> bytes:
    """A part of the bytes as a part of a deflate stream, which may repeat what comes before it."""
    before = data[max(0, start - _WINDOW) : start]
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, memory, strategy, before)
    last = end >= len(data)
    return packer.compress(data[start:end]) + packer.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)
