"""A model repository for a stock Triton: texts in, unit vectors out, the interface of deploy/scale/triton.py.

    python -m deploy.scale.repository outputs/quick

Triton batches requests of one shape only, and texts have different numbers of tokens. So `encoder-…` (Python backend)
batches texts, pads the batch to its longest text, and calls `transformer-…` (ONNX Runtime backend) once, by Triton's
business logic scripting (BLS). In an ensemble each text's tokens would be a separate request again, and a batch would
end at the next text of another padded length.

The transformer is the run's graph, converted to fp16 by ONNX Runtime's own converter. It also runs without a GPU, but
slower than in fp32. It needs ONNX Runtime 1.18; the Python of Triton's Python backend needs the package `tokenizers`.
"""

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
from lib.search.encoders import GRAPH, INPUTS, OUTPUTS
from lib.search.integrity import folder_of, forms

# The same as in triton.py, which needs PyTriton to be imported.
MOST = int(os.environ.get("MOST", "256"))  # texts of a batch; at least 21, a request with its history
DELAY = int(os.environ.get("QUEUE_DELAY_US", "2000"))  # microseconds that a text may wait for a batch


class TritonPythonModel:
    """The encoder for Triton's Python backend. Its source is written to the repository as model.py."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the tokenizer; its file holds the rules of truncation and padding."""
        self.tokenizer = Tokenizer.from_file(f"{args['model_repository']}/{args['model_version']}/tokenizer.json")
        self.transformer = args["model_name"].replace("encoder-", "transformer-")

    def execute(self, requests: list) -> list:
        """Return the unit vectors of a batch of requests; each request has one or more texts."""
        import triton_python_backend_utils as triton  # exists inside Triton only

        texts = [triton.get_input_tensor_by_name(request, "text").as_numpy()[:, 0] for request in requests]
        tokens = self.tokenizer.encode_batch([text.decode(errors="replace") for text in np.concatenate(texts)])
        ids, mask = (np.array([getattr(row, name) for row in tokens], np.int64) for name in ("ids", "attention_mask"))
        inputs = [triton.Tensor("input_ids", ids), triton.Tensor("attention_mask", mask)]
        memory = {"preferred_memory": triton.PreferredMemory(triton.TRITONSERVER_MEMORY_CPU)}  # for NumPy
        response = triton.InferenceRequest(
            model_name=self.transformer, requested_output_names=["vector"], inputs=inputs, **memory
        ).exec()
        if response.has_error():
            raise triton.TritonModelException(response.error().message())
        vectors = triton.get_output_tensor_by_name(response, "vector").as_numpy()
        parts = np.split(vectors, np.cumsum([len(rows) for rows in texts])[:-1])
        return [triton.InferenceResponse([triton.Tensor("vector", part)]) for part in parts]


MODEL_PY = f"import numpy as np\nfrom tokenizers import Tokenizer\n\n\n{inspect.getsource(TritonPythonModel)}"


def unit(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with the output `vector`, (texts, d) float32: `sentence_embedding` scaled to length 1."""
    graph = model.graph
    output = next(output for output in graph.output if output.name == OUTPUTS[1])
    graph.initializer.append(helper.make_tensor("vector_axes", TensorProto.INT64, [1], [1]))
    graph.node.append(helper.make_node("ReduceL2", [output.name, "vector_axes"], ["vector_length"], keepdims=1))
    graph.node.append(helper.make_node("Div", [output.name, "vector_length"], ["vector"]))
    output.name = "vector"
    onnx.checker.check_model(model)
    return model


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in fp16; its inputs and outputs keep their types."""
    del model.graph.output[OUTPUTS.index("token_embeddings")]  # not needed
    return convert_float_to_float16(model, keep_io_types=True)


def write(run: Path, to: Path) -> str:
    """Write the models of a run's encoder to a repository, beside other runs' models. Return the encoder's name.

    Raises:
        WorkbookError: the run has no ONNX encoder, the encoder is damaged, or the repository cannot be written.
    """
    need(run, "model", "encoders")
    source, short = folder_of(run, "onnx"), forms(run)["torch"][:12]
    graph = unit(half(onnx.load(source / GRAPH)))
    tokens = [ModelInput(name=name, data_type="TYPE_INT64", dims=[-1]) for name in INPUTS]
    transformer = config(f"transformer-{short}", "onnxruntime", tokens, graph, kind="KIND_AUTO", count=1)
    text = ModelInput(name="text", data_type="TYPE_STRING", dims=[1])
    # Two instances: one tokenizes while the other waits for the transformer.
    encoder = config(f"encoder-{short}", "python", [text], graph, kind="KIND_CPU", count=2)
    encoder.dynamic_batching.max_queue_delay_microseconds = DELAY
    folder(to)
    for model, files in (  # the encoder last: once it exists, its transformer exists
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
    """Return the settings of a model that returns the graph's vectors for up to MOST texts."""
    width = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    vector = ModelOutput(name="vector", data_type="TYPE_FP32", dims=[width])
    settings = {"name": name, "backend": backend, "max_batch_size": MOST, "input": inputs, "output": [vector]}
    return ModelConfig(**settings, instance_group=[ModelInstanceGroup(**instances)])


def tokenizer(source: Path) -> Tokenizer:
    """Return the tokenizer. It pads a batch to its longest text, to a multiple of eight if possible: best for fp16."""
    limit = read_json(source / "config.json")["max_seq_length"]
    tokens = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokens.enable_truncation(limit)
    tokens.enable_padding(**{**(tokens.padding or {}), "length": None, "pad_to_multiple_of": math.gcd(8, limit)})
    return tokens


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Return 0 if the models are written, 1 after an error in one line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.scale.repository", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", help="the run's folder")
    parser.add_argument(
        "--to", default="outputs/scale/repository", help="the repository's folder (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    try:
        name = write(resolve(args.run), resolve(args.to))
    except WorkbookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    models = f"--load-model {name} --load-model {name.replace('encoder', 'transformer')}"
    print(f"tritonserver --model-repository {shown(resolve(args.to))} --model-control-mode explicit {models}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
