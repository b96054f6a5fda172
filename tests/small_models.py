"""Encoders that train and export in a second, for tests of faults, where the quality of MiniLM does not matter."""

import json
from copy import deepcopy
from functools import cache

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from lib.core import base_models, encoder

TOKENS = 6_000  # of MiniLM's 30,522, the commonest
SHAPE = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}


def small_model() -> SentenceTransformer:
    """Return an encoder of one narrow layer with random weights, always the same: enough to learn and to forget."""
    model = deepcopy(_first())
    model.model_card_data.register_model(model)
    return model


@cache
def _first() -> SentenceTransformer:
    model = encoder.load(base_models.find("all-MiniLM-L6-v2"), 32)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model[0].model = BertModel(BertConfig(vocab_size=TOKENS, max_position_embeddings=32, **SHAPE))
    model[1] = Pooling(SHAPE["hidden_size"])
    model.tokenizer._tokenizer = shortened(model.tokenizer.backend_tokenizer)
    return model.eval()


def shortened(tokenizer: Tokenizer) -> Tokenizer:
    """Return a WordPiece tokenizer with only its `TOKENS` commonest tokens."""
    settings = json.loads(tokenizer.to_str())
    settings["model"]["vocab"] = {token: i for token, i in settings["model"]["vocab"].items() if i < TOKENS}
    return Tokenizer.from_str(json.dumps(settings))
