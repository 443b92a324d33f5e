"""Compositing of one tile of the picture, forward and backward: the inner loops of the CPU rasteriser.

A tile is cut into blocks of 4 x 2 pixels, the lanes of one register, and all that is known of a block's pixels lies
together. For each Gaussian the blocks that its ellipse meets are listed first, without a branch, and then blended in one
loop over that list. A block has the last rank in the tile's list (1, 2, ... from near to far) that can still matter to it:
forward it falls to 0 once all pixels are finished, so that hidden Gaussians cost little; backward it is the last one drawn.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from model.render.cpu_binning import HALF_WORD, LOWER_HALF, TILE_HEIGHT, TILE_WIDTH
from model.render.cpu_lanes import LANES, any_of, ceil, floor, lesser, load, prefetch, select, spread, sqrt, store, total
from model.render.cpu_project import (
    BLUE,
    CONIC_XX,
    CONIC_XY,
    CONIC_YY,
    CUT_POWER,
    DEPTH,
    GRAD_BLUE,
    GRAD_DEPTH,
    GRAD_GREEN,
    GRAD_RED,
    GREEN,
    OPACITY,
    REACH_Y,
    RECORD_SIZE,
    RED,
    SUM_1,
    SUM_X,
    SUM_XX,
    SUM_XY,
    SUM_Y,
    SUM_YY,
    U_CELL,
    U_FRACTION,
    V_CELL,
    V_FRACTION,
)
from model.render.splatting import MAX_ALPHA, MIN_TRANSMITTANCE

BLOCK_WIDTH, BLOCK_HEIGHT = 4, 2  # pixels; together the lanes of a register
BLOCKS_ACROSS = TILE_WIDTH // BLOCK_WIDTH
NUM_BLOCKS = BLOCKS_ACROSS * (TILE_HEIGHT // BLOCK_HEIGHT)
AHEAD = 12  # pairs whose records are fetched into the cache before they are needed

# What a block's pixels hold, a register each. A pixel that is finished keeps its transmittance with the sign turned.
TRANSMITTANCE, LAST = (i * LANES for i in (0, 1))
RED_SUM, GREEN_SUM, BLUE_SUM, DEPTH_SUM = (i * LANES for i in (2, 3, 4, 5))  # forward
DL_DRED, DL_DGREEN, DL_DBLUE, DL_DDEPTH, DL_DALPHA, BEHIND = (i * LANES for i in (2, 3, 4, 5, 6, 7))  # backward
BLOCK_SIZE = 8 * LANES

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
ALPHA_CEILING, TRANSMITTANCE_FLOOR = np.float32(MAX_ALPHA), np.float32(MIN_TRANSMITTANCE)
COLUMN_OF_LANE = np.array([i % BLOCK_WIDTH for i in range(LANES)], np.float32)
ROW_OF_LANE = np.array([i // BLOCK_WIDTH for i in range(LANES)], np.float32)
COUNTING = np.arange(LANES, dtype=np.float32)
SPAN_SLACK = np.float32(1e-3)  # pixels; rounding must not lose the footprint's edge, and the power test is exact
NOWHERE = np.float32(-1e6)  # pixels; half the width of a row outside the ellipse
ROW_ENDS = TILE_HEIGHT + LANES  # where the rows' ends stand, behind their beginnings
FASTMATH = {"contract", "nsz", "arcp"}

# exp(-p / 8) on 0 <= p <= 4.5 as a polynomial (Chebyshev nodes), then squared three times
_NODES = 2.25 + 2.25 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
E5, E4, E3, E2, E1, E0 = (np.float32(c) for c in np.polyfit(_NODES, np.exp(-_NODES / 8), 5))


@njit(inline="always", error_model="numpy", fastmath=FASTMATH)
def exp_of_minus(power):
    """exp(-power) for powers in 0..4.5, to 3e-7 relative."""
    root = E0 + power * (E1 + power * (E2 + power * (E3 + power * (E4 + power * E5))))
    root = root * root
    root = root * root
    return root * root


@njit(inline="always", error_model="numpy", fastmath=FASTMATH)
def list_blocks(records, first, tile_x, tile_y, rank, last_ranks, row_edges, blocks):
    """Write the blocks of a tile that a footprint's ellipse meets and where its rank still matters; return their number.

    A row's ends come from a dx^2 + 2 b dx dy + c dy^2 = 2 cut:  dx = slope dy +- sqrt(room - tightness dy^2)
    """
    a, b, c = records[first + CONIC_XX], records[first + CONIC_XY], records[first + CONIC_YY]
    per_a = ONE / a
    slope, room, tightness = -b * per_a, TWO * records[first + CUT_POWER] * per_a, (c - b * b * per_a) * per_a
    center_x = (records[first + U_CELL] - np.float32(tile_x)) + records[first + U_FRACTION]
    center_y = (records[first + V_CELL] - np.float32(tile_y)) + records[first + V_FRACTION]
    reach = records[first + REACH_Y] + SPAN_SLACK
    row_begin = np.int64(max(center_y - reach, ZERO)) & ~(BLOCK_HEIGHT - 1)
    row_end = np.int64(min(max(center_y + reach + ONE, ZERO), np.float32(TILE_HEIGHT)))
    counting = load(COUNTING, 0)
    for row in range(row_begin, row_end, LANES):
        dy = (np.float32(row) - center_y) + counting
        square = room - tightness * (dy * dy)
        half = select(square >= -ONE, sqrt(select(square > ZERO, square, ZERO)) + SPAN_SLACK, NOWHERE)
        middle = center_x + slope * dy
        store(row_edges, row, ceil(middle - half))
        store(row_edges, row + ROW_ENDS, floor(middle + half))
    count = 0
    for row in range(row_begin, row_end, BLOCK_HEIGHT):
        begin = max(min(row_edges[row], row_edges[row + 1]), ZERO)
        end = min(max(row_edges[row + ROW_ENDS], row_edges[row + ROW_ENDS + 1]), np.float32(TILE_WIDTH - 1))
        in_row = (row // BLOCK_HEIGHT) * BLOCKS_ACROSS
        for block in range(in_row + (np.int64(begin) >> 2), in_row + (np.int64(end) >> 2) + 1):
            blocks[count] = block
            count += np.int64(rank <= last_ranks[block])
    return count


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH)
def composite(
    tiles, tiles_x, width, height, tile_starts, pairs, pair_drawn, records, background,
    image, alpha_image, depth_image, transmittance_image, last_image,
):  # fmt: skip
    """Draw some tiles from their sorted lists.

    Without gradients to come, `pair_drawn`, `transmittance_image` and `last_image` are None.

    Writes:
        image, alpha_image, depth_image: the picture.
        transmittance_image: transmittance behind the last Gaussian drawn at each pixel.
        last_image: its rank in the tile's list, counted from 1; 0 for none.
        pair_drawn: false for pairs that changed no pixel.
    """
    state = np.empty(NUM_BLOCKS * BLOCK_SIZE, np.float32)
    last_ranks = np.empty(NUM_BLOCKS, np.float32)
    row_edges = np.empty(2 * ROW_ENDS, np.float32)
    blocks = np.empty(NUM_BLOCKS + 1, np.int64)
    column_of_lane, row_of_lane = load(COLUMN_OF_LANE, 0), load(ROW_OF_LANE, 0)
    red_behind, green_behind, blue_behind = background[0], background[1], background[2]
    for tile in tiles:
        tile_x, tile_y = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        columns, rows = min(TILE_WIDTH, width - tile_x), min(TILE_HEIGHT, height - tile_y)
        start, end = tile_starts[tile], tile_starts[tile + 1]
        if start == end:
            for y in range(tile_y, tile_y + rows):
                for x in range(tile_x, tile_x + columns):
                    image[y, x, 0], image[y, x, 1], image[y, x, 2] = red_behind, green_behind, blue_behind
                    alpha_image[y, x] = depth_image[y, x] = ZERO
                    if last_image is not None:
                        transmittance_image[y, x] = ONE
                        last_image[y, x] = ZERO
            continue

        state[:] = ZERO
        open_blocks = 0
        for block in range(NUM_BLOCKS):
            column = np.float32((block % BLOCKS_ACROSS) * BLOCK_WIDTH) + column_of_lane
            row = np.float32((block // BLOCKS_ACROSS) * BLOCK_HEIGHT) + row_of_lane
            on_picture = (column < np.float32(columns)) & (row < np.float32(rows))
            store(state, block * BLOCK_SIZE + TRANSMITTANCE, select(on_picture, ONE, ZERO))
            last_ranks[block] = np.float32(np.inf) if any_of(on_picture) else ZERO
            open_blocks += any_of(on_picture)

        for i in range(start, end):
            prefetch(records, np.int64(pairs[min(i + AHEAD, end - 1)] >> HALF_WORD) * RECORD_SIZE)
            if open_blocks == 0:
                if pair_drawn is not None:
                    pair_drawn[i:end] = False
                break
            first = np.int64(pairs[i] >> HALF_WORD) * RECORD_SIZE
            rank = np.float32(i - start + 1)
            count = list_blocks(records, first, tile_x, tile_y, rank, last_ranks, row_edges, blocks)
            if pair_drawn is not None:
                pair_drawn[i] = count > 0
            half_a, b, half_c = HALF * records[first + CONIC_XX], records[first + CONIC_XY], HALF * records[first + CONIC_YY]
            cut, opacity = records[first + CUT_POWER], records[first + OPACITY]
            red, green, blue = records[first + RED], records[first + GREEN], records[first + BLUE]
            depth = records[first + DEPTH]
            cell_x, cell_y = records[first + U_CELL] - np.float32(tile_x), records[first + V_CELL] - np.float32(tile_y)
            fraction_x, fraction_y = records[first + U_FRACTION], records[first + V_FRACTION]
            for k in range(count):
                block = blocks[k]
                p = block * BLOCK_SIZE
                dx = ((np.float32((block % BLOCKS_ACROSS) * BLOCK_WIDTH) - cell_x) - fraction_x) + column_of_lane
                dy = ((np.float32((block // BLOCKS_ACROSS) * BLOCK_HEIGHT) - cell_y) - fraction_y) + row_of_lane
                power = dx * (half_a * dx + b * dy) + half_c * (dy * dy)
                alpha = lesser(opacity * exp_of_minus(power), ALPHA_CEILING)
                before = load(state, p + TRANSMITTANCE)
                inside = (power <= cut) & (before > ZERO)
                after = before - alpha * before
                draws, stops = inside & (after >= TRANSMITTANCE_FLOOR), inside & (after < TRANSMITTANCE_FLOOR)
                weight = select(draws, alpha * before, ZERO)
                left = before - weight
                left = select(stops, ZERO - left, left)
                store(state, p + TRANSMITTANCE, left)
                if last_image is not None:
                    last = load(state, p + LAST)  # as a sum: LLVM turns a choice into a masked store, slow on AMD
                    store(state, p + LAST, last + select(draws, rank - last, ZERO))
                store(state, p + RED_SUM, load(state, p + RED_SUM) + weight * red)
                store(state, p + GREEN_SUM, load(state, p + GREEN_SUM) + weight * green)
                store(state, p + BLUE_SUM, load(state, p + BLUE_SUM) + weight * blue)
                store(state, p + DEPTH_SUM, load(state, p + DEPTH_SUM) + weight * depth)
                if not any_of(left > ZERO):
                    last_ranks[block] = ZERO
                    open_blocks -= 1

        for row in range(rows):
            for column in range(columns):
                p = pixel_place(row, column)
                y, x = row + tile_y, column + tile_x
                left = abs(state[TRANSMITTANCE + p])
                image[y, x, 0] = state[RED_SUM + p] + left * red_behind
                image[y, x, 1] = state[GREEN_SUM + p] + left * green_behind
                image[y, x, 2] = state[BLUE_SUM + p] + left * blue_behind
                depth_image[y, x] = state[DEPTH_SUM + p]
                alpha_image[y, x] = ONE - left
                if last_image is not None:
                    transmittance_image[y, x] = left
                    last_image[y, x] = state[LAST + p]


@njit(inline="always")
def pixel_place(row, column):
    """Where a tile's pixel stands in the first register of its block."""
    block = (row // BLOCK_HEIGHT) * BLOCKS_ACROSS + column // BLOCK_WIDTH
    return block * BLOCK_SIZE + (row % BLOCK_HEIGHT) * BLOCK_WIDTH + column % BLOCK_WIDTH


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH)
def composite_backward(
    tiles, tiles_x, width, height, tile_starts, pairs, pair_drawn, records, background,
    transmittance_image, last_image, grad_image, grad_alpha, grad_depth, pair_grads, tile_grad_background,
):  # fmt: skip
    """Gradients of some tiles' pairs, walking each list from far to near.

    With value_i = colour_i . dL/dcolour + depth_i dL/ddepth + dL/dalpha and behind_i the value composited behind i:

        dL/dalpha_i = T_i (value_i - behind_i),  behind_{i-1} = behind_i + alpha_i (value_i - behind_i),  T_i = T_{i+1} / (1 - alpha_i)
    """
    state = np.empty(NUM_BLOCKS * BLOCK_SIZE, np.float32)
    last_ranks = np.empty(NUM_BLOCKS, np.float32)
    row_edges = np.empty(2 * ROW_ENDS, np.float32)
    blocks = np.empty(NUM_BLOCKS + 1, np.int64)
    column_of_lane, row_of_lane = load(COLUMN_OF_LANE, 0), load(ROW_OF_LANE, 0)
    zero = spread(ZERO)
    for tile in tiles:
        tile_x, tile_y = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        columns, rows = min(TILE_WIDTH, width - tile_x), min(TILE_HEIGHT, height - tile_y)
        start, end = tile_starts[tile], tile_starts[tile + 1]
        red_sum, green_sum, blue_sum = 0.0, 0.0, 0.0
        state[:] = ZERO
        last_ranks[:] = ZERO
        for row in range(rows):
            for column in range(columns):
                p = pixel_place(row, column)
                y, x = row + tile_y, column + tile_x
                left = transmittance_image[y, x]
                red, green, blue = grad_image[y, x, 0], grad_image[y, x, 1], grad_image[y, x, 2]
                red_sum += left * red
                green_sum += left * green
                blue_sum += left * blue
                state[TRANSMITTANCE + p] = left
                state[LAST + p] = last_image[y, x]
                state[BEHIND + p] = red * background[0] + green * background[1] + blue * background[2]
                state[DL_DRED + p] = red
                state[DL_DGREEN + p] = green
                state[DL_DBLUE + p] = blue
                state[DL_DDEPTH + p] = grad_depth[y, x]
                state[DL_DALPHA + p] = grad_alpha[y, x]
                block = p // BLOCK_SIZE
                last_ranks[block] = max(last_ranks[block], last_image[y, x])
        tile_grad_background[tile, 0] = red_sum
        tile_grad_background[tile, 1] = green_sum
        tile_grad_background[tile, 2] = blue_sum

        for i in range(end - 1, start - 1, -1):
            prefetch(records, np.int64(pairs[max(i - AHEAD, start)] >> HALF_WORD) * RECORD_SIZE)
            grads = pair_grads[pairs[i] & LOWER_HALF]
            if not pair_drawn[i]:
                grads[:] = ZERO
                continue
            first = np.int64(pairs[i] >> HALF_WORD) * RECORD_SIZE
            rank = np.float32(i - start + 1)
            count = list_blocks(records, first, tile_x, tile_y, rank, last_ranks, row_edges, blocks)
            half_a, b, half_c = HALF * records[first + CONIC_XX], records[first + CONIC_XY], HALF * records[first + CONIC_YY]
            cut, opacity = records[first + CUT_POWER], records[first + OPACITY]
            red, green, blue = records[first + RED], records[first + GREEN], records[first + BLUE]
            depth = records[first + DEPTH]
            cell_x, cell_y = records[first + U_CELL] - np.float32(tile_x), records[first + V_CELL] - np.float32(tile_y)
            fraction_x, fraction_y = records[first + U_FRACTION], records[first + V_FRACTION]
            sum_red, sum_green, sum_blue, sum_z = zero, zero, zero, zero
            sum_1, sum_x, sum_y, sum_xx, sum_xy, sum_yy = zero, zero, zero, zero, zero, zero
            for k in range(count):
                block = blocks[k]
                p = block * BLOCK_SIZE
                dx = ((np.float32((block % BLOCKS_ACROSS) * BLOCK_WIDTH) - cell_x) - fraction_x) + column_of_lane
                dy = ((np.float32((block // BLOCKS_ACROSS) * BLOCK_HEIGHT) - cell_y) - fraction_y) + row_of_lane
                power = dx * (half_a * dx + b * dy) + half_c * (dy * dy)
                draws = (power <= cut) & (load(state, p + LAST) >= rank)
                raw = select(draws, opacity * exp_of_minus(power), ZERO)
                alpha = lesser(raw, ALPHA_CEILING)
                before = load(state, p + TRANSMITTANCE) / (ONE - alpha)
                grad_red, grad_green = load(state, p + DL_DRED), load(state, p + DL_DGREEN)
                grad_blue, grad_z = load(state, p + DL_DBLUE), load(state, p + DL_DDEPTH)
                value = load(state, p + DL_DALPHA) + red * grad_red + green * grad_green + blue * grad_blue + depth * grad_z
                behind = load(state, p + BEHIND)
                contrast = value - behind
                store(state, p + BEHIND, behind + alpha * contrast)
                store(state, p + TRANSMITTANCE, before)
                weight = alpha * before
                pull = raw * before * contrast  # -dL/dpower
                pull_x, pull_y = pull * dx, pull * dy
                sum_red += weight * grad_red
                sum_green += weight * grad_green
                sum_blue += weight * grad_blue
                sum_z += weight * grad_z
                sum_1 += pull
                sum_x += pull_x
                sum_y += pull_y
                sum_xx += pull_x * dx
                sum_xy += pull_x * dy
                sum_yy += pull_y * dy
            grads[GRAD_RED], grads[GRAD_GREEN] = total(sum_red), total(sum_green)
            grads[GRAD_BLUE], grads[GRAD_DEPTH] = total(sum_blue), total(sum_z)
            grads[SUM_1], grads[SUM_X], grads[SUM_Y] = total(sum_1), total(sum_x), total(sum_y)
            grads[SUM_XX], grads[SUM_XY], grads[SUM_YY] = total(sum_xx), total(sum_xy), total(sum_yy)
