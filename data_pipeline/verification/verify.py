"""``sesame verify``: everything that a dataset promises, held against what lies on disk.

Nothing that made the dataset is asked: the rows are counted, put back into text and judged by code of their own, with
the tokenizer's file as its library reads it.
"""

from pathlib import Path

import numpy as np

from configs.errors import DatasetError
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.dataset.shards import SPLITS, Dataset, open_dataset
from data_pipeline.verification import promises
from data_pipeline.verification.documents import Documents, read_documents
from data_pipeline.verification.promises import PAIRS
from data_pipeline.verification.recount import Recount, agrees, observed, shares
from data_pipeline.verification.reference_tokenizer import ReferenceTokenizer
from data_pipeline.verification.row_texts import Restored, chosen, contradiction, restored
from data_pipeline.verification.text_loss import Coverage, losses

AGAIN = "prepare the dataset again"
DEVIATIONS = 6
"""Standard deviations that an observed share may be away from the recipe's: once in a billion by chance."""
ONE_SIDED = 0.9
"""Share of one pair label from which on there is nothing to learn from pairs."""
WARNING = "warning: "


def verify(path: str | Path) -> list[str]:
    """Check everything about a dataset that can be checked -> findings, one a line.

    Raises:
        DatasetError: a file differs from its checksum, or the rows from the recipe, from what the manifest says or from
            the documents that they are of.
    """
    dataset = open_dataset(path, verify=True)
    manifest = dataset.manifest
    tokenizer = ReferenceTokenizer.load(dataset.tokenizer_path, manifest.tokenizer.special)
    if len(tokenizer.texts) != manifest.tokenizer.vocabulary_size:
        stated = manifest.tokenizer.vocabulary_size
        raise DatasetError(f"{path}: the tokenizer has {len(tokenizer.texts)} pieces, not {stated}; {AGAIN}")
    documents = read_documents(dataset, tokenizer)
    findings = [f"checksums: {len(dataset.files()) + 1} files match", documents.finding]
    checks = {name: SplitCheck(dataset, name, tokenizer, documents) for name in manifest.splits}
    for name, record in manifest.splits.items():
        shown = f"{record.rows:,} rows, {record.tokens:,} tokens, {record.predictions:,} predictions"
        findings.append(f"{name}: {shown} in {len(record.shards)} shards, as in the manifest; every row is well formed")
    train, validation = (checks[name].counted for name in SPLITS)
    found = observed(train, validation, manifest.columns)
    if wrong := [name for name, value in found.items() if not agrees(getattr(manifest, name), value)]:
        raise DatasetError(f"{path}: {', '.join(wrong)} in the manifest differ from the rows; {AGAIN}")
    findings.append(f"lengths: {len(manifest.lengths)} bins of the histogram are as in the manifest")
    findings += [*_masking(dataset, train), *_pairs(dataset, checks), *_baseline(manifest)]
    return [
        *findings,
        _texts(checks, documents),
        *losses(dataset, {name: each.coverage for name, each in checks.items()}),
    ]


class SplitCheck:
    """One split, once every row of it has been looked at.

    Raises:
        DatasetError: a row breaks a promise, or is not of the documents that it names.
    """

    def __init__(self, dataset: Dataset, name: str, tokenizer: ReferenceTokenizer, documents: Documents):
        manifest, record = dataset.manifest, dataset.manifest.splits[name]
        self._dataset, self._split, self._tokenizer = dataset, dataset.split(name), tokenizer
        self._known, self._rules = (
            documents.texts[name],
            promises.Rules.of(manifest, tokenizer, documents.identities[name]),
        )
        sentinels = self._rules.sentinels
        specials = promises.specials(manifest)
        self.counted = Recount(len(tokenizer.texts), manifest.tokenizer.special, specials, sentinels)
        self.coverage = Coverage(tokenizer, documents, name)
        self.compared = 0
        """Rows whose text was found in their documents."""
        seen = 0
        for columns in self._split.blocks():
            self._check(promises.broken(columns, self._rules), seen)
            self.counted.add(columns)
            self.coverage.add(columns)
            numbers = chosen(np.asarray(columns["document"]), np.array(list(self._known), np.int64))
            self._compare(list(restored(columns, numbers, seen, sentinels)))
            seen += len(columns["document"])
        found = (self.counted.rows, self.counted.tokens, self.counted.predictions)
        if found != (record.rows, record.tokens, record.predictions):
            raise DatasetError(
                f"{dataset.path}: rows, tokens and predictions of {name} are {found}, not as in the manifest; {AGAIN}"
            )

    def _compare(self, rows: list[Restored]) -> None:
        for row in rows:
            if problem := contradiction(row, self._known, self._tokenizer):
                self._check((0, problem), row.row)
        self.compared += len(rows)

    def _check(self, broken: tuple[int, str] | None, first: int) -> None:
        if broken:
            file, row = self._split.place(first + broken[0])
            raise DatasetError(f"{file}: row {row} {broken[1]}; {AGAIN}")


