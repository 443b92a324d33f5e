"""From Gaussians to footprints on the picture and back, one by one: the numba part of the projection.

Axes: N Gaussians. Everything between the inputs and the stored record is computed in float64, which costs little
beside compositing and leaves float32 rounding to the pixels alone. See model/render/splatting.py for the formulas.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from model.render.cpu_binning import FIRST_SLOT, FIRST_TILE, TILE_HEIGHT, TILE_WIDTH, TILES_ACROSS, TILES_DOWN
from model.render.splatting import CUTOFF_SIGMAS, DILATION_PX2, MIN_ALPHA, NEAR_PLANE_M

# A view as one row of float64, so that kernels take one argument for it.
FX, FY, CX, CY, X_MIN, X_MAX, Y_MIN, Y_MAX, ROTATION, TRANSLATION = 0, 1, 2, 3, 4, 5, 6, 7, 8, 17

# A footprint as one cache line of float32. The centre is split into whole pixels and a fraction of one, so that its
# distance to a nearby pixel keeps full precision far from the picture's corner.
U_CELL, U_FRACTION, V_CELL, V_FRACTION = 0, 1, 2, 3
CONIC_XX, CONIC_XY, CONIC_YY, CUT_POWER, REACH_Y = 4, 5, 6, 7, 8
OPACITY, RED, GREEN, BLUE, DEPTH = 9, 10, 11, 12, 13
RECORD_SIZE = 16

# A (Gaussian, tile) pair's gradient. `power` is p of alpha = opacity exp(-p).
GRAD_RED, GRAD_GREEN, GRAD_BLUE, GRAD_DEPTH = 0, 1, 2, 3
SUM_1, SUM_X, SUM_Y, SUM_XX, SUM_XY, SUM_YY = 4, 5, 6, 7, 8, 9  # moments of -dL/dpower over the pixels
NUM_GRADS = 10

MAX_POWER = CUTOFF_SIGMAS**2 / 2
OPACITY_OF_FULL_EXTENT = MIN_ALPHA * math.exp(MAX_POWER)  # fainter Gaussians end where alpha falls under MIN_ALPHA


@njit(nogil=True, cache=True, error_model="numpy")
def project(begin, end, means, scales, colors, opacities, view, width, height, records, spans, depths):
    """Write the footprint record, the rectangle of tiles (empty where nothing is drawn) and the depth of each Gaussian."""
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    for n in range(begin, end):
        spans[n, TILES_ACROSS] = spans[n, TILES_DOWN] = 0
        px, py, pz = float(means[n, 0]), float(means[n, 1]), float(means[n, 2])
        x = view[ROTATION] * px + view[ROTATION + 1] * py + view[ROTATION + 2] * pz + view[TRANSLATION]
        y = view[ROTATION + 3] * px + view[ROTATION + 4] * py + view[ROTATION + 5] * pz + view[TRANSLATION + 1]
        z = view[ROTATION + 6] * px + view[ROTATION + 7] * py + view[ROTATION + 8] * pz + view[TRANSLATION + 2]
        scale, opacity = float(scales[n]), float(opacities[n])
        finite = math.isfinite(x + y + z + scale + opacity + colors[n, 0] + colors[n, 1] + colors[n, 2])
        if not (finite and z >= NEAR_PLANE_M and opacity >= MIN_ALPHA):
            continue

        per_z = 1 / z
        x_over_z, y_over_z = x * per_z, y * per_z
        slope_x = min(max(x_over_z, view[X_MIN]), view[X_MAX])
        slope_y = min(max(y_over_z, view[Y_MIN]), view[Y_MAX])
        variance = (scale * per_z) ** 2
        var_x = variance * view[FX] ** 2 * (1 + slope_x**2) + DILATION_PX2
        var_y = variance * view[FY] ** 2 * (1 + slope_y**2) + DILATION_PX2
        cov_xy = variance * view[FX] * view[FY] * slope_x * slope_y
        determinant = var_x * var_y - cov_xy**2
        u = view[FX] * x_over_z + view[CX] - 0.5  # so that pixel j's centre is at u = j
        v = view[FY] * y_over_z + view[CY] - 0.5
        cut_power = MAX_POWER if opacity >= OPACITY_OF_FULL_EXTENT else math.log(opacity / MIN_ALPHA)
        reach_x, reach_y = math.sqrt(2 * cut_power * var_x), math.sqrt(2 * cut_power * var_y)
        if not math.isfinite(determinant):
            continue

        x0, x1 = max(np.ceil(u - reach_x), 0.0), min(np.floor(u + reach_x) + 1.0, float(width))
        y0, y1 = max(np.ceil(v - reach_y), 0.0), min(np.floor(v + reach_y) + 1.0, float(height))
        if x0 >= x1 or y0 >= y1:
            continue
        tile_x, tile_y = int(x0) // TILE_WIDTH, int(y0) // TILE_HEIGHT
        spans[n, FIRST_TILE] = tile_y * tiles_x + tile_x
        spans[n, TILES_ACROSS] = (int(x1) - 1) // TILE_WIDTH - tile_x + 1
        spans[n, TILES_DOWN] = (int(y1) - 1) // TILE_HEIGHT - tile_y + 1
        depths[n] = z
        records[n, U_CELL], records[n, V_CELL] = np.floor(u), np.floor(v)
        records[n, U_FRACTION], records[n, V_FRACTION] = u - np.floor(u), v - np.floor(v)
        per_determinant = 1 / determinant
        records[n, CONIC_XX], records[n, CONIC_YY] = var_y * per_determinant, var_x * per_determinant
        records[n, CONIC_XY] = -cov_xy * per_determinant
        records[n, CUT_POWER], records[n, REACH_Y] = cut_power, reach_y
        records[n, OPACITY], records[n, DEPTH] = opacity, z
        records[n, RED], records[n, GREEN], records[n, BLUE] = colors[n, 0], colors[n, 1], colors[n, 2]


@njit(nogil=True, cache=True, error_model="numpy")
def project_backward(
    begin, end, means, scales, view, records, spans, pair_grads,
    grad_means, grad_scales, grad_colors, grad_opacities,
):  # fmt: skip
    """Sum each Gaussian's gradients over its tiles, always in the same order, and carry them back through `project`."""
    sums = np.empty(NUM_GRADS, np.float64)
    for n in range(begin, end):
        num_pairs = spans[n, TILES_ACROSS] * spans[n, TILES_DOWN]
        if num_pairs == 0:
            for i in range(3):
                grad_means[n, i] = grad_colors[n, i] = 0
            grad_scales[n] = grad_opacities[n] = 0
            continue
        first = spans[n, FIRST_SLOT]
        for i in range(NUM_GRADS):
            sums[i] = pair_grads[first, i]
        for slot in range(first + 1, first + num_pairs):
            for i in range(NUM_GRADS):
                sums[i] += pair_grads[slot, i]
        grad_colors[n, 0], grad_colors[n, 1], grad_colors[n, 2] = sums[GRAD_RED], sums[GRAD_GREEN], sums[GRAD_BLUE]
        grad_opacities[n] = sums[SUM_1] / records[n, OPACITY]

        # power = 1/2 (a dx^2 + 2 b dx dy + c dy^2) with (dx, dy) from the centre to the pixel
        a, b, c = float(records[n, CONIC_XX]), float(records[n, CONIC_XY]), float(records[n, CONIC_YY])
        grad_u = a * sums[SUM_X] + b * sums[SUM_Y]
        grad_v = b * sums[SUM_X] + c * sums[SUM_Y]
        grad_a, grad_b, grad_c = -sums[SUM_XX] / 2, -sums[SUM_XY], -sums[SUM_YY] / 2
        # the conic is the inverse covariance: dL/dcov = -conic dL/dconic conic
        grad_var_x = -(a * a * grad_a + a * b * grad_b + b * b * grad_c)
        grad_cov_xy = -(2 * a * b * grad_a + (a * c + b * b) * grad_b + 2 * b * c * grad_c)
        grad_var_y = -(b * b * grad_a + b * c * grad_b + c * c * grad_c)

        px, py, pz = float(means[n, 0]), float(means[n, 1]), float(means[n, 2])
        x = view[ROTATION] * px + view[ROTATION + 1] * py + view[ROTATION + 2] * pz + view[TRANSLATION]
        y = view[ROTATION + 3] * px + view[ROTATION + 4] * py + view[ROTATION + 5] * pz + view[TRANSLATION + 1]
        z = view[ROTATION + 6] * px + view[ROTATION + 7] * py + view[ROTATION + 8] * pz + view[TRANSLATION + 2]
        fx, fy, scale = view[FX], view[FY], float(scales[n])
        per_z = 1 / z
        x_over_z, y_over_z = x * per_z, y * per_z
        slope_x = min(max(x_over_z, view[X_MIN]), view[X_MAX])
        slope_y = min(max(y_over_z, view[Y_MIN]), view[Y_MAX])
        variance = (scale * per_z) ** 2
        grad_variance = (
            grad_var_x * fx * fx * (1 + slope_x**2) + grad_cov_xy * fx * fy * slope_x * slope_y + grad_var_y * fy * fy * (1 + slope_y**2)
        )
        grad_slope_x = variance * (2 * grad_var_x * fx * fx * slope_x + grad_cov_xy * fx * fy * slope_y)
        grad_slope_y = variance * (2 * grad_var_y * fy * fy * slope_y + grad_cov_xy * fx * fy * slope_x)
        grad_x_over_z, grad_y_over_z = grad_u * fx, grad_v * fy
        if view[X_MIN] <= x_over_z <= view[X_MAX]:
            grad_x_over_z += grad_slope_x
        if view[Y_MIN] <= y_over_z <= view[Y_MAX]:
            grad_y_over_z += grad_slope_y

        grad_scales[n] = 2 * grad_variance * scale * per_z**2
        grad_x, grad_y = grad_x_over_z * per_z, grad_y_over_z * per_z
        grad_z = sums[GRAD_DEPTH] - 2 * grad_variance * variance * per_z - grad_x * x_over_z - grad_y * y_over_z
        for i in range(3):
            grad_means[n, i] = view[ROTATION + i] * grad_x + view[ROTATION + 3 + i] * grad_y + view[ROTATION + 6 + i] * grad_z
