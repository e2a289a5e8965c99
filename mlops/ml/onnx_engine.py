"""A model in ONNX, run by onnxruntime on one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.jobs.card import PredictMethod

INPUT = "X"
_TYPES: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(double)": np.float64}


class OnnxEngine:
    """An exported model. Its outputs stand in the order predict, predict_proba."""

    def __init__(self, path: Path) -> None:
        """Raises what onnxruntime raises at a file that it cannot read."""
        # Importing it starts a thread, which a process that forks (the pool's template) must not have.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.size_bytes = path.stat().st_size
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._type = _TYPES[self._session.get_inputs()[0].type]
        self._outputs = dict(
            zip(
                (PredictMethod.PREDICT, PredictMethod.PREDICT_PROBA),
                (output.name for output in self._session.get_outputs()),
                strict=False,
            )
        )

    def predict(
        self, matrix: npt.NDArray[Any], methods: tuple[PredictMethod, ...]
    ) -> dict[PredictMethod, npt.NDArray[Any]]:
        """By method, what the model says of a matrix (n, features).

        predict: (n,) numbers, or labels as ONNX has them (int64, or str objects); predict_proba: (n, classes).
        """
        given = np.ascontiguousarray(matrix, dtype=self._type)
        found = self._session.run([self._outputs[method] for method in methods], {INPUT: given})
        return {
            method: values if method is PredictMethod.PREDICT_PROBA else values.reshape(len(given))
            for method, values in zip(methods, found, strict=True)
        }
