"""The encoder in Triton: texts in, unit vectors out, in batches. It follows the registry.

    .venv-triton/bin/python -m deploy.scale.triton 8000

The argument is the port of HTTP; gRPC listens ten ports above it, the metrics twenty.

One model tokenizes and encodes: a request is one string, and a batch is padded to its own longest text. Each version of
the registry is a separate model, which stays loaded until this process ends, so a rollback is immediate.
"""

import json
import os
import signal
import sys
import sysconfig
import time
import traceback
from pathlib import Path

# Where two Pythons are installed, Triton's stub would load the system's libpython.
os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")

import numpy as np
import onnxruntime
from mlflow.exceptions import MlflowException
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from tokenizers import Tokenizer

from deploy.scale import registry
from deploy.scale.alone import end_left_over

MOST = int(os.environ.get("MOST", "256"))  # texts of a batch; at least 21, a request with its history
DELAY = int(os.environ.get("QUEUE_DELAY_US", "2000"))  # microseconds that a text may wait for a batch
THREADS = int(os.environ.get("ENCODER_THREADS", "1"))
# Tokens encoded at a time, padding included.
TOKENS = 32_768 if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else 512
POLL = 1.0  # seconds between two requests to the registry


def encoder(folder: Path):
    """Return a run's ONNX encoder as a function for Triton, (n, 1) bytes to (n, d) float32 unit vectors, and d.

    It is the fp32 form: in int8 a text's vector would depend on the other texts of its batch.
    """
    about = json.loads((folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(about["max_seq_length"])
    pad = (tokenizer.padding or {}).get("pad_id", 0)
    tokenizer.no_padding()  # `encode` pads each part of a batch
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=providers)
    width = session.get_outputs()[1].shape[-1]

    @batch
    def encode(text: np.ndarray) -> dict[str, np.ndarray]:
        tokens = tokenizer.encode_batch([value.decode() for value in text[:, 0]])
        vectors = np.empty((len(tokens), width), np.float32)
        order, start = sorted(range(len(tokens)), key=lambda row: -len(tokens[row])), 0
        while start < len(order):  # texts of similar length together need little padding
            length = len(tokens[order[start]])
            rows = order[start : start + max(1, TOKENS // length)]
            ids, mask = np.full((len(rows), length), pad), np.zeros((len(rows), length), np.int64)
            for at, row in enumerate(rows):
                ids[at, : len(tokens[row])], mask[at, : len(tokens[row])] = tokens[row].ids, 1
            (vectors[rows],) = session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})
            start += len(rows)
        return {"vector": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}

    return encode, width


def main(port: int) -> None:
    """Serve the registry's version until SIGTERM."""
    loopback = {f"{kind}_address": "127.0.0.1" for kind in ("http", "grpc", "metrics")}
    ports = {"http_port": port, "grpc_port": port + 10, "metrics_port": port + 20}
    config = TritonConfig(**loopback, **ports, exit_timeout_secs=5, allow_gpu_metrics=True)
    loaded = set()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # leaving `with Triton` ends Triton's own process
    end_left_over("tritonserver", f"--http-port {port}")
    with Triton(config=config) as triton:
        triton.run()
        while triton.is_alive():  # if its own process ends, Supervisor starts this one again
            try:
                follow(triton, loaded)
            except Exception:  # a version that cannot be loaded leaves the others served
                traceback.print_exc()
            time.sleep(POLL)
    sys.exit("Triton has ended")


def follow(triton: Triton, loaded: set[str]) -> None:
    """Load the registry's version unless it is loaded."""
    try:
        version = registry.serving()
    except MlflowException:
        return  # the registry is down: the loaded versions stay
    if not version or version.triton in loaded:
        return
    function, width = encoder(registry.pull(version) / "encoders/onnx")
    triton.bind(
        version.triton,
        function,
        inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
        outputs=[Tensor(name="vector", dtype=np.float32, shape=(width,))],
        # No queue policy: with a timeout of its own, Triton's batcher sometimes keeps a text until the next one arrives
        # (p99 at 42 texts a second: 100 ms; 40 ms without). The workers have deadlines and cancel late requests.
        config=ModelConfig(max_batch_size=MOST, batcher=DynamicBatcher(DELAY)),
    )
    loaded.add(version.triton)
    print(f"{version.triton} is served", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
