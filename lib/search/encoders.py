"""The encoder in the form that serves: PyTorch, ONNX, ONNX in int8 or static. All share the tracks' space.

Only the first needs PyTorch. `forms` writes the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from lib.core.encoder import BATCH, Form, by_length, load
from lib.core.files import read_json
from lib.core.processes import threads
from lib.search.integrity import folder_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# The files of a form: the settings hold prompts and dimensions, the configuration the longest text.
GRAPH, TABLE, TOKENIZER = "model.onnx", "model.safetensors", "tokenizer.json"
SETTINGS, CONFIG = "config_sentence_transformers.json", "config.json"
INPUTS, OUTPUTS = ("input_ids", "attention_mask"), ("token_embeddings", "sentence_embedding")


class OnnxForm(Form):
    """An encoder as one ONNX graph in ONNX Runtime.

    The graph's inputs are `INPUTS`, int64, (texts, tokens); its outputs are `OUTPUTS`, float32, (texts, tokens, d) and
    (texts, d). With int8, activations are quantised at run time. All texts of a batch share their scale, so a text's
    vector depends a little on its batch.
    """

    def __init__(self, folder: Path, n_threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        # ONNX Runtime would keep the memory of the largest batch, 24 MB after an explanation. It is no faster with it.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        self.session = onnxruntime.InferenceSession(folder / GRAPH, options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))  # it pads, and cuts at the encoder's limit
        self.int8 = read_json(folder / CONFIG)["int8"]
        self.prompt, self.cut = _settings(folder)

    def get_embedding_dimension(self) -> int:
        return min(self.session.get_outputs()[1].shape[-1], self.cut)

    def batches(self, texts: list[str], together: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        inputs = _inputs(self.tokenizer.encode_batch_fast([self.prompt + text for text in texts]))
        n_tokens = 1 if self.int8 and not together else BATCH["cpu"]
        for rows, used in by_length(inputs["attention_mask"].astype(bool), n_tokens):
            batch = {name: values[rows][:, used] for name, values in inputs.items()}
            yield rows, self.session.run(OUTPUTS[1:], batch)[0]

    def tokens(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        encoded = self.tokenizer.encode_batch(texts)
        (vectors,) = self.session.run(OUTPUTS[:1], _inputs(encoded))
        masks = [np.array(one.attention_mask, bool) for one in encoded]
        starts = [np.where(one.special_tokens_mask, -1, np.array(one.offsets)[:, 0]) for one in encoded]
        return [(start[mask], some[mask]) for start, some, mask in zip(starts, vectors, masks, strict=True)]


class StaticForm(Form):
    """An encoder with one vector a token: a text has the mean of its tokens' vectors."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self.table = _table(folder / TABLE)
        self.prompt, self.cut = _settings(folder)

    def get_embedding_dimension(self) -> int:
        return min(self.table.shape[1], self.cut)

    def batches(self, texts: list[str], together: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        encoded = self.tokenizer.encode_batch_fast([self.prompt + text for text in texts], add_special_tokens=False)
        # A sum has the direction of the mean.
        yield np.arange(len(texts)), np.stack([self.table[np.array(one.ids, int)].sum(axis=0) for one in encoded])

    def tokens(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        encoded = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [(np.array([start for start, _ in one.offsets]), self.table[np.array(one.ids, int)]) for one in encoded]


def open_form(run: Path, form: str, n_threads: int | None = None) -> SentenceTransformer | Form:
    """Open one form of a run's encoder. Raises as `folder_of`.

    Args:
        n_threads: of ONNX Runtime; by default `cores`.
    """
    folder = folder_of(run, form)
    if form == "torch":
        return load(folder)
    if form == "static":
        return StaticForm(folder)
    return OnnxForm(folder, n_threads or cores())


def cores() -> int:
    """Return the number of OpenMP's threads, which each kernel of the service has set, or the number of cores."""
    return int(os.environ.get("OMP_NUM_THREADS") or threads(1))


def _inputs(encoded: list) -> dict[str, np.ndarray]:
    """Return tokenised texts as the graph's inputs."""
    columns = [one.ids for one in encoded], [one.attention_mask for one in encoded]
    return dict(zip(INPUTS, map(np.array, columns), strict=True))


def _settings(folder: Path) -> tuple[str, int]:
    """Return the text that is put before each text to encode, and the dimensions that are kept."""
    about = read_json(folder / SETTINGS)
    return about["prompts"].get(about["default_prompt_name"]) or "", about.get("truncate_dim") or 1 << 30


def _table(file: Path) -> np.ndarray:
    """Return the only tensor of a safetensors file, float32, memory-mapped: processes share it. (tokens, d)."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    (about,) = (tensor for name, tensor in header.items() if name != "__metadata__")
    if about["dtype"] != "F32":
        raise ValueError(f"{file.name} holds {about['dtype']} instead of F32")
    return np.memmap(file, np.float32, "r", 8 + size, tuple(about["shape"])).view(np.ndarray)
