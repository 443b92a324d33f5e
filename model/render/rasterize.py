"""Draw Gaussians: one function, three backends.

Axes: N Gaussians, H x W pixels. What is drawn, what is skipped and where gradients flow is said once, in
model/render/splatting.py, and holds for every backend.
"""

from __future__ import annotations

import importlib
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from model.camera import Camera
from model.gaussians import Gaussians, Rendered
from model.render.cuda import rasterize_diff_gaussian, rasterize_gsplat

Backend = Literal["auto", "cpu", "diff_gaussian_rasterization", "gsplat"]

CUDA_BACKENDS = {"gsplat": rasterize_gsplat, "diff_gaussian_rasterization": rasterize_diff_gaussian}  # in the order that `auto` tries
HOW_TO_INSTALL = {
    "diff_gaussian_rasterization": "build graphdeco-inria/diff-gaussian-rasterization from source (needs nvcc; non-commercial licence)",
    "gsplat": "pip install gsplat==1.5.3 (needs nvcc at first use; Apache-2.0)",
}


def rasterize(
    gaussians: Gaussians, camera: Camera, background: Float[Tensor, "3"], *, backend: Backend = "auto"
) -> Rendered:
    """Draw Gaussians over a background colour.

        image = sum_i w_i c_i + (1 - alpha) background,  alpha = sum_i w_i,  depth = sum_i w_i z_i      Kerbl et al. 2023

    with w_i = alpha_i prod_{j<i} (1 - alpha_j) from near to far. The computation is float32.

    Args:
        gaussians: what to draw. An empty set gives the background.
        camera: the view, without skew; it may be on another device than the Gaussians.
        background: colour behind everything, 0..1.
        backend: `auto` takes `cpu` for tensors on the CPU and an installed CUDA package for tensors on a GPU. `cpu` also
            draws tensors that are on a GPU, by way of the CPU.

    Returns:
        Image, alpha and depth (metres times alpha), on the Gaussians' device. Differentiable in means, scales, colours,
        opacities and background, not in the camera. Several pictures may be drawn before the first backward.

    Raises:
        ValueError: unknown backend, a CUDA backend for tensors on the CPU, shapes that do not fit together, skew, or a
            picture without pixels.
        ImportError: the backend's package is missing; the message says how to install it.
    """
    _check_shapes(gaussians, background)
    device = gaussians.means.device
    name = choose_backend(backend, device)
    if name != "cpu":
        return CUDA_BACKENDS[name](gaussians, camera, background.to(device), importlib.import_module(name))

    from model.render.cpu import rasterize_cpu  # numba loads only where it draws

    parts = (gaussians.means, gaussians.scales, gaussians.colors, gaussians.opacities)
    drawn = rasterize_cpu(Gaussians(*(part.cpu() for part in parts)), camera, background.cpu())
    return Rendered(drawn.image.to(device), drawn.alpha.to(device), drawn.depth.to(device))


def choose_backend(wanted: Backend, device: torch.device | str) -> str:
    """Settle which backend draws tensors of a device.

    Args:
        wanted: a backend, or `auto`. For a GPU, `auto` takes gsplat where it is installed, which is faster and draws every
            footprint to its end, and the authors' package otherwise.
        device: where the Gaussians are.

    Returns:
        `cpu`, `diff_gaussian_rasterization` or `gsplat`.

    Raises:
        ValueError: unknown name, or a CUDA backend for a device that is not CUDA.
        ImportError: no fitting package can be imported; the message says how to install it.
    """
    device = torch.device(device)
    if wanted not in get_args(Backend):
        raise ValueError(f"unknown rasteriser {wanted!r}: expected one of {', '.join(get_args(Backend))}")
    if wanted == "cpu" or (wanted == "auto" and device.type == "cpu"):
        return "cpu"
    if device.type != "cuda":
        hint = "move them to a GPU, or use 'cpu'" if wanted != "auto" else "move them to the CPU or to a CUDA device"
        raise ValueError(f"rasteriser {wanted!r} cannot draw tensors on {device.type!r}: {hint}")
    candidates = list(CUDA_BACKENDS) if wanted == "auto" else [wanted]
    failures = []
    for name in candidates:
        try:
            importlib.import_module(name)
            return name
        except ImportError as error:
            failures.append(f"  {name}: {error}\n    {HOW_TO_INSTALL[name]}")
    raise ImportError("no rasteriser for CUDA tensors can be imported:\n" + "\n".join(failures) + "\n  or render with backend 'cpu'")


def choose_device(backend: Backend) -> torch.device:
    """Settle where an avatar is trained and drawn: on the GPU where a rasteriser can draw there, else on the CPU.

    Args:
        backend: `auto` takes the GPU only if PyTorch sees one and a CUDA package imports; a CUDA backend insists on both.

    Raises:
        ValueError: unknown name, or a CUDA backend where PyTorch sees no GPU; the message says what to do.
        ImportError: a CUDA backend whose package is missing; the message says how to install it.
    """
    if backend == "cpu" or (backend == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if backend in CUDA_BACKENDS and not torch.cuda.is_available():
        reason = "this PyTorch is built for the CPU" if torch.version.cuda is None else "no NVIDIA driver answers, or CUDA_VISIBLE_DEVICES hides it"
        raise ValueError(f"rasteriser {backend!r} needs a CUDA GPU, but PyTorch {torch.__version__} sees none: {reason}; use 'auto' or 'cpu'")
    try:
        choose_backend(backend, "cuda")
    except ImportError:
        if backend != "auto":
            raise
        return torch.device("cpu")
    return torch.device("cuda")


def _check_shapes(gaussians: Gaussians, background: Tensor) -> None:
    """Refuse tensors of unequal length: compiled code would read past their end."""
    num_gaussians = gaussians.means.shape[0] if gaussians.means.ndim else 0
    expected = {"means": (num_gaussians, 3), "scales": (num_gaussians,), "colors": (num_gaussians, 3), "opacities": (num_gaussians,)}
    found = {name: tuple(getattr(gaussians, name).shape) for name in expected}
    if found != expected:
        raise ValueError(f"Gaussians have shapes {found}, expected {expected}")
    if background.shape != (3,):
        raise ValueError(f"the background has shape {tuple(background.shape)}, expected one colour: (3,)")
