"""Exchange with Hugging Face transformers: the table from model family to its twins there, the nearest first.

Each twin is rows of data in its family's file; ``weights.py`` and ``settings.py`` are the engines that apply them in
both directions. Nothing here imports transformers: a model folder is ``config.json`` and safetensors.
"""

from pretrain.exchange.albert import ALBERT
from pretrain.exchange.bert import BERT, ROBERTA
from pretrain.exchange.gpt import GPT2
from pretrain.exchange.mapping import Exchange
from pretrain.exchange.modernbert import MODERNBERT
from pretrain.exchange.switch import SWITCH, SWITCH_UNTIED
from pretrain.exchange.t5 import T5, T5_GATED

EXCHANGES: dict[str, tuple[Exchange, ...]] = {
    "bert": (BERT, ROBERTA, MODERNBERT),
    "albert": (ALBERT,),
    "gpt": (GPT2,),
    "t5": (T5, T5_GATED),
    "switch": (SWITCH, SWITCH_UNTIED),
}

WITHOUT_TWIN: dict[str, str] = {
    "elmo": "transformers has no class for ELMo, whose words are made of characters by convolutions and read by LSTMs",
}
"""Families that cannot be exchanged, and why."""
