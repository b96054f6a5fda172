"""A model repository for a stock Triton: texts in, unit vectors out, the same interface as deploy/scale/triton.py has.

    python -m deploy.scale.repository outputs/quick

Triton batches only what has one shape, which tokens of separate requests do not have: so the batch is formed of texts,
by `encoder-…` (Python backend), which pads it to its own longest and hands it to `transformer-…` (ONNX Runtime backend)
as one request, by Triton's business logic scripting (BLS). In an ensemble the tokens would be requests of their own
again, and a batch would end wherever the next text is padded to another length.

The transformer is the run's graph converted to fp16 by ONNX Runtime's own converter; without a GPU it computes too,
slower than in fp32. It needs ONNX Runtime 1.18, and the Python of Triton's Python backend the package `tokenizers`.
"""

from __future__ import annotations

import argparse
import inspect
import math
import os
import sys
from pathlib import Path

import numpy as np
import onnx
from google.protobuf import text_format
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from tokenizers import Tokenizer
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInput, ModelInstanceGroup, ModelOutput

from lib.core.errors import WorkbookError
from lib.core.files import atomic, read_json
from lib.core.paths import resolve, shown
from lib.core.runs import folder, need
from lib.search.forms import GRAPH, INPUTS, OUTPUTS
from lib.search.integrity import folder_of, forms

# As in triton.py, which cannot be imported without PyTriton.
MOST = int(os.environ.get("MOST", "256"))  # texts of a batch
DELAY = int(os.environ.get("QUEUE_DELAY_US", "2000"))  # microseconds that a text may wait for company


class TritonPythonModel:
    """The encoder: what Triton's Python backend calls. Its source is the model.py of the repository."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the tokenizer, whose file says how texts are cut and padded."""
        self.tokenizer = Tokenizer.from_file(f"{args['model_repository']}/{args['model_version']}/tokenizer.json")
        self.transformer = args["model_name"].replace("encoder-", "transformer-")

    def execute(self, requests: list) -> list:
        """Unit vectors of the texts of all requests, which are one batch; a request has one text or more."""
        import triton_python_backend_utils as triton  # which is only in Triton

        texts = [triton.get_input_tensor_by_name(request, "text").as_numpy()[:, 0] for request in requests]
        found = self.tokenizer.encode_batch([text.decode(errors="replace") for text in np.concatenate(texts)])
        ids, mask = (np.array([getattr(one, name) for one in found], np.int64) for name in ("ids", "attention_mask"))
        tokens = [triton.Tensor("input_ids", ids), triton.Tensor("attention_mask", mask)]
        here = {"preferred_memory": triton.PreferredMemory(triton.TRITONSERVER_MEMORY_CPU)}  # NumPy reads no GPU's
        answer = triton.InferenceRequest(
            model_name=self.transformer, requested_output_names=["vector"], inputs=tokens, **here
        ).exec()
        if answer.has_error():
            raise triton.TritonModelException(answer.error().message())
        vectors = triton.get_output_tensor_by_name(answer, "vector").as_numpy()
        parts = np.split(vectors, np.cumsum([len(some) for some in texts])[:-1])
        return [triton.InferenceResponse([triton.Tensor("vector", part)]) for part in parts]


MODEL_PY = f"import numpy as np\nfrom tokenizers import Tokenizer\n\n\n{inspect.getsource(TritonPythonModel)}"


def unit(model: onnx.ModelProto) -> onnx.ModelProto:
    """The encoder's graph with `vector` for its `sentence_embedding`, (texts, d) float32: the same at length 1."""
    graph = model.graph
    found = next(output for output in graph.output if output.name == OUTPUTS[1])
    graph.initializer.append(helper.make_tensor("vector_axes", TensorProto.INT64, [1], [1]))
    graph.node.append(helper.make_node("ReduceL2", [found.name, "vector_axes"], ["vector_length"], keepdims=1))
    graph.node.append(helper.make_node("Div", [found.name, "vector_length"], ["vector"]))
    found.name = "vector"
    onnx.checker.check_model(model)
    return model


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The encoder's graph computed in fp16; what goes in and what comes out is as it was."""
    del model.graph.output[OUTPUTS.index("token_embeddings")]  # which nobody asks for
    return convert_float_to_float16(model, keep_io_types=True)


def write(run: Path, to: Path) -> str:
    """Write the models of a run's encoder into a repository, beside those of other runs. -> the encoder's name.

    Raises:
        WorkbookError: the run has no ONNX encoder, it is damaged, or the repository cannot be written.
    """
    need(run, "model", "encoders")
    source, short = folder_of(run, "onnx"), forms(run)["torch"][:12]
    graph = unit(half(onnx.load(source / GRAPH)))
    tokens = [ModelInput(name=name, data_type="TYPE_INT64", dims=[-1]) for name in INPUTS]
    transformer = config(f"transformer-{short}", "onnxruntime", tokens, graph, kind="KIND_AUTO", count=1)
    text = ModelInput(name="text", data_type="TYPE_STRING", dims=[1])
    # Two instances: one splits texts into tokens while the other waits for the transformer.
    encoder = config(f"encoder-{short}", "python", [text], graph, kind="KIND_CPU", count=2)
    encoder.dynamic_batching.max_queue_delay_microseconds = DELAY
    folder(to)
    for model, files in (  # in this order: whoever finds the encoder finds what it needs
        (transformer, {GRAPH: graph.SerializeToString()}),
        (encoder, {"model.py": MODEL_PY.encode(), "tokenizer.json": tokenizer(source).to_str().encode()}),
    ):
        with atomic(to / model.name) as place:
            (place / "1").mkdir(parents=True)
            (place / "config.pbtxt").write_text(text_format.MessageToString(model))
            for name, content in files.items():
                (place / "1" / name).write_bytes(content)
    return encoder.name


def config(name: str, backend: str, inputs: list[ModelInput], graph: onnx.ModelProto, **instances) -> ModelConfig:
    """What Triton is told of a model: it gives a vector as the graph does, for up to MOST texts at once."""
    width = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    vector = ModelOutput(name="vector", data_type="TYPE_FP32", dims=[width])
    known = {"name": name, "backend": backend, "max_batch_size": MOST, "input": inputs, "output": [vector]}
    return ModelConfig(**known, instance_group=[ModelInstanceGroup(**instances)])


def tokenizer(source: Path) -> Tokenizer:
    """The encoder's tokenizer. It pads a batch to its longest text, in eights where it may, as fp16 likes it."""
    limit = read_json(source / "config.json")["max_seq_length"]
    made = Tokenizer.from_file(str(source / "tokenizer.json"))
    made.enable_truncation(limit)
    made.enable_padding(**{**(made.padding or {}), "length": None, "pad_to_multiple_of": math.gcd(8, limit)})
    return made


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when the models are written, 1 with one line on why not."""
    parser = argparse.ArgumentParser(prog="python -m deploy.scale.repository", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", help="the folder of a run")
    parser.add_argument("--to", default="outputs/scale/repository", help="the repository (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        name = write(resolve(args.run), resolve(args.to))
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    both = f"--load-model {name} --load-model {name.replace('encoder', 'transformer')}"
    print(f"tritonserver --model-repository {shown(resolve(args.to))} --model-control-mode explicit {both}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
