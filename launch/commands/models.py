"""Models to and from transformers."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or the output folder of pretrain.")
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of the model.")],
) -> None:
    """Convert a checkpoint to a model folder of Hugging Face transformers: config, safetensors, tokenizer files.

    Example: sesame export runs/small/bert runs/small/bert-model

    A model without a class in transformers is an error that names the unsupported setting.
    """
    from sesame.pretrain.huggingface.to_hf import export

    written = export(checkpoint, directory)
    print("\n".join((f"model: {written.folder} ({written.architecture})", *written.notes)))


def import_model(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Model folder: config.json and safetensors.")],
    output: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Output folder of the checkpoint.")],
) -> None:
    """Convert a model folder of Hugging Face transformers to a checkpoint, for evaluation or further training.

    Example: sesame import runs/small/bert-model runs/small/bert-again

    To train it further, set it as initial_checkpoint of a run, and prepare the dataset with its tokenizer.model.
    """
    from sesame.pretrain.huggingface.from_hf import import_model

    written = import_model(directory, output)
    heads = ", ".join(written.objectives) or "no objective"
    print("\n".join((f"checkpoint: {written.folder} (family {written.family}, with {heads})", *written.notes)))


def average(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CHECKPOINT...", help="Checkpoints, or output folders of pretrain.")
    ],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Output folder of the checkpoint.")],
    last: Annotated[int, typer.Option(min=0, help="Average the newest so many checkpoints of each run.")] = 0,
    moving: Annotated[bool, typer.Option("--moving", help="Use the moving average that a run has kept.")] = False,
) -> None:
    """Average the weights of checkpoints into a new one, for evaluation, export or further training.

    Example: sesame average runs/small/bert --last 3 --output runs/small/bert-average

    With optimizer.average_decay, a run keeps a moving average, which --moving makes a checkpoint of.
    """
    from sesame.pretrain.average import average

    written = average(checkpoints, output, last=last, moving=moving)
    what = "the moving average of" if moving else f"the mean of {len(written.sources)} checkpoints:"
    print(f"checkpoint: {written.folder} ({what} {', '.join(map(str, written.sources))})")
