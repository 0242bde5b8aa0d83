"""Checks of one split, row by row."""

import numpy as np

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import Dataset
from sesame.data_pipeline.verification import PREPARE_AGAIN
from sesame.data_pipeline.verification.coverage import Coverage
from sesame.data_pipeline.verification.documents import Documents
from sesame.data_pipeline.verification.recount import Recount
from sesame.data_pipeline.verification.reference_tokenizer import ReferenceTokenizer
from sesame.data_pipeline.verification.row_checks import first_failure
from sesame.data_pipeline.verification.row_rules import RowRules
from sesame.data_pipeline.verification.row_texts import find_contradiction, original_rows, rows_to_compare


class SplitCheck:
    """Checks every row of a split when it is made, and keeps the sums.

    Raises:
        DatasetError: a row fails a check or differs from its documents, or the manifest has other counts.
    """

    def __init__(self, dataset: Dataset, name: str, tokenizer: ReferenceTokenizer, documents: Documents):
        manifest = dataset.manifest
        self._split, texts = dataset.split(name), documents.texts[name]
        rules = RowRules.of(manifest, tokenizer, documents.identities[name])
        self.counted = Recount(len(tokenizer.texts), manifest.tokenizer.special, rules.special_tokens, rules.sentinels)
        self.coverage = Coverage(tokenizer, documents, name)
        self.compared = 0
        """Rows whose text was found in their documents."""
        first_row = 0
        for columns in self._split.blocks():
            if failure := first_failure(columns, rules):
                self._raise(first_row + failure[0], failure[1])
            self.counted.add(columns)
            self.coverage.add(columns)
            numbers = rows_to_compare(np.asarray(columns["document"]), np.array(list(texts), np.int64))
            for row in original_rows(columns, numbers, first_row, rules.sentinels):
                if problem := find_contradiction(row, texts, tokenizer):
                    self._raise(row.row, problem)
            self.compared += len(numbers)
            first_row += len(columns["document"])
        record, counted = manifest.splits[name], self.counted
        counts = (counted.rows, counted.tokens, counted.predictions)
        if counts != (record.rows, record.tokens, record.predictions):
            raise DatasetError(
                f"{dataset.path}: rows, tokens and predictions of {name} are {counts}, not as in the manifest; "
                f"{PREPARE_AGAIN}"
            )

    def _raise(self, row: int, problem: str) -> None:
        file, row_of_file = self._split.place(row)
        raise DatasetError(f"{file}: row {row_of_file} {problem}; {PREPARE_AGAIN}")
