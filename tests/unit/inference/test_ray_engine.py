"""What can be told of the Ray engine without a cluster; tests/integration/test_tagging.py has one."""

import sys

import pytest

from query2label.errors import ConfigError, MissingExtraError
from query2label.inference.choice import LabelChoice
from query2label.inference.predictor import Predictor
from query2label.inference.ray_engine import num_workers, ray_engine


def test_num_workers__is_what_fits() -> None:
    assert num_workers({"CPU": 17.0, "GPU": 2.0}, 4, 0) == 4
    assert num_workers({"CPU": 17.0, "GPU": 2.0}, 4, 1) == 2
    with pytest.raises(
        ConfigError, match="No worker with 32 processors fits into the Ray cluster: give fewer"
    ):
        num_workers({"CPU": 17.0}, 32, 0)
    with pytest.raises(ConfigError, match="No worker with 2 processors and a GPU fits"):
        num_workers({"CPU": 17.0}, 2, 1)


def test_ray_engine__says_what_to_install(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtraError, match=r"--engine ray needs the package ray: pip install 'query2label.ray"
    ):
        ray_engine(lambda: predictor, LabelChoice.of(predictor.bundle))
