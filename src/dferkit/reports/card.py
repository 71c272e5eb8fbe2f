"""The box's card in words, from its measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dferkit.storage import read_json, write_text

_INTRO = """# Card of the box

The small model that ships with dferkit, so that `dferkit predict` answers at once. It names the *apparent expression* in a face video: what it
looks like, never what a person feels.

**Trained on rendered faces of people who do not exist; no real person's face was used.** What it says of real faces is not calibrated.

Not for decisions about people: not for employment, education, policing, border control, insurance, credit or medical diagnosis; not for children.
"""


def write_card(folder: Path | str) -> None:
    """Write ``CARD.md`` beside ``card.json``; every figure is taken from the JSON."""
    folder = Path(folder)
    card = read_json(folder / "card.json")
    measured, clips = card["measured"], card["clips"]
    parts = [
        _INTRO,
        "## What it was trained on\n",
        f"- video network and action-unit describer: {clips['network']} rendered clips (half posed, half natural), {card['video_network']['steps']} steps",
        f"- text encoder: captions of random action-unit curves; phrase → action unit on held-out wordings {card['text_encoder'].get('phrase_accuracy_held_out', card['text_encoder'].get('phrase_accuracy', float('nan'))):.3f}"
        if _has_phrase(card)
        else "- text encoder: captions of random action-unit curves",
        f"- GRACE head and coarse classifier: {clips['heads']} further clips of further people",
        f"- generator fingerprint `{card['about']['generator']}`, seed {card['about']['seed']}\n",
        f"## Measured on {clips['measured_on']} clips of people that no part has seen\n",
        "| profile | UAR | 95 % interval | WAR | ceiling (linear on true action units) | share of ceiling | vision only | coarse | calibration error |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for profile in ("posed", "natural"):
        m = measured[profile]
        parts.append(
            f"| {profile} | {m['uar']:.3f} | {m['uar_ci95'][0]:.3f}–{m['uar_ci95'][1]:.3f} | {m['war']:.3f} | {m['ceiling_uar']:.3f} | {m['share_of_ceiling']:.2f} | {m['vision_only_uar']:.3f} | {m['coarse_uar']:.3f} | {m['calibration_error']:.3f} |"
        )
    labels = list(measured["posed"]["per_class_recall"])
    parts += ["\nRecall per class:\n", _row(["profile", *labels]), _row(["---"] * (len(labels) + 1))]
    parts += [
        _row([profile, *(f"{measured[profile]['per_class_recall'][label]:.2f}" for label in labels)])
        for profile in ("posed", "natural")
    ]
    parts += [
        "\nRecall per rendered skin tone (both profiles; tone1 lightest):\n",
        _row(["tone", "clips", "UAR", "95 % interval", *labels]),
        _row(["---"] * (len(labels) + 4)),
    ]
    for tone, m in measured["skin_tones"].items():
        recalls = (
            "-" if m["per_class_recall"][label] is None else f"{m['per_class_recall'][label]:.2f}" for label in labels
        )
        parts.append(
            _row(
                [
                    tone,
                    str(m["num_clips"]),
                    f"{m['uar']:.3f}",
                    f"{m['uar_ci95'][0]:.3f}–{m['uar_ci95'][1]:.3f}",
                    *recalls,
                ]
            )
        )
    parts += [
        "\nCorrelation of the described action units with the truth, frame by frame:\n",
        ", ".join(f"{name} {value:.2f}" for name, value in measured["au_correlation"].items()),
    ]
    if "localisation" in measured:
        parts.append(
            f"\nWords and patches: a phrase sends {measured['localisation']['grace']['mass_inside']:.0%} of its transport mass to cells that its action unit "
            f"moves, where a uniform plan would send {measured['localisation']['grace']['uniform']:.0%}; on average over phrases "
            f"{measured['localisation']['grace']['times_uniform']:.1f} times as much."
        )
    abstention = measured["abstention"]
    parts += [
        f"\nIt abstains below a confidence of {abstention['threshold']:.2f}: there, answers on held-out natural clips were right in at least {abstention['target_accuracy']:.0%}, and {abstention['coverage_natural']:.0%} of those clips got one.",
        "\n## Known limits\n",
        "- Real faces differ from rendered ones: a resting face, a beard, glasses or shading can be taken for an expression. See `docs/real-clips.md` for every real clip that was tried, good and bad.",
        "- A face must be seen for a while in one clip: the clip's own mean is the person's zero, so a face that holds one expression throughout is hard.",
        "- Profiles beyond about 35°, tiny faces (under 40 pixels) and hands before the face are not covered.\n",
    ]
    write_text(folder / "CARD.md", "\n".join(parts))


def _has_phrase(card: dict[str, Any]) -> bool:
    return any(key.startswith("phrase_accuracy") for key in card["text_encoder"])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
