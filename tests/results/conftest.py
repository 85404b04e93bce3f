"""Results as the harness writes them."""

import pytest
import stored_results


@pytest.fixture
def make_result():
    """Make a result, see ``stored_results``."""
    return stored_results.make_result
