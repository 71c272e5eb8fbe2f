import sys
from pathlib import Path

import numpy as np
import pytest

from dferkit.schema import Explanation

sys.path.insert(0, str(Path(__file__).parents[1] / "reports"))
from sample_explanation import make_explanation


@pytest.fixture
def explanation() -> Explanation:
    return make_explanation(3, is_rendered=False)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
