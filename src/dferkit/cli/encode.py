"""``dferkit encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.options import (
    DeviceOption,
    EncoderOption,
    FlipOption,
    FrontEndOption,
    ViewsOption,
    WorkersOption,
    resolve_encoder,
)
from dferkit.cli.progress import Stages, note, plural


def encode(
    store: Annotated[Path, typer.Argument(help="Folder that dferkit prepare wrote.")],
    front_end: FrontEndOption = None,
    encoder: EncoderOption = None,
    views: ViewsOption = None,
    flip: FlipOption = False,
    motion: Annotated[str, typer.Option("--motion", help="Motion weights from tokens, steady or pixels.")] = "tokens",
    shard: Annotated[
        str, typer.Option("--shard", help="i/n: this process encodes every n-th shard, from the i-th on.")
    ] = "0/1",
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Store the tokens of a frozen encoder with the faces, once; training and testing read them.

    After an interruption the same command resumes. A clip with too few frames for all views gets fewer views.
    """
    from dferkit.cli.prepare import parse_shard
    from dferkit.devices import choose_device
    from dferkit.tokens.features import TokenConfig
    from dferkit.tokens.stored import encode_store

    config = TokenConfig(
        encoder=resolve_encoder(front_end, encoder, store),
        times=views or 1,
        with_flip=flip,
        motion=motion,
        device=choose_device(device),
    )
    with Stages() as report:
        folder, missing = encode_store(
            store, config, shard=parse_shard(shard), workers=workers, on_progress=lambda a, b: report("clips", a, b)
        )
    files = sorted(folder.glob("tokens-*.safetensors"))
    size = sum(path.stat().st_size for path in files) / 1e6
    typer.echo(f"{plural(len(files), 'shard')}, {size:,.1f} MB: {folder}")
    if missing:
        note(f"{plural(len(missing), 'shard')} still missing: the tokens are complete when these are encoded")
