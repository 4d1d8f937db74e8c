"""A folder of parts: what it is begun with, what is missing in it, and whose share that is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from query2label.data.samples import Sample
from query2label.errors import ConfigError, DataError
from query2label.inference.parts import MANIFEST_NAME, Choice, Manifest, PartFolder, Shard, wanted_parts


def manifest(**changes: Any) -> Manifest:
    values = {
        "model": "m",
        "images": "i",
        "num_images": 25,
        "part_size": 10,
        "form": "jsonl",
        "choice": Choice(labels=("a",), thresholds={"a": 0.25}, top_k=None, ranked_only=False),
        "batch_size": 4,
    }
    return Manifest.model_validate(values | changes)


def test_begin__goes_on_with_the_same_and_refuses_all_else(tmp_path: Path) -> None:
    out = tmp_path / "new" / "tags"
    assert PartFolder.begin(out, manifest()).missing() == [0, 1, 2]
    (out / "part-00001.jsonl").write_text("")
    (out / ".tmp-0123abcd-part-00000.jsonl").write_text("half")
    folder = PartFolder.begin(out, manifest())
    assert folder.missing() == [0, 2]
    assert [folder.rows_of(number) for number in range(3)] == [10, 10, 5]
    choice = Choice(labels=("a",), thresholds={"a": 0.5}, top_k=None, ranked_only=False)
    for changes, words in (
        ({"model": "n"}, "another model"),
        ({"images": "j", "num_images": 26}, "other images"),
        ({"choice": choice}, "other thresholds or another --top-k"),
        ({"form": "csv", "part_size": 5}, "another --format and another --part-size"),
        ({"batch_size": 8, "keep_logits": True}, "another --keep-logits and another --batch-size"),
    ):
        with pytest.raises(ConfigError) as raised:
            PartFolder.begin(out, manifest(**changes))
        expected = f"{out} was begun with {words}: give what it was begun with, or name another folder."
        assert str(raised.value) == expected


def test_begin__touches_no_other_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(ConfigError, match=r"holds other files \(mine\.txt\): name a new folder"):
        PartFolder.begin(tmp_path, manifest())
    with pytest.raises(ConfigError, match=r"mine\.txt is a file: name a folder for the parts"):
        PartFolder.begin(tmp_path / "mine.txt", manifest())
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".tmp-0123abcd-manifest.json").write_text("half")
    PartFolder.begin(tmp_path / "empty", manifest())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{", "is not JSON that can be used"),
        (
            lambda text: text.replace('"model"', '"modelx"'),
            "manifest.json: unknown key 'modelx'|'model' is missing",
        ),
        (
            lambda text: text.replace('"part_size": 10', '"part_size": 0'),
            "part_size: Input should be greater",
        ),
        (
            lambda text: text.replace('"manifest_version": 1', '"manifest_version": 9'),
            "newer query2label .form 9",
        ),
    ],
)
def test_begin__says_what_is_wrong_with_a_manifest(
    tmp_path: Path, change: Callable[[str], str], message: str
) -> None:
    PartFolder.begin(tmp_path, manifest())
    file = tmp_path / MANIFEST_NAME
    file.write_text(change(file.read_text()))
    with pytest.raises(DataError, match=message):
        PartFolder.begin(tmp_path, manifest())


def test_finished__needs_all_parts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no manifest\.json: it is no folder that `q2l predict` wrote"):
        PartFolder.finished(tmp_path)
    folder = PartFolder.begin(tmp_path, manifest())
    folder.part_path(0).write_text("")
    with pytest.raises(DataError, match=r"2 of 3 parts are missing, the first is part-00001\.jsonl\."):
        PartFolder.finished(tmp_path)
    for number in (1, 2):
        folder.part_path(number).write_text("")
    assert PartFolder.finished(tmp_path).manifest == manifest()


def test_remove_leftovers__leaves_those_of_other_shares(tmp_path: Path) -> None:
    folder = PartFolder.begin(tmp_path, manifest())
    for number in range(3):
        (tmp_path / f".tmp-0123abcd-part-0000{number}.jsonl").write_text("half")
    folder.remove_leftovers(Shard(2, 3))
    assert sorted(path.name[-7] for path in tmp_path.glob(".tmp-*")) == ["0", "2"]
    folder.remove_leftovers()
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST_NAME]


def test_part_path__names_in_order_are_parts_in_order(tmp_path: Path) -> None:
    folder = PartFolder(tmp_path, manifest(num_images=123_456_789, part_size=1))
    assert folder.part_path(7).name == "part-000000007.jsonl"
    assert folder.part_path(123_456_788).name == "part-123456788.jsonl"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shard__shares_are_disjoint_and_all_together(count: int) -> None:
    shards = [Shard.parse(f"{index}/{count}") for index in range(1, count + 1)]
    parts = [part for shard in shards for part in range(17) if shard.has(part)]
    assert sorted(parts) == list(range(17))
    assert max(map(len, ([p for p in range(17) if s.has(p)] for s in shards))) <= -(-17 // count)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "-1/2", "1/2/3", ""])
def test_shard__refuses_what_is_no_share(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"--shard {text} is not of the form i/n with i from 1 to n"):
        Shard.parse(text)


@pytest.mark.parametrize("wanted", [[], [0], [1], [2], [0, 2], [0, 1, 2]])
def test_wanted_parts__gives_those_and_goes_through_all(wanted: list[int]) -> None:
    samples = [Sample(Path(str(number))) for number in range(25)]
    seen = []

    def noted():
        for sample in samples:
            seen.append(sample)
            yield sample

    parts = list(wanted_parts(noted(), wanted, 10))
    assert [part.number for part in parts] == wanted
    assert [part.samples for part in parts] == [samples[10 * number : 10 * number + 10] for number in wanted]
    assert seen == samples


def test_manifest__is_readable_json(tmp_path: Path) -> None:
    PartFolder.begin(tmp_path, manifest())
    document = json.loads((tmp_path / MANIFEST_NAME).read_text())
    assert document["num_images"] == 25
    assert document["choice"]["thresholds"] == {"a": 0.25}
