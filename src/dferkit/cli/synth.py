"""``dferkit synth``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dferkit.cli.progress import Stages, plural


def synth(
    out: Annotated[Path, typer.Argument(help="Folder for videos, truth and clips.csv.")],
    clips: Annotated[int, typer.Option("--clips", min=1, help="Number of clips.")] = 60,
    profile: Annotated[
        str,
        typer.Option(
            "--profile", help="posed (strong displays), natural (weak, with speech), or varied (the training profile)."
        ),
    ] = "posed",
    looks: Annotated[
        str, typer.Option("--looks", help="Looks of profile varied: any, seen, held_back, low or high halves.")
    ] = "any",
    prior: Annotated[str, typer.Option("--prior", help="balanced, or dfew (its class shares).")] = "balanced",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same bytes.")] = 0,
    size: Annotated[int, typer.Option("--size", help="Height and width in pixels, even.")] = 112,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of a clip.")] = 2.0,
    fps: Annotated[float, typer.Option("--fps", help="Frames a second.")] = 8.0,
    probe: Annotated[
        str | None,
        typer.Option(
            "--probe",
            help="Probe set: none, blink, speech, head, camera, light (exactly one nuisance on), or order (pairs that differ only in the direction of time).",
        ),
    ] = None,
    landmarker: Annotated[
        str | None,
        typer.Option(
            "--landmarker",
            help="Also write landmarks/*.safetensors: a .task file, or auto for the one in DFERKIT_MODELS.",
        ),
    ] = None,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Also write sheet.png, a contact sheet of people and expressions.")
    ] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")] = None,
) -> None:
    """Render face videos of people who do not exist, with ground truth.

    Writes videos/*.mp4, clips.csv (video,label,split,subject,…), truth/*.safetensors and a data dictionary. After an interruption the same command resumes.
    """
    from dferkit.faces import landmarker_file
    from dferkit.recipes.rendered_landmarks import measure_rendered
    from dferkit.synthetic import BenchmarkConfig, render_benchmark
    from dferkit.synthetic.probes import render_order_probe, render_probe
    from dferkit.synthetic.sheet import write_sheet

    config = BenchmarkConfig(
        clips=clips,
        profile=profile,  # type: ignore[arg-type]
        prior=prior,  # type: ignore[arg-type]
        seed=seed,
        size=size,
        seconds=seconds,
        fps=fps,
        settings=looks,
    )
    task = None if landmarker is None else landmarker_file(landmarker)
    with Stages() as progress:

        def on_progress(done: int, of: int) -> None:
            progress("rendering", done, of)

        if probe == "order":
            manifest = render_order_probe(config, out, workers=workers, on_progress=on_progress)
        elif probe is not None:
            manifest = render_probe(config, out, probe, workers=workers, on_progress=on_progress)
        else:
            manifest = render_benchmark(config, out, workers=workers, on_progress=on_progress)
        if task is not None:
            measure_rendered(manifest, task, workers=workers, on_progress=lambda a, b: progress("landmarks", a, b))
        if sheet:
            write_sheet(config, out / "sheet.png")
    typer.echo(f"{plural(clips, 'clip')} of {config.num_subjects} people: {manifest}")
