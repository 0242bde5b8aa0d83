"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from sesame.launch.overrides import output_folder

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override one value of the file; may be repeated."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="DIR", parser=output_folder, help="Output folder; overrides the one in the file."),
]
