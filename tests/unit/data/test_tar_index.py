"""What is in an archive, and archives that lie; `tarfile` and `tar` are the independent truth."""

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from query2label.data.samples import ProblemError
from query2label.data.tar_index import Member, tar_members

CONTENTS = {
    "./a.jpg": b"first",
    "train/b.json": b"",
    f"{'long/' * 40}c.png": b"x" * 700,
    "Umlaut-ä.cls": b"1" * 512,
}


def write(path: Path, *, form: int = tarfile.PAX_FORMAT, contents: dict[str, bytes] = CONTENTS) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def patched(path: Path, start: int, field: bytes) -> Path:
    """The archive with other bytes in its first header, and the right checksum."""
    content = bytearray(path.read_bytes())
    content[start : start + len(field)] = field
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)
    return path


def content_of(path: Path, member: Member) -> bytes:
    return path.read_bytes()[member.offset : member.offset + member.size]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members__are_those_of_tarfile(tmp_path: Path, form: int) -> None:
    path = write(tmp_path / "a.tar", form=form)
    members = list(tar_members(path))
    assert [member.kind for member in members] == ["file"] * 4
    found = {member.name: content_of(path, member) for member in members}
    assert found == {name.removeprefix("./"): content for name, content in CONTENTS.items()}
    with tarfile.open(path) as archive:
        assert [member.offset for member in members] == [info.offset_data for info in archive]


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs the command tar")
@pytest.mark.parametrize("form", ["v7", "ustar", "gnu", "posix"])
def test_tar_members__are_those_of_the_command(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    for number in range(50):
        (folder / f"{number}.jpg").write_bytes(bytes([number]) * number)
    command = ["tar", f"--format={form}", "-cf", "all.tar", "-C", "in", "."]
    subprocess.run(command, cwd=tmp_path, check=True)
    path = tmp_path / "all.tar"
    files = {m.name: content_of(path, m) for m in tar_members(path) if m.kind == "file"}
    assert files == {f"deep/{number}.jpg": bytes([number]) * number for number in range(50)}


def test_tar_members__says_what_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    kinds = {
        tarfile.SYMTYPE: "link",
        tarfile.LNKTYPE: "link",
        tarfile.CHRTYPE: "device",
        tarfile.FIFOTYPE: "device",
        tarfile.DIRTYPE: "folder",
        tarfile.GNUTYPE_SPARSE: "sparse file",
    }
    with tarfile.open(path, "w") as archive:
        for kind in kinds:
            info = tarfile.TarInfo("1.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert [member.kind for member in tar_members(path)] == list(kinds.values())


def test_tar_members__reads_sizes_beyond_eight_gigabytes(tmp_path: Path) -> None:
    size = 9 * 2**30
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo("big.jpg")
        info.size = size
        path = tmp_path / "big.tar"
        path.write_bytes(info.tobuf(form))
        start = path.stat().st_size
        os.truncate(path, start + size + 1024)  # a hole: nothing is written
        assert list(tar_members(path)) == [Member("big.jpg", "file", start, size)]
        os.truncate(path, start + size - 1)
        with pytest.raises(
            ProblemError, match=r"is cut off: 'big.jpg' begins at byte .* has 9,663,676,416 by"
        ):
            list(tar_members(path))
        path.unlink()


def test_tar_members__gives_what_is_before_the_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", form=tarfile.USTAR_FORMAT, contents={"a": b"1", "b": b"2", "c": b"3"})
    whole = path.read_bytes()
    for length, match, expected in [
        (512 * 4, "ends without the blocks of zeros that end an archive: it is cut off", "ab"),
        (512 * 4 + 100, "damaged or cut off at byte 2,048: what comes there is no header", "ab"),
        (
            512 * 3,
            "is cut off: 'b' begins at byte 1,536 and has 1 bytes, but the file ends after 1,536",
            "a",
        ),
    ]:
        path.write_bytes(whole[:length])
        members = tar_members(path)
        assert [next(members).name for _ in expected] == list(expected)
        with pytest.raises(ProblemError, match=match):
            next(members)
    path.write_bytes(whole[:1024] + b"?" * 512 + whole[1536:])
    with pytest.raises(ProblemError, match="damaged or cut off at byte 1,024"):
        list(tar_members(path))


def test_tar_members__refuses_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(gzip.compress(write(tmp_path / "b.tar").read_bytes()))
    with pytest.raises(
        ProblemError, match=r"a.tar: is compressed \(gzip\), so .*: unpack it to a plain .tar"
    ):
        list(tar_members(path))
    for content in (b"text", b"t" * 2000):
        path.write_bytes(content)
        with pytest.raises(ProblemError, match="is no tar archive"):
            list(tar_members(path))
    path.write_bytes(b"")
    with pytest.raises(ProblemError, match="ends without the blocks of zeros that end an archive: it is cut"):
        list(tar_members(path))
    write(path, contents={})
    assert list(tar_members(path)) == []
    with pytest.raises(ProblemError, match="cannot be read: No such file or directory"):
        list(tar_members(tmp_path / "absent.tar"))


def test_tar_members__two_archives_in_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar")
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(
        ProblemError, match=r"goes on after its end at byte .*: were archives put together with"
    ):
        list(tar_members(path))


@pytest.mark.parametrize(
    ("records", "match"),
    [
        (b"99 path=short\n", "has an extended header that is damaged"),
        (b"0 path=x\n", "has an extended header that is damaged"),
        (b"x", "has an extended header that is damaged"),
        (b"9" * 5000 + b" path=x\n", "has an extended header that is damaged"),
        (b"12 size=-12\n", "has an extended header that is damaged"),
        (b"5012 path=" + b"x" * 5001 + b"\n", "has a name of 5,001 bytes"),
    ],
)
def test_tar_members__hostile_extensions(tmp_path: Path, records: bytes, match: str) -> None:
    path = tmp_path / "a.tar"
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    file = tarfile.TarInfo("a.jpg")
    content = header.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
    path.write_bytes(content + file.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    with pytest.raises(ProblemError, match=match):
        list(tar_members(path))


def test_tar_members__huge_extension(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**40
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(ProblemError, match="has a header of 1,099,511,627,776 bytes at byte 512"):
        list(tar_members(path))


@pytest.mark.parametrize("size", [b"-0000000001\0", b"\xff" * 12, b"99999999999\0", b"abc"])
def test_tar_members__sizes_that_are_none(tmp_path: Path, size: bytes) -> None:
    path = patched(write(tmp_path / "a.tar", form=tarfile.USTAR_FORMAT, contents={"a": b"1"}), 124, size)
    with pytest.raises(ProblemError, match="is no tar archive"):
        list(tar_members(path))


def test_tar_members__any_single_byte_may_be_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar")
    whole = path.read_bytes()
    for place in range(0, 4096, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            members = list(tar_members(path))
        except ProblemError:
            continue
        assert all(member.offset + member.size <= len(whole) for member in members)


def test_tar_members__takes_a_moment_for_20000(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", contents={f"{number:06}.jpg": b"x" * 2000 for number in range(20_000)})
    start = time.process_time()
    assert sum(1 for _ in tar_members(path)) == 20_000
    assert time.process_time() - start < 2  # about 0.2
