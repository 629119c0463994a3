"""The smallest valid gzip of some bytes: what a download has to carry.

`gzip -9` looks for repeated runs first, and on weights that take few values it finds short ones that cost more than they
save. zlib has other strategies, one of which is usually smaller; every gzip reads them all.
"""

import zlib

STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)
MEMORY_LEVELS = (6, 7, 8, 9)
"""How many symbols share one table of codes: fewer follow the data more closely, more need fewer tables."""
HOW = "bytes of the smallest gzip (zlib's strategies)"
_GZIP = 16
"""Added to the window's size, it asks zlib for gzip's header and checksum, without a time."""


def smallest_gzip(data: bytes) -> bytes:
    """The smallest gzip that zlib's strategies make of some bytes; equal bytes give equal ones."""
    return min((_gzip(data, strategy, memory) for strategy in STRATEGIES for memory in MEMORY_LEVELS), key=len)


def _gzip(data: bytes, strategy: int, memory: int) -> bytes:
    packer = zlib.compressobj(zlib.Z_BEST_COMPRESSION, zlib.DEFLATED, _GZIP + zlib.MAX_WBITS, memory, strategy)
    return packer.compress(data) + packer.flush()
