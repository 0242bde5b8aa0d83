"""Compare the observed shares of masks and pair labels with the recipe."""

from collections.abc import Mapping

import numpy as np

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.shards import Dataset
from sesame.data_pipeline.verification import PREPARE_AGAIN
from sesame.data_pipeline.verification.mask_checks import expected_predictions
from sesame.data_pipeline.verification.recount import Recount, shares
from sesame.data_pipeline.verification.row_rules import PAIRS, WHOLE_WORDS, special_tokens
from sesame.data_pipeline.verification.split_check import SplitCheck

DEVIATIONS = 6
"""Standard deviations that an observed share may differ from the recipe; more happens once in a billion by chance."""
FEWEST_RANDOM = 0.4
"""Share of random pairs in a sound dataset with short rows, at least; 0.474 were seen with rows of 128 tokens."""
ONE_SIDED = 0.9
"""Share of one pair label above which nothing can be learned from pairs."""


def mask_findings(dataset: Dataset, train: Recount) -> list[str]:
    """Report the observed masking and what the recipe asks for.

    Raises:
        DatasetError: they differ by more than chance.
    """
    columns = dataset.manifest.columns
    if "target_tokens" in columns:
        return [_span_finding(dataset, train)]
    if "mask_labels" not in columns:
        return []
    recipe, observed = dataset.manifest.recipe["corrupt"], shares(train)
    expected = {
        "mask_of_predicted": recipe["mask_share"],
        "random_of_predicted": recipe["random_share"],
        "kept_of_predicted": 1 - recipe["mask_share"] - recipe["random_share"],
    }
    # A little more than chance, because a random replacement may be the original token.
    tolerance = DEVIATIONS * (0.25 / max(1, train.predictions)) ** 0.5 + 0.002
    if wrong := [name for name, share in expected.items() if abs(observed[name] - share) > tolerance]:
        raise DatasetError(f"{dataset.path}: {', '.join(wrong)} is far from the recipe; {PREPARE_AGAIN}")
    parts = [f"{name.split('_')[0]} {observed[name]:.2%} (recipe: {share:.2%})" for name, share in expected.items()]
    findings = [_rate_finding(dataset, train), f"of the predicted: {', '.join(parts)}"]
    if recipe["kind"] in WHOLE_WORDS:
        findings.append("words: each is masked whole, except the first of a row that is longer than its budget")
    return findings


def _span_finding(dataset: Dataset, train: Recount) -> str:
    recipe, observed = dataset.manifest.recipe["corrupt"], shares(train)
    return (
        f"spans: {observed['hidden_of_text']:.2%} of the text tokens are masked (recipe: "
        f"{recipe['mask_probability']:.2%}), {observed['mean_span_length']:.2f} in a span (recipe: "
        f"{recipe['mean_span_length']:.2f}); each row as in the recipe, rounded to whole tokens and spans"
    )


def _rate_finding(dataset: Dataset, train: Recount) -> str:
    """Compare the number of all predictions with the expected one; each row is checked only to be within limits."""
    recipe = dataset.manifest.recipe["corrupt"]
    lengths = dataset.split("train").lengths("tokens") - special_tokens(dataset.manifest)
    expected = float(expected_predictions(lengths, recipe).sum())
    predictions = train.predictions
    single_tokens = recipe["kind"] not in WHOLE_WORDS
    if single_tokens and abs(predictions - expected) > DEVIATIONS * 0.5 * len(lengths) ** 0.5 + 1:
        raise DatasetError(
            f"{dataset.path}: {predictions:,} tokens are predicted, but {expected:,.0f} by the recipe; {PREPARE_AGAIN}"
        )
    share, most = predictions / max(1, train.text_tokens), expected / max(1, train.text_tokens)
    at_most = "" if single_tokens else "at most "
    aim = f"recipe: {recipe['mask_probability']:.2%}, and at these lengths {at_most}{most:.2%}"
    return f"masking: {share:.2%} of the text tokens are predicted ({aim})"


def pair_findings(dataset: Dataset, checks: Mapping[str, SplitCheck]) -> list[str]:
    """Report the share of pair labels.

    Half of the pairs of sentence_order are swapped. Of those of next_sentence about half are random: more where
    documents end, because a last sentence has no next one, and fewer where rows are short, because a random segment
    that does not fit is replaced by the next one.

    Raises:
        DatasetError: a share differs by more than chance.
    """
    kind = dataset.manifest.recipe["segment"]["kind"]
    if kind not in PAIRS:
        return []
    random = kind == "next_sentence"
    warnings = []
    for name, check in checks.items():
        rows, share = check.counted.rows, check.counted.ones / max(1, check.counted.rows)
        tolerance = DEVIATIONS * (0.25 / max(1, rows)) ** 0.5
        least, most = 0.5 - tolerance, 0.5 + tolerance
        if random:
            least, most = min(FEWEST_RANDOM, least), max(ONE_SIDED, most)
        has_partners = not random or len(np.unique(check.coverage.identities)) > 1
        if rows and has_partners and not least <= share <= most:
            cause = "" if share < ONE_SIDED else " (documents of one sentence have no next one; is their script split?)"
            raise DatasetError(
                f"{dataset.path}: {share:.2%} of the pairs of {name} have label 1, not about half{cause}; "
                f"{PREPARE_AGAIN}"
            )
        if rows and not has_partners:
            warnings.append(
                f"warning: {name} has one document only, so no pair has label 1 and there is nothing to learn"
            )
    train = checks["train"].counted
    detail = ", each from another document, as its label says" if random else ""
    return [f"pairs: {train.ones / max(1, train.rows):.2%} have label 1{detail}", *warnings]
