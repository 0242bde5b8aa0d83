"""Find and read checkpoints, and load the backbone of one for later stages.

    OUTPUT/checkpoints/step-00001000/
        checkpoint.json                 format, step, samples, seed, resolved config, and SHA-256 of every file
        tokenizer.model                 the tokenizer of the dataset
        weights-00000-000.safetensors   fp32 master weights; each process writes files of about a gigabyte
        exp_avg-00000-000.safetensors   the same for each moment of the optimizer

A checkpoint does not depend on the layout that wrote it: tensors have their parameter's name and whole shape
(``stored.py``). It is written under another name and renamed (``save.py``), so a folder with the name of a checkpoint
is complete. The order of the data and the random states are functions of seed, samples and step, so these numbers are
all that is stored of them (``record.py``). ``retention.py`` decides which checkpoints are removed.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sesame.configs import storage
from sesame.configs.errors import CheckpointError, ConfigError
from sesame.pretrain.checkpoints import record as records
from sesame.pretrain.checkpoints import retention
from sesame.pretrain.checkpoints.record import TOKENIZER_FILE, Record
from sesame.pretrain.checkpoints.stored import Shapes, StoredTensors
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.models import FAMILIES, parse_model
from sesame.pretrain.models.family import ModelConfig, Vocabulary, on_meta_device

WEIGHTS_ONLY = ("weights",)
"""The kinds of tensors that stages after pretraining read."""
PROJECTION = "objectives.span_corruption.projection.weight"
"""The projection of a decoder's states to the vocabulary, where it is not tied."""
POOLER = "objectives.sentence_pairs.pooler"
"""The pooler of the sentence-pair head, which later stages use as well."""


class Process(NamedTuple):
    """One of the processes that read or write a checkpoint together."""

    rank: int
    world: int
    gather: Callable[[Any], list[Any]]
    """A collective: every process's value, in order of rank."""


SINGLE_PROCESS = Process(0, 1, lambda value: [value])


class Checkpoint(NamedTuple):
    """A complete checkpoint."""

    folder: Path
    record: Record

    def has(self, kind: str) -> bool:
        """Whether there are tensors of this ``kind``."""
        return any(_kind(name) == kind for name in self.record.files)

    def tensors(self, kind: str, names: Iterable[str] | None = None) -> StoredTensors:
        """Return the tensors of one ``kind``: "weights", or a moment of the optimizer.

        Args:
            names: of the parameters that have this kind; None: all.

        Raises:
            CheckpointError: the checkpoint has none of this kind, or they are damaged.
        """
        files = [name for name in sorted(self.record.files) if _kind(name) == kind]
        if not files and names != []:
            raise CheckpointError(f"{self.folder}: has no '{kind}'; it was written with another optimizer")
        shapes = self.record.shapes
        return StoredTensors(self.folder, files, shapes if names is None else {name: shapes[name] for name in names})

    def model(self) -> ModelConfig:
        """Return the configuration of the model.

        Raises:
            CheckpointError: it does not fit any family.
        """
        try:
            return parse_model(self.record.config["model"], str(self.folder / records.FILE))
        except ConfigError as error:
            raise CheckpointError(str(error)) from None


def latest(path: Path, process: Process = SINGLE_PROCESS) -> Path | None:
    """Return the newest complete checkpoint in a run's folder, or ``path`` itself if it is a checkpoint; a collective.

    All processes get what the first one finds: a network file system may show a new folder to one of them earlier.
    """
    folder = path if (path / records.FILE).is_file() else retention.newest(path)
    return process.gather(folder)[0]


def open_checkpoint(
    folder: Path, process: Process = SINGLE_PROCESS, *, kinds: Collection[str] | None = None
) -> Checkpoint:
    """Read the record of a checkpoint and check its files against their checksums; a collective.

    Each process checks its share of the files.

    Args:
        kinds: of tensors that will be read; files of others are not checked and may be missing, such as the moments of
            the optimizer, which are most of a checkpoint, in later stages. None: all.

    Raises:
        CheckpointError: a file is missing, damaged, or of a later format.
    """
    record, errors = None, []
    try:
        record = records.read(folder)
        needed = [name for name in sorted(record.files) if kinds is None or _kind(name) in (None, *kinds)]
        names = needed[process.rank :: process.world]
        errors = [error for name in names if (error := _file_error(folder / name, record.files[name]))]
    except CheckpointError as error:
        errors = [str(error)]
    # All processes raise the same error: if only one did, the others would wait for it forever.
    all_errors = [error for part in process.gather(errors) for error in part]
    if record is None or all_errors:
        raise CheckpointError(all_errors[0])
    return Checkpoint(folder, record)


class OpenedBackbone(NamedTuple):
    """A backbone whose weights are not read yet."""

    backbone: Any
    """Module of the family on the meta device, with its pretrained ``pooler`` and ``decoder_projection``."""
    tokenizer_path: Path
    model: ModelConfig
    step: int
    weights: StoredTensors
    """By name, such as ``backbone.token_embedding.weight``."""


