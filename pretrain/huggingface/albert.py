"""The family albert as transformers' ALBERT."""

from pretrain.huggingface.conversion import ACTIVATIONS, Counterpart, Part, Row, Setting

BLOCK = {
    "attention.query": "attention.query",
    "attention.key": "attention.key",
    "attention.value": "attention.value",
    "attention.output": "attention.dense",
    "attention_norm": "attention.LayerNorm",
    "feed_forward.up": "ffn",
    "feed_forward.down": "ffn_output",
    "feed_forward_norm": "full_layer_layer_norm",
}
PLACE = "albert.encoder.albert_layer_groups.0.albert_layers.0"

ALBERT = Counterpart(
    model_type="albert",
    family="albert",
    prefix="albert.",
    bare="AlbertModel",
    parts={
        "backbone": Part(
            (
                Row("backbone.token_embedding", "albert.embeddings.word_embeddings"),
                Row("backbone.position_embedding", "albert.embeddings.position_embeddings"),
                Row("backbone.segment_embedding", "albert.embeddings.token_type_embeddings"),
                Row("backbone.embedding_norm", "albert.embeddings.LayerNorm"),
                Row("backbone.embedding_projection", "albert.encoder.embedding_hidden_mapping_in"),
                *(Row(f"backbone.block.{ours}", f"{PLACE}.{theirs}") for ours, theirs in BLOCK.items()),
            )
        ),
        "masked_lm": Part(
            (
                Row("objectives.masked_lm.dense", "predictions.dense"),
                Row("objectives.masked_lm.norm", "predictions.LayerNorm"),
                Row("objectives.masked_lm.projection.bias", "predictions.bias"),
            ),
            {"masked_lm": 1.0},
        ),
        "pooler": Part((Row("objectives.sentence_pairs.pooler", "albert.pooler"),)),
        "sentence_pairs": Part(
            (Row("objectives.sentence_pairs.classifier", "sop_classifier.classifier"),), {"sentence_pairs": 1.0}
        ),
    },
    classes={
        frozenset({"masked_lm", "pooler", "sentence_pairs"}): "AlbertForPreTraining",
        frozenset({"masked_lm"}): "AlbertForMaskedLM",
        frozenset({"pooler"}): "AlbertModel",
        frozenset(): "AlbertModel",
    },
    settings=(
        Setting("layers", "num_hidden_layers"),
        Setting("width", "hidden_size"),
        Setting("embedding_width", "embedding_size"),
        Setting("heads", "num_attention_heads"),
        Setting("feed_forward_width", "intermediate_size"),
        Setting("positions", "max_position_embeddings"),
        Setting("dropout", "hidden_dropout_prob", 0.0),
        Setting("attention_dropout", "attention_probs_dropout_prob", 0.0),
        Setting("activation", "hidden_act", "gelu_new", ACTIVATIONS),
        Setting("norm_epsilon", "layer_norm_eps", 1e-12),
        Setting("initial_std", "initializer_range", 0.02),
    ),
    theirs={
        "num_hidden_groups": (1,),
        "inner_group_num": (1,),
        "type_vocab_size": (2,),
        "position_embedding_type": ("absolute", None),
        "tie_word_embeddings": (True,),
    },
    unwritten={
        "down_scale_factor": (1,),
        "gap_size": (0,),
        "layers_to_keep": ([],),
        "net_structure_type": (0,),
        "num_memory_blocks": (0,),
    },
    inert={"classifier_dropout_prob": "is of heads for tasks, whose tensors are refused"},
    copies={
        "albert.embeddings.word_embeddings.weight": ("predictions.decoder.weight",),
        "predictions.bias": ("predictions.decoder.bias",),
    },
    ignored=(r"(albert\.)?embeddings\.position_ids",),
)
