"""``dferkit models``: files that others made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.progress import Stages

models = typer.Typer(
    name="models",
    no_args_is_help=True,
    add_completion=False,
    help="List and download model files of other projects. Only models get uses the network.",
)


@models.command("list")
def list_models() -> None:
    """Name, size, licence, page and SHA-256 of every known file, and whether it is in the folder of DFERKIT_MODELS."""
    from dferkit.model_files import MODEL_FILES, find_model

    for wanted in MODEL_FILES.values():
        path = find_model(wanted.name)
        typer.echo(f"{wanted.name}: {wanted.what}; {'here: ' + path.name if path else 'not here'}")
        typer.echo(f"  {wanted.file}, {wanted.num_bytes / 1e6:.1f} MB, {wanted.licence}, by {wanted.maker}")
        typer.echo(f"  {wanted.page}")
        typer.echo(f"  SHA-256 {wanted.sha256}")


@models.command()
def get(
    name: Annotated[str, typer.Argument(help="face-landmarker or yunet.")],
    to: Annotated[
        Path | None, typer.Option("--to", envvar="DFERKIT_MODELS", help="Folder; that of DFERKIT_MODELS by default.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Download from this address instead; the digest must be the same.")
    ] = None,
) -> None:
    """Fetch one file from its makers' page. This is the only command that uses the network."""
    from dferkit.errors import ConfigError
    from dferkit.model_files import FOLDER_VARIABLE, get_model, model_file

    wanted = model_file(name)
    if to is None:
        raise ConfigError(f"name a folder with --to, or set {FOLDER_VARIABLE}")
    typer.echo(
        f"{wanted.file}: {wanted.num_bytes / 1e6:.1f} MB, {wanted.licence}, by {wanted.maker} ({wanted.page})", err=True
    )
    with Stages() as report:
        path = get_model(name, to, url=url, on_progress=lambda a, b: report("bytes", a, b))
    typer.echo(f"{path}: SHA-256 {wanted.sha256} verified; set {FOLDER_VARIABLE}={to} so that dferkit finds it")