class LoadedBackbone(NamedTuple):
    """A backbone for the stages after pretraining."""

    backbone: Any
    """Module of the family, fp32, on the CPU, in evaluation mode, with its pretrained ``pooler``."""
    tokenizer_path: Path
    model: ModelConfig
    step: int
    """Optimizer steps that it was trained for; 0 if its weights are random."""


def load_backbone(path: Path, *, seed: int | None = None) -> LoadedBackbone:
    """Load the backbone of a run's newest checkpoint, or with ``seed`` the same architecture with random weights.

    Raises:
        CheckpointError: ``path`` does not contain a complete checkpoint.
    """
    backbone, tokenizer, model, step, weights = open_backbone(path)
    if seed is not None:
        return LoadedBackbone(randomized(backbone, model, seed).eval(), tokenizer, model, 0)
    materialise(backbone, lambda name, _: weights.whole(f"backbone.{name}"))
    return LoadedBackbone(backbone.eval(), tokenizer, model, step)


def require_latest(
    path: Path, process: Process = SINGLE_PROCESS, advice: str = "give a folder that `sesame pretrain` wrote"
) -> Path:
    """Return the newest checkpoint in ``path``, which may be one itself; a collective.

    Raises:
        CheckpointError: there is none.
    """
    folder = latest(Path(path), process)
    if folder is None:
        raise CheckpointError(f"{path}: does not contain a checkpoint; {advice}")
    return folder


def open_backbone(path: Path, process: Process = SINGLE_PROCESS) -> OpenedBackbone:
    """Build the backbone of a run's newest checkpoint on the meta device; a collective.

    Raises:
        CheckpointError: ``path`` does not contain a complete checkpoint.
    """
    folder = require_latest(path, process)
    checkpoint = open_checkpoint(folder, process, kinds=WEIGHTS_ONLY)
    model, tokenizer = checkpoint.model(), folder / TOKENIZER_FILE
    try:
        with on_meta_device():
            backbone: Any = FAMILIES[model.family].module(
                model, Vocabulary(checkpoint.record.vocabulary_size, tokenizer)
            )
    except ConfigError as error:
        raise CheckpointError(f"{folder / records.FILE}: {error}") from None
    shapes = {f"backbone.{name}": tuple(value.shape) for name, value in backbone.named_parameters()}
    stored = {name: shape for name, shape in checkpoint.record.shapes.items() if name.startswith("backbone.")}
    check_shapes(folder, stored, shapes)
    weights = checkpoint.tensors("weights")
    pooler = {ending: f"{POOLER}.{ending}" for ending in ("weight", "bias")}
    backbone.pooler = {ending: weights.whole(name) for ending, name in pooler.items() if name in weights.shapes}
    backbone.decoder_projection = weights.whole(PROJECTION) if PROJECTION in weights.shapes else None
    return OpenedBackbone(backbone, tokenizer, model, checkpoint.record.step, weights)


def randomized(backbone: Any, model: ModelConfig, seed: int) -> Any:
    """Replace the weights of a backbone, which may be on the meta device, by random ones; return it."""
    draw = random_value(seed, model.init_std)
    materialise(backbone, lambda name, parameter: draw(f"backbone.{name}", parameter.shape))
    backbone.pooler, backbone.decoder_projection = {}, None
    return backbone


def check_shapes(folder: Path, stored: Shapes, expected: Shapes, remedy: str = "choose another output folder") -> None:
    """Compare the parameters that the checkpoint ``folder`` has with those that a model has.

    Args:
        remedy: what to do if the model is as intended.

    Raises:
        CheckpointError: naming the first parameter that differs.
    """
    for name in {**stored, **expected}:
        ours, theirs = expected.get(name), stored.get(name)
        if ours is None or theirs is None or tuple(ours) != tuple(theirs):
            raise CheckpointError(
                f"{folder}: parameter {name} is {_shape_text(theirs)} in the checkpoint but {_shape_text(ours)} in "
                f"this run; use the [model] and [objectives] of the checkpoint, or {remedy}"
            )


def _kind(name: str) -> str | None:
    """Return the kind of the tensors in a file of a checkpoint; None if it has none."""
    return name.rsplit("-", 2)[0] if name.endswith(".safetensors") else None


def _file_error(file: Path, expected: str) -> str | None:
    """Return what is wrong with a file whose SHA-256 should be ``expected``."""
    try:
        records.require_regular(file)
        is_same = storage.digest(file) == expected
    except FileNotFoundError:
        return f"{file}: is missing; use another checkpoint"
    except OSError as error:
        return f"{file}: cannot be read ({error}); use another checkpoint"
    return None if is_same else f"{file}: differs from its checksum; use another checkpoint"


def _shape_text(shape: Sequence[int] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape))
