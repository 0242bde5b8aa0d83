"""Sequence parallelism in one process: divided, joined and summed tokens, and dropout."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sesame.pretrain.parallel.sequence import SplitTokens, TokenDropout, TokenGroup

PROCESSES = 3


def in_processes(run: Callable[[TokenGroup], Any]) -> list[Any]:
    """Run a function in threads that stand for the processes of a group, and return what each returns."""
    barrier, shared = threading.Barrier(PROCESSES), [torch.empty(0)] * PROCESSES
    results: list[Any] = [None] * PROCESSES

    def exchange(rank: int, tensor: Tensor) -> list[Tensor]:
        shared[rank] = tensor
        barrier.wait(10)
        everyone = [each.clone() for each in shared]
        barrier.wait(10)
        return everyone

    def work(rank: int) -> None:
        def reduce_scatter(whole: Tensor) -> Tensor:
            return torch.stack(exchange(rank, whole)).sum(0).chunk(PROCESSES)[rank]

        group = TokenGroup(
            rank,
            PROCESSES,
            lambda part: torch.cat(exchange(rank, part)),
            reduce_scatter,
            lambda part: torch.stack(exchange(rank, part)).sum(0),
        )
        results[rank] = run(group)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all(result is not None for result in results)
    return results


@pytest.mark.parametrize("tokens", [1, 6, 7, 8])
def test_tokens_are_divided_and_joined_with_their_gradients(tokens: int) -> None:
    states = torch.randn(tokens, 4, generator=torch.Generator().manual_seed(1))
    upstream = torch.randn(tokens, 4, generator=torch.Generator().manual_seed(2))

    def run(group: TokenGroup) -> tuple[int, Tensor, Tensor, Tensor]:
        split = SplitTokens("blocks", group, gathers_again=True)
        leaf = states.clone().requires_grad_()
        part = split.enter(leaf)
        whole = split.leave(part.square())
        (whole * upstream).sum().backward()
        assert leaf.grad is not None
        # Each process multiplies by its rank, as a layer of which it has a part would.
        summed = split.sum_parts(split.gather(split.enter(states)) * group.rank)
        return len(part), whole.detach(), leaf.grad, split.leave(summed)

    for length, whole, gradient, summed in in_processes(run):
        assert length == -(-tokens // PROCESSES)
        torch.testing.assert_close(whole, states.square())
        torch.testing.assert_close(gradient, 2 * states * upstream)
        torch.testing.assert_close(summed, states * sum(range(PROCESSES)))


def test_dropout_drops_what_one_process_drops() -> None:
    torch.manual_seed(5)
    expected = TokenDropout(0.4, SplitTokens("blocks", TokenGroup(0, 1, torch.clone, torch.clone, torch.clone), False))
    expected.split[0].tokens = 7
    whole = expected(torch.ones(7, 16))
    parts = []
    for rank in range(PROCESSES):
        split = SplitTokens("blocks", TokenGroup(rank, PROCESSES, torch.clone, torch.clone, torch.clone), False)
        split.tokens = 7
        torch.manual_seed(5)
        parts.append(TokenDropout(0.4, split)(torch.ones(3, 16)))
    assert torch.equal(torch.cat(parts)[:7], whole)
    assert 0 < float((whole == 0).float().mean()) < 1
