"""The members of a tar archive that belong together: an image and what is said about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from query2label.data.contents import MAX_IMAGE_BYTES, FileSlice
from query2label.data.image_root import is_image_name
from query2label.data.samples import Problem, ProblemError
from query2label.data.tar_index import Member
from query2label.errors import ImageError

LABEL_KINDS: Final = ("json", "cls", "txt")
"""The file name endings of members with labels, the better ones first."""
_MAX_LABEL_BYTES: Final = 2**20


@dataclass(slots=True)
class ShardSample:
    """Members whose names are equal up to the first dot of the file name."""

    shard: Path
    key: str
    images: list[Member] = field(default_factory=list)
    labels: dict[str, Member] = field(default_factory=dict)
    """By file name ending."""

    def image(self) -> Member:
        """The image; beside `1.jpg`, `1.mask.png` is another thing.

        Raises:
            ProblemError: If there is none, or more than one.
        """
        plain = [image for image in self.images if image.name.rpartition("/")[2].count(".") == 1]
        found = plain or self.images
        if len(found) != 1:
            names = ", ".join(repr(image.name) for image in found) or "none"
            raise ProblemError(place_in(self.shard, self.key), f"has to have one image, but has {names}")
        return found[0]

    def label_text(self, kind: str) -> str:
        """The text of the member with labels that ends with `kind`.

        Raises:
            ProblemError: If it is too large, cannot be read, or is not UTF-8.
        """
        member = self.labels[kind]
        place = place_in(self.shard, member.name)
        if member.size > _MAX_LABEL_BYTES:
            raise ProblemError(
                place, f"has {member.size:,} bytes, more than the {_MAX_LABEL_BYTES:,} that are read"
            )
        try:
            return str(FileSlice(self.shard, member.offset, member.size).read(), "utf-8-sig")
        except UnicodeDecodeError:
            raise ProblemError(place, "is not UTF-8 text") from None
        except ImageError as error:
            raise ProblemError(place, str(error)) from error


def samples_of(shard: Path, members: Iterable[Member], problems: list[Problem]) -> list[ShardSample]:
    """The samples of a shard, in order of their first members.

    Folders, hidden members and those of other kinds are left out; links, devices and names that lead out of
    the archive are problems where they would be a part of a sample.
    """
    samples: dict[str, ShardSample] = {}
    seen: set[str] = set()
    for member in members:
        folder, _, file = member.name.rpartition("/")
        stem, _, kind = file.partition(".")
        kind = kind.lower()
        is_image = is_image_name(file)
        if (
            member.kind == "folder"
            or not stem
            or stem.startswith("__")
            or not (is_image or kind in LABEL_KINDS)
        ):
            continue
        reason = _unfit(member) or ("is there twice" if member.name in seen else None)
        seen.add(member.name)
        if reason is not None:
            problems.append(Problem(place_in(shard, member.name), reason))
            continue
        key = f"{folder}/{stem}" if folder else stem
        sample = samples.setdefault(key, ShardSample(shard, key))
        if is_image:
            sample.images.append(member)
        else:
            sample.labels[kind] = member
    return list(samples.values())


def image_members(members: Iterable[Member]) -> Iterator[Member]:
    """Those that are images, and fit to be read."""
    for member in members:
        if is_image_name(member.name.rpartition("/")[2]) and _unfit(member) is None:
            yield member


def place_in(archive: Path, name: str) -> Path:
    """What an image in an archive is called; a name like `/etc/passwd` does not get out of it."""
    return Path(f"{archive}/{name}")


def _unfit(member: Member) -> str | None:
    if member.kind != "file":
        return f"is a {member.kind}, not a file"
    if member.name.startswith("/") or ".." in member.name.split("/") or not member.name.isprintable():
        return f"is called {member.name!r}, which no member should be"
    if member.size > MAX_IMAGE_BYTES:
        return f"has {member.size:,} bytes, more than the {MAX_IMAGE_BYTES:,} that are read"
    return None
