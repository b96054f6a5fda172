"""The repository for a stock Triton: its files agree, and a real tritonserver returns the run's vectors from them.

The wheel nvidia-pytriton contains tritonserver with the Python backend only. So the encoder runs here unchanged. A copy
of the transformer runs in a few lines of Python that call ONNX Runtime instead of Triton's backend for it. That backend
and a GPU are not tested.
"""

import ast
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup
from tritonclient.utils import InferenceServerException

from deploy.scale import registry, repository
from lib.core import errors, files, paths
from lib.core.encoder import embed
from lib.search.encoders import open_form
from lib.search.recommender import open_run

VENV = paths.ROOT / ".venv-triton"
WHEEL = VENV / f"lib/python3.{sys.version_info.minor}/site-packages/pytriton/tritonserver"
WORDS = ["calm", "piano", "rain", "Épique", "guitar", "lo-fi", "beats", "🎸", "while", "nobody", "listens:", "夜"]
# From an empty text to one over the limit.
TEXTS = [" ".join(WORDS[n % 7 :] * (n // 7) + WORDS[: n % 13]) for n in range(64)]
TYPES = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
BACKEND = """
import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        self.session = onnxruntime.InferenceSession(f"{args['model_repository']}/{args['model_version']}/model.onnx")

    def execute(self, requests):
        answers = []
        for request in requests:
            names = ("input_ids", "attention_mask")
            inputs = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in names}
            (vectors,) = self.session.run(["vector"], inputs)
            answers.append(triton.InferenceResponse([triton.Tensor("vector", vectors)]))
        return answers
"""


@pytest.fixture(scope="module")
def written(small_run, tmp_path_factory) -> SimpleNamespace:
    """The run's repository: its folder, the names of its models, and their settings as Triton reads them."""
    home = tmp_path_factory.mktemp("repository")
    encoder = repository.write(small_run, home)
    transformer = encoder.replace("encoder", "transformer")
    configs = {name: read(home / name / "config.pbtxt") for name in (encoder, transformer)}
    return SimpleNamespace(home=home, encoder=encoder, transformer=transformer, configs=configs)


def read(file: Path) -> ModelConfig:
    """Return the settings in a file; an unknown field is an error."""
    return text_format.Parse(file.read_text(), ModelConfig())


def in_settings(tensors) -> dict[str, tuple[str, list[int]]]:
    """Return the type and the sizes of each tensor in a model's settings, without the batch."""
    return {tensor.name: (DataType.Name(tensor.data_type), list(tensor.dims)) for tensor in tensors}


def in_graph(tensors) -> dict[str, tuple[str, list[int]]]:
    """Return the same of a graph's tensors."""
    return {
        tensor.name: (TYPES[tensor.type], [size if isinstance(size, int) else -1 for size in tensor.shape[1:]])
        for tensor in tensors
    }


def free_ports(n: int) -> list[int]:
    """Return free ports, chosen by the system."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        [probe.close() for probe in probes]


class Server(SimpleNamespace):
    """A running tritonserver: its address, the names of its models, the tolerance of its vectors."""

    def ask(self, *texts: str | bytes) -> np.ndarray:
        """Send one request. Return its vectors, (n, d)."""
        rows = np.array([text if isinstance(text, bytes) else text.encode() for text in texts], object)[:, None]
        tensor = InferInput("text", rows.shape, "BYTES")
        tensor.set_data_from_numpy(rows)
        with InferenceServerClient(self.address) as client:  # a client is for one thread
            return client.infer(self.encoder, [tensor], client_timeout=30).as_numpy("vector")

    def counts(self) -> np.ndarray:
        """Return the texts and the batches so far, of the encoder and of the transformer, (2, 2)."""
        with InferenceServerClient(self.address) as client:
            stats = [client.get_inference_statistics(name).model_stats[0] for name in (self.encoder, self.transformer)]
        return np.array([(model.inference_count, model.execution_count) for model in stats])


@pytest.fixture(scope="module", params=[("fp16", 5e-4), ("fp32", 1e-4)], ids=lambda param: param[0])
def server(request, small_run, written, tmp_path_factory):
    """Triton on a copy of the repository, with the fp16 graph or with the fp32 graph before the conversion."""
    if not WHEEL.is_dir():
        pytest.skip("no .venv-triton with nvidia-pytriton: make scale installs it")
    precision, tolerance = request.param
    home = tmp_path_factory.mktemp(f"triton-{precision}")
    shutil.copytree(written.home, home / "repository")
    transformer = home / "repository" / written.transformer
    settings = read(transformer / "config.pbtxt")
    settings.backend = "python"
    (transformer / "config.pbtxt").write_text(text_format.MessageToString(settings))
    (transformer / "1/model.py").write_text(BACKEND)
    if precision == "fp32":
        onnx.save(repository.unit(onnx.load(small_run / "encoders/onnx/model.onnx")), transformer / "1/model.onnx")
    shutil.copytree(WHEEL / "backends", home / "backends")
    stub = WHEEL / f"python_backend_stubs/3.{sys.version_info.minor}/triton_python_backend_stub"
    (home / "backends/python" / stub.name).symlink_to(stub)
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    command = [WHEEL / "bin/tritonserver", "--model-repository", home / "repository"]
    command += ["--backend-directory", home / "backends", "--cache-directory", WHEEL / "caches"]
    command += ["--model-control-mode=explicit", "--exit-timeout-secs=5"]
    command += [f"--load-model={name}" for name in (written.encoder, written.transformer)]
    for name, port in ports.items():
        command += [f"--{name}-address=127.0.0.1", f"--{name}-port={port}"]
    # The stub uses the packages of the first python3 in PATH, and libpython from LD_LIBRARY_PATH.
    env = os.environ | {"PATH": f"{VENV / 'bin'}:{os.environ['PATH']}"}
    env |= {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR"), "OMP_NUM_THREADS": "1"}
    log = home / "triton.log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, env=env, stdout=stream, stderr=subprocess.STDOUT)
    try:
        address, ends = f"127.0.0.1:{ports['grpc']}", time.monotonic() + 90
        while not ready(address):
            assert process.poll() is None and time.monotonic() < ends, log.read_text()[-3000:]
            time.sleep(0.2)
        yield Server(address=address, encoder=written.encoder, transformer=written.transformer, tolerance=tolerance)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(address: str) -> bool:
    """Return True if the server and its models are ready."""
    try:
        with InferenceServerClient(address) as client:
            return client.is_server_ready()
    except InferenceServerException:
        return False


def test_the_settings_fit_the_graph(small_run, written):
    graph = onnxruntime.InferenceSession(written.home / written.transformer / "1/model.onnx")
    before = onnxruntime.InferenceSession(small_run / "encoders/onnx/model.onnx")
    transformer, encoder = written.configs[written.transformer], written.configs[written.encoder]
    assert in_settings(transformer.input) == in_graph(graph.get_inputs()) == in_graph(before.get_inputs())
    assert in_settings(transformer.output) == in_settings(encoder.output) == in_graph(graph.get_outputs())
    assert in_settings(encoder.output)["vector"] == in_graph(before.get_outputs())["sentence_embedding"]
    assert in_settings(encoder.input) == {"text": ("TYPE_STRING", [1])}
    assert (transformer.backend, encoder.backend) == ("onnxruntime", "python")
    assert [group.kind for group in transformer.instance_group] == [ModelInstanceGroup.KIND_AUTO]
    assert transformer.max_batch_size == encoder.max_batch_size == repository.MOST
    assert encoder.dynamic_batching.max_queue_delay_microseconds == repository.DELAY
    assert {name: config.name for name, config in written.configs.items()} == {name: name for name in written.configs}


def test_the_encoder_has_the_name_that_workers_use(small_run, written):
    assert written.encoder == registry.Version("1", open_run(small_run).fingerprints["model"], "").triton


def test_batches_have_the_limits_of_triton_py():
    """Its two assignments are evaluated, because importing it needs PyTriton."""
    lines = ast.parse(Path(repository.__file__).with_name("triton.py").read_text()).body
    values = {ast.unparse(line.targets[0]): ast.unparse(line.value) for line in lines if isinstance(line, ast.Assign)}
    assert eval(values["MOST"]) == repository.MOST
    assert eval(values["DELAY"]) == repository.DELAY


def test_the_weights_are_in_fp16(written):
    graph = onnx.load(written.home / written.transformer / "1/model.onnx").graph
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    types = {weight.data_type for weight in graph.initializer if np.prod(weight.dims) > 1}
    assert types & set(floats) == {onnx.TensorProto.FLOAT16}


def test_64_texts_at_once_have_the_vectors_of_the_run(server, small_run):
    """64 clients send them. Triton batches them, and each batch of texts is one batch of tokens of any lengths."""
    expected, before = embed(open_form(small_run, "onnx"), TEXTS), server.counts()
    with ThreadPoolExecutor(64) as clients:
        vectors = np.concatenate(list(clients.map(server.ask, TEXTS)))
    assert np.abs(vectors - expected).max() < server.tolerance
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    (texts, batches), of_transformer = server.counts() - before
    assert texts == 64 and batches < 32
    assert [texts, batches] == of_transformer.tolist()


def test_a_request_may_have_several_texts(server, small_run):
    expected = embed(open_form(small_run, "onnx"), TEXTS)
    with ThreadPoolExecutor(8) as clients:
        results = list(clients.map(lambda n: server.ask(*TEXTS[n : n + 3 + n % 5]), range(0, 56, 7)))
    for n, vectors in zip(range(0, 56, 7), results, strict=True):
        assert np.abs(vectors - expected[n : n + 3 + n % 5]).max() < server.tolerance
    with pytest.raises(InferenceServerException, match=str(repository.MOST)):
        server.ask(*["calm"] * (repository.MOST + 1))


def test_bytes_that_are_not_utf8_fail_no_request(server):
    with ThreadPoolExecutor(8) as clients:
        vectors = np.concatenate(list(clients.map(server.ask, [b"calm \xff", *TEXTS[:7]])))
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


def test_a_missing_transformer_is_named(server):
    with InferenceServerClient(server.address) as client:
        client.unload_model(server.transformer)
        with pytest.raises(InferenceServerException, match=f"{server.transformer}.* is not ready"):
            server.ask("calm")
        client.load_model(server.transformer)
    assert server.ask("calm").shape[0] == 1


def test_files_are_written_atomically(small_run, written, monkeypatch):
    """A full disk leaves the old files unchanged and nothing beside them."""

    def full(*_):
        raise OSError(28, "No space left on device")

    before = files.fingerprint(written.home)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(errors.WorkbookError, match="No space left"):
        repository.write(small_run, written.home)
    assert files.fingerprint(written.home) == before
    assert {folder.name for folder in written.home.iterdir()} == {written.encoder, written.transformer}


def test_the_command_line(small_run, tmp_path, capsys):
    assert repository.main([str(small_run), "--to", str(tmp_path / "new")]) == 0
    words = capsys.readouterr().out.split()
    models = {word for word in words if word.startswith(("encoder-", "transformer-"))}
    assert {folder.name for folder in (tmp_path / "new").iterdir()} == models
    assert repository.main([str(tmp_path), "--to", str(tmp_path / "other")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "other").exists()
