"""Compositing of one tile of the picture, forward and backward: the inner loops of the CPU rasteriser.

Each Gaussian is blended over the pixels of its own footprint, row by row and LANES pixels at a time, in loops that LLVM
turns into vector instructions: they have a fixed length, no branch, and one flat array for all that a pixel holds.
(`error_model="numpy"` matters: Python's check for division by zero is a way out of the loop, and forbids it.)
A row's 64-bit word `alive` has one bit per column that can still take colour, so that hidden Gaussians cost little.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from model.render.cpu_binning import HALF_WORD, LOWER_HALF, TILE_HEIGHT, TILE_WIDTH
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
    NUM_GRADS,
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

LANES = 8  # pixels in one step: the width of an AVX register
BATCH = 32  # records fetched together, so that their cache misses overlap
REFRESH_STEPS = 1024  # steps between two looks at which pixels are still alive

# What a tile's pixels hold, as planes: a row of every plane, then the next row, so that one step stays in few pages.
# A pixel that is finished keeps its transmittance with the sign turned.
PLANE = TILE_WIDTH + LANES  # a row's last step may run over the tile's edge
NUM_PLANES = 8
ROW = NUM_PLANES * PLANE
TRANSMITTANCE, LAST = (np.uintp(i * PLANE) for i in (0, 1))
RED_SUM, GREEN_SUM, BLUE_SUM, DEPTH_SUM = (np.uintp(i * PLANE) for i in (2, 3, 4, 5))  # forward
DL_DRED, DL_DGREEN, DL_DBLUE, DL_DDEPTH, DL_DALPHA, BEHIND = (np.uintp(i * PLANE) for i in (2, 3, 4, 5, 6, 7))  # backward

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
ALPHA_CEILING, TRANSMITTANCE_FLOOR = np.float32(MAX_ALPHA), np.float32(MIN_TRANSMITTANCE)
SPAN_SLACK = np.float32(1e-3)  # pixels; rounding must not lose the footprint's edge, and the power test is exact
FASTMATH = {"contract", "nsz", "arcp"}

# exp(-p / 8) on 0 <= p <= 4.5 as a polynomial (Chebyshev nodes), then squared three times
_NODES = 2.25 + 2.25 * np.cos(np.pi * (np.arange(64) + 0.5) / 64)
E5, E4, E3, E2, E1, E0 = (np.float32(c) for c in np.polyfit(_NODES, np.exp(-_NODES / 8), 5))


@njit(fastmath={"nsz"})  # said outright: numba hands down the fastmath of whichever kernel is compiled first
def offset(pixel, cell, fraction):
    """From a footprint's centre to a pixel's, exact near the centre; compiled without leave to reorder the sum."""
    return (np.float32(pixel) - cell) - fraction


@njit(inline="always", error_model="numpy", fastmath=FASTMATH)
def exp_of_minus(power):
    """exp(-power) for powers in 0..4.5, to 3e-7 relative."""
    root = E0 + power * (E1 + power * (E2 + power * (E3 + power * (E4 + power * E5))))
    root = root * root
    root = root * root
    return root * root


@njit(inline="always", error_model="numpy", fastmath=FASTMATH)
def row_span(center, slope, room, tightness, dy, columns):
    """First and one-past-last column of a tile where a footprint's ellipse meets a row.

    From a dx^2 + 2 b dx dy + c dy^2 = 2 cut:  dx = slope dy +- sqrt(room - tightness dy^2)
    """
    middle, half = center + slope * dy, math.sqrt(max(room - tightness * dy * dy, ZERO)) + SPAN_SLACK
    return np.int64(max(np.ceil(middle - half), ZERO)), np.int64(min(np.floor(middle + half) + ONE, columns))


@njit(inline="always", error_model="numpy", fastmath=FASTMATH)
def ellipse(record, tile_x):
    """What `row_span` needs of a footprint: centre in the tile's columns, slope, room, tightness."""
    a, b, c = record[CONIC_XX], record[CONIC_XY], record[CONIC_YY]
    per_a = ONE / a
    center = (record[U_CELL] - np.float32(tile_x)) + record[U_FRACTION]
    return center, -b * per_a, TWO * record[CUT_POWER] * per_a, (c - b * b * per_a) * per_a


@njit(inline="always")
def row_range(record, tile_y, rows):
    """First and one-past-last row of a tile that a footprint reaches."""
    middle = (record[V_CELL] - np.float32(tile_y)) + record[V_FRACTION]
    reach = record[REACH_Y] + SPAN_SLACK
    return np.int64(max(np.ceil(middle - reach), ZERO)), np.int64(min(np.floor(middle + reach) + ONE, np.float32(rows)))


