import os
from pathlib import Path

import pytest

from query2label.errors import ConfigError
from query2label.inference import threads
from query2label.inference.threads import choose_threads, processor_quotas, usable_processors


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_choose_threads__does_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert choose_threads(7) == 7
    assert choose_threads() == 3
    with pytest.raises(ConfigError, match="The number of threads must be at least 1, not 0"):
        choose_threads(0)


@pytest.mark.parametrize("setting", ["", "0", "4,2", "many"])
def test_choose_threads__without_a_number_takes_what_is_usable(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    monkeypatch.setattr(threads, "usable_processors", lambda: 5)

    assert choose_threads() == 5


@pytest.mark.parametrize(
    ("allowed", "quotas", "expected"), [(8, [], 8), (8, [1.5, 4.0], 2), (2, [4.0], 2), (4, [0.1], 1)]
)
def test_usable_processors__is_the_tightest_bound(
    allowed: int, quotas: list[float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(allowed), raising=False)
    monkeypatch.setattr(threads, "processor_quotas", lambda: quotas)

    assert usable_processors() == expected


def test_processor_quotas__of_the_group_and_those_around_it(tmp_path: Path) -> None:
    write(tmp_path / "own", "0::/pod/container\n")
    write(tmp_path / "cgroups/cpu.max", "max 100000\n")
    write(tmp_path / "cgroups/pod/cpu.max", "300000 100000\n")
    write(tmp_path / "cgroups/pod/container/cpu.max", "50000 100000\n")

    assert processor_quotas(tmp_path / "cgroups", tmp_path / "own") == [0.5, 3.0]


def test_processor_quotas__of_the_first_version(tmp_path: Path) -> None:
    write(tmp_path / "own", "4:cpu,cpuacct:/somewhere\n")
    write(tmp_path / "cpu/cpu.cfs_quota_us", "250000\n")
    write(tmp_path / "cpu/cpu.cfs_period_us", "100000\n")
    assert processor_quotas(tmp_path, tmp_path / "own") == [2.5]

    write(tmp_path / "cpu/cpu.cfs_quota_us", "-1\n")
    assert processor_quotas(tmp_path, tmp_path / "own") == []


def test_processor_quotas__without_control_groups(tmp_path: Path) -> None:
    assert processor_quotas(tmp_path / "missing", tmp_path / "none") == []
