import pytest
from sample_explanation import make_explanation

from dferkit.schema import Explanation


@pytest.fixture
def explanation() -> Explanation:
    return make_explanation(3, is_rendered=False)
