"""Tables in the papers' layout: their numbers are those of the report, whatever they are written in."""

import re

import numpy as np
import pytest

from query2label.evaluation.paper_table import VOC_COLUMNS, Method, paper_table
from query2label.evaluation.protocols import PROTOCOLS
from query2label.evaluation.report import report_from_scores

METHOD = Method("query2label", "tf_net", (448, 576))
DECISIONS = ("CP", "CR", "CF1", "OP", "OR", "OF1")
HOSTILE = ["under_score", "100%", "R&D #1", "$a^b~{}", "back\\slash|<x>", "esc\x1b[31m"]


def make_report(labels, *, protocol="voc-11pt", top_k=3, temperature=1.0):
    """A report at other thresholds than 0.5, with one label that no image shows."""
    rng = np.random.default_rng(0)
    shape = (150, len(labels))
    targets = (rng.random(shape) < 0.3).astype(np.int8)
    targets[:, -1] = 0
    logits = rng.normal(size=shape) + 2 * (targets == 1) - 0.5
    return report_from_scores(
        (1 / (1 + np.exp(-logits / temperature))).astype(np.float32),
        targets,
        labels=labels,
        thresholds=[0.2] * len(labels),
        temperature=temperature,
        top_k=top_k,
        protocol=PROTOCOLS[protocol],
        num_resamples=0,
    )


def shown(value):
    return "-" if value is None else f"{100 * value:.1f}"


def expected_results(report, top="top-3 at 0.5"):
    decided = [report.decisions[rule].to_dict()[name] for rule in ("0.5", top) for name in DECISIONS]
    return [shown(report.headline_map), *map(shown, decided)]


def text_rows(table):
    return [re.split(r"  +", line.strip()) for line in table.splitlines() if not line.startswith(" ")]


def markdown_rows(table):
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def latex_rows(table):
    lines = [line.removesuffix(r" \\") for line in table.splitlines() if line.endswith(r" \\")]
    return [re.split(r" (?<!\\)& ", line) for line in lines]


def test_paper_table__text_has_the_numbers_of_the_report():
    report = make_report(["a", "b", "c"])
    names, cells, note, aps, ap_cells, ap_note = [
        row for row in text_rows(paper_table(report, METHOD)) if row[0]
    ]
    assert names == ["method", "backbone", "resolution", "mAP", *DECISIONS, *DECISIONS]
    assert cells == ["query2label", "tf_net", "448x576", *expected_results(report)]
    assert aps == ["method", "a", "b", "c", "mAP"]
    assert ap_cells == [
        "query2label",
        *(shown(row.ap_voc11) for row in report.per_label),
        shown(report.map_voc11),
    ]
    assert ap_cells[3] == "-"
    for line in (note, ap_note):
        assert f"Protocol: {report.protocol}." in line[0]


def test_paper_table__the_columns_stand_under_their_headings():
    heading, names, *_ = paper_table(make_report(["a", "b"]), METHOD).splitlines()
    for title, column in (("All", "CP"), ("Top-3", "CP")):
        block = next(part for part in re.finditer(r"-+ [\w-]+ -+", heading) if f" {title} " in part[0])
        assert names[block.start() : block.end()].split() == list(DECISIONS)
        assert names[block.start() : block.end()].split()[0] == column


def test_paper_table__markdown_and_latex_have_the_same_cells_as_text():
    report = make_report(["a", "b", "c"], protocol="voc-allpoint")
    markdown = markdown_rows(paper_table(report, METHOD, style="markdown"))
    latex = latex_rows(paper_table(report, METHOD, style="latex"))
    assert markdown[2][3:] == latex[2][3:] == expected_results(report)
    assert (
        markdown[5]
        == latex[4]
        == ["query2label", *(shown(row.ap_voc) for row in report.per_label), shown(report.map_voc)]
    )
    assert markdown[0][3:6] == ["mAP", "All CP", "All CR"]
    assert markdown[0][10] == r"Top\-3 CP"
    assert latex[0] == [
        r"\multicolumn{3}{c|}{}",
        r"\multicolumn{1}{c|}{}",
        r"\multicolumn{6}{c|}{All}",
        r"\multicolumn{6}{c}{Top-3}",
    ]
    assert latex[1][3:] == ["mAP", *DECISIONS, *DECISIONS]


