from pathlib import Path

from typer.testing import CliRunner

from query2label.cli.app import app
from query2label.cli.explain import _free_name, _names


def test_free_name__no_picture_of_a_call_replaces_another() -> None:
    out, written = Path("out"), set()
    for folder in ("a", "b", "c"):
        written.add(_free_name(out, Path(folder) / "photo.jpg", written))
    assert written == {out / "photo.png", out / "photo-2.png", out / "photo-3.png"}


def test_names__a_label_with_a_comma_is_known_as_a_whole() -> None:
    labels = ("salt, pepper", "salt", "oil")
    assert _names("salt, pepper", labels) == ["salt, pepper"]
    assert _names("oil, salt", labels) == ["oil", "salt"]


def test_explain__refuses_a_file_as_output_folder_before_it_starts(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    out.touch()
    result = CliRunner().invoke(app, ["explain", "photo.jpg", "--model", "none", "--out", str(out)])
    assert result.exit_code == 2
    assert result.stderr == f"Error: --out {out} is a file: give a folder for the pictures.\n"