def _texts(checks: dict[str, SplitCheck], documents: Documents) -> str:
    shown = [f"{checks[name].compared:,} rows of {len(documents.texts[name]):,} {name} documents" for name in checks]
    return f"text: {' and '.join(shown)} decode to text that is in their documents{documents.unread}"


def _masking(dataset: Dataset, train: Recount) -> list[str]:
    """The observed masking beside what the recipe asks for."""
    manifest = dataset.manifest
    if "target_tokens" in manifest.columns:
        found, asked = shares(train), manifest.recipe["corrupt"]
        return [
            f"spans: {found['hidden_of_text']:.2%} of the text tokens are hidden (recipe: "
            f"{asked['mask_probability']:.2%}), {found['mean_span_length']:.2f} in a span (recipe: "
            f"{asked['mean_span_length']:.2f}); each row as asked, rounded to whole tokens and spans"
        ]
    if "mask_labels" not in manifest.columns:
        return []
    asked, found = manifest.recipe["corrupt"], shares(train)
    wanted = {
        "mask_of_predicted": asked["mask_share"],
        "random_of_predicted": asked["random_share"],
        "kept_of_predicted": 1 - asked["mask_share"] - asked["random_share"],
    }
    # A little more than chance, for random replacements that happen to be the original.
    tolerance = DEVIATIONS * (0.25 / max(1, train.predictions)) ** 0.5 + 0.002
    if off := [name for name, share in wanted.items() if abs(found[name] - share) > tolerance]:
        raise DatasetError(f"{dataset.path}: {', '.join(off)} is far from the recipe; {AGAIN}")
    fates = [f"{name.split('_')[0]} {found[name]:.2%} (recipe: {share:.2%})" for name, share in wanted.items()]
    lines = [_rate(dataset, train), f"of the predicted: {', '.join(fates)}"]
    if asked["kind"] in promises.WHOLE_WORDS:
        lines.append("words: each is hidden whole, but for the first of a row that is longer than its budget")
    return lines


def _rate(dataset: Dataset, train: Recount) -> str:
    """Rows keep to their budgets one by one; where every token is a unit, their sum must be what is expected."""
    asked = dataset.manifest.recipe["corrupt"]
    lengths = dataset.split("train").lengths("tokens") - promises.specials(dataset.manifest)
    expected = float(promises.expected(lengths, asked).sum())
    found = train.predictions
    exact = asked["kind"] not in promises.WHOLE_WORDS
    if exact and abs(found - expected) > DEVIATIONS * 0.5 * len(lengths) ** 0.5 + 1:
        raise DatasetError(
            f"{dataset.path}: {found:,} tokens are predicted, but {expected:,.0f} by the recipe; {AGAIN}"
        )
    share, most = found / max(1, train.text_tokens), expected / max(1, train.text_tokens)
    aim = f"recipe: {asked['mask_probability']:.2%}, and at these lengths {'' if exact else 'at most '}{most:.2%}"
    return f"masking: {share:.2%} of the text tokens are predicted ({aim})"


def _pairs(dataset: Dataset, checks: dict[str, SplitCheck]) -> list[str]:
    """Half of the pairs are swapped; of BERT's at least half are random, for a lone sentence has no successor."""
    manifest = dataset.manifest
    if manifest.recipe["segment"]["kind"] not in PAIRS:
        return []
    random = manifest.recipe["segment"]["kind"] == "next_sentence"
    lines = []
    for name, check in checks.items():
        rows, share = check.counted.rows, check.counted.ones / max(1, check.counted.rows)
        tolerance = DEVIATIONS * (0.25 / max(1, rows)) ** 0.5
        most = max(ONE_SIDED, 0.5 + tolerance) if random else 0.5 + tolerance
        partners = not random or len(np.unique(check.coverage.identities)) > 1
        if rows and partners and not 0.5 - tolerance <= share <= most:
            raise DatasetError(
                f"{dataset.path}: {share:.2%} of the pairs of {name} have label 1, not about half{_reason(share)}; "
                f"{AGAIN}"
            )
        if rows and not partners:
            lines.append(f"{WARNING}{name} has one document only, so no pair has label 1 and there is nothing to learn")
    share = checks["train"].counted.ones / max(1, checks["train"].counted.rows)
    told = ", each from another document, as its label says" if random else ""
    return [f"pairs: {share:.2%} have label 1{told}", *lines]


def _reason(share: float) -> str:
    return "" if share < ONE_SIDED else " (documents of one sentence have no next one; is their script split?)"


def _baseline(manifest: Manifest) -> list[str]:
    baseline = manifest.unigram_cross_entropy_validation
    return [] if baseline is None else [f"unigram baseline: {baseline:.3f} nats on the validation split"]
