"""The repository for a stock Triton: its files agree, and a real tritonserver answers from them as the run does.

The wheel nvidia-pytriton brings tritonserver with one backend, Python's. So the encoder runs here as it is written, and
the transformer, in a copy, behind a few lines of Python that give its model.onnx to ONNX Runtime in the place of
Triton's ONNX Runtime backend: that backend, and a GPU, are not tested.
"""

from __future__ import annotations

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
from lib.search.forms import open_form
from lib.search.recommender import open_run

VENV = paths.ROOT / ".venv-triton"
WHEEL = VENV / f"lib/python3.{sys.version_info.minor}/site-packages/pytriton/tritonserver"
WORDS = ["calm", "piano", "rain", "Épique", "guitar", "lo-fi", "beats", "🎸", "while", "nobody", "listens:", "夜"]
TEXTS = [" ".join(WORDS[n % 7 :] * (n // 7) + WORDS[: n % 13]) for n in range(64)]  # none; longer than is read
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
            given = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in names}
            (vectors,) = self.session.run(["vector"], given)
            answers.append(triton.InferenceResponse([triton.Tensor("vector", vectors)]))
        return answers
"""


@pytest.fixture(scope="module")
def run() -> Path:
    """A run that is there: these tests make none."""
    known = [paths.ROOT / "outputs" / name for name in ("quick", "test/small")]
    for one in known:
        if (one / "encoders/onnx/model.onnx").exists():
            return one
    pytest.skip(f"there is no run with an ONNX encoder in {' or '.join(map(paths.shown, known))}")


@pytest.fixture(scope="module")
def written(run, tmp_path_factory) -> SimpleNamespace:
    """The repository of the run, the names of its models, and its files of settings as Triton reads them."""
    home = tmp_path_factory.mktemp("repository")
    encoder = repository.write(run, home)
    transformer = encoder.replace("encoder", "transformer")
    configs = {name: read(home / name / "config.pbtxt") for name in (encoder, transformer)}
    return SimpleNamespace(home=home, encoder=encoder, transformer=transformer, configs=configs)


def read(file: Path) -> ModelConfig:
    """A file of settings; a field that Triton does not know is an error."""
    return text_format.Parse(file.read_text(), ModelConfig())


def told(tensors) -> dict[str, tuple[str, list[int]]]:
    """What Triton is told of tensors: of each its type and its sizes, without the texts."""
    return {one.name: (DataType.Name(one.data_type), list(one.dims)) for one in tensors}


def has(tensors) -> dict[str, tuple[str, list[int]]]:
    """What a graph has, in the same form."""
    return {
        one.name: (TYPES[one.type], [size if isinstance(size, int) else -1 for size in one.shape[1:]])
        for one in tensors
    }


def free_ports(many: int) -> list[int]:
    """Ports that nobody listens on, from those that the system gives."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(many)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        [probe.close() for probe in probes]


class Server(SimpleNamespace):
    """A running tritonserver: its address, the names of its models, how near its vectors should be."""

    def ask(self, *texts: str | bytes) -> np.ndarray:
        """One request. -> (n, d)."""
        given = np.array([text if isinstance(text, bytes) else text.encode() for text in texts], object)[:, None]
        asked = InferInput("text", given.shape, "BYTES")
        asked.set_data_from_numpy(given)
        with InferenceServerClient(self.address) as client:  # which is for one thread
            return client.infer(self.encoder, [asked], client_timeout=30).as_numpy("vector")

    def counted(self) -> np.ndarray:
        """Of the encoder and the transformer: how many texts in how many batches, so far. -> (2, 2)."""
        with InferenceServerClient(self.address) as client:
            found = [client.get_inference_statistics(name).model_stats[0] for name in (self.encoder, self.transformer)]
        return np.array([(one.inference_count, one.execution_count) for one in found])


@pytest.fixture(scope="module", params=[("fp16", 5e-4), ("fp32", 1e-4)], ids=lambda param: param[0])
def server(request, run, written, tmp_path_factory):
    """Triton on a copy of the repository, its graph as it was written, or before it was converted to fp16."""
    if not WHEEL.is_dir():
        pytest.skip("there is no .venv-triton with nvidia-pytriton: make scale installs it")
    precision, within = request.param
    home = tmp_path_factory.mktemp(f"triton-{precision}")
    shutil.copytree(written.home, home / "repository")
    transformer = home / "repository" / written.transformer
    changed = read(transformer / "config.pbtxt")
    changed.backend = "python"
    (transformer / "config.pbtxt").write_text(text_format.MessageToString(changed))
    (transformer / "1/model.py").write_text(BACKEND)
    if precision == "fp32":
        onnx.save(repository.unit(onnx.load(run / "encoders/onnx/model.onnx")), transformer / "1/model.onnx")
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
    # The stub takes the packages of the first python3 of PATH, and libpython where it is told to.
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
        yield Server(address=address, encoder=written.encoder, transformer=written.transformer, within=within)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(address: str) -> bool:
    """Whether the server and its models are up."""
    try:
        with InferenceServerClient(address) as client:
            return client.is_server_ready()
    except InferenceServerException:
        return False


def test_the_settings_are_what_the_graph_has(run, written):
    graph = onnxruntime.InferenceSession(written.home / written.transformer / "1/model.onnx")
    before = onnxruntime.InferenceSession(run / "encoders/onnx/model.onnx")
    transformer, encoder = written.configs[written.transformer], written.configs[written.encoder]
    assert told(transformer.input) == has(graph.get_inputs()) == has(before.get_inputs())
    assert told(transformer.output) == told(encoder.output) == has(graph.get_outputs())
    assert told(encoder.output)["vector"] == has(before.get_outputs())["sentence_embedding"]
    assert told(encoder.input) == {"text": ("TYPE_STRING", [1])}
    assert (transformer.backend, encoder.backend) == ("onnxruntime", "python")
    assert [one.kind for one in transformer.instance_group] == [ModelInstanceGroup.KIND_AUTO]
    assert transformer.max_batch_size == encoder.max_batch_size == repository.MOST
    assert encoder.dynamic_batching.max_queue_delay_microseconds == repository.DELAY
    assert {name: config.name for name, config in written.configs.items()} == {name: name for name in written.configs}


def test_it_is_called_as_the_workers_call_it(run, written):
    assert written.encoder == registry.Version("1", open_run(run).fingerprints["model"], "").triton


def test_batches_are_those_of_the_other_triton():
    """It cannot be imported here, for want of PyTriton: its two lines that say so are computed."""
    lines = ast.parse(Path(repository.__file__).with_name("triton.py").read_text()).body
    found = {ast.unparse(line.targets[0]): ast.unparse(line.value) for line in lines if isinstance(line, ast.Assign)}
    assert eval(found["MOST"]) == repository.MOST
    assert eval(found["DELAY"]) == repository.DELAY


def test_the_weights_are_in_fp16(written):
    graph = onnx.load(written.home / written.transformer / "1/model.onnx").graph
    numbers = [one for one in graph.initializer if one.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)]
    assert {one.data_type for one in numbers if np.prod(one.dims) > 1} == {onnx.TensorProto.FLOAT16}


def test_64_texts_at_once_have_the_vectors_of_the_run(server, run):
    """Of 64 clients, in batches; and each batch of texts is one batch of tokens, whatever their lengths."""
    expected, before = embed(open_form(run, "onnx"), TEXTS), server.counted()
    with ThreadPoolExecutor(64) as many:
        found = np.concatenate(list(many.map(server.ask, TEXTS)))
    assert np.abs(found - expected).max() < server.within
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5
    (texts, batches), of_transformer = server.counted() - before
    assert texts == 64 and batches < 32
    assert [texts, batches] == of_transformer.tolist()


def test_a_request_of_several_texts(server, run):
    expected = embed(open_form(run, "onnx"), TEXTS)
    with ThreadPoolExecutor(8) as many:
        found = list(many.map(lambda n: server.ask(*TEXTS[n : n + 3 + n % 5]), range(0, 56, 7)))
    for n, vectors in zip(range(0, 56, 7), found, strict=True):
        assert np.abs(vectors - expected[n : n + 3 + n % 5]).max() < server.within
    with pytest.raises(InferenceServerException, match=str(repository.MOST)):
        server.ask(*["calm"] * (repository.MOST + 1))


def test_what_is_not_utf8_fails_nobody(server):
    with ThreadPoolExecutor(8) as many:
        found = np.concatenate(list(many.map(server.ask, [b"calm \xff", *TEXTS[:7]])))
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


def test_without_its_transformer_the_encoder_says_so(server):
    with InferenceServerClient(server.address) as client:
        client.unload_model(server.transformer)
        with pytest.raises(InferenceServerException, match=f"{server.transformer}.* is not ready"):
            server.ask("calm")
        client.load_model(server.transformer)
    assert server.ask("calm").shape[0] == 1


def test_files_go_whole_or_not_at_all(run, written, monkeypatch):
    """A disk that is full: what was there stays, and nothing is left beside it."""

    def full(*_):
        raise OSError(28, "No space left on device")

    before = files.fingerprint(written.home)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(errors.WorkbookError, match="No space left"):
        repository.write(run, written.home)
    assert files.fingerprint(written.home) == before
    assert {one.name for one in written.home.iterdir()} == {written.encoder, written.transformer}


def test_the_command_line(run, tmp_path, capsys):
    assert repository.main([str(run), "--to", str(tmp_path / "made")]) == 0
    said = capsys.readouterr().out
    assert {f"--load-model {one.name}" for one in (tmp_path / "made").iterdir()} == {
        f"--load-model {word}" for word in said.split() if word.startswith(("encoder-", "transformer-"))
    }
    assert repository.main([str(tmp_path), "--to", str(tmp_path / "other")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "other").exists()
