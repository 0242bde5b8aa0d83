"""Keep a second run out of an output folder, with one lock for all processes of a run."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sesame.configs.errors import ConfigError
from sesame.configs.storage import locked_folder
from sesame.pretrain.parallel.mesh import Mesh


@contextmanager
def locked(output: Path, mesh: Mesh) -> Iterator[None]:
    """Keep other runs out of the output folder; a collective.

    Raises:
        ConfigError: another run writes there.
    """
    with locked_folder(output) if mesh.is_rank_zero else nullcontext(True) as is_locked:
        if not mesh.from_rank_zero(float(is_locked)):
            raise ConfigError(
                f"{output}: another run writes into this folder; wait for it or stop it, or choose another --output"
            )
        yield
