import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query2label.data import json_stream
from query2label.data.json_stream import read_lists
from query2label.data.samples import ProblemError

MakeText = Callable[[str, str], Path]


def lists_of(path: Path, names: tuple[str, ...] = ("a", "b")) -> dict[str, list[Any]]:
    lists: dict[str, list[Any]] = {name: [] for name in names}
    found = read_lists(path, {name: lists[name].append for name in names})
    return {name: lists[name] for name in names if name in found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"b": [1, "x", null], "other": {"a": [9]}, "a": [{"c": [1, 2]}]}', {"a", "b"}),
        ('\ufeff {\r\n"a" :\t[ ] , "b":[1.5e3 ,-12]}\n', {"a", "b"}),
        ('{"a": {"0": 1}, "b": []}', {"b"}),
        ('{"a": null}', set()),
        ("{}", set()),
        ("[1, 2]", set()),
        ("", set()),
    ],
)
def test_read_lists__gives_the_elements_in_their_order(
    make_text: MakeText, text: str, expected: set[str]
) -> None:
    lists = lists_of(make_text("t.json", text))
    assert lists.keys() == expected
    assert lists == {name: json.loads(text.removeprefix("\ufeff"))[name] for name in expected}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=3), part, max_size=3),
    max_leaves=12,
)


@pytest.fixture
def in_chunks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def use(num_bytes: int) -> None:
        monkeypatch.setattr(json_stream, "_CHUNK_BYTES", num_bytes)

    return use


@given(
    value=st.fixed_dictionaries({"b": st.lists(JSON, max_size=5), "x": JSON, "a": st.lists(JSON)}),
    indent=st.sampled_from([None, 1]),
    as_ascii=st.booleans(),
    num_bytes=st.integers(1, 40),
)
def test_read_lists__reads_the_same_in_chunks_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, value: Any, indent: Any, as_ascii: bool, num_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "same.json"
    text = json.dumps(value, indent=indent, ensure_ascii=as_ascii)
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK_BYTES", num_bytes)
        lists = lists_of(path)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert lists == {"a": read["a"], "b": read["b"]}


BROKEN = '{\n"a": [\n{"id": 1,\n"n": "\u00e9\U0001f600x"},\n-12.5, true\n],\n"b": [[1, 2]]}'


@given(
    place=st.integers(0, len(BROKEN)),
    length=st.integers(0, 3) | st.just(1000),
    put=st.sampled_from(["", "}", "]", ",", '"', "x", "\n\n7", ":"]),
    num_bytes=st.integers(1, 40),
)
def test_read_lists__finds_the_same_fault_as_a_parser_of_the_whole_text(
    tmp_path_factory: pytest.TempPathFactory, place: int, length: int, put: str, num_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "broken.json"
    text = BROKEN[:place] + put + BROKEN[place + length :]
    path.write_text(text, encoding="utf-8")
    try:
        read, expected = json.loads(text), None
    except json.JSONDecodeError as error:
        read, expected = None, f"{path}:{error.lineno}: is not valid JSON: {error.msg} (column {error.colno})"
    is_object = text.lstrip().startswith("{")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK_BYTES", num_bytes)
        try:
            lists, message = lists_of(path), None
        except ProblemError as error:
            lists, message = {}, str(error)
    if is_object and "two lists" not in str(message):
        assert message == expected
    if is_object and expected is None and message is None:
        assert lists == {name: read[name] for name in ("a", "b") if isinstance(read.get(name), list)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": [\n1,\n', r"t.json:3: is not valid JSON: Expecting value \(column 1\)"),
        (b'{"a": [1]} 5', r"t.json:1: is not valid JSON: Extra data \(column 12\)"),
        (b'{"a": [1\n 2]}', r"t.json:2: is not valid JSON: Expecting ',' delimiter \(column 2\)"),
        (b"{'a': 1}", r"t.json:1: is not valid JSON: Expecting property name .* \(column 2\)"),
        (b'{"a" 1}', r"t.json:1: is not valid JSON: Expecting ':' delimiter \(column 6\)"),
        (b'{"a": [1],\n"b": [], "a": []}', r"t.json:2: has two lists called 'a'"),
        (b'{"a": [\n"d\xf6g"]}', r"t.json:2: is not UTF-8 text"),
        (b'{"a": ["\xe2\x82', r"t.json:1: is not UTF-8 text"),
        (b'{"a": [1, ' + b"[" * 100_000, r"t.json:1: is not read: its JSON is nested too deeply"),
        (b'{"x":\n ' + b"[" * 100_000, r"t.json:2: is not read: its JSON is nested too deeply"),
        (b'{"a": [\n' + b"1" * 5000 + b"]}", r"t.json:2: is not valid JSON: Exceeds the limit"),
    ],
)
@pytest.mark.parametrize("num_bytes", [3, 2**20])
def test_read_lists__says_what_is_wrong_where(
    tmp_path: Path, in_chunks: Callable[[int], None], content: bytes, message: str, num_bytes: int
) -> None:
    in_chunks(num_bytes)
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(ProblemError, match=message):
        lists_of(path)


def test_read_lists__refuses_large_and_missing_files(
    make_text: MakeText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProblemError, match="cannot be read: No such file"):
        lists_of(tmp_path / "absent.json")
    with pytest.raises(ProblemError, match="cannot be read: Is a directory"):
        lists_of(tmp_path)
    monkeypatch.setattr(json_stream, "MAX_TEXT_BYTES", 4)
    with pytest.raises(ProblemError, match="has 5 bytes, more than the 4 that are read"):
        lists_of(make_text("t.json", "{   }"))


def test_read_lists__needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    element = json.dumps({"outline": "x" * 8000, "id": 1})
    path.write_text('{"a": [' + ",".join([element] * 2_500) + "]}")
    assert path.stat().st_size > 20e6
    count = 0

    def take(value: Any) -> None:
        nonlocal count
        count += value["id"]

    tracemalloc.start()
    try:
        read_lists(path, {"a": take})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 2_500
    assert peak < 6e6
