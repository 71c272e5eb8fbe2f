"""The card of the bundled model, as Markdown from its measured figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dferkit.encoders.front_end import FRONT_ENDS
from dferkit.reports.results_table import markdown_rows
from dferkit.storage import read_json, write_text

NAMES = {encoder: front_end for front_end, encoder in FRONT_ENDS.items()}
PROFILES = {
    "posed": "benchmark, posed",
    "natural": "benchmark, natural",
    "posed_large": "posed, 208 pixels",
    "natural_large": "natural, 208 pixels",
    "held_back": "looks held back",
}

_INTRO = """# Card of the bundled model

The small models in the package, together called *box*. They name the *apparent expression* in a face video: what the face
looks like, never what a person feels. Each front end has a head of its own: `pixels` needs nothing, `landmarks` and `both` need the extra `landmarks`
and the task file of a face landmarker.

**Trained on rendered faces of people who do not exist; no real person's face was used.** Probabilities are calibrated on rendered faces and
UNCALIBRATED on real faces. `docs/models/box.md` in the repository adds scores on worse recordings and pictures of failures.

Not for decisions about people: not for employment, education, policing, border control, insurance, credit or medical diagnosis; not for children.
"""


def write_card(folder: Path | str) -> None:
    """Write ``CARD.md`` beside ``card.json``; every figure is taken from the JSON."""
    folder = Path(folder)
    write_text(folder / "CARD.md", "\n".join([_INTRO, *measured_parts(read_json(folder / "card.json"))]) + "\n")


def measured_parts(card: Mapping[str, Any]) -> list[str]:
    """Sections of the card, as Markdown."""
    return [
        _trained(card),
        _scores(card),
        _recalls(card),
        _tones(card),
        _units(card),
        _words(card),
        _answering(card),
        _limits(),
    ]


def _trained(card: Mapping[str, Any]) -> str:
    clips, networks = card["clips"], card["networks"]
    visual = networks["visual"]
    begun = ", started from the weights of the previous version" if visual.get("start", "none") != "none" else ""
    return (
        "## What it was trained on\n\n"
        f"- video network: {visual['clips']} rendered clips of the training profile and of both benchmark profiles, {visual['steps']} steps{begun}\n"
        f"- landmark network: {networks['landmarks']['clips']} rendered clips that went through the face landmarker, {networks['landmarks']['steps']} steps\n"
        "- text encoder: captions of random action-unit curves\n"
        f"- heads and coarse classifiers: {clips['heads']} further clips of further people\n"
        f"- temperatures and thresholds: {clips['calibration']} clips of the training profile with looks that were held back from it\n"
        f"- generator fingerprint `{card['generator']}`, seed {card['seed']}\n"
    )


def _scores(card: Mapping[str, Any]) -> str:
    clips = card["clips"]
    head = ("front end", "clips", "UAR", "95 % interval", "WAR", "ceiling", "share of ceiling", "calibration error")
    rows = [
        (NAMES[front_end], f"{title} ({m['num_clips']})", f"{m['uar']:.3f}", _interval(m), f"{m['war']:.3f}", f"{m['ceiling_uar']:.3f}", f"{m['share_of_ceiling']:.2f}", f"{m['calibration_error']:.3f}")
        for profile, title in PROFILES.items()
        for front_end in NAMES
        for m in (card["front_ends"][front_end][profile],)
    ]  # fmt: skip
    blind = card["front_ends"]["landmarks"]["no_landmarks"]
    return (
        f"## Measured on {clips['measure']} benchmark clips and {clips['held']} clips of held-back looks, people that no part has seen\n\n"
        "The ceiling is a linear model on the true action units. Frames have 112 pixels unless stated; a quarter of the held-back clips have 208. Calibration error: 15 bins of equal mass. Held-back clips in which the landmarker sees no face "
        f"at all ({blind:.1%}) are given the pixels' answer.\n\n" + markdown_rows(head, rows)
    )


def _recalls(card: Mapping[str, Any]) -> str:
    labels = list(card["front_ends"][FRONT_ENDS["pixels"]]["posed"]["per_class_recall"])
    rows = [
        (NAMES[front_end], title, *(_number(card["front_ends"][front_end][profile]["per_class_recall"][name]) for name in labels))
        for profile, title in PROFILES.items()
        for front_end in NAMES
    ]  # fmt: skip
    return "Recall per class:\n\n" + markdown_rows(("front end", "clips", *labels), rows)


def _tones(card: Mapping[str, Any]) -> str:
    tones = list(card["front_ends"][FRONT_ENDS["pixels"]]["skin_tones"])
    rows = []
    for front_end in NAMES:
        found = card["front_ends"][front_end]["skin_tones"]
        rows.append((NAMES[front_end], *(f"{found[t]['uar']:.2f} ({_interval(found[t])})" for t in tones)))
    return "UAR per rendered skin tone on held-back looks (tone1 lightest):\n\n" + markdown_rows(
        ("front end", *tones), rows
    )


def _units(card: Mapping[str, Any]) -> str:
    names = list(card["front_ends"][FRONT_ENDS["pixels"]]["au_correlation"])
    rows = [
        (name, *(_number(card["front_ends"][front_end]["au_correlation"].get(name)) for front_end in NAMES))
        for name in names
    ]
    return (
        "Correlation of the described action units with the truth, frame by frame, on held-back looks:\n\n"
        + markdown_rows(("action unit", *NAMES.values()), rows)
    )


def _words(card: Mapping[str, Any]) -> str:
    head = ("front end", "phrases", "mass inside", "uniform plan", "times uniform", "times another phrase's")
    rows = []
    for front_end, name in NAMES.items():
        m = card["front_ends"][front_end]["localisation"]
        rows.append((name, f"{m['num_phrases']:.0f}", f"{m['mass_inside']:.0%}", f"{m['uniform']:.0%}", f"{m['times_uniform']:.1f}", f"{m['times_shuffled']:.1f}"))  # fmt: skip
    return "How much of a phrase's transport mass lies where its action unit moves the face:\n\n" + markdown_rows(
        head, rows
    )


def _answering(card: Mapping[str, Any]) -> str:
    rows = [
        (name, f"{card['front_ends'][f]['temperature']:.2f}", f"{m['threshold']:.2f}", f"{m['threshold_in_doubt']:.2f}", f"{m['coverage']:.0%}")
        for f, name in NAMES.items()
        for m in (card["front_ends"][f]["abstention"],)
    ]  # fmt: skip
    return (
        "The model abstains when its confidence is below a threshold. On the calibration clips, 80 % of the answers above the threshold were right. For a small or turned face, "
        "no calm frame, several people, or movements of another class, a second threshold applies; 90 % of the answers above it were right:\n\n"
        + markdown_rows(
            ("front end", "temperature", "threshold", "threshold in doubt", "calibration clips answered"), rows
        )
    )


def _limits() -> str:
    return (
        "## Known limits\n\n"
        "- Real faces differ from rendered ones. `docs/real-clips.md` lists right and wrong answers on a handful of real clips.\n"
        "- A clip must show the face at rest for a while, because movements are measured from the mean of the clip. `--neutral` names a clip of the face at rest.\n"
        "- Head turns beyond about 35°, faces under 40 pixels and hands before the face are not covered.\n"
    )


def _interval(m: Mapping[str, Any]) -> str:
    return f"{m['uar_ci95'][0]:.3f}–{m['uar_ci95'][1]:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
