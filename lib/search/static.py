"""A static encoder: a vector a word, averaged. It is taught to answer as a transformer does, in the same space."""

from __future__ import annotations

import json
import random
from itertools import cycle

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from torch.nn.functional import normalize
from tqdm.auto import trange
from wordfreq import top_n_list, zipf_frequency

from lib.core.encoder import embed
from lib.core.errors import WorkbookError

WORDS = 60_000  # the commonest of English: each is a token, since pieces of a word do not add up to its meaning
TAUGHT = 20_000  # of these are in the texts that it learns from: were they all, each would be said too rarely
# It learns from such words in these, and from training texts with some of their words replaced by such words.
TEMPLATES = (
    "{0}", "{0} music", "{0} songs", "something {0}", "music for {0}", "songs about {0}", "I feel {0}", "{0} {1}",
    "{0} and {1} music", "{0}, but {1}", "a {0} song with {1}", "{0} {1} {2}", "{0}, {1}, {2}", "a {0} {1} track, {2}",
)  # fmt: skip
TEMPLATED, REPLACED = 0.8, 0.35  # share of the made texts that are templates; of the words of the others, replaced
SMOOTH = 1e-4  # smooth inverse frequency (Arora, Liang, Ma 2017): a word that is this frequent weighs half
EPOCHS, BATCH, LR = 4, 128, 1e-3


def distil(teacher: SentenceTransformer, texts: list[str], n_texts: int, seed: int) -> SentenceTransformer:
    """A static encoder that ranks texts as nearly as it can as the teacher does.

    Each token begins as the teacher's vector of it alone, weighted by how rare it is (as in Model2Vec: Tulkens and van
    Dongen 2024); then all are trained on the teacher's vectors of many texts.

    Args:
        teacher: a transformer whose tokenizer is WordPiece, as BERT's and MPNet's are.
        texts: training texts.
        n_texts: how many texts to learn from: of `texts`, and beyond them made of common words.

    Raises:
        WorkbookError: another kind of tokenizer.
    """
    words = [word for word in top_n_list("en", WORDS) if word.isascii() and word.isalpha() and len(word) > 1]
    tokenizer = _with(teacher.tokenizer, words)
    tokens = [tokenizer.id_to_token(i).removeprefix("##") for i in range(tokenizer.get_vocab_size())]
    frequency = np.array([10 ** (zipf_frequency(token, "en") - 9) for token in tokens])
    start = embed(teacher, tokens, progress=True, together=True) * (SMOOTH / (SMOOTH + frequency))[:, None]
    pupil = StaticEmbedding(tokenizer, embedding_weights=start.astype(np.float32))
    taught = _made(texts, words[:TAUGHT], n_texts, random.Random(seed))
    _train(pupil, taught, torch.from_numpy(embed(teacher, taught, progress=True, together=True)), seed)
    return SentenceTransformer(modules=[pupil, Normalize()], device="cpu")


def _with(tokenizer, words: list[str]) -> Tokenizer:
    """A WordPiece tokenizer to which words are added as tokens of their own."""
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    if made["model"]["type"] != "WordPiece":
        kind = made["model"]["type"]
        raise WorkbookError(f"a static encoder needs a WordPiece tokenizer; this base has {kind}: set static_texts=0.")
    vocabulary = made["model"]["vocab"]
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    made["truncation"] = made["padding"] = None
    return Tokenizer.from_str(json.dumps(made))


def _made(texts: list[str], words: list[str], n: int, chance: random.Random) -> list[str]:
    """`n` texts: those given, as far as they go, then made ones, in which the words come in turn."""
    made, turn = chance.sample(texts, min(n, len(texts))), cycle(chance.sample(words, len(words)))
    while len(made) < n:
        if chance.random() < TEMPLATED or not texts:
            made.append(chance.choice(TEMPLATES).format(next(turn), *chance.choices(words, k=2)))
        else:
            said = chance.choice(texts).split()
            made.append(" ".join(next(turn) if chance.random() < REPLACED else word for word in said))
    return made


def _train(pupil: StaticEmbedding, texts: list[str], wanted: torch.Tensor, seed: int) -> None:
    """Lower the error of a text's scores against the others, up to a constant; the learning rate falls to nothing.

    Between the vectors wanted, (n, d), and those given, its mean square is (given − wanted)ᵀ C (given − wanted), where
    C is the covariance of those wanted: an error counts as much as texts differ in its direction. That ranks held-out
    songs better than the cosine to what is wanted does.
    """
    ids = [torch.tensor(found.ids) for found in pupil.tokenizer.encode_batch(texts, add_special_tokens=False)]
    table = torch.nn.EmbeddingBag.from_pretrained(pupil.embedding.weight.data, freeze=False, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters(), lr=LR)  # a step moves only the tokens of its batch
    chance, covariance = torch.Generator().manual_seed(seed), torch.cov(wanted.T)
    batches = [b for _ in range(EPOCHS) for b in torch.randperm(len(ids), generator=chance).split(BATCH)]
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, len(batches))
    for step in trange(len(batches), desc="Distilling", unit=" steps"):
        batch = batches[step]
        given = [ids[i] for i in batch]
        begins = torch.tensor([0, *map(len, given[:-1])]).cumsum(0)
        error = normalize(table(torch.cat(given), begins)) - wanted[batch]
        optimizer.zero_grad()
        ((error @ covariance) * error).sum(1).mean().backward()
        optimizer.step()
        schedule.step()
    pupil.embedding.weight.data = table.weight.data