def test_paper_table__every_row_has_as_many_cells_as_there_are_columns():
    for labels in (["a"], HOSTILE, list(VOC_COLUMNS)):
        report = make_report(labels)
        markdown = markdown_rows(paper_table(report, METHOD, style="markdown"))
        assert [len(row) for row in markdown] == [16] * 3 + [len(labels) + 2] * 3
        latex = paper_table(report, METHOD, style="latex")
        assert [len(row) for row in latex_rows(latex)] == [4, 16, 16, len(labels) + 2, len(labels) + 2]
        forms = re.findall(r"\\begin\{tabular\}\{([lc|]+)\}", latex)
        assert [len(form.replace("|", "")) for form in forms] == [16, len(labels) + 2]


def test_paper_table__uses_one_half_and_not_the_thresholds_of_the_model():
    report = make_report(["a", "b", "c", "d"])
    assert report.decisions["0.5"].cf1 != report.decisions["thresholds"].cf1
    cells = text_rows(paper_table(report, METHOD))[1]
    assert cells[6] == shown(report.decisions["0.5"].cf1)


def test_paper_table__a_temperature_moves_no_decision():
    tables = [
        paper_table(make_report(list("abcde"), temperature=temperature), METHOD) for temperature in (1.0, 3.7)
    ]
    assert tables[0] == tables[1]


def test_paper_table__takes_another_k():
    report = make_report(["a", "b", "c"], top_k=2)
    text = paper_table(report, METHOD)
    assert " Top-2 " in text.splitlines()[0]
    assert "Top-2: the 2 best of these in each image" in text
    assert text_rows(text)[1][3:] == expected_results(report, "top-2 at 0.5")


def test_paper_table__voc_labels_stand_as_in_the_papers():
    report = make_report(sorted(VOC_COLUMNS, reverse=True))
    names, cells = text_rows(paper_table(report, METHOD))[4:6]
    assert " ".join(names[1:]) == (
        "aero bike bird boat bottle bus car cat chair cow table dog horse mbike person plant sheep sofa "
        "train tv mAP"
    )
    by_label = {row.label: shown(row.ap_voc11) for row in report.per_label}
    assert cells[1:-1] == [by_label[label] for label in sorted(by_label)]
    some = make_report(["tvmonitor", "cat", "person"])
    assert text_rows(paper_table(some, METHOD))[4][1:] == ["cat", "person", "tv", "mAP"]
    other = make_report(["tvmonitor", "cat", "zebra"])
    assert text_rows(paper_table(other, METHOD))[4][1:] == ["tvmonitor", "cat", "zebra", "mAP"]


def test_paper_table__many_labels_get_no_table_of_their_own():
    labels = [f"l{k}" for k in range(21)]
    assert "AP of each label" not in paper_table(make_report(labels), METHOD)
    assert "AP of each label" in paper_table(make_report(labels[:20]), METHOD)


def test_paper_table__labels_are_escaped():
    report = make_report(HOSTILE)
    latex = latex_rows(paper_table(report, METHOD, style="latex"))[3][1:-1]
    assert latex == [
        r"under\_score",
        r"100\%",
        r"R\&D \#1",
        r"\$a\textasciicircum{}b\textasciitilde{}\{\}",
        r"back\textbackslash{}slash\textbar{}\textless{}x\textgreater{}",
        r"esc\textbackslash{}x1b[31m",
    ]
    markdown = markdown_rows(paper_table(report, METHOD, style="markdown"))[3][1:-1]
    assert markdown[0] == r"under\_score"
    assert markdown[4] == r"back\\slash\|&lt;x&gt;"
    for style in ("text", "markdown", "latex"):
        assert "\x1b" not in paper_table(report, METHOD, style=style)


@pytest.mark.parametrize("style", ["text", "markdown", "latex"])
def test_paper_table__the_protocol_stands_beside_each_table(style):
    table = paper_table(make_report(["a", "b"], protocol="voc-allpoint"), METHOD, style=style)
    plain = table.replace("\\", "")
    assert plain.count("Protocol: voc-allpoint (all-point interpolated average precision): the given im") == 2
