"""The tuned encoder in faster forms, for requests: ONNX, its int8, a static one. All share the tracks' space."""

from __future__ import annotations

import logging
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path

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
KEPT = ("prompts", "default_prompt_name", "truncate_dim")  # of the encoder, which are no part of its graph
INPUTS, OUTPUTS = ("input_ids", "attention_mask"), ("token_embeddings", "sentence_embedding")


class OnnxEncoder(InputModule):
    """A whole encoder as one ONNX graph, computed by ONNX Runtime: the only module of its SentenceTransformer.

    Args:
        graph: its inputs are `INPUTS`, int64, (texts, tokens); its outputs `OUTPUTS`, float32, (texts, tokens, d) and
            (texts, d).
        tokenizer: the encoder's.
        max_seq_length: texts are cut at this many tokens.
        int8: whether activations are quantised as they come. Their scale is that of all texts encoded together, so
            that a text's vector depends a little on its company.
    """

    config_keys = ["max_seq_length", "int8"]  # noqa: RUF012 - declared as sentence-transformers declares it

    def __init__(self, graph: Path, tokenizer, max_seq_length: int, int8: bool = False) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # as many as a kernel of the service may use
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.graph, self.tokenizer = Path(graph), tokenizer
        self.max_seq_length, self.int8 = max_seq_length, int8

    def preprocess(self, inputs, prompt: str | None = None, **_) -> dict[str, torch.Tensor]:
        texts = self._prepend_prompt(inputs, prompt) if prompt else list(inputs)
        cut = {"truncation": True, "max_length": self.max_seq_length}
        found = self.tokenizer(texts, padding=True, return_tensors="pt", **cut)
        return {name: found[name] for name in INPUTS}

    def forward(self, features: dict[str, torch.Tensor], **_) -> dict[str, torch.Tensor]:
        given = {name: features[name].numpy() for name in INPUTS}
        found = zip(OUTPUTS, self.session.run(OUTPUTS, given), strict=True)
        return features | {name: torch.from_numpy(values) for name, values in found}

    def get_embedding_dimension(self) -> int:
        return self.session.get_outputs()[1].shape[-1]

    def save(self, output_path: str, *_, **__) -> None:
        shutil.copyfile(self.graph, Path(output_path) / GRAPH)
        self.save_tokenizer(output_path)
        self.save_config(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, **_) -> OnnxEncoder:
        folder = Path(model_name_or_path)
        return cls(folder / GRAPH, AutoTokenizer.from_pretrained(folder), **read_json(folder / cls.config_file_name))


class _Whole(torch.nn.Module):
    """An encoder with all its modules, as a function of tokens."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
        return tuple(features[name] for name in OUTPUTS)


def export(run: Path, encoder: str, tracks: pd.DataFrame, requests: pd.DataFrame, n_texts: int, seed: int) -> None:
    """Write the forms of the model in a run's folder into its folder encoders/, all or none.

    Args:
        encoder: torch for none; onnx or static for those that ONNX Runtime computes, and the static one.
        tracks, requests: the static encoder learns from the texts of their training split, and from others.
        n_texts: from how many; 0 for no static encoder.
    """
    model, model_print = load(run / "model"), fingerprint(run / "model")
    with atomic(run / "encoders") as folder:
        folder.mkdir()
        if encoder != "torch":
            exact = to_onnx(model, folder / "onnx")
            quick = to_int8(exact, folder / "onnx-int8")
        if encoder != "torch" and n_texts:
            # The int8 encoder is the teacher: on a CPU three times as quick, and far nearer to its own than a pupil is.
            texts = pd.concat([table.loc[table["split"] == "train", "text"] for table in (requests, tracks)])
            teacher = quick if model.device.type == "cpu" else model
            pupil = static.distil(teacher, texts.drop_duplicates().tolist(), n_texts, seed)
            pupil.save(str(folder / "static"))
        about = {form.name: fingerprint(form) for form in sorted(folder.iterdir())}
        write_json(folder / FORMS, {"model": model_print, "forms": about})


def open_form(run: Path, form: str) -> SentenceTransformer:
    """Open one form of a run's encoder; raises as `folder_of`."""
    folder = folder_of(run, form)
    if form == "torch":
        return load(folder)
    if (folder / GRAPH).exists():
        return _opened(folder)
    return SentenceTransformer(str(folder), device="cpu")


def to_onnx(model: SentenceTransformer, folder: Path) -> SentenceTransformer:
    """Export an encoder, its pooling included, into a folder, and open what was written."""
    device, graph = model.device, folder.with_suffix(".onnx")
    example = model.preprocess(["a sad piano song", "music"])
    sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=model.max_seq_length)}
    with _quiet():
        torch.onnx.export(
            _Whole(model.cpu()).eval(),
            tuple(example[name] for name in INPUTS),
            graph,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=(sizes, sizes),
            external_data=False,
            verbose=False,
        )
    model.to(device)
    return _moved(graph, model, folder, int8=False)


def to_int8(exact: SentenceTransformer, folder: Path) -> SentenceTransformer:
    """The same with weights of a byte, scaled by column, and activations quantised as they come."""
    graph = folder.with_suffix(".onnx")
    with _quiet():
        quantize_dynamic(exact[0].graph, graph, weight_type=QuantType.QInt8, per_channel=True)
    return _moved(graph, exact, folder, int8=True)


def _moved(graph: Path, model: SentenceTransformer, folder: Path, int8: bool) -> SentenceTransformer:
    """A graph saved with the tokenizer of the encoder that it came from, in a folder of its own, and opened."""
    module = OnnxEncoder(graph, model.tokenizer, model.max_seq_length, int8)
    kept = {name: getattr(model, name) for name in KEPT}
    SentenceTransformer(modules=[module], device="cpu", **kept).save(str(folder))
    graph.unlink()
    return _opened(folder)


def _opened(folder: Path) -> SentenceTransformer:
    about = read_json(folder / "config_sentence_transformers.json")
    kept = {name: about.get(name) for name in KEPT}
    return SentenceTransformer(modules=[OnnxEncoder.load(str(folder))], device="cpu", **kept)


@contextmanager
def _quiet():
    """Without what the exporters say of their own insides."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