@njit(nogil=True, cache=True)
def refresh_alive(state, alive, rows, columns):
    """Look up which pixels can still take colour; return whether any can."""
    any_alive = False
    for row in range(rows):
        if alive[row] == 0:
            continue
        bits = np.uint64(0)
        for column in range(columns):
            if state[row * ROW + column] > ZERO:
                bits |= np.uint64(1) << np.uint64(column)
        alive[row] = bits
        any_alive |= bits != 0
    return any_alive


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH)
def composite(
    tiles, tiles_x, width, height, tile_starts, pairs, pair_drawn, records, background,
    image, alpha_image, depth_image, transmittance_image, last_image,
):  # fmt: skip
    """Draw some tiles: colour, alpha, depth, and what backward needs (transmittance, last Gaussian drawn)."""
    state = np.empty(TILE_HEIGHT * ROW, np.float32)
    alive = np.empty(TILE_HEIGHT, np.uint64)
    batch = np.empty((BATCH, RECORD_SIZE), np.float32)
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
                    transmittance_image[y, x] = ONE
                    last_image[y, x] = ZERO
            continue

        state[:] = ZERO
        for row in range(rows):
            for column in range(columns):
                state[row * ROW + column] = ONE
            alive[row] = np.uint64(0xFFFFFFFFFFFFFFFF)
        refresh_alive(state, alive, rows, columns)
        steps = 0
        any_alive = True
        for batch_start in range(start, end, BATCH):
            batch_end = min(batch_start + BATCH, end)
            if not any_alive:
                pair_drawn[batch_start:batch_end] = False
                continue
            for i in range(batch_start, batch_end):
                for j in range(RECORD_SIZE):
                    batch[i - batch_start, j] = records[pairs[i] >> HALF_WORD, j]
            for i in range(batch_start, batch_end):
                record = batch[i - batch_start]
                half_a, b, half_c = HALF * record[CONIC_XX], record[CONIC_XY], HALF * record[CONIC_YY]
                cut, opacity = record[CUT_POWER], record[OPACITY]
                red, green, blue, depth = record[RED], record[GREEN], record[BLUE], record[DEPTH]
                rank = np.float32(i - start + 1)
                drawn = False
                center, slope, room, tightness = ellipse(record, tile_x)
                row_begin, row_end = row_range(record, tile_y, rows)
                for row in range(row_begin, row_end):
                    if alive[row] == 0:
                        continue
                    dy = offset(row + tile_y, record[V_CELL], record[V_FRACTION])
                    column_begin, column_end = row_span(center, slope, room, tightness, dy, np.float32(columns))
                    b_dy, c_dy_dy = b * dy, half_c * dy * dy
                    for column in range(column_begin, column_end, LANES):
                        if (alive[row] >> np.uint64(column)) & np.uint64(0xFF) == 0:
                            continue
                        drawn = True
                        steps += 1
                        dx_first = offset(column + tile_x, record[U_CELL], record[U_FRACTION])
                        base = row * ROW + column
                        for lane in range(LANES):
                            p = np.uintp(base + lane)
                            dx = dx_first + np.float32(lane)
                            power = c_dy_dy + dx * (b_dy + half_a * dx)
                            alpha = min(opacity * exp_of_minus(power), ALPHA_CEILING)
                            before = state[TRANSMITTANCE + p]
                            after = before - before * alpha
                            inside = (power <= cut) & (before > ZERO)
                            draws = inside & (after >= TRANSMITTANCE_FLOOR)
                            stops = inside & (after < TRANSMITTANCE_FLOOR)
                            weight = alpha * before if draws else ZERO
                            kept = -before if stops else before
                            state[TRANSMITTANCE + p] = after if draws else kept
                            state[LAST + p] = rank if draws else state[LAST + p]
                            state[RED_SUM + p] += weight * red
                            state[GREEN_SUM + p] += weight * green
                            state[BLUE_SUM + p] += weight * blue
                            state[DEPTH_SUM + p] += weight * depth
                pair_drawn[i] = drawn
            if steps >= REFRESH_STEPS:
                steps = 0
                any_alive = refresh_alive(state, alive, rows, columns)

        for row in range(rows):
            for column in range(columns):
                p = np.uintp(row * ROW + column)
                y, x = row + tile_y, column + tile_x
                left = abs(state[TRANSMITTANCE + p])
                image[y, x, 0] = state[RED_SUM + p] + left * red_behind
                image[y, x, 1] = state[GREEN_SUM + p] + left * green_behind
                image[y, x, 2] = state[BLUE_SUM + p] + left * blue_behind
                depth_image[y, x] = state[DEPTH_SUM + p]
                alpha_image[y, x] = ONE - left
                transmittance_image[y, x] = left
                last_image[y, x] = state[LAST + p]


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH | {"reassoc"})
def composite_backward(
    tiles, tiles_x, width, height, tile_starts, pairs, pair_drawn, records, background,
    transmittance_image, last_image, grad_image, grad_alpha, grad_depth, pair_grads, tile_grad_background,
):  # fmt: skip
    """Gradients of some tiles' pairs, walking each list from far to near.

    With value_i = colour_i . dL/dcolour + depth_i dL/ddepth + dL/dalpha and behind_i the value composited behind i:

        dL/dalpha_i = T_i (value_i - behind_i),  behind_{i-1} = behind_i + alpha_i (value_i - behind_i),  T_i = T_{i+1} / (1 - alpha_i)
    """
    state = np.empty(TILE_HEIGHT * ROW, np.float32)
    batch = np.empty((BATCH, RECORD_SIZE), np.float32)
    for tile in tiles:
        tile_x, tile_y = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        columns, rows = min(TILE_WIDTH, width - tile_x), min(TILE_HEIGHT, height - tile_y)
        start, end = tile_starts[tile], tile_starts[tile + 1]
        red_sum, green_sum, blue_sum = 0.0, 0.0, 0.0
        state[:] = ZERO
        for row in range(rows):
            for column in range(columns):
                p = np.uintp(row * ROW + column)
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
        tile_grad_background[tile, 0] = red_sum
        tile_grad_background[tile, 1] = green_sum
        tile_grad_background[tile, 2] = blue_sum

        for batch_end in range(end, start, -BATCH):
            batch_start = max(batch_end - BATCH, start)
            for i in range(batch_start, batch_end):
                if pair_drawn[i]:
                    for j in range(RECORD_SIZE):
                        batch[i - batch_start, j] = records[pairs[i] >> HALF_WORD, j]
            for i in range(batch_end - 1, batch_start - 1, -1):
                slot = pairs[i] & LOWER_HALF
                if not pair_drawn[i]:
                    for j in range(NUM_GRADS):
                        pair_grads[slot, j] = ZERO
                    continue
                record = batch[i - batch_start]
                half_a, b, half_c = HALF * record[CONIC_XX], record[CONIC_XY], HALF * record[CONIC_YY]
                cut, opacity = record[CUT_POWER], record[OPACITY]
                red, green, blue, depth = record[RED], record[GREEN], record[BLUE], record[DEPTH]
                rank = np.float32(i - start + 1)
                sum_red, sum_green, sum_blue, sum_z = ZERO, ZERO, ZERO, ZERO
                sum_1, sum_x, sum_y, sum_xx, sum_xy, sum_yy = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
                center, slope, room, tightness = ellipse(record, tile_x)
                row_begin, row_end = row_range(record, tile_y, rows)
                for row in range(row_begin, row_end):
                    dy = offset(row + tile_y, record[V_CELL], record[V_FRACTION])
                    column_begin, column_end = row_span(center, slope, room, tightness, dy, np.float32(columns))
                    b_dy, c_dy_dy = b * dy, half_c * dy * dy
                    row_1, row_x, row_xx = ZERO, ZERO, ZERO
                    for column in range(column_begin, column_end, LANES):
                        dx_first = offset(column + tile_x, record[U_CELL], record[U_FRACTION])
                        base = row * ROW + column
                        for lane in range(LANES):
                            p = np.uintp(base + lane)
                            dx = dx_first + np.float32(lane)
                            power = c_dy_dy + dx * (b_dy + half_a * dx)
                            raw = opacity * exp_of_minus(power)
                            draws = (power <= cut) & (rank <= state[LAST + p])
                            raw = raw if draws else ZERO
                            alpha = min(raw, ALPHA_CEILING)
                            before = state[TRANSMITTANCE + p] / (ONE - alpha)
                            grad_red, grad_green = state[DL_DRED + p], state[DL_DGREEN + p]
                            grad_blue = state[DL_DBLUE + p]
                            grad_z = state[DL_DDEPTH + p]
                            value = state[DL_DALPHA + p]
                            value += red * grad_red + green * grad_green + blue * grad_blue + depth * grad_z
                            behind = state[BEHIND + p]
                            contrast = value - behind
                            state[BEHIND + p] = behind + alpha * contrast
                            state[TRANSMITTANCE + p] = before
                            weight = alpha * before
                            pull = raw * before * contrast  # -dL/dpower
                            sum_red += weight * grad_red
                            sum_green += weight * grad_green
                            sum_blue += weight * grad_blue
                            sum_z += weight * grad_z
                            row_1 += pull
                            row_x += pull * dx
                            row_xx += pull * dx * dx
                    sum_1 += row_1
                    sum_x += row_x
                    sum_xx += row_xx
                    sum_y += row_1 * dy
                    sum_xy += row_x * dy
                    sum_yy += row_1 * dy * dy
                grads = pair_grads[slot]
                grads[GRAD_RED], grads[GRAD_GREEN], grads[GRAD_BLUE], grads[GRAD_DEPTH] = sum_red, sum_green, sum_blue, sum_z
                grads[SUM_1], grads[SUM_X], grads[SUM_Y] = sum_1, sum_x, sum_y
                grads[SUM_XX], grads[SUM_XY], grads[SUM_YY] = sum_xx, sum_xy, sum_yy
