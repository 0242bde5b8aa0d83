"""Losses and answers of the kinds of tasks, compared with a loop over the rows."""

import numpy as np
import pytest
import torch

from sesame.evaluation.finetuning.answers import ANSWERS
from sesame.evaluation.finetuning.kinds import KINDS, Choose, Regress


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
