import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query2label.data import table
from query2label.data.samples import Dataset, ProblemError
from query2label.errors import DataError
from query2label.labels import LabelSet

MakeText = Callable[[str, str], Path]


def read(path: Path, labels: LabelSet | None = None) -> Dataset:
    return table.read(path, labels=labels, check_files=False)


def positives(dataset: Dataset) -> list[set[str]]:
    return [{dataset.labels[index] for index in sample.positive} for sample in dataset.samples]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "image,labels,split\na.jpg,dog|cat,train\nb.jpg,,valid\n"),
        ("t.csv", "\ufeffPath,Tags,SUBSET\r\na.jpg,dog;cat,train\r\n\r\nb.jpg,,val\r\n,,\r\n"),
        ("t.csv", 'image;labels;split\n"a.jpg";"cat, dog";train\nb.jpg;;val\n'),
        ("t.csv", 'image,labels,split\na.jpg,"[""dog"", ""cat""]",train\nb.jpg,[],val\n'),
        ("t.csv", "filepath,label,split_name\na.jpg,\"['dog', 'cat']\",train\nb.jpg,[],val\n"),
        ("t.csv", """image,labels,split\na.jpg,"[ 'dog' , ""cat"" ]",train\nb.jpg,[],val\n"""),
        ("t.tsv", "filename\tlabels\tsplit\na.jpg\tdog, cat\ttrain\nb.jpg\t\tval\n"),
        (
            "t.jsonl",
            '{"image": "a.jpg", "labels": ["dog", "cat"], "split": "train"}\n'
            '{"image": "b.jpg", "split": "val"}',
        ),
        (
            "t.jsonl",
            '{"image": "a.jpg", "labels": "dog|cat", "split": "train"}\n{"image": "b.jpg", "split": "val"}\n',
        ),
        ("t.csv", "image,cat,dog,split\na.jpg,1,1,train\nb.jpg,0,0,val\n"),
        (
            "t.jsonl",
            '{"image":"a.jpg","cat":1,"dog":true,"split":"train"}\n{"image":"b.jpg","cat":0,"dog":0.0,"split":"val"}',
        ),
    ],
)
def test_read__reads_the_same_from_all_forms(make_text: MakeText, name: str, text: str) -> None:
    path = make_text(name, text)
    dataset = read(path)
    assert dataset.problems == []
    assert dataset.labels.names == ("cat", "dog")
    assert [sample.path for sample in dataset.samples] == [path.parent / "a.jpg", path.parent / "b.jpg"]
    assert [sample.positive for sample in dataset.samples] == [(0, 1), ()]
    assert dataset.splits() == ("train", "val")


def test_read__parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    columns = {"image": ["a.jpg", "b.jpg"], "labels": [["dog", "cat"], []], "pixels": [b"1", b"2"]}
    parquet.write_table(arrow.table(columns), path)
    dataset = read(path)
    assert positives(dataset) == [{"dog", "cat"}, set()]
    assert dataset.notes == []
    parquet.write_table(arrow.table({"image": ["a.jpg", "b.jpg"], "dog": [1, None], "cat": [0.0, 1.0]}), path)
    dataset = read(path)
    assert dataset.targets().tolist() == [[1, 0], [-1, 1]]


