"""The static encoder: one vector a word, averaged. It learns to rank as a transformer does, in the same space."""

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
from wordfreq import top_n_list, zipf_frequency

from lib.core.encoder import Form, embed
from lib.core.errors import WorkbookError
from lib.core.progress import Progress

WORDS = 60_000  # the most frequent English words are tokens: the pieces of a word do not add up to its meaning
TAUGHT = 20_000  # the most frequent of these occur in generated texts: with all, each would occur too rarely
# A generated text is a template filled with such words, or a training text with some of its words replaced.
TEMPLATES = (
    "{0}", "{0} music", "{0} songs", "something {0}", "music for {0}", "songs about {0}", "I feel {0}", "{0} {1}",
    "{0} and {1} music", "{0}, but {1}", "a {0} song with {1}", "{0} {1} {2}", "{0}, {1}, {2}", "a {0} {1} track, {2}",
)  # fmt: skip
TEMPLATED, REPLACED = 0.8, 0.35  # share of templates among generated texts; share of words replaced in the others
SMOOTH = 1e-4  # smooth inverse frequency (Arora, Liang, Ma 2017): a word of this frequency weighs half
EPOCHS, BATCH, LR = 4, 128, 1e-3


def distil(teacher: SentenceTransformer | Form, texts: list[str], n_texts: int, seed: int) -> SentenceTransformer:
    """Train a static encoder to rank texts as the teacher does.

    A token starts as the teacher's vector of it alone, weighted by how rare it is (as in Model2Vec, Tulkens and van
    Dongen 2024). Then all tokens are trained on the teacher's vectors of `n_texts` texts: `texts`, and generated ones.

    Raises:
        WorkbookError: the teacher's tokenizer is not a WordPiece one, as those of BERT and MPNet are.
    """
    words = [word for word in top_n_list("en", WORDS) if word.isascii() and word.isalpha() and len(word) > 1]
    tokenizer = _add_words(getattr(teacher.tokenizer, "backend_tokenizer", teacher.tokenizer), words)
    tokens = [tokenizer.id_to_token(i).removeprefix("##") for i in range(tokenizer.get_vocab_size())]
    frequency = np.array([10 ** (zipf_frequency(token, "en") - 9) for token in tokens])
    start = embed(teacher, tokens, progress=True, together=True) * (SMOOTH / (SMOOTH + frequency))[:, None]
    pupil = StaticEmbedding(tokenizer, embedding_weights=start.astype(np.float32))
    lessons = _generate(texts, words[:TAUGHT], n_texts, random.Random(seed))
    _train(pupil, lessons, torch.from_numpy(embed(teacher, lessons, progress=True, together=True)), seed)
    return SentenceTransformer(modules=[pupil, Normalize()], device="cpu")


def _add_words(tokenizer: Tokenizer, words: list[str]) -> Tokenizer:
    """Add words to a WordPiece tokenizer as tokens of their own."""
    settings = json.loads(tokenizer.to_str())
    if (kind := settings["model"]["type"]) != "WordPiece":
        raise WorkbookError(f"a static encoder needs a WordPiece tokenizer; this base has {kind}: set static_texts=0.")
    vocabulary = settings["model"]["vocab"]
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    settings["truncation"] = settings["padding"] = None
    return Tokenizer.from_str(json.dumps(settings))


def _generate(texts: list[str], words: list[str], n: int, chance: random.Random) -> list[str]:
    """Return `n` of the texts; if they are fewer, add generated texts that use the words in turn."""
    lessons, turn = chance.sample(texts, min(n, len(texts))), cycle(chance.sample(words, len(words)))
    while len(lessons) < n:
        if chance.random() < TEMPLATED or not texts:
            lessons.append(chance.choice(TEMPLATES).format(next(turn), *chance.choices(words, k=2)))
        else:
            old = chance.choice(texts).split()
            lessons.append(" ".join(next(turn) if chance.random() < REPLACED else word for word in old))
    return lessons


def _train(pupil: StaticEmbedding, texts: list[str], targets: torch.Tensor, seed: int) -> None:
    """Lower the error of a text's scores against the others, up to a constant; the learning rate falls to 0.

    The mean square of this error is (output − target)ᵀ C (output − target), where C is the covariance of the targets,
    (n, d): an error counts as much as the texts differ in its direction. On held-out songs it ranks better than the
    cosine to the target.
    """
    ids = [torch.tensor(tokens.ids) for tokens in pupil.tokenizer.encode_batch(texts, add_special_tokens=False)]
    table = torch.nn.EmbeddingBag.from_pretrained(pupil.embedding.weight.data, freeze=False, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters(), lr=LR)  # a step moves only the tokens of its batch
    chance, covariance = torch.Generator().manual_seed(seed), torch.cov(targets.T)
    batches = [b for _ in range(EPOCHS) for b in torch.randperm(len(ids), generator=chance).split(BATCH)]
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, len(batches))
    for batch in Progress(batches, desc="distilling", unit="step"):
        tokens = [ids[i] for i in batch]
        offsets = torch.tensor([0, *map(len, tokens[:-1])]).cumsum(0)
        error = normalize(table(torch.cat(tokens), offsets)) - targets[batch]
        optimizer.zero_grad()
        ((error @ covariance) * error).sum(1).mean().backward()
        optimizer.step()
        schedule.step()
    pupil.embedding.weight.data = table.weight.data
