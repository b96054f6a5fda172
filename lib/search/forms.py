"""Forms of the tuned encoder that encode queries faster: ONNX, ONNX in int8, static. All share the tracks' space."""

import logging
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import onnxruntime
import pandas as pd
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule
from transformers import AutoTokenizer

from lib.core.encoder import load
from lib.core.files import atomic, fingerprint, read_json, write_json
from lib.search import static
from lib.search.integrity import FORMS, folder_of

GRAPH = "model.onnx"
SETTINGS = ("prompts", "default_prompt_name", "truncate_dim")  # of an encoder, which its graph lacks
INPUTS, OUTPUTS = ("input_ids", "attention_mask"), ("token_embeddings", "sentence_embedding")


class OnnxEncoder(InputModule):
    """An encoder as one ONNX graph in ONNX Runtime: the only module of its SentenceTransformer.

    The graph's inputs are `INPUTS`, int64, (texts, tokens); its outputs are `OUTPUTS`, float32, (texts, tokens, d) and
    (texts, d). With int8, activations are quantised at run time. All texts of a batch share their scale, so a text's
    vector depends a little on its batch.
    """

    config_keys = ["max_seq_length", "int8"]  # noqa: RUF012 - sentence-transformers declares it so

    def __init__(self, graph: Path, tokenizer, max_seq_length: int, int8: bool = False) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # the threads of one kernel of the service
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.graph, self.tokenizer = Path(graph), tokenizer
        self.max_seq_length, self.int8 = max_seq_length, int8

    def preprocess(self, inputs, prompt: str | None = None, **_) -> dict[str, torch.Tensor]:
        texts = self._prepend_prompt(inputs, prompt) if prompt else list(inputs)
        options = {"truncation": True, "max_length": self.max_seq_length}
        features = self.tokenizer(texts, padding=True, return_tensors="pt", **options)
        return {name: features[name] for name in INPUTS}

    def forward(self, features: dict[str, torch.Tensor], **_) -> dict[str, torch.Tensor]:
        outputs = self.session.run(OUTPUTS, {name: features[name].numpy() for name in INPUTS})
        return features | {name: torch.from_numpy(values) for name, values in zip(OUTPUTS, outputs, strict=True)}

    def get_embedding_dimension(self) -> int:
        return self.session.get_outputs()[1].shape[-1]

    def save(self, output_path: str, *_, **__) -> None:
        if self.graph != (target := Path(output_path) / GRAPH):
            shutil.copyfile(self.graph, target)
        self.save_tokenizer(output_path)
        self.save_config(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, **_) -> Self:
        folder = Path(model_name_or_path)
        return cls(folder / GRAPH, AutoTokenizer.from_pretrained(folder), **read_json(folder / cls.config_file_name))


class _TokensToVectors(torch.nn.Module):
    """All modules of an encoder as one function of tokens, to export."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
        return tuple(features[name] for name in OUTPUTS)


def export(run: Path, encoder: str, tracks: pd.DataFrame, requests: pd.DataFrame, n_texts: int, seed: int) -> None:
    """Write the forms of a run's model into its folder encoders/ atomically.

    Args:
        encoder: torch writes no form; onnx and static write ONNX, int8 and, if `n_texts` is not 0, static.
        n_texts: the texts that the static form learns from: the training split's, and generated ones.
    """
    model, model_print = load(run / "model"), fingerprint(run / "model")
    with atomic(run / "encoders") as folder:
        folder.mkdir()
        if encoder != "torch":
            onnx = to_onnx(model, folder / "onnx")
            int8 = to_int8(onnx, folder / "onnx-int8")
        if encoder != "torch" and n_texts:
            texts = pd.concat([table.loc[table["split"] == "train", "text"] for table in (requests, tracks)])
            # On a CPU int8 is faster than torch, and far nearer to it than the static form will be.
            teacher = int8 if model.device.type == "cpu" else model
            pupil = static.distil(teacher, texts.drop_duplicates().tolist(), n_texts, seed)
            pupil.save(str(folder / "static"))
        fingerprints = {form.name: fingerprint(form) for form in sorted(folder.iterdir())}
        write_json(folder / FORMS, {"model": model_print, "forms": fingerprints})


def open_form(run: Path, form: str) -> SentenceTransformer:
    """Open one form of a run's encoder. Raises as `folder_of`."""
    folder = folder_of(run, form)
    if form == "torch":
        return load(folder)
    if not (folder / GRAPH).exists():
        return SentenceTransformer(str(folder), device="cpu")
    about = read_json(folder / "config_sentence_transformers.json")
    settings = {name: about.get(name) for name in SETTINGS}
    return SentenceTransformer(modules=[OnnxEncoder.load(str(folder))], device="cpu", **settings)


@contextmanager
def _quiet():
    """Silence the exporters' warnings about their internals."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)


@_quiet()
def to_onnx(model: SentenceTransformer, folder: Path) -> SentenceTransformer:
    """Export an encoder with its pooling into a folder. -> the exported form."""
    folder.mkdir()
    device, example = model.device, model.preprocess(["a sad piano song", "music"])
    sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=model.max_seq_length)}
    torch.onnx.export(
        _TokensToVectors(model.cpu()).eval(),
        tuple(example[name] for name in INPUTS),
        folder / GRAPH,
        input_names=INPUTS,
        output_names=OUTPUTS,
        dynamic_shapes=(sizes, sizes),
        external_data=False,
        verbose=False,
    )
    model.to(device)
    return _save(folder, model, int8=False)


@_quiet()
def to_int8(onnx: SentenceTransformer, folder: Path) -> SentenceTransformer:
    """Quantise an ONNX form into a folder: int8 weights with a scale a column, activations at run time."""
    folder.mkdir()
    quantize_dynamic(onnx[0].graph, folder / GRAPH, weight_type=QuantType.QInt8, per_channel=True)
    return _save(folder, onnx, int8=True)


def _save(folder: Path, source: SentenceTransformer, int8: bool) -> SentenceTransformer:
    """Save the tokenizer and the settings of the source beside the graph. -> the form."""
    module = OnnxEncoder(folder / GRAPH, source.tokenizer, source.max_seq_length, int8)
    settings = {name: getattr(source, name) for name in SETTINGS}
    form = SentenceTransformer(modules=[module], device="cpu", **settings)
    form.save(str(folder))
    return form
