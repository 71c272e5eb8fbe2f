"""What the answers are for, in the words that every output carries."""

INTENDED_USE = (
    "The apparent expression, as a crowd of annotators would label it, is not what a person feels. For research and "
    "teaching with people who agreed. Not for decisions in employment, education, policing, border control, insurance, "
    "credit or medical diagnosis, and not for children."
)

CALIBRATED = "calibrated"
"""How the calibration of a model begins that has one; any other text says that it has none."""


def is_calibrated(calibration: str) -> bool:
    """Whether the words of a checkpoint's ``calibration`` say that it is calibrated."""
    return calibration.lower().startswith(CALIBRATED)


def confidence_note(calibration: str, trained_on: str) -> str:
    """How far to trust the confidences of a model, from what its checkpoint says of its ``calibration`` and its training."""
    if is_calibrated(calibration):
        return f"The model's confidence is {calibration}; for other people, cameras and places it can be off."
    return f"The model in use was trained on {trained_on}. Its confidence is not calibrated on real faces."


LIMITS = (
    "The label names the expression that is visible. The same movements vary between cultures, people and situations, "
    "and often express something else than an emotion, or nothing.",
    "The packaged model learned from rendered faces only. On real people expect lower scores than the ones shown, "
    "unevenly over skin tone, age, head pose, beards, glasses and speech.",
    "A picture of which words met which parts of the face shows what the model compared. Whether the answer depends on "
    "it is what the deletion test measures.",
    "Not for hiring or monitoring at work, schools, policing, border control, insurance, credit or diagnosis. In the "
    "European Union inferring emotions at work and in education is prohibited, except for medical or safety reasons.",
)
