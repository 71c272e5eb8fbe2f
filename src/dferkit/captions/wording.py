"""The words for each action unit. Subject and movement make the plain phrase, the detail makes it fuller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Wording:
    """Words for one action unit.

    Attributes:
        subject, movement: ``brows`` and ``furrowed``.
        detail: Where and how it shows, for stressed phrases.
        synonyms: Other wordings; ``*`` is the place of the adverb.
        held_out: One more, never used to train a text encoder: it measures whether a text encoder generalises to new wordings.
    """

    subject: str
    movement: str
    detail: str
    synonyms: tuple[str, ...]
    held_out: str


def _wording(subject: str, movement: str, detail: str, *synonyms: str) -> Wording:
    return Wording(
        subject=subject, movement=movement, detail=detail, synonyms=tuple(synonyms[:-1]), held_out=synonyms[-1]
    )


# Every word of a held-out phrase (the last of each row) is also in another phrase of some row.
WORDINGS: Mapping[str, Wording] = MappingProxyType(
    {
        "AU1": _wording(
            "inner brows", "raised", "slanting up to the forehead",
            "inner eyebrows lifted *", "inner ends of the brows pulled up *",
            "eyebrows slanted * upward in the middle", "inner brows lifted *",
        ),
        "AU2": _wording(
            "outer brows", "raised", "arched below the forehead",
            "outer eyebrows lifted *", "* arched eyebrows", "outer ends of the brows pulled up *",
            "outer brows lifted *",
        ),
        "AU4": _wording(
            "brows", "furrowed", "drawn together above the nose",
            "* knitted brows", "brows drawn together *", "eyebrows lowered *", "* furrowed eyebrows",
        ),
        "AU5": _wording(
            "eyes", "widened", "upper lids high",
            "* wide open eyes", "upper eyelids raised *", "eyes opened * wide", "* widened eyes",
        ),
        "AU6": _wording(
            "cheeks", "raised", "pushed up under the eyes",
            "cheeks lifted *", "cheeks pushed up *", "crow's feet * visible beside the eyes", "* lifted cheeks",
        ),
        "AU7": _wording(
            "eyelids", "tightened", "eyes narrowed",
            "* narrowed eyes", "eyes squinted *", "lower lids * tense", "* squinted eyes",
        ),
        "AU9": _wording(
            "nose", "wrinkled", "creased along its sides",
            "* scrunched nose", "nose pulled up *", "creases * visible along the nose", "* wrinkled nose",
        ),
        "AU10": _wording(
            "upper lip", "raised", "pulled toward the nose",
            "upper lip lifted *", "* curled upper lip", "upper lip pulled up *", "* lifted upper lip",
        ),
        "AU11": _wording(
            "folds beside the nose", "deepened", "running down to the mouth",
            "* deepened nasolabial folds", "folds from nose to mouth * visible", "nasolabial folds deepened *",
        ),
        "AU12": _wording(
            "lip corners", "pulled up", "drawn toward the cheeks",
            "mouth corners lifted *", "* smiling mouth", "mouth corners raised *", "lip corners lifted *",
        ),
        "AU13": _wording(
            "mouth corners", "pulled sharply up", "cheeks puffed above them",
            "* puffed cheeks above the mouth corners", "lip corners drawn sharply up *",
            "mouth corners drawn sharply up *",
        ),
        "AU14": _wording(
            "mouth corners", "dimpled", "tightened inward",
            "mouth corners tightened inward *", "* dimpled cheeks beside the mouth", "lip corners dimpled *",
            "lip corners tightened inward *",
        ),
        "AU15": _wording(
            "lip corners", "pulled down", "drooping toward the chin",
            "mouth corners lowered *", "* downturned mouth", "* drooping mouth corners", "lip corners lowered *",
        ),
        "AU16": _wording(
            "lower lip", "pulled down", "lower teeth showing",
            "lower lip lowered *", "lower teeth * visible", "lower lip drawn down *",
        ),
        "AU17": _wording(
            "chin", "raised", "lower lip pushed up",
            "chin pushed up *", "* wrinkled chin", "lower lip pushed up * by the chin", "chin lifted *",
        ),
        "AU18": _wording(
            "lips", "puckered", "pushed together and forward",
            "* pursed lips", "lips pushed together and forward *", "mouth puckered *", "* puckered lips",
        ),
        "AU20": _wording(
            "lips", "stretched", "mouth corners pulled sideways",
            "lips stretched sideways *", "mouth corners pulled back *", "mouth pulled sideways *",
            "mouth stretched sideways *",
        ),
        "AU22": _wording(
            "lips", "funneled", "pushed out around the mouth",
            "lips pushed out in a funnel *", "mouth funneled *", "* funneled lips",
        ),
        "AU23": _wording(
            "lips", "tightened", "thin and tense",
            "lips narrowed *", "* thin and tense lips", "* narrowed lips",
        ),
        "AU24": _wording(
            "lips", "pressed together", "mouth shut",
            "* compressed lips", "mouth shut * tight", "lips compressed *",
        ),
        "AU25": _wording(
            "lips", "parted", "mouth open",
            "lips apart *", "lips opened *", "mouth * open", "* parted lips",
        ),
        "AU26": _wording(
            "jaw", "dropped", "mouth hanging open",
            "jaw lowered *", "jaw hanging open *", "mouth hanging open *", "* dropped jaw",
        ),
        "AU27": _wording(
            "mouth", "stretched open", "jaw pulled wide down",
            "* wide open mouth", "* gaping mouth", "mouth opened * wide", "jaw pulled down and mouth wide open *",
        ),
        "AU28": _wording(
            "lips", "sucked in", "rolled over the teeth",
            "lips rolled inward *", "lips sucked inward *", "lips rolled in *",
        ),
        "AU43": _wording(
            "eyes", "closed", "lids lowered",
            "* closed eyes", "eyelids lowered *", "* heavy eyelids", "* lowered eyelids",
        ),
    }
)  # fmt: skip

STILL = "the face stays still"
MODERATE = "moderately"  # for intensities without an adverb, in a full phrase


def plain(name: str, adverb: str) -> str:
    """``brows furrowed clearly``."""
    wording = WORDINGS[name]
    return f"{wording.subject} {wording.movement} {adverb}".rstrip()


def full(name: str, adverb: str) -> str:
    """``brows clearly furrowed and drawn together above the nose``, without the detail's comma."""
    wording = WORDINGS[name]
    return f"{wording.subject} {adverb or MODERATE} {wording.movement}"


def absent(name: str) -> str:
    """``brows not furrowed``."""
    wording = WORDINGS[name]
    return f"{wording.subject} not {wording.movement}"


def place_adverb(template: str, adverb: str) -> str:
    """Put the adverb at the template's ``*``."""
    return " ".join(template.replace("*", adverb).split())


def draw_template(name: str, generator: np.random.Generator) -> str:
    """The plain phrase or, in two of three cases, a synonym (never the held-out one), with ``*`` for the adverb."""
    wording = WORDINGS[name]
    if generator.random() < 1 / 3:
        return plain(name, "*")
    return wording.synonyms[int(generator.integers(len(wording.synonyms)))]
