"""What the configuration of every model family has in common."""

from pydantic import Field

from configs import Section


class ModelConfig(Section):
    """Shape of a backbone."""

    family: str
    """Row of the table in ``pretrain/models/__init__.py``."""
    width: int = Field(gt=0)
    """Size of a token's hidden state (D)."""
    initial_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the initial weights, a normal cut off at two deviations (BERT, appendix A.2 code)."""
    vocabulary_multiple: int = Field(default=64, gt=0)
    """The vocabulary is padded to a multiple of this, so that it splits evenly over tensor-parallel processes and
    its products have a shape that hardware likes. Part of the model, so that every layout has the same one."""

    def padded(self, vocabulary_size: int) -> int:
        """Rows of the token embedding for a tokenizer of ``vocabulary_size`` pieces."""
        return -(-vocabulary_size // self.vocabulary_multiple) * self.vocabulary_multiple
