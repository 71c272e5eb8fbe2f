import sys
from pathlib import Path

import pytest
from sample_explanation import make_explanation

from dferkit.schema import Explanation

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))  # imagined clips of the tests of scores


@pytest.fixture
def explanation() -> Explanation:
    return make_explanation(3, is_rendered=False)
