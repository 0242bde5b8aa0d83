"""The family albert and transformers' ALBERT."""

from sesame.pretrain.huggingface.counterpart import ACTIVATIONS, Component, ConfigMapping, Counterpart, ParameterMapping

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
HF_BLOCK = "albert.encoder.albert_layer_groups.0.albert_layers.0"

ALBERT = Counterpart(
    model_type="albert",
    family="albert",
    base_prefix="albert.",
    base_class="AlbertModel",
    components={
        "backbone": Component(
            (
                ParameterMapping("backbone.token_embedding", "albert.embeddings.word_embeddings"),
                ParameterMapping("backbone.position_embedding", "albert.embeddings.position_embeddings"),
                ParameterMapping("backbone.segment_embedding", "albert.embeddings.token_type_embeddings"),
                ParameterMapping("backbone.embedding_norm", "albert.embeddings.LayerNorm"),
                ParameterMapping("backbone.embedding_projection", "albert.encoder.embedding_hidden_mapping_in"),
                *(ParameterMapping(f"backbone.block.{ours}", f"{HF_BLOCK}.{hf}") for ours, hf in BLOCK.items()),
            )
        ),
        "masked_lm": Component(
            (
                ParameterMapping("objectives.masked_lm.dense", "predictions.dense"),
                ParameterMapping("objectives.masked_lm.norm", "predictions.LayerNorm"),
                ParameterMapping("objectives.masked_lm.projection.bias", "predictions.bias"),
            ),
            {"masked_lm": 1.0},
        ),
        "pooler": Component((ParameterMapping("objectives.sentence_pairs.pooler", "albert.pooler"),)),
        "sentence_pairs": Component(
            (ParameterMapping("objectives.sentence_pairs.classifier", "sop_classifier.classifier"),),
            {"sentence_pairs": 1.0},
        ),
    },
    architectures={
        frozenset({"masked_lm", "pooler", "sentence_pairs"}): "AlbertForPreTraining",
        frozenset({"masked_lm"}): "AlbertForMaskedLM",
        frozenset({"pooler"}): "AlbertModel",
        frozenset(): "AlbertModel",
    },
    config_mappings=(
        ConfigMapping("layers", "num_hidden_layers"),
        ConfigMapping("width", "hidden_size"),
        ConfigMapping("embedding_width", "embedding_size"),
        ConfigMapping("heads", "num_attention_heads"),
        ConfigMapping("feed_forward_width", "intermediate_size"),
        ConfigMapping("positions", "max_position_embeddings"),
        ConfigMapping("dropout", "hidden_dropout_prob", 0.0),
        ConfigMapping("attention_dropout", "attention_probs_dropout_prob", 0.0),
        ConfigMapping("activation", "hidden_act", "gelu_new", ACTIVATIONS),
        ConfigMapping("norm_epsilon", "layer_norm_eps", 1e-12),
        ConfigMapping("initial_std", "initializer_range", 0.02),
    ),
    fixed_values={
        "num_hidden_groups": (1,),
        "inner_group_num": (1,),
        "type_vocab_size": (2,),
        "position_embedding_type": ("absolute", None),
        "tie_word_embeddings": (True,),
    },
    required_values={
        "down_scale_factor": (1,),
        "gap_size": (0,),
        "layers_to_keep": ([],),
        "net_structure_type": (0,),
        "num_memory_blocks": (0,),
    },
    ignored_keys={"classifier_dropout_prob": "for fine-tuning heads, whose tensors are refused"},
    tied_tensors={
        "albert.embeddings.word_embeddings.weight": ("predictions.decoder.weight",),
        "predictions.bias": ("predictions.decoder.bias",),
    },
    ignored_tensors=(r"(albert\.)?embeddings\.position_ids",),
)
