"""How a network is run: on one thread, from bytes that were checked, with memory given back."""

from __future__ import annotations

from typing import Any

from filters.names.models import ModelError


def session(data: bytes) -> Any:
    """An onnxruntime session over a model's bytes. One thread: the pool has one process for each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors: warnings would go to standard error, past our own logs
    # Without the arena a process keeps what its longest segment needed and no more; the cost is below the noise.
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no type of their own
        raise ModelError(f"onnxruntime {onnxruntime.__version__} cannot load a model") from error
