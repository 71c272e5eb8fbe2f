"""Intended use, limits and calibration notes, as every output states them."""

INTENDED_USE = (
    "The label is the apparent expression, as a crowd of annotators would name it. It is not what a person feels. For research and "
    "teaching with people who agreed. Not for decisions in employment, education, policing, border control, insurance, "
    "credit or medical diagnosis, and not for children."
)

CALIBRATED = "calibrated"
"""First word of a checkpoint's ``calibration`` where the model is calibrated; any other text means that it is not."""

LIMITS = (
    "The label names the visible expression. The meaning of a movement differs between cultures, people and situations. "
    "A movement often expresses something other than an emotion, or nothing.",
    "The bundled model was trained on rendered faces only. Expect lower scores on real people than the scores shown here. "
    "Scores also differ with skin tone, age, head pose, beards, glasses and speech.",
    "The shares of the phrases show what the score of the answer is made of. The deletion test measures whether the answer depends on the movement in the video that they name.",
    "Not for hiring or monitoring at work, schools, policing, border control, insurance, credit or diagnosis. The "
    "European Union prohibits inferring emotions at work and in education, except for medical or safety reasons.",
)


def is_calibrated(calibration: str) -> bool:
    """Whether a checkpoint's ``calibration`` states that the model is calibrated."""
    return calibration.lower().startswith(CALIBRATED)


def confidence_note(calibration: str, trained_on: str) -> str:
    """How far to trust the confidences of a model, given the ``calibration`` and ``trained_on`` of its checkpoint."""
    if is_calibrated(calibration):
        return f"The model's confidence is {calibration}; it can be wrong for other people, cameras and places."
    return f"The model was trained on {trained_on}. Its confidence is not calibrated on real faces."
