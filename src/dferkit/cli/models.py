"""``dferkit models``: files that others made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.progress import Stages, plural

models = typer.Typer(
    name="models",
    no_args_is_help=True,
    add_completion=False,
    help="List, download and convert model files of other projects. Only models get uses the network.",
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


@models.command()
def convert(
    file: Annotated[
        Path,
        typer.Argument(help="A published VideoMAE or VideoMAE V2, of pre-training or fine-tuned (.pth, .safetensors)."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder, for --encoder videomae:FOLDER.")],
    size: Annotated[
        int,
        typer.Option("--size", min=0, help="Side of the pictures in pixels; 0 takes what the file notes, else 224."),
    ] = 0,
    frames: Annotated[
        int, typer.Option("--frames", min=0, help="Frames of a clip; 0 takes what the file notes, else 16.")
    ] = 0,
    heads: Annotated[
        int, typer.Option("--heads", min=0, help="Heads of an attention; 0 takes the published number for this width.")
    ] = 0,
) -> None:
    """Make a folder for transformers from a published VideoMAE file; every key must have its place.

    Only tensors are read, nothing is unpickled. MAE-DFER, SVFAP and S2D are other architectures and are refused by name.
    """
    from dferkit.encoders.videomae_load import PublishedSizes, convert_published

    report = convert_published(file, out, PublishedSizes(size=size, frames=frames, heads=heads))
    typer.echo(f"{len(report.filled)} parameters filled, each from a key of {file.name}: {out}")
    for reason in dict.fromkeys(report.left_out.values()):
        keys = [key for key, why in report.left_out.items() if why == reason]
        typer.echo(f"{plural(len(keys), 'key')} left out, such as {keys[0]}: {reason}")
    typer.echo(f"key by key: {out / 'conversion.json'}")
