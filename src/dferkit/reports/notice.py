"""What the answers are for, in the words that every output carries."""

INTENDED_USE = (
    "The apparent expression, as a crowd of annotators would label it, is not what a person feels. For research and "
    "teaching with people who agreed. Not for decisions in employment, education, policing, border control, insurance, "
    "credit or medical diagnosis, and not for children."
)

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
