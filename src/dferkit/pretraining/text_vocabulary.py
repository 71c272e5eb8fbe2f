"""Vocabulary of the small text encoder: the words of dferkit's captions and everyday words about faces; all other text is spelled in bytes."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from dferkit.captions import wording
from dferkit.facs import load_facs

# Their positions are their ids.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# Everyday words about faces, so that captions written by people are not spelled in bytes.
_EVERYDAY = """
a about above across after again against all along also an and another any are around as at away back be because
become becomes been before begin begins behind being below beneath beside between bit blink blinks both brief briefly
but by came can center centre change changes clear close closes come comes continue continues corner corners do does
down during each eases end ends even eye eyebrow eyelid face faces facing few first fold forehead forward from front
frown frowning full gaze glance glances goes gradually half hand hard has have he head her high his hold holds
horizontal how i if in inside into is it its itself just keep keeps large last later least left less lid lift lifts
light like line lines little long look looking looks low lower lowers made make makes man many mark marked middle
moment more most move moved movement moves moving much muscle muscles near neck neither no nor not now of off on once
one only onto open opening opens or other out outward over pair part parts person position press presses pressing pull
pulling pulls push raise raises raising relax relaxed remain remains rest returns right rise rises roll rolls same
second seconds see seen shake she short show shows shut side sides sideways skin slight slow slowly small smile smiles
smiling smooth so soft some sometimes speak speaking speech squint stare stares staring start starts stay stays still
stretch stretches strong subtle suck tense tension than that the their them then there they this through tight tighten
tightens tilt tilts time to together top turn turns twice two under until up upper upward very visible wall was watch
way weak were when where which while who wide widen widening widens with within without woman wrinkle wrinkles yawn
"""


def domain_words() -> tuple[str, ...]:
    """Every word that dferkit's captions can use, lower case, sorted; times are not among them."""
    facs = load_facs()
    texts = [wording.STILL, wording.MODERATE, "not and by s", "quickly suddenly gradually strongest fades relaxes"]
    texts += [" ".join((w.subject, w.movement, w.detail, *w.synonyms, w.held_out)) for w in wording.WORDINGS.values()]
    texts += [phrase for unit in facs.action_units.values() for phrase in (*unit.phrases, *unit.phrases_unilateral)]
    texts += [phrase for phrases in facs.head_and_gaze.values() for phrase in phrases]
    texts += [word for words in facs.temporal_words.values() for word in words]
    texts += [word or "" for _, word in facs.intensity_words]
    texts += facs.regions
    words = " ".join(texts).lower().replace("*", " ").replace("'s", " ").replace("-", " ").replace(",", " ").split()
    return tuple(sorted(set(words)))


def build_tokenizer() -> Tokenizer:
    """Word pieces over bytes: each word and each time of a caption is one piece, any other text is spelled in bytes.

    Lower case; no text becomes the unknown piece.
    """
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*".,;:!?'\"()–-", *sorted({*domain_words(), *_EVERYDAY.split()})]
    words += [f"{tenths / 10:.1f}" for tenths in range(100)]
    as_bytes = ["".join(piece for piece, _ in to_bytes.pre_tokenize_str(word)) for word in words]
    pieces = dict.fromkeys([*SPECIAL, *alphabet, *(f"##{sign}" for sign in alphabet), *as_bytes])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.WordPiece(
            vocabulary, unk_token="[UNK]", continuing_subword_prefix="##", max_input_chars_per_word=100_000
        )
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\d+\.\d|\d|\p{L}+|."), behavior="isolated"),
            to_bytes,
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer
