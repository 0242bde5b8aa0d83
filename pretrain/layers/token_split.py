"""The two ends of a stack of blocks, where sequence parallelism divides the tokens and joins them again."""

from torch import Tensor, nn


class TokenSplit(nn.Module):
    """The identity; under ``parallel.sequence`` replaced by ``SplitTokens`` of ``pretrain/parallel/sequence.py``."""

    def __init__(self, blocks: str):
        """
        Args:
            blocks: attribute of the backbone that has the stack's blocks.
        """
        super().__init__()
        self.blocks = blocks

    def enter(self, states_TD: Tensor) -> Tensor:
        """Return the input of the first block."""
        return states_TD

    def leave(self, states_TD: Tensor) -> Tensor:
        """Return the output of the last block."""
        return states_TD
