"""Whether a dataset has what a model and its objectives read."""

from collections.abc import Sequence

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import Dataset
from sesame.data_pipeline.examples.corrupt import drawn_each_epoch
from sesame.pretrain.data.columns import COLUMNS


def check_columns(dataset: Dataset, reads: Sequence[str]) -> None:
    """Compare the columns that the model and its objectives read with those of the dataset.

    Raises:
        DatasetError: naming what is missing and the recipe that writes it.
    """
    drawn = {"mask_positions", "mask_labels"} if drawn_each_epoch(dataset.manifest.recipe) else set()
    missing = sorted({COLUMNS[name].source for name in reads} - set(dataset.manifest.columns) - drawn)
    if missing:
        raise DatasetError(
            f"{dataset.path}: has no column {', '.join(missing)}, which this model and its objectives read; prepare "
            "the corpus with a [segment] and [corrupt] recipe that writes it, or drop the objective from [objectives]"
        )
    if "next_labels" in reads and (drawn or {"mask_labels", "target_tokens"} & set(dataset.manifest.columns)):
        raise DatasetError(
            f"{dataset.path}: masks tokens of its text, but an objective of this run predicts every next token of the "
            "original text; prepare the corpus with corrupt.kind = 'nothing'"
        )


def check_lengths(dataset: Dataset, positions: int | None) -> None:
    """Compare the longest row that the dataset's recipe allows with the longest that the model accepts.

    Raises:
        DatasetError: rows may be too long.
    """
    longest = dataset.manifest.recipe.get("segment", {}).get("sequence_length", 0)
    if positions is not None and longest > positions:
        raise DatasetError(
            f"{dataset.path}: has rows of up to {longest} tokens, but model.positions is {positions}; raise it, or "
            f"prepare the corpus with segment.sequence_length = {positions}"
        )
