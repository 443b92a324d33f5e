"""Which Gaussians each tile of the picture draws, from near to far: sorting for the CPU rasteriser.

Axes: N Gaussians, P (Gaussian, tile) pairs. A pair has two numbers: its place in the list of its tile, where
compositing walks, and its slot among the pairs of its Gaussian, where gradients are kept and summed. Pairs are dealt to
the tiles range by range of the Gaussians, each range to its own part of every list, and then every tile sorts its own.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TILE_WIDTH = 64  # pixels; a multiple of the compositor's block, as the height is
TILE_HEIGHT = 32

# A Gaussian's tiles: a rectangle in the grid of tiles, and the first of its gradient slots.
FIRST_TILE, TILES_ACROSS, TILES_DOWN, FIRST_SLOT = 0, 1, 2, 3

# A pair in one 64-bit word: Gaussian in the upper half, slot in the lower.
HALF_WORD = np.uint64(32)
LOWER_HALF = np.uint64(0xFFFFFFFF)

RADIX_BITS = 8  # four digits cover the bits of a float; a digit that is the same for all is skipped
BUCKETS = 1 << RADIX_BITS


@njit(nogil=True, cache=True)
def count_pairs(begin, end, spans, tiles_x, counts):
    """Count how many Gaussians of a range each tile draws; return the number of pairs."""
    counts[:] = 0
    num_pairs = 0
    for n in range(begin, end):
        num_pairs += spans[n, TILES_ACROSS] * spans[n, TILES_DOWN]
        for down in range(spans[n, TILES_DOWN]):
            row = spans[n, FIRST_TILE] + down * tiles_x
            for tile in range(row, row + spans[n, TILES_ACROSS]):
                counts[tile] += 1
    return num_pairs


@njit(nogil=True, cache=True)
def place_ranges(counts, tile_starts):
    """Write where each tile's list starts, and in place of the counts where each range's part of it does."""
    place = 0
    for tile in range(counts.shape[1]):
        tile_starts[tile] = place
        for part in range(counts.shape[0]):
            place, counts[part, tile] = place + counts[part, tile], place
    tile_starts[counts.shape[1]] = place


@njit(nogil=True, cache=True)
def deal_pairs(begin, end, slot, spans, depth_bits, tiles_x, cursor, keys, pairs):
    """Write a range's pairs with their depths into the tiles' lists, in the order of the Gaussians, and number their slots."""
    for n in range(begin, end):
        spans[n, FIRST_SLOT] = slot
        for down in range(spans[n, TILES_DOWN]):
            row = spans[n, FIRST_TILE] + down * tiles_x
            for tile in range(row, row + spans[n, TILES_ACROSS]):
                place = cursor[tile]
                cursor[tile] = place + 1
                keys[place] = depth_bits[n]
                pairs[place] = (np.uint64(n) << HALF_WORD) | np.uint64(slot)
                slot += 1


@njit(nogil=True, cache=True)
def sort_tiles(tiles, tile_starts, keys, pairs, spare_keys, spare_pairs):
    """Order some tiles' lists by depth, ties by index: a stable radix sort, positive floats sort like their bits."""
    counts = np.empty(BUCKETS, np.int64)
    mask = np.uint32(BUCKETS - 1)
    for tile in tiles:
        start, end = tile_starts[tile], tile_starts[tile + 1]
        source_keys, source_pairs = keys[start:end], pairs[start:end]
        target_keys, target_pairs = spare_keys[start:end], spare_pairs[start:end]
        size, in_spare = end - start, False
        for digit in range(32 // RADIX_BITS):
            shift = np.uint32(digit * RADIX_BITS)
            counts[:] = 0
            for i in range(size):
                counts[(source_keys[i] >> shift) & mask] += 1
            if size == 0 or counts[(source_keys[0] >> shift) & mask] == size:
                continue
            place = 0
            for bucket in range(BUCKETS):
                place, counts[bucket] = place + counts[bucket], place
            for i in range(size):
                bucket = (source_keys[i] >> shift) & mask
                place = counts[bucket]
                counts[bucket] = place + 1
                target_keys[place] = source_keys[i]
                target_pairs[place] = source_pairs[i]
            source_keys, target_keys = target_keys, source_keys
            source_pairs, target_pairs = target_pairs, source_pairs
            in_spare = not in_spare
        if in_spare:
            pairs[start:end] = source_pairs
