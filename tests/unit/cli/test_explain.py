from pathlib import Path

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
