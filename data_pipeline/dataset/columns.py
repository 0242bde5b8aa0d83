"""The columns of a dataset."""

COLUMNS: dict[str, str] = {
    "tokens": "list: input ids of the model, [CLS] a [SEP] or [CLS] a [SEP] b [SEP], corrupted by the recipe",
    "first_segment_length": "tokens of the first segment with its [CLS] and [SEP]",
    "mask_positions": "list: positions to predict, ascending, including unchanged tokens",
    "mask_labels": "list: the original ids at those positions",
    "target_tokens": "list: decoder target: each masked span after its sentinel, [SEP] at the end (masked_spans)",
    "pair_labels": "0: original pair; 1: the second segment is from another document, or the two are swapped",
    "document": "index in the split of the document of the first segment",
    "second_document": "index in the split of the document of the second segment (next_sentence)",
}
"""All columns, in the order in which a shard contains them."""
