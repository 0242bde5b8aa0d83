"""The columns of a dataset."""

COLUMNS: dict[str, str] = {
    "tokens": "list: ids as the model sees them, [CLS] a [SEP] or [CLS] a [SEP] b [SEP], corrupted by the recipe",
    "first_segment_length": "tokens of the first segment with its [CLS] and [SEP]",
    "mask_positions": "list: positions to predict, ascending, those that kept their token among them",
    "mask_labels": "list: the original ids at those positions",
    "target_tokens": "list: what to write: each hidden span after its sentinel, [SEP] at the end (masked_spans)",
    "pair_labels": "0 the pair is as it was, 1 the second segment is from another document (or the two are swapped)",
    "document": "number of the document that the first segment is from, counted over the documents of the split",
    "second_document": "the same of the second segment, where it may be another one (next_sentence)",
}
"""Every column that a recipe may write, in the order in which a shard holds them."""
