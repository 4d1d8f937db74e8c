import resource
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from query2label.data import xml_stream
from query2label.data.samples import ProblemError
from query2label.data.xml_stream import read_elements
from query2label.errors import DataError

MakeText = Callable[[str, str], Path]


class Recorder:
    def __init__(self, *, refused: str = "") -> None:
        self.found: list[object] = []
        self._refused = refused

    def start(self, tags: tuple[str, ...], attributes: Mapping[str, str], line: int) -> None:
        if tags[-1] == self._refused:
            raise DataError("is not liked")
        self.found.append((tags, dict(attributes), line))

    def end(self, tags: tuple[str, ...], text: str, line: int) -> None:
        if f"/{tags[-1]}" == self._refused:
            raise DataError("is not liked")
        self.found.append((tags, text, line))


def test_read_elements__tells_of_each_element_with_its_line(make_text: MakeText) -> None:
    recorder = Recorder()
    read_elements(make_text("a.xml", "<a>\n<b x='1&amp;2'>so &lt;\n</b>\n</a>"), recorder)
    assert recorder.found == [
        (("a",), {}, 1),
        (("a", "b"), {"x": "1&2"}, 2),
        (("a", "b"), "so <\n", 3),
        (("a",), "\n", 4),
    ]


@pytest.mark.parametrize("tag", ["b", "/b"])
def test_read_elements__places_what_the_handler_refuses(make_text: MakeText, tag: str) -> None:
    with pytest.raises(ProblemError, match=r"a.xml:2: is not liked$"):
        read_elements(make_text("a.xml", "<a>\n<b/></a>"), Recorder(refused=tag))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r":1: is not valid XML: it ends too early"),
        ("<a>\n<b></b>", r":2: is not valid XML: it ends too early"),
        ("<a>\n<b", r":2: is not valid XML: unclosed token"),
        ("<a>\n<b></a>", r":2: is not valid XML: mismatched tag"),
        ("<a>\n&x;</a>", r":2: is not valid XML: undefined entity"),
        ("<?xml version='1.0' encoding='nonsense'?><a/>", r":1: is not valid XML: unknown encoding"),
        ("<a>\n<b x='1' x='2'/></a>", ":2: is not valid XML: duplicate attribute"),
        ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", ":1: declares a document type or entities, which are"),
        ("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", ":1: declares a document type or entities, which"),
        ("<a>" * 101 + "</a>" * 101, ":1: is not read: its XML is nested too deeply"),
    ],
)
def test_read_elements__refuses_what_is_not_plain_xml(make_text: MakeText, text: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        read_elements(make_text("a.xml", text), Recorder())


def test_read_elements__refuses_files_it_cannot_read(
    make_text: MakeText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProblemError, match=r"absent.xml: cannot be read: No such file"):
        read_elements(tmp_path / "absent.xml", Recorder())
    monkeypatch.setattr(xml_stream, "MAX_TEXT_BYTES", 10)
    with pytest.raises(ProblemError, match="has 11 bytes, more than the 10 that are read"):
        read_elements(make_text("a.xml", "<a>1234</a>"), Recorder())


def test_read_elements__refuses_a_giant_tag_before_it_fills_memory(make_text: MakeText) -> None:
    path = make_text("a.xml", "<a>\n<b x='" + "1" * 60 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ProblemError, match=r"a.xml:2: has a tag of more than 16 megabytes"):
        read_elements(path, Recorder())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 2**10


def test_read_elements__keeps_the_beginning_of_long_text_only(make_text: MakeText) -> None:
    recorder = Recorder()
    read_elements(make_text("a.xml", "<a>" + "line\n" * 100_000 + "</a>"), recorder)
    (_, text, _) = recorder.found[-1]  # type: ignore[misc]
    assert len(text) < 100_000
