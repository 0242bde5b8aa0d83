"""Losses and answers of the kinds of tasks, compared with a loop over the rows."""

from itertools import permutations

import numpy as np
import pytest
import torch

from sesame.evaluation.finetuning.answers import ANSWERS, answers
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.kinds import KINDS, Choose, Regress
from sesame.evaluation.tasks import TASKS


def test_the_candidates_of_a_row_share_a_softmax() -> None:
    outputs_SC = torch.randn(9, 1, requires_grad=True)
    counts, labels = torch.tensor([2, 4, 3]), torch.tensor([1, 0, 2])
    rows = outputs_SC[:, 0].split(counts.tolist())
    expected = -torch.stack([row.log_softmax(0)[label] for row, label in zip(rows, labels, strict=True)]).mean()
    loss = Choose().loss(outputs_SC, labels, counts)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert outputs_SC.grad is not None and torch.isfinite(outputs_SC.grad).all()
    found = Choose.answers(outputs_SC.detach().numpy(), counts.numpy())
    assert found.tolist() == [int(row.argmax()) for row in rows]


def test_the_probabilities_of_several_right_candidates_are_added() -> None:
    outputs_SC = torch.randn(9, 1, requires_grad=True)
    counts = torch.tensor([2, 4, 3])
    right = torch.tensor([True, False, True, False, False, True, True, True, True])
    shares = [row.softmax(0) for row in outputs_SC[:, 0].split(counts.tolist())]
    masks = right.split(counts.tolist())
    expected = -torch.stack([share[mask].sum().log() for share, mask in zip(shares, masks, strict=True)]).mean()
    loss = Choose().loss(outputs_SC, right, counts)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert outputs_SC.grad is not None and torch.isfinite(outputs_SC.grad).all()
    # With one right candidate each it is the cross-entropy of its number.
    one = torch.tensor([False, True, True, False, False, False, False, False, True])
    torch.testing.assert_close(
        Choose().loss(outputs_SC, one, counts), Choose().loss(outputs_SC, torch.tensor([1, 0, 2]), counts)
    )


def test_no_two_gaps_of_a_line_have_the_same_idiom() -> None:
    """The assignment with the largest sum, over all assignments."""
    generator = np.random.default_rng(1)
    groups = np.array([0, 1, 0, 0, 2, 1])
    for _ in range(50):
        outputs = generator.normal(size=(6 * 4, 1)).astype(np.float32)
        examples = EncodedExamples([], np.array([]), np.array([]), [""] * 6, np.full(6, 4), groups=groups)
        found = answers(TASKS["CHID"], examples, outputs)
        scores = outputs.reshape(6, 4)
        for group in range(3):
            rows = np.flatnonzero(groups == group)
            best = max(permutations(range(4), len(rows)), key=lambda chosen: scores[rows, chosen].sum())
            assert found[rows].tolist() == list(best)
        free = answers(TASKS["COPA"], examples, outputs)
        assert free.tolist() == scores.argmax(1).tolist()


def test_a_regression_learns_standardized_scores() -> None:
    labels = np.array([1.0, 2.0, 6.0], np.float32)
    kind = Regress.of(labels)
    outputs = torch.tensor([[0.0], [1.0], [-1.0]])
    standard = (torch.from_numpy(labels) - labels.mean()) / labels.std()
    expected = (outputs[:, 0] - standard).square().mean()
    torch.testing.assert_close(kind.loss(outputs, torch.from_numpy(labels), torch.ones(3)), expected)
    back = kind.in_label_units(outputs)[:, 0].numpy()
    np.testing.assert_allclose(back, outputs[:, 0].numpy() * labels.std() + labels.mean(), rtol=1e-6)
    assert Regress.of(np.ones(3, np.float32)).std == 1.0


def test_a_pair_of_equal_likelihood_is_a_tie() -> None:
    outputs = np.array([[-3.0], [-4.0], [-4.0], [-3.0], [-2.5], [-2.5]])
    assert ANSWERS["minimal_pairs"](outputs, np.array([2, 2, 2])).tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_answers(name: str) -> None:
    assert len(ANSWERS[name](np.eye(4, 60, dtype=np.float32), np.ones(4, np.int64))) == 4
