import pytest

from query2label.spreadsheet import inert_cell, original_cell


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_inert_cell__a_formula_gets_an_apostrophe(cell: str) -> None:
    assert inert_cell(cell) == f"'{cell}"
    assert inert_cell(inert_cell(cell)) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "dog", "a=b", " =1", "1-2", "'quoted'", "\n=1", "猫"])
def test_inert_cell__anything_else_stays(cell: str) -> None:
    assert inert_cell(cell) == cell


@pytest.mark.parametrize("cell", ["=1+1", "-1", "\t=1", "", "dog", "'quoted'", "猫"])
def test_original_cell__gives_back_what_was_there(cell: str) -> None:
    assert original_cell(inert_cell(cell)) == cell