def test_read__parquet_with_dates_that_python_cannot_have(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    dates = arrow.array([2**62]).cast(arrow.timestamp("us"))
    columns = {"image": ["a.jpg"], "labels": [["dog"]], "taken": dates}
    parquet.write_table(arrow.table(columns), path)
    assert positives(read(path)) == [{"dog"}]
    columns["labels"] = arrow.ListArray.from_arrays(arrow.array([0, 1]), dates)
    parquet.write_table(arrow.table(columns), path)
    with pytest.raises(ProblemError, match=r"is not a readable Parquet file: .*date value out of range"):
        read(path)


def test_read__a_small_file_that_stands_for_too_many_cells_is_refused(
    make_text: MakeText, tmp_path: Path
) -> None:
    lines = make_text("t.jsonl", "".join(f'{{"{number}": 1}}\n' for number in range(7100)))
    with pytest.raises(ProblemError, match="7,100 rows and 7,100 columns, mostly empty or alike, which are"):
        read(lines)
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    same = arrow.repeat(arrow.scalar(1, arrow.int8()), 30_000_000)
    path = tmp_path / "t.parquet"
    parquet.write_table(arrow.table({"image": same, "labels": same}), path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ProblemError, match="30,000,000 rows and 2 columns, mostly empty or alike, which are"):
        read(path)


def test_read__a_header_of_many_columns_takes_no_time(make_text: MakeText) -> None:
    header = ",".join(map(str, range(300_000)))  # many minutes, if each is looked for in those before
    with pytest.raises(ProblemError, match="column '7' occurs twice in the header"):
        read(make_text("t.csv", f"{header},7\n"))


def test_read__names_that_cannot_be_shown(make_text: MakeText) -> None:
    row = {"image": "a.jpg", "labels": ["dog"], "\ud800": 1, "a\x1b[2J": 1}
    dataset = read(make_text("t.jsonl", json.dumps(row)))
    assert dataset.notes == [r"Columns that were not used: '\ud800', 'a\x1b[2J'."]
    with pytest.raises(ProblemError, match=r"t.jsonl:1: .*the split '\\ud800' has characters that cannot"):
        read(make_text("t.jsonl", json.dumps(row | {"split": "\ud800"})))


def test_read__parquet_that_is_none_is_one_sentence(make_text: MakeText) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ProblemError, match="is not a readable Parquet file"):
        read(make_text("t.parquet", "no parquet"))


