from collections.abc import Callable
from pathlib import Path

import pytest

from query2label.data.annotation_files import (
    check_label_name,
    read_json,
    read_label_names,
    read_text,
    read_xml,
    split_name,
)
from query2label.data.samples import ProblemError
from query2label.errors import DataError

MakeText = Callable[[str, str], Path]


def test_read_text__drops_the_byte_order_mark(make_text: MakeText) -> None:
    assert read_text(make_text("a.txt", "\ufeffdög\r\n")) == "dög\r\n"
    assert read_text(make_text("empty.txt", "")) == ""


def test_read_text__names_the_line_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\nd\xf6g\n")
    with pytest.raises(ProblemError, match=r"a.txt:3: is not UTF-8 text"):
        read_text(path)


def test_read_text__names_the_line_with_a_nul(make_text: MakeText) -> None:
    with pytest.raises(ProblemError, match=r"a.txt:2: holds a NUL"):
        read_text(make_text("a.txt", "one\nt\0o"))


def test_read_text__refuses_large_missing_and_folder(make_text: MakeText, tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="has 5 bytes, more than the 4"):
        read_text(make_text("a.txt", "12345"), max_bytes=4)
    with pytest.raises(ProblemError, match="cannot be read: No such file"):
        read_text(tmp_path / "absent")
    with pytest.raises(ProblemError, match="cannot be read: Is a directory"):
        read_text(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"a.json:1: is not valid JSON"),
        ('{\n"a": 1,\n"b" 2}', r"a.json:3: is not valid JSON: .*\(column 5\)"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "1" * 5000 + "]", "is not valid JSON: Exceeds the limit"),
        ("", "is not valid JSON"),
    ],
)
def test_read_json__says_what_is_wrong_where(make_text: MakeText, text: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        read_json(make_text("a.json", text))


def test_read_json__lets_a_hook_drop_members(make_text: MakeText) -> None:
    path = make_text("a.json", '{"a": {"b": 1, "c": 2}}')
    assert read_json(path, object_hook=lambda value: {k: v for k, v in value.items() if k != "c"}) == {
        "a": {"b": 1}
    }


BILLION_LAUGHS = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'


@pytest.mark.parametrize("text", [BILLION_LAUGHS, OUTSIDE, '<!DOCTYPE a SYSTEM "http://127.0.0.1/x"><a/>'])
def test_read_xml__refuses_document_types_and_entities(make_text: MakeText, text: str) -> None:
    with pytest.raises(ProblemError, match="declares a document type or entities"):
        read_xml(make_text("a.xml", text))


def test_read_xml__refuses_other_encodings_that_could_hide_them(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(BILLION_LAUGHS.encode("utf-16"))
    with pytest.raises(ProblemError, match="UTF-8"):
        read_xml(path)
    path.write_bytes(b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE a><a/>')
    with pytest.raises(ProblemError, match="is not valid XML"):
        read_xml(path)


def test_read_xml__refuses_broken_large_and_undefined(make_text: MakeText) -> None:
    with pytest.raises(ProblemError, match=r"a.xml:2: is not valid XML"):
        read_xml(make_text("a.xml", "<a>\n<b></a>"))
    with pytest.raises(ProblemError, match="more than the"):
        read_xml(make_text("a.xml", "<a>" + " " * 2**22 + "</a>"))
    with pytest.raises(ProblemError, match="is not valid XML: undefined entity"):
        read_xml(make_text("a.xml", "<a>&x;</a>"))


def test_read_xml__survives_deep_nesting(make_text: MakeText) -> None:
    root = read_xml(make_text("a.xml", "<a>" * 200_000 + "</a>" * 200_000))
    assert root.findall("object") == []


@pytest.mark.parametrize("name", ["dog", "hot dog", "Hund, groß", "犬", "🐕‍🦺", "a|b"])
def test_check_label_name__accepts_anything_one_can_read(name: str) -> None:
    check_label_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        (" dog", "outer white space"),
        ("d\x1b[31mog", "control characters"),
        ("a\nb", "control characters"),
        ("\ud800", "control characters"),
        ("x" * 501, "more than 500 characters"),
    ],
)
def test_check_label_name__refuses(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_label_name(name)


def test_read_label_names__keeps_the_order(make_text: MakeText) -> None:
    assert read_label_names(make_text("l.txt", "\ufeffdog\r\n\r\n cat \r\n")).names == ("dog", "cat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog\ncat\ndog\n", r"l.txt:3: label 'dog' stands already in line 1"),
        ("\n", "names no label"),
        ("dog\nca\x07t", r"l.txt:2: .*control characters"),
    ],
)
def test_read_label_names__refuses(make_text: MakeText, text: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        read_label_names(make_text("l.txt", text))


@pytest.mark.parametrize(
    ("text", "name"), [("valid", "val"), (" Training", "train"), ("TEST", "test"), ("fold 1", "fold 1")]
)
def test_split_name__knows_synonyms(text: str, name: str) -> None:
    assert split_name(text) == name
