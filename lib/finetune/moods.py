"""Refine the moods of a trained encoder: move requests for a mood to the descriptions of sound that suit them.

terms.csv rates how much each term of a musician's description speaks for a mood (1 to 3) or against it (-1), from
general knowledge. A description of some terms thus has a distribution over the moods: the softmax of its sum of
ratings. The loss is the cross-entropy of the encoder's scores against it (soft targets, Hinton et al. 2015), over the
moods of a description and over the descriptions of a mood.

Only the requests move: the loss uses the vectors that the descriptions had before, and a penalty holds descriptions
there (Li & Hoiem 2016, "Learning without forgetting"). So the encoder keeps what it knows of ordinary texts.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from sentence_transformers import SentenceTransformer
from torch.nn.functional import cross_entropy, normalize

from lib.core.encoder import embed, forward
from lib.core.progress import Progress
from lib.tracks.moods import MOODS, load

TERMS = pd.read_csv(Path(__file__).with_name("terms.csv"), index_col="term").fillna(0)
_TEXTS = yaml.safe_load(Path(__file__).with_name("moods.yaml").read_text(encoding="utf-8"))
_NEEDS = load("listener_requests.yaml")["needs"]
AGAINST = 1.5  # the weight of a rating of -1
SHARPNESS = 2.0  # of the targets: the inverse of the softmax's temperature
SCALE = 20.0  # of the cosines, as in the training's loss
HOLD = 30.0  # the weight of the penalty
LR, WARMUP = 5e-5, 0.1  # learning rate; the share of the steps in which it rises
POOL = 3000  # descriptions, and texts of prose, at most, that are encoded once, before the first step
BATCH, HELD = 48, 40  # descriptions in a step's loss, and texts in its penalty
LONGEST = 120  # characters of prose: its first sentence is enough for the penalty


def describe(n: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Draw descriptions of two to seven terms, most of which suit one mood.

    Returns:
        The descriptions, and the sum of their terms' ratings over the square root of their number, (n, moods).
    """
    ratings, texts, sums = TERMS.to_numpy(), [], []
    for mood in rng.integers(0, ratings.shape[1], n):
        chance = (np.maximum(ratings[:, mood], 0) ** 1.5 + 0.1) * (ratings[:, mood] >= 0)
        terms = rng.choice(len(ratings), rng.integers(2, 8), replace=False, p=chance / chance.sum())
        texts.append(", ".join(TERMS.index[terms]))
        weighted = np.where(ratings[terms] < 0, -AGAINST, ratings[terms])
        sums.append(weighted.sum(axis=0) / np.sqrt(len(terms)))
    return texts, np.array(sums, np.float32)


def requests(rng: np.random.Generator) -> list[str]:
    """Word a request for each mood of `TERMS`."""
    forms, weights = zip(*_TEXTS["requests"].items(), strict=True)
    texts = []
    for mood in TERMS:
        words = MOODS[mood].words["train"] if mood in MOODS else _TEXTS["words"][mood]
        words = [word for word in words if word == mood or word not in TERMS]  # "epic" is a mood of its own
        needs = _NEEDS[mood]["train"] if mood in _NEEDS else words
        form = rng.choice(forms, p=np.array(weights) / sum(weights))
        texts.append(form.format(word=rng.choice(words), need=rng.choice(needs)))
    return texts


def refine(model: SentenceTransformer, prose: list[str], steps: int, seed: int) -> list[float]:
    """Move the model's requests for moods in `steps` steps, in place. An interrupt ends this early.

    Args:
        prose: descriptions of tracks, whose vectors should stay.

    Returns:
        The loss of each step, without the penalty.
    """
    if not steps:
        return []
    rng, pool = np.random.default_rng(seed), min(POOL, BATCH * steps)
    texts, sums = describe(pool, rng)
    held = [*texts, *(text[:LONGEST] for text in rng.permutation(np.array(prose, dtype=object))[:pool])]
    before = torch.tensor(embed(model, held), device=model.device)
    targets = torch.tensor(SHARPNESS * (sums - sums.mean(axis=0)), device=model.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / (WARMUP * steps)))
    losses = []
    with suppress(KeyboardInterrupt), Progress(range(steps), desc="moods", unit="step") as bar:
        for _ in bar:
            rows, kept = rng.integers(0, len(texts), BATCH), rng.integers(0, len(held), HELD)
            scores, likely = SCALE * before[rows] @ _encode(model, requests(rng)).T, targets[rows]
            loss = cross_entropy(scores, likely.softmax(1)) + cross_entropy(scores.T, likely.T.softmax(1))
            moved = 1 - (_encode(model, [held[i] for i in kept]) * before[kept]).sum(dim=1).mean()
            optimizer.zero_grad()
            (loss + HOLD * moved).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            bar.set_postfix(loss=f"{loss.item():.2f}")
    return losses


def _encode(model: SentenceTransformer, texts: list[str]) -> torch.Tensor:
    """Return unit vectors with gradients. (n,) -> (n, d)."""
    features = model.preprocess(texts, prompt=model.prompts.get(model.default_prompt_name))
    return normalize(forward(model, features), dim=1)
