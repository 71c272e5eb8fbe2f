"""Texts for language models that write captions. Text only: nothing here calls a model.

GRACE's own prompts are not published; these are ours, after what the paper says about its steps. A change of a text
needs a new version, because stored captions name the version they were made with.

Send captions to a hosted model, never faces: the licences of the public data sets forbid uploading them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dferkit.errors import ConfigError
from dferkit.facs import load_facs
from dferkit.labels import nearest_name
from dferkit.schema import Caption, CoarsePrediction

# The version of the offline captions (describe + refine); a change of their wording or rules needs a new one.
TEMPLATE_VERSION = "template-1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A versioned text; ``fields`` are the names in braces."""

    name: str
    version: int
    text: str
    fields: tuple[str, ...] = ()

    @property
    def identifier(self) -> str:
        """``describe-video-1``, what stored captions carry."""
        return f"{self.name}-{self.version}"

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with its fields filled in.

        Raises:
            ConfigError: A field is missing or unknown.
        """
        if set(values) != set(self.fields):
            raise ConfigError(f"prompt {self.identifier} needs the fields {self.fields}, got {tuple(values)}")
        return self.text.format_map(values)


_PROMPTS = (
    Prompt(
        name="describe-video",
        version=1,
        text=(
            "Describe only the face of the main person over time: brows, eyelids, nose, cheeks, lips, jaw, gaze and "
            "head movement, in temporal order. Say how strong each movement is and when it begins and ends. Do not "
            "name an emotion. Do not describe identity, age, clothing or background."
        ),
    ),
    Prompt(
        name="refine-caption",
        version=1,
        fields=("observation", "candidates", "cues"),
        text=(
            "Observation: {observation}\n"
            "{candidates}\n"
            "{cues}\n"
            "Given the observation and the candidate expressions, rewrite in at most 50 words. Keep only what the "
            "observation supports; relate each visible facial action to the candidates it supports or contradicts; "
            "drop clothing, background and identity."
        ),
    ),
    Prompt(
        name="refine-caption-without-names",
        version=1,
        fields=("observation", "candidates", "cues"),
        text=(
            "Observation: {observation}\n"
            "{candidates}\n"
            "{cues}\n"
            "Rewrite the observation in at most 50 words. Begin with the facial actions that tell the candidate "
            "expressions apart and describe these most fully. Keep only what the observation supports. Never write a "
            "candidate's name or any other word for an emotion."
        ),
    ),
)
PROMPTS: Mapping[str, Prompt] = MappingProxyType({prompt.name: prompt for prompt in _PROMPTS})


def find_prompt(name: str) -> Prompt:
    """The newest version of a prompt.

    Raises:
        ConfigError: No such prompt; the message names the nearest one.
    """
    if name not in PROMPTS:
        raise ConfigError(f"unknown prompt {name!r}; did you mean {nearest_name(name, PROMPTS)!r}?")
    return PROMPTS[name]


def candidates_line(guide: CoarsePrediction, *, top_k: int = 3) -> str:
    """``Likely: fear (0.61), surprise (0.22), anger (0.08).``"""
    told = (f"{label} ({guide.probabilities[guide.labels.index(label)]:.2f})" for label in guide.top(top_k))
    return f"Likely: {', '.join(told)}."


def cue_line(label: str) -> str:
    """What a class usually shows, from the FACS tables, such as ``fear: usual: inner brow raiser, …; against: …``.

    A class that the tables do not know or that has no core movement gets a line that says so.
    """
    facs = load_facs()
    rule = facs.classes.get(label)
    if rule is None:
        return f"{label}: nothing is known of its movements"

    def names(units: tuple[str, ...]) -> str:
        return ", ".join(facs.action_units[unit].title for unit in units if unit in facs.action_units)

    parts = [
        f"{kind}: {names(units)}"
        for kind, units in (("usual", rule.core), ("sometimes", tuple(rule.optional)), ("against", rule.against))
        if units
    ]
    hint = "" if rule.evidence == "A" else " (weak evidence)"
    return f"{label}{hint}: {'; '.join(parts)}"


def refine_request(caption: Caption, guide: CoarsePrediction, *, top_k: int = 3, prompt: str = "refine-caption") -> str:
    """The whole rewrite request of CATE's second step for a language model.

    Raises:
        ConfigError: Unknown prompt.
    """
    return find_prompt(prompt).fill(
        {
            "observation": caption.text,
            "candidates": candidates_line(guide, top_k=top_k),
            "cues": "\n".join(cue_line(label) for label in guide.top(top_k)),
        }
    )
