"""The command line: verbs in the order of the flow. No science here."""

from __future__ import annotations

import os
import signal
import sys

import typer

from dferkit.cli import (
    ablate,
    bench,
    calibrate,
    compare,
    data,
    demo,
    doctor,
    encode,
    evaluate,
    explain,
    models,
    predict,
    prepare,
    pretrain,
    report,
    synth,
    train,
    transfer,
)

_INTERRUPTED = 128 + signal.SIGINT
_GO_ON = "interrupted; run the same command again to resume"
_AT_ONCE = {"predict", "explain", "report", "compare", "doctor", "data", "models"}
"""Verbs that start again after an interruption."""


def _paragraphs(docstring: str) -> str:
    """A docstring with one line per paragraph: the terminal's width breaks them, not the source's."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in docstring.split("\n\n"))


app = typer.Typer(
    name="dferkit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Read face videos, name the apparent expression, and explain the answer. Everything stays on this machine.\n\n"
    "Start with [bold]dferkit demo --out demo --quick[/] or [bold]dferkit predict my_video.mp4[/].",
    epilog="Outputs describe what a face looks like, not what a person feels. Not for decisions about people.",
)
for verb in (
    demo.demo,
    synth.synth,
    prepare.prepare,
    encode.encode,
    pretrain.pretrain,
    train.train,
    evaluate.evaluate,
    calibrate.calibrate,
    bench.bench,
    compare.compare,
    transfer.transfer,
    predict.predict,
    explain.explain,
    report.report,
    doctor.doctor,
):
    app.command(help=_paragraphs(str(verb.__doc__)))(verb)
app.add_typer(ablate.ablate)
app.add_typer(data.data)
app.add_typer(models.models)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        from dferkit import __version__

        typer.echo(__version__)
        raise typer.Exit()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit()


def main() -> None:
    """Entry point: errors of dferkit become one sentence and an exit code, an interruption a message how to resume."""
    from dferkit.errors import BackendError, CheckpointError, ConfigError, DataError, DferError, ManifestError

    try:
        app(standalone_mode=True)
    except (ConfigError, CheckpointError, BackendError, ManifestError) as error:
        _end(str(error), 2)
    except DataError as error:
        _end(str(error), 3)
    except DferError as error:
        _end(str(error), 1)
    except SystemExit as end:
        if end.code == _INTERRUPTED:  # Typer turns an interruption into this, without a word
            _end(_interrupted(), _INTERRUPTED)
        raise
    except KeyboardInterrupt:
        _end(_interrupted(), _INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        name = os.path.basename(str(error.filename)) if error.filename else ""
        if isinstance(error, FileExistsError | NotADirectoryError):
            _end(f"{name} is a file where a folder is needed; give another name", 2)
        _end(f"{name}: {error.strerror}. Free space or choose another folder, then run the same command again", 1)


def _interrupted() -> str:
    return "interrupted" if _AT_ONCE & set(sys.argv[1:2]) else _GO_ON


def _end(message: str, code: int) -> None:
    print(f"dferkit: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
