"""Export to and import from Hugging Face transformers.

Each transformers model type is a ``Counterpart``, data in the file of its family; ``weights.py`` and
``config_values.py`` apply it in both directions. transformers itself is not imported: a model folder is ``config.json``
and safetensors.
"""

from sesame.pretrain.huggingface.albert import ALBERT
from sesame.pretrain.huggingface.bert import BERT, ROBERTA
from sesame.pretrain.huggingface.counterpart import Counterpart
from sesame.pretrain.huggingface.gpt import GPT2
from sesame.pretrain.huggingface.modernbert import MODERNBERT
from sesame.pretrain.huggingface.switch import SWITCH, SWITCH_UNTIED
from sesame.pretrain.huggingface.t5 import T5, T5_GATED

COUNTERPARTS: dict[str, tuple[Counterpart, ...]] = {
    "bert": (BERT, ROBERTA, MODERNBERT),
    "albert": (ALBERT,),
    "gpt": (GPT2,),
    "t5": (T5, T5_GATED),
    "switch": (SWITCH, SWITCH_UNTIED),
}
"""Family -> model types that can represent it; the first that supports a configuration is used."""

WITHOUT_COUNTERPART: dict[str, str] = {
    "elmo": "transformers has no class for ELMo (character convolutions and LSTMs)",
}
"""Family that cannot be converted -> the reason."""
