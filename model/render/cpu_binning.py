"""Which Gaussians each tile of the picture draws, from near to far: sorting for the CPU rasteriser.

Axes: N Gaussians, M of them visible, P (Gaussian, tile) pairs. A pair has two numbers: its place in the list of its
tile, where compositing walks, and its place among the pairs of its Gaussian, where gradients are kept and summed.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TILE_WIDTH = 64  # pixels; the compositor keeps one bit per column in a 64-bit word
TILE_HEIGHT = 32
RADIX_BITS = 11  # three digits cover the 31 bits of a positive float


@njit(nogil=True, cache=True)
def sort_by_depth(boxes, depth_bits, order, spare_order, keys, spare_keys):
    """Order the visible Gaussians by depth, ties by index: a stable radix sort on the bits of positive floats.

    Returns:
        The number M of visible Gaussians; `order` holds their indices.
    """
    count = 0
    for n in range(boxes.shape[0]):
        if boxes[n, 2] > 0:
            order[count] = n
            keys[count] = depth_bits[n]
            count += 1
    buckets = 1 << RADIX_BITS
    counts = np.empty(buckets, np.int64)
    for digit in range(3):
        shift, mask = np.uint32(digit * RADIX_BITS), np.uint32(buckets - 1)
        counts[:] = 0
        for i in range(count):
            counts[(keys[i] >> shift) & mask] += 1
        start = 0
        for bucket in range(buckets):
            size = counts[bucket]
            counts[bucket] = start
            start += size
        for i in range(count):
            bucket = (keys[i] >> shift) & mask
            place = counts[bucket]
            counts[bucket] = place + 1
            spare_keys[place] = keys[i]
            spare_order[place] = order[i]
        keys, spare_keys = spare_keys, keys
        order, spare_order = spare_order, order
    spare_order[:count] = order[:count]  # three passes end in the spare array
    return count


@njit(nogil=True, cache=True)
def count_pairs(boxes, order, count, tiles_x, tile_starts, num_pairs):
    """Write the number of tiles each Gaussian touches and where each tile's list starts; return the number P of pairs."""
    num_pairs[:] = 0
    tile_starts[:] = 0
    for i in range(count):
        n = order[i]
        tx0, tx1 = boxes[n, 0] // TILE_WIDTH, (boxes[n, 2] - 1) // TILE_WIDTH + 1
        ty0, ty1 = boxes[n, 1] // TILE_HEIGHT, (boxes[n, 3] - 1) // TILE_HEIGHT + 1
        num_pairs[n] = (tx1 - tx0) * (ty1 - ty0)
        for ty in range(ty0, ty1):
            for tx in range(tx0, tx1):
                tile_starts[ty * tiles_x + tx + 1] += 1
    for tile in range(tile_starts.shape[0] - 1):
        tile_starts[tile + 1] += tile_starts[tile]
    return tile_starts[-1]


@njit(nogil=True, cache=True)
def fill_pairs(boxes, order, count, tiles_x, tile_starts, first_pair, pair_gaussian, pair_slot):
    """Write each tile's list of Gaussians, near to far, and the slot where each pair's gradient goes."""
    cursor = tile_starts[:-1].copy()
    slot = 0
    for i in range(count):
        n = order[i]
        first_pair[n] = slot
        tx0, tx1 = boxes[n, 0] // TILE_WIDTH, (boxes[n, 2] - 1) // TILE_WIDTH + 1
        ty0, ty1 = boxes[n, 1] // TILE_HEIGHT, (boxes[n, 3] - 1) // TILE_HEIGHT + 1
        for ty in range(ty0, ty1):
            for tx in range(tx0, tx1):
                place = cursor[ty * tiles_x + tx]
                cursor[ty * tiles_x + tx] = place + 1
                pair_gaussian[place] = n
                pair_slot[place] = slot
                slot += 1
