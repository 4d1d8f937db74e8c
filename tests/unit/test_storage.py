"""Writing whole or not at all."""

from __future__ import annotations

import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from query2label import storage
from query2label.errors import StorageError
from query2label.storage import (
    atomic_file,
    atomic_folder,
    explained_os_errors,
    recover_folder,
    remove_folder,
    remove_temporaries,
    require_room,
    sha256_of,
    write_json,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_atomic_file__writes_text_as_it_is_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    with atomic_file(path) as file:
        file.write("größe\r\n")
        assert not path.exists()
    assert path.read_bytes() == "größe\r\n".encode()
    with atomic_file(path, mode="wb") as file:
        file.write(b"\x00\n")
        assert path.read_bytes() == "größe\r\n".encode()
    assert path.read_bytes() == b"\x00\n"
    assert names_in(path.parent) == ["c.txt"]


def write_half_of(path: Path) -> None:
    with atomic_file(path) as file:
        file.write("new")
        raise KeyError


def test_atomic_file__vanishes_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("old")
    with pytest.raises(KeyError):
        write_half_of(tmp_path / "c.txt")
    assert (tmp_path / "c.txt").read_text() == "old"
    assert names_in(tmp_path) == ["c.txt"]


def test_atomic_file__has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_file(tmp_path / "atomic"):
        pass
    assert permissions(tmp_path / "atomic") == permissions(tmp_path / "plain")


def test_atomic_file__a_refused_write_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wanted = r"^Cannot write .*file/c\.txt: (Not a directory|File exists)\.$"
    with pytest.raises(StorageError, match=wanted), atomic_file(tmp_path / "file" / "c.txt"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"^Cannot write .*folder: Is a directory\.$"):
        write_json(tmp_path / "folder", 1)
    assert names_in(tmp_path) == ["file", "folder"]


def test_atomic_folder__appears_whole_and_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "best"
    for content in ("old", "new"):
        with atomic_folder(path) as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / content).write_text(content)
            assert not (path / "inner" / content).exists()
        assert names_in(path / "inner") == [content]
    assert names_in(tmp_path / "runs") == ["best"]


def fill_half_of(path: Path) -> None:
    with atomic_folder(path) as folder:
        (folder / "new").write_text("")
        raise KeyError


def test_atomic_folder__vanishes_with_an_error(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "best") as folder:
        (folder / "old").write_text("")
    with pytest.raises(KeyError):
        fill_half_of(tmp_path / "best")
    assert names_in(tmp_path) == ["best"]
    assert names_in(tmp_path / "best") == ["old"]


def test_atomic_folder__replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "best").write_text("a file")
    with atomic_folder(tmp_path / "best") as folder:
        (folder / "new").write_text("")
    assert names_in(tmp_path) == ["best"]
    assert names_in(tmp_path / "best") == ["new"]


def test_atomic_folder__files_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").write_text("")
    with atomic_folder(tmp_path / "atomic") as folder:
        save_file({"a": torch.ones(1)}, folder / "file")  # safetensors makes files private
    assert permissions(tmp_path / "atomic") == permissions(tmp_path / "plain")
    assert permissions(tmp_path / "atomic" / "file") == permissions(tmp_path / "plain" / "file")


def test_atomic_folder__keeps_the_copy_that_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process died between the two renames, and nobody recovered: that copy is all there is.
    (tmp_path / "best.previous").mkdir()

    def refuse(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(storage, "fsync_folder", refuse)
    with (
        pytest.raises(StorageError, match=r"^Cannot write .*best: Input/output error\.$"),
        atomic_folder(tmp_path / "best"),
    ):
        pass
    assert names_in(tmp_path) == ["best.previous"]


KILLED = """
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from query2label import storage

original, calls = Path.rename, []

def rename(self, target):
    calls.append(self)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, target)

Path.rename = rename
with storage.atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "content").write_text("new")
"""


@pytest.mark.parametrize("rename", [1, 2])
def test_recover_folder__after_a_kill_between_the_renames(tmp_path: Path, rename: int) -> None:
    path = tmp_path / "best"
    with atomic_folder(path) as folder:
        (folder / "content").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(rename)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.exists() == (rename == 1)
    recover_folder(path)
    assert names_in(tmp_path) == ["best"]
    assert (path / "content").read_text() == "old"


def test_recover_folder__removes_the_leftovers_of_this_name_only(tmp_path: Path) -> None:
    path = tmp_path / "run[1]"
    path.mkdir()
    (tmp_path / "run[1].previous").mkdir()
    (tmp_path / ".tmp-01234567-run[1]").mkdir()
    (tmp_path / ".tmp-89abcdef-run[1]").write_text("")
    others = [".tmp-01234567-run1", ".tmp-01234567-my-run[1]", ".tmp-x-run[1]", "run[1].bak"]
    for other in others:
        (tmp_path / other).mkdir()
    recover_folder(path)
    assert names_in(tmp_path) == sorted([*others, "run[1]"])
    recover_folder(tmp_path / "missing" / "run")


def test_remove_temporaries__leaves_everything_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / ".tmp-01234567-link").symlink_to(outside)
    (folder / ".tmp-01234567-folder").mkdir()
    (folder / ".tmp-mine").write_text("")
    remove_temporaries(folder)
    assert names_in(folder) == [".tmp-mine"]
    assert names_in(outside) == ["kept"]
    remove_temporaries(tmp_path / "missing")


