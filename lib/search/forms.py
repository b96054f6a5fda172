"""Forms of the tuned encoder that encode queries faster: ONNX, ONNX in int8, static. `encoders` opens them."""

import logging
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from sentence_transformers import SentenceTransformer

from lib.core.encoder import load
from lib.core.errors import WorkbookError
from lib.core.files import atomic, fingerprint, read_json, write_json
from lib.search import static
from lib.search.encoders import CONFIG, GRAPH, INPUTS, OUTPUTS, SETTINGS, TOKENIZER, OnnxForm, cores
from lib.search.integrity import FORMS

KEPT = ("prompts", "default_prompt_name", "truncate_dim")  # settings of an encoder, which its graph lacks


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
            to_onnx(model, folder / "onnx")
            int8 = to_int8(folder / "onnx", folder / "onnx-int8")
        if encoder != "torch" and n_texts:
            texts = pd.concat([table.loc[table["split"] == "train", "text"] for table in (requests, tracks)])
            # On a CPU int8 is faster than torch, and far nearer to it than the static form will be.
            teacher = int8 if model.device.type == "cpu" else model
            pupil = static.distil(teacher, texts.drop_duplicates().tolist(), n_texts, seed)
            pupil.save(str(folder / "static"))
        fingerprints = {form.name: fingerprint(form) for form in sorted(folder.iterdir())}
        write_json(folder / FORMS, {"model": model_print, "forms": fingerprints})


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
def to_onnx(model: SentenceTransformer, folder: Path) -> OnnxForm:
    """Export an encoder with its pooling, its tokenizer and its settings into a folder. -> the exported form.

    Raises:
        WorkbookError: its tokenizer is not one of the library tokenizers.
    """
    if not (tokenizer := getattr(model.tokenizer, "backend_tokenizer", None)):
        raise WorkbookError("the tokenizer of this base is none of the library tokenizers: set encoder=torch.")
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
    tokenizer.save(str(folder / TOKENIZER))  # pads and cuts, as it has just done for the example
    write_json(folder / SETTINGS, {name: getattr(model, name) for name in KEPT})
    write_json(folder / CONFIG, {"max_seq_length": model.max_seq_length, "int8": False})
    return OnnxForm(folder, cores())


@_quiet()
def to_int8(onnx: Path, folder: Path) -> OnnxForm:
    """Quantise an ONNX form into a folder: int8 weights with a scale a column, activations at run time. -> the form."""
    shutil.copytree(onnx, folder, ignore=shutil.ignore_patterns(GRAPH))
    quantize_dynamic(onnx / GRAPH, folder / GRAPH, weight_type=QuantType.QInt8, per_channel=True)
    write_json(folder / CONFIG, read_json(folder / CONFIG) | {"int8": True})
    return OnnxForm(folder, cores())
