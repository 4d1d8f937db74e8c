"""Broken files for each parser, made by chance: only our own errors.

`benchmarks.fuzz` looks longer and deeper, with a fuzzer that watches which code is reached.
"""

import importlib
import random
from pathlib import Path
from types import ModuleType

import pytest

PARSERS = ["images", "coco", "voc", "table", "config"]


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2])
    return importlib.import_module("benchmarks.fuzz_targets")


def broken(seeds: list[bytes], draw: random.Random) -> bytes:
    """A file with a few of its parts overwritten, left out, repeated, or put into another one."""
    content = bytearray(draw.choice(seeds))
    for _ in range(draw.randint(1, 3)):
        other = draw.choice([content, draw.choice(seeds)])
        begin, end = sorted(draw.choices(range(len(other) + 1), k=2))
        part = draw.choice([draw.randbytes(draw.randint(0, 4)), other[begin : min(end, begin + 64)]])
        place = draw.randrange(len(content) + 1)
        content[place : place + draw.choice([0, len(part), len(part), 64])] = part
    return bytes(content)


@pytest.mark.parametrize("parser", PARSERS)
def test_parsers__read_valid_files_and_raise_only_our_errors(
    parser: str, targets: ModuleType, tmp_path: Path
) -> None:
    target, make_seeds = targets.PARSERS[parser]
    seeds = list(make_seeds())
    assert all(target(seed, tmp_path) for seed in seeds)
    draw = random.Random(parser)
    was_read = [target(broken(seeds, draw), tmp_path) for _ in range(500)]
    assert 0 < sum(was_read) < 500
