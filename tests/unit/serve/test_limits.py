import pytest

from query2label.errors import ConfigError
from query2label.serve.limits import Limits


def test_limits__must_be_positive() -> None:
    assert Limits(drain_seconds=0.0).queue == 12
    with pytest.raises(ConfigError, match=r"max_batch \(0\) must be greater than 0"):
        Limits(max_batch=0)
