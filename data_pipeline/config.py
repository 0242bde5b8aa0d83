"""Configuration of ``sesame prepare``, with the sections of its TOML file."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import ConfigError
from sesame.data_pipeline.cleaning.config import CleanConfig
from sesame.data_pipeline.examples.balance import ShardConfig
from sesame.data_pipeline.examples.corrupt import CorruptConfig
from sesame.data_pipeline.examples.segment import PAIRS, SegmentConfig
from sesame.data_pipeline.examples.spans import check_sentinels
from sesame.data_pipeline.sources import SourceConfig
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.workers import WorkersConfig


class CorpusConfig(Section):
    """Configuration of one run of ``sesame prepare``."""

    output: Path
    """Folder of the dataset."""
    seed: int = Field(default=1, ge=0)
    """Seed of pairs, masks and the order of rows."""
    one_or_more = ("source",)
    source: tuple[SourceConfig, ...] = Field(min_length=1)
    """One table, or an array of tables ``[[source]]`` whose documents are mixed by their weights."""
    clean: CleanConfig = CleanConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    segment: SegmentConfig = SegmentConfig()
    corrupt: CorruptConfig = CorruptConfig()
    shards: ShardConfig = ShardConfig()
    workers: WorkersConfig = WorkersConfig()

    @model_validator(mode="after")
    def _spans_fit(self) -> "CorpusConfig":
        if self.corrupt.kind != "masked_spans":
            return self
        if self.segment.kind in PAIRS:
            raise ValueError(
                f"corrupt.kind masked_spans needs rows of one segment, but segment.kind {self.segment.kind} makes "
                "pairs; set it to full_sentences or contiguous"
            )
        if self.tokenizer.model is None:
            try:
                check_sentinels(self.tokenizer.sentinels, np.array([self.segment.sequence_length - 2]), self.corrupt)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self

    def recipe(self) -> dict[str, Any]:
        """Return all settings that affect the bytes of the dataset."""
        return {key: value for key, value in configs.dump(self).items() if key not in ("output", "workers")}