def test_read__parquet_refuses_large_files(make_text: MakeText, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("query2label.data.columns.MAX_TEXT_BYTES", 3)
    with pytest.raises(ProblemError, match="has more than the 3 bytes"):
        read(make_text("t.parquet", "no parquet"))


def test_read__one_column_per_label_knows_unknown(make_text: MakeText) -> None:
    text = "image,dog,cat,width\na.jpg,1,,640\nb.jpg,-1,0,480\nc.jpg,0,1.0,333\n"
    dataset = read(make_text("t.csv", text))
    assert dataset.labels.names == ("dog", "cat")
    assert dataset.targets().tolist() == [[1, -1], [-1, 0], [0, 1]]
    assert dataset.notes == ["Columns that were not used: width."]


def test_read__a_typo_in_a_label_column_is_a_problem(make_text: MakeText) -> None:
    dataset = read(make_text("t.csv", "image,dog\na.jpg,1\nb.jpg,2\nc.jpg,0\n"))
    assert [str(problem).partition("t.csv")[2] for problem in dataset.problems] == [
        ":3: column 'dog' has '2': expected 1, 0, or nothing for unknown"
    ]
    assert len(dataset) == 2


def test_read__a_label_called_tag_has_its_column_among_others(make_text: MakeText) -> None:
    assert read(make_text("t.csv", "image,tag,dog\na.jpg,1,0\nb.jpg,0,1\n")).labels.names == ("tag", "dog")
    assert read(make_text("t.csv", "image,label\na.jpg,1\nb.jpg,0\n")).labels.names == ("0", "1")


def test_read__the_unknown_column(make_text: MakeText) -> None:
    dataset = read(make_text("t.csv", "image,labels,unknown\na.jpg,dog,cat|ant\nb.jpg,cat,\nc.jpg,dog,dog\n"))
    assert dataset.labels.names == ("ant", "cat", "dog")
    assert dataset.targets().tolist() == [[-1, -1, 1], [0, 1, 0]]
    assert "t.csv:4: label 'dog' is both given and unknown" in str(dataset.problems[0])


def test_read__given_labels_fix_the_order(make_text: MakeText) -> None:
    path = make_text("t.csv", "image,labels\na.jpg,dog\nb.jpg,cta\n")
    dataset = read(path, LabelSet(["dog", "cat", "ant"]))
    assert dataset.labels.names == ("dog", "cat", "ant")
    assert dataset.samples[0].positive == (0,)
    assert "t.csv:3: Unknown label 'cta'" in str(dataset.problems[0])
    assert "Did you mean 'cat'?" in str(dataset.problems[0])


def test_read__given_labels_without_a_column_are_unknown(make_text: MakeText) -> None:
    path = make_text("t.csv", "image,dog\na.jpg,1\n")
    assert read(path, LabelSet(["cat", "dog"])).targets().tolist() == [[-1, 1]]
    with pytest.raises(ProblemError, match=r"t.csv:1: column 'dog': Unknown label 'dog'"):
        read(path, LabelSet(["dig"]))


def test_read__the_label_file_beside_the_table_fixes_the_order(make_text: MakeText) -> None:
    make_text("t.labels.txt", "dog\ncat\nant\n")
    assert read(make_text("t.csv", "image,labels\na.jpg,cat\n")).labels.names == ("dog", "cat", "ant")


def test_read__delimiter_is_the_one_in_most_cells(make_text: MakeText) -> None:
    text = 'image,labels\na.jpg,"hot dog, grilled|cat"\nb.jpg,cat|ant\nc.jpg,ant\n'
    assert read(make_text("t.csv", text)).labels.names == ("ant", "cat", "hot dog, grilled")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "image,labels\na.jpg,dog\n,cat\n", r"t.csv:3: image name '' is empty"),
        ("t.csv", "image,labels\na.jpg,dog\n../../etc/passwd,cat\n", r"t.csv:3: .*leads out of"),
        ("t.csv", "image,labels\na.jpg,dog\n/etc/passwd,cat\n", r"t.csv:3: .*leads out of"),
        ("t.csv", "image,labels\na.jpg,dog\nb.jpg,x,y\n", r"t.csv:3: has 3 cells, but the header has 2"),
        ("t.csv", 'image,labels\na.jpg,dog\nb.jpg,"x"y\n', r"t.csv:3: this row cannot be read"),
        ("t.csv", 'image,labels\na.jpg,dog\nb.jpg,"x\n', r"t.csv:3: this row cannot be read"),
        ("t.csv", "image,labels\na.jpg,dog\na.jpg,cat\n", r"t.csv:3: image 'a.jpg' stands already in line 2"),
        ("t.csv", "image,labels\na.jpg,dog\nb.jpg," + "x" * 200_000, r"t.csv:3: .*field larger than"),
        ("t.csv", 'image,labels\na.jpg,"[""dog""]"\nb.jpg,[dog]\n', r"t.csv:3: .*not a valid JSON list"),
        ("t.csv", "image,labels\na.jpg,['dog']\nb.jpg,['dog']['cat']\n", r"t.csv:3: .*not a valid JSON list"),
        ("t.jsonl", '{"image": "a.jpg", "labels": ["dog"]}\n[1]', r"t.jsonl:2: this line is no JSON object"),
        ("t.jsonl", '{"image": "a.jpg", "labels": ["dog"]}\n{', r"t.jsonl:2: this line is not valid JSON"),
        ("t.jsonl", '{"image": "a.jpg", "labels": ["dog"]}\n{"image": 5}', r"t.jsonl:2: the image is 5"),
        (
            "t.jsonl",
            '{"image": "a.jpg", "labels": ["dog"]}\n{"image": "b", "labels": [null]}',
            r":2: .*None in it",
        ),
        (
            "t.jsonl",
            '{"image": "a.jpg", "labels": ["dog"]}\n{"image": "b", "labels": {}}',
            r":2: the labels are {}",
        ),
        ("t.jsonl", '{"image": "a.jpg", "labels": ["dog"]}\n' + "[" * 99_999, r":2: this line .*too deeply"),
    ],
)
def test_read__collects_bad_rows_with_their_line(
    make_text: MakeText, name: str, text: str, message: str
) -> None:
    dataset = read(make_text(name, text))
    assert len(dataset) == 1
    assert len(dataset.problems) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(str(dataset.problems[0]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t.csv:1: has no header"),
        ("image,b\na.jpg,x\n", r"t.csv:1: has no labels: .* the columns are 'image', 'b'"),
        ("a,labels\n1,2\n", r"t.csv:1: has no column with images: .* the columns are 'a', 'labels'"),
        ("image,dog,dog\na.jpg,1,1\n", r"t.csv:1: column 'dog' occurs twice"),
        ("image,d\x07g\na.jpg,1\n", r"t.csv:1: column .*control characters"),
        ("image,labels\na.jpg,d\x07g\n", r"t.csv:2: label name .*control characters"),
        ("image,labels\na.jpg,\n", "has no label in any row"),
        (
            "image,labels\n../a.jpg,dog\n",
            r"t.csv:2: has no row that can be used; the first because: .*leads out",
        ),
    ],
)
def test_read__refuses_tables_without_use(make_text: MakeText, text: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        read(make_text("t.csv", text))


def test_read__takes_names_from_the_image_root(make_text: MakeText, tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.jpg").touch()
    path = make_text("t.csv", f"image,labels\na.jpg,dog\n{tmp_path}/pics/../pics/b.jpg,dog\n")
    dataset = table.read(path, image_root=tmp_path / "pics")
    assert dataset.samples[0].path == tmp_path / "pics" / "a.jpg"
    assert "t.csv:3: image" in str(dataset.problems[0])
    assert "is missing in" in str(dataset.problems[0])


def test_only_table__wants_exactly_one(make_text: MakeText, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no table in it"):
        table.only_table(tmp_path)
    first = make_text("a.csv", "")
    assert table.only_table(tmp_path) == first
    make_text("b.tsv", "")
    with pytest.raises(DataError, match=r"has several tables in it \(a.csv, b.tsv\)"):
        table.only_table(tmp_path)


CELLS = st.text(st.characters(codec="utf-8"), max_size=12)


@given(
    st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6), st.sampled_from([".csv", ".tsv", ".jsonl"])
)
def test_read__ends_with_a_data_set_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("t") / f"t{suffix}"
    mark = "\t" if suffix == ".tsv" else ","
    header = mark.join(["image", "labels", "split", "dog"])
    path.write_text("\n".join([header, *map(mark.join, rows)]), encoding="utf-8", newline="")
    try:
        samples = read(path).samples
    except DataError as error:
        samples = []
        message = str(error)
    else:
        message = str(path)
    assert message.startswith(str(path))
    assert all(sample.path.is_relative_to(path.parent) for sample in samples)


@given(st.binary(max_size=200), st.sampled_from([".csv", ".jsonl", ".parquet"]))
def test_read__any_bytes_end_with_our_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("t") / f"t{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError):
        read(path)


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8).map(
    str.strip
)


@given(st.lists(st.lists(NAMES.filter(bool), unique=True, max_size=4), min_size=1, max_size=5))
def test_read__gives_back_json_labels(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.jsonl"
    lines = [json.dumps({"image": f"{place}.jpg", "labels": names}) for place, names in enumerate(rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    if not any(rows):
        with pytest.raises(ProblemError, match="has no label"):
            read(path)
    else:
        assert positives(read(path)) == [set(names) for names in rows]


def test_read__a_label_given_twice_is_a_warning(make_text: MakeText) -> None:
    dataset = read(make_text("t.csv", "image,labels\na.jpg,dog|cat\nb.jpg,dog|dog\n"))
    assert positives(dataset) == [{"cat", "dog"}, {"dog"}]
    assert [(warning.message, warning.line) for warning in dataset.warnings] == [
        ("label 'dog' is given twice", 3)
    ]


@pytest.mark.parametrize("cell", ["[0, 1, 1]", "0|1|1"])
def test_read__a_1_or_0_for_every_label_in_one_cell_is_a_problem(make_text: MakeText, cell: str) -> None:
    with pytest.raises(ProblemError, match="the labels have 1 in them twice: give the labels that are there"):
        read(make_text("t.csv", f'image,labels\na.jpg,"{cell}"\n'))


def test_read__two_numbers_in_every_row_need_a_word_on_what_they_are(make_text: MakeText) -> None:
    path = make_text("t.jsonl", '{"image": "a.jpg", "labels": [0, 1]}\n{"image": "b.jpg", "labels": [1, 0]}')
    with pytest.raises(ProblemError, match=r"t.jsonl:1: has two labels that are 0 or 1"):
        read(path)
    make_text("t.labels.txt", "0\n1\n")
    assert positives(read(path)) == [{"0", "1"}, {"0", "1"}]
