"""Re-quantises the Rampart model for this build: `python -m filters.names.build`, once after the packages are installed.

The package ships 4-bit weights, which onnxruntime unpacks at each multiplication. This writes the same network with
8-bit weights (one scale for each output channel) and fused layers, which is more than twice as fast. It is a pure
function of the input file, whose SHA-256 is checked first; that of the output is pinned in models.py and checked here
and at each load, so every machine runs the same numbers (L10).

The output lies beside this file, in `built/`: a file that follows from an installed package belongs to the same
installation, and is gone with it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filters.names.models import RAMPART_BUILT, RAMPART_SOURCE, ModelError, checked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

ONNX_PINNED = "1.23.2"  # the release whose serialisation the pinned hash was taken with
LAYERS = 6
HEADS = 12
HIDDEN = 384
BLOCK = 32  # weights that share one scale in the shipped file
LAYER_NORM_EPSILON = 1e-12  # config.json: layer_norm_eps
# 7 bits rather than 8: processors without VNNI add pairs of products in 16 bits, which then cannot overflow, so that
# every processor computes the same integers (L10).
WEIGHT_MAX = 63
OPSET = 18
OPSET_CONTRIB = 1
IR_VERSION = 9  # the oldest that knows all of the above


class Source:
    """The tensors of the shipped file, as floats and in the layout that multiplication wants."""

    def __init__(self, data: bytes) -> None:
        import onnx
        from onnx import numpy_helper

        graph = onnx.load_from_string(data).graph
        self.tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.weights: dict[str, Floats] = {}
        for node in graph.node:
            if node.op_type == "MatMulNBits":
                self.weights[node.output[0]] = self._unpacked(node)

    def _unpacked(self, node: Any) -> Floats:
        """The (inputs, outputs) matrix of one 4-bit multiplication: symmetric blocks, low half of each byte first."""
        import numpy as np

        sizes = {attribute.name: attribute.i for attribute in node.attribute}
        if sizes["bits"] != 4 or sizes["block_size"] != BLOCK or len(node.input) != 3:
            raise ModelError("the Rampart model's weights are not stored as expected")
        packed, scales = self.tensors[node.input[1]], self.tensors[node.input[2]]
        outputs, blocks, _ = packed.shape
        halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(outputs, blocks, BLOCK)
        values = (halves.astype(np.float32) - 8.0) * scales.reshape(outputs, blocks, 1)
        return np.ascontiguousarray(values.reshape(outputs, blocks * BLOCK).T)

    def table(self, name: str) -> Floats:
        """An embedding table as floats."""
        import numpy as np

        zero = self.tensors[f"{name}_zero_point"].astype(np.float32)
        scale = self.tensors[f"{name}_scale"]
        values: Floats = (self.tensors[f"{name}_quantized"].astype(np.float32) - zero) * scale
        return values


class Graph:
    """A network under construction."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(value, name))
        return name

    def copied(self, name: str) -> str:
        return self.constant(name, self.source.tensors[name])

    def node(self, kind: str, inputs: list[str], output: str, *, contrib: bool = False, **attributes: Any) -> str:
        from onnx import helper

        domain = "com.microsoft" if contrib else ""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def quantized(self, name: str, weight: Floats) -> list[str]:
        """Adds a weight matrix in 8-bit integers and one scale for each output; returns the names of both."""
        import numpy as np

        scale = np.maximum(np.abs(weight).max(axis=0), np.float32(1e-8)) / np.float32(WEIGHT_MAX)
        values = np.clip(np.rint(weight / scale), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
        return [self.constant(f"{name}.weight", values), self.constant(f"{name}.scale", scale.astype(np.float32))]

    def linear(self, name: str, given: str, weight: Floats, bias: str) -> str:
        """given @ weight + bias, with `given` quantised on the fly over this one segment."""
        return self.node(
            "DynamicQuantizeMatMul", [given, *self.quantized(name, weight), "", bias], f"{name}.out", contrib=True
        )

    def layer(self, index: int, given: str) -> str:
        """One transformer layer: attention, then the two wide multiplications, each added to what it was given."""
        import numpy as np

        path, prefix = f"/bert/encoder/layer.{index}", f"bert.encoder.layer.{index}"
        weights, short = self.source.weights, f"l{index}"
        parts = ("query", "key", "value")
        joined = np.concatenate([weights[f"{path}/attention/self/{p}/MatMul_output_0"] for p in parts], axis=1)
        biases = np.concatenate([self.source.tensors[f"{prefix}.attention.self.{p}.bias"] for p in parts])
        qkv = self.linear(f"{short}.qkv", given, joined, self.constant(f"{short}.qkv.bias", biases))
        split = [f"{short}.{p}" for p in parts]
        self.nodes.append(self._split(qkv, split))
        attended = self.node("MultiHeadAttention", split, f"{short}.attended", contrib=True, num_heads=HEADS)
        out = self.linear(
            f"{short}.attention",
            attended,
            weights[f"{path}/attention/output/dense/MatMul_output_0"],
            self.copied(f"{prefix}.attention.output.dense.bias"),
        )
        middle = self._normed(f"{short}.middle", out, given, f"{prefix}.attention.output.LayerNorm")
        wide = self.linear(
            f"{short}.wide",
            middle,
            weights[f"{path}/intermediate/dense/MatMul_output_0"],
            self.copied(f"{prefix}.intermediate.dense.bias"),
        )
        curved = self.node("Gelu", [wide], f"{short}.curved", contrib=True)
        narrow = self.linear(
            f"{short}.narrow",
            curved,
            weights[f"{path}/output/dense/MatMul_output_0"],
            self.copied(f"{prefix}.output.dense.bias"),
        )
        return self._normed(f"{short}.end", narrow, middle, f"{prefix}.output.LayerNorm")

    def _split(self, given: str, outputs: list[str]) -> Any:
        from onnx import helper

        return helper.make_node("Split", [given], outputs, name=f"{given}.split", axis=-1, num_outputs=3)

    def _normed(self, name: str, given: str, skip: str, norm: str) -> str:
        # Two nodes: the fused SkipLayerNormalization is scalar code, four times slower than both of these together.
        inputs = [self.node("Add", [given, skip], f"{name}.sum"), self.copied(f"{norm}.weight")]
        inputs.append(self.copied(f"{norm}.bias"))
        return self.node("LayerNormalization", inputs, name, axis=-1, epsilon=LAYER_NORM_EPSILON)


def rebuilt(data: bytes) -> bytes:
    """The network of the shipped file, re-quantised: `input_ids` (1, pieces) to `logits` (1, pieces, labels)."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    source = Source(data)
    graph = Graph(source)
    words = "bert.embeddings.word_embeddings.weight"
    looked_up = graph.node("Gather", [graph.copied(f"{words}_quantized"), "input_ids"], "words.quantized")
    scale, zero = graph.copied(f"{words}_scale"), graph.copied(f"{words}_zero_point")
    embedded = graph.node("DequantizeLinear", [looked_up, scale, zero], "words")
    # Every piece is of the first type, so its row is part of the position's.
    kinds = source.table("bert.embeddings.token_type_embeddings.weight")
    places = source.table("bert.embeddings.position_embeddings.weight") + kinds[0]
    graph.constant("zero", np.array([0], np.int64))
    size = graph.node("Shape", ["input_ids"], "size", start=1, end=2)
    placed = graph.node("Slice", [graph.constant("places", places), "zero", size, "zero"], "places.used")
    summed = graph.node("Add", [embedded, placed], "embedded")
    norm = "bert.embeddings.LayerNorm"
    flow = graph.node(
        "LayerNormalization",
        [summed, graph.copied(f"{norm}.weight"), graph.copied(f"{norm}.bias")],
        "normed",
        axis=-1,
        epsilon=LAYER_NORM_EPSILON,
    )
    for index in range(LAYERS):
        flow = graph.layer(index, flow)
    last = graph.linear("labels", flow, source.weights["/classifier/MatMul_output_0"], graph.copied("classifier.bias"))
    graph.node("Identity", [last], "logits")
    labels = source.tensors["classifier.bias"].shape[0]
    given = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "pieces"])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "pieces", labels])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "rampart", [given], [result], graph.tensors),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", OPSET_CONTRIB)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    built: bytes = model.SerializeToString(deterministic=True)
    return built


def main() -> int:
    """Builds and writes the file, unless the right one is there; returns an exit status."""
    try:
        if _up_to_date():
            sys.stderr.write(f"{RAMPART_BUILT.path} is up to date\n")
            return 0
        data = rebuilt(checked(RAMPART_SOURCE))
        _confirm(data)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _write(data, RAMPART_BUILT.path)
    return 0


def _confirm(data: bytes) -> None:
    if hashlib.sha256(data).hexdigest() != RAMPART_BUILT.sha256:
        raise ModelError(f"the built model is not the pinned one: build it with onnx {ONNX_PINNED}")


def _up_to_date() -> bool:
    try:
        checked(RAMPART_BUILT)
    except ModelError:
        return False
    return True


def _write(data: bytes, path: Path) -> None:
    """Writes beside and renames, so that a process that loads meanwhile sees the old file or the new one."""
    path.parent.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(name).chmod(0o644)
    Path(name).replace(path)


if __name__ == "__main__":
    sys.exit(main())
