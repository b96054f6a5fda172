"""The encoder as Triton serves it: texts in, unit vectors out, batched as they come. It follows the registry.

    .venv-triton/bin/python -m deploy.scale.triton 8000

The port is that of HTTP; gRPC has the tenth that follows, the metrics the twentieth.

One model does both, splitting texts into tokens and encoding them: a request is one string, a batch is padded to its
own longest text. Each version of the registry is a model of its own, and stays until this process ends: going back is
immediate.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import sysconfig
import time
import traceback
from pathlib import Path

# Triton's stub looks for libpython beside the interpreter that runs it, and finds the system's where there are two.
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

MOST = int(os.environ.get("MOST", "256"))  # texts of a batch
DELAY = int(os.environ.get("QUEUE_DELAY_US", "2000"))  # microseconds that a text may wait for company
THREADS = int(os.environ.get("ENCODER_THREADS", "1"))
TOKENS = 32_768 if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else 512  # encoded at a time
LOOK = 1.0  # seconds between two looks at the registry


def encoder(folder: Path):
    """A run's ONNX encoder as Triton's function, (n, 1) of bytes -> (n, d) float32 unit vectors; and d.

    It is the one in fp32: in int8 a text's vector would depend on the texts that happen to come with it.
    """
    about = json.loads((folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(about["max_seq_length"])
    nothing = (tokenizer.padding or {}).get("pad_id", 0)
    tokenizer.no_padding()  # done below, for a part of a batch at a time
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    providers = [one for one in wanted if one in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=providers)
    width = session.get_outputs()[1].shape[-1]

    @batch
    def encode(text: np.ndarray) -> dict[str, np.ndarray]:
        found = tokenizer.encode_batch([one.decode() for one in text[:, 0]])
        vectors = np.empty((len(found), width), np.float32)
        order, start = sorted(range(len(found)), key=lambda at: -len(found[at])), 0
        while start < len(order):  # those of about one length together, so that little is padded
            length = len(found[order[start]])
            rows = order[start : start + max(1, TOKENS // length)]
            ids, mask = np.full((len(rows), length), nothing), np.zeros((len(rows), length), np.int64)
            for at, row in enumerate(rows):
                ids[at, : len(found[row])], mask[at, : len(found[row])] = found[row].ids, 1
            (vectors[rows],) = session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})
            start += len(rows)
        return {"vector": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}

    return encode, width


def main(port: int) -> None:
    """Serve what the registry says, until SIGTERM."""
    loopback = {f"{kind}_address": "127.0.0.1" for kind in ("http", "grpc", "metrics")}
    ports = {"http_port": port, "grpc_port": port + 10, "metrics_port": port + 20}
    config = TritonConfig(**loopback, **ports, exit_timeout_secs=5, allow_gpu_metrics=True)
    loaded = set()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # which ends Triton's own process too
    end_left_over("tritonserver", f"--http-port {port}")
    with Triton(config=config) as triton:
        triton.run()
        while (
            triton.is_alive()
        ):  # its own process may end, by itself or for want of memory: then this one is started anew
            try:
                follow(triton, loaded)
            except Exception:  # of a version that cannot be loaded: those that are go on
                traceback.print_exc()
            time.sleep(LOOK)
    sys.exit("Triton has ended")


def follow(triton: Triton, loaded: set[str]) -> None:
    """Load what the registry says, if it is not yet."""
    try:
        wanted = registry.serving()
    except MlflowException:
        return  # it is gone: what is loaded is served
    if not wanted or wanted.triton in loaded:
        return
    function, width = encoder(registry.pull(wanted) / "encoders/onnx")
    triton.bind(
        wanted.triton,
        function,
        inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
        outputs=[Tensor(name="vector", dtype=np.float32, shape=(width,))],
        # No queue policy: with a timeout of its own Triton's batcher now and then keeps a text until the next one comes
        # (p99 of 42 texts a second: 100 ms, 40 ms without). Who asks has a deadline, and takes back what is too late.
        config=ModelConfig(max_batch_size=MOST, batcher=DynamicBatcher(DELAY)),
    )
    loaded.add(wanted.triton)
    print(f"{wanted.triton} is served", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
