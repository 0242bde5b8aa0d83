"""The table from model family to its classes in Hugging Face transformers, the nearest first.

Each counterpart is rows of data in its family's file; ``weights.py`` and ``config_values.py`` apply them in both
directions. Nothing here imports transformers: a model folder is ``config.json`` and safetensors.
"""

from pretrain.huggingface.albert import ALBERT
from pretrain.huggingface.bert import BERT, ROBERTA
from pretrain.huggingface.conversion import Counterpart
from pretrain.huggingface.gpt import GPT2
from pretrain.huggingface.modernbert import MODERNBERT
from pretrain.huggingface.switch import SWITCH, SWITCH_UNTIED
from pretrain.huggingface.t5 import T5, T5_GATED

COUNTERPARTS: dict[str, tuple[Counterpart, ...]] = {
    "bert": (BERT, ROBERTA, MODERNBERT),
    "albert": (ALBERT,),
    "gpt": (GPT2,),
    "t5": (T5, T5_GATED),
    "switch": (SWITCH, SWITCH_UNTIED),
}

WITHOUT_COUNTERPART: dict[str, str] = {
    "elmo": "transformers has no class for ELMo, whose words are made of characters by convolutions and read by LSTMs",
}
"""Families that cannot be exchanged, and why."""