def test_remove_folder__is_renamed_before_anything_in_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("")
    remove_folder(tmp_path / "old")
    assert names_in(tmp_path) == []
    (tmp_path / "old").mkdir()
    monkeypatch.setattr(storage, "_remove", lambda path: None)  # killed before it removed anything
    remove_folder(tmp_path / "old")
    assert not (tmp_path / "old").exists()
    monkeypatch.undo()
    remove_temporaries(tmp_path)
    assert names_in(tmp_path) == []
    with pytest.raises(StorageError, match=r"^Cannot write .*old: No such file or directory\.$"):
        remove_folder(tmp_path / "old")


def test_require_room__names_path_needed_and_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_room(tmp_path / "missing" / "file", 1)
    wanted = (
        r"^No room to write .*missing/file: 1000000000000\.0 MB are needed, \d+\.\d MB are free; free some "
        r"space and start again \(what was there before is untouched\)\.$"
    )
    with pytest.raises(StorageError, match=wanted):
        require_room(tmp_path / "missing" / "file", 10**18)
    monkeypatch.chdir(tmp_path)
    require_room(Path("relative") / "file", 1)


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_atomic__looks_for_room_first(tmp_path: Path, write: object) -> None:
    with (
        pytest.raises(StorageError, match=r"^No room to write .*big: 1000000000000\.0 MB are needed, "),
        write(tmp_path / "big", needed_bytes=10**18),  # type: ignore[operator]
    ):
        raise AssertionError("nothing may be written")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("number", [28, 122])
def test_explained_os_errors__a_full_disk_names_the_free_space(tmp_path: Path, number: int) -> None:
    wanted = r"^No room to write .*x/y: 2\.0 MB are needed, \d+\.\d MB are free; free some space"
    with (
        pytest.raises(StorageError, match=wanted),
        explained_os_errors(tmp_path / "x" / "y", needed_bytes=2 * 10**6),
    ):
        raise OSError(number, "full")
    with (
        pytest.raises(StorageError, match=r"^No room to write \S+: \d+\.\d MB are free"),
        explained_os_errors(tmp_path),
    ):
        raise OSError(number, "full")


def test_explained_os_errors__small_sizes_are_not_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with (
        pytest.raises(StorageError, match=r"^No room to write \S+: 5\.0 kB are needed, 4\.1 kB are free"),
        explained_os_errors(tmp_path, needed_bytes=4999),
    ):
        raise OSError(28, "full")


def test_explained_os_errors__other_reasons(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"^Cannot write \S+: Permission denied\.$"),
        explained_os_errors(tmp_path),
    ):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(StorageError, match=r"^Cannot write \S+: odd\.$"), explained_os_errors(tmp_path):
        raise OSError("odd")
    with pytest.raises(KeyError), explained_os_errors(tmp_path):
        raise KeyError


def test_explained_os_errors__understands_safetensors(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"^Cannot write .*missing: No such file or directory\.$"),
        explained_os_errors(tmp_path / "missing"),
    ):
        save_file({"a": torch.ones(1)}, tmp_path / "missing" / "file")
    storage_error = storage.SafetensorError("it is malformed")
    with (
        pytest.raises(StorageError, match=r"^Cannot write \S+: it is malformed\.$"),
        explained_os_errors(tmp_path),
    ):
        raise storage_error


def test_write_json__is_readable_and_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "größe", "values": [1, None]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == (
        '{\n  "name": "größe",\n  "values": [\n    1,\n    null\n  ]\n}\n'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert '"größe"' in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_sha256_of__is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
