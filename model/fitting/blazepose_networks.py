"""The networks of body, hands and face: where the .tflite files are, and how LiteRT runs them. Only the detectors use this file.

The files come with the wheel of mediapipe 0.10.14 (Apache-2.0); mediapipe itself is never imported.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
from jaxtyping import Float

MEDIAPIPE_VERSION = "0.10.14"  # newer wheels carry no networks


class MissingDetectorError(RuntimeError):
    """The networks' files or LiteRT are not installed; the message says how to get them."""


class Network:
    """One .tflite file, run by LiteRT: one picture in, its outputs in a fixed order, told apart by their shapes or, where two
    have the same, by their names."""

    def __init__(self, name: str, outputs: tuple[tuple[int, ...], ...] | tuple[str, ...], num_threads: int) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingDetectorError("LiteRT is not installed; run: pip install ai-edge-litert==2.3.0") from error
        self._interpreter = Interpreter(model_path=str(network_file(name)), num_threads=num_threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        named = isinstance(outputs[0], str)
        found = {d["name"] if named else tuple(d["shape"][1:]): d["index"] for d in self._interpreter.get_output_details()}
        assert set(found) == set(outputs), f"{name} has outputs {sorted(found)}, expected {sorted(outputs)}"
        self._outputs = [found[output] for output in outputs]

    def __call__(self, image: Float[np.ndarray, "S S 3"]) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, image[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0].astype(np.float64) for index in self._outputs]


def network_file(name: str) -> Path:
    """Where the installed mediapipe wheel keeps one of its networks; `name` is relative to its modules/ folder.

    Raises:
        MissingDetectorError: the wheel is not installed, or this version of it carries no such file.
    """
    remedy = f"run: pip install --no-deps mediapipe=={MEDIAPIPE_VERSION}"
    try:
        wheel = importlib.metadata.distribution("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        raise MissingDetectorError(f"expected the networks inside the mediapipe wheel, found no such wheel; {remedy}") from None
    path = Path(str(wheel.locate_file("mediapipe"))) / "modules" / name
    if not path.is_file():
        raise MissingDetectorError(
            f"expected {name} inside mediapipe {MEDIAPIPE_VERSION}, found {wheel.version} without it; {remedy}"
        )
    return path
