"""Where the image of a Label Studio task lies on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from query2label.data.image_root import ImageRoot, is_image_name
from query2label.data.named_images import find_image

_IMAGE_KEYS: Final = ("image", "img", "photo", "picture", "image_url", "url", "path", "file")
_UPLOAD_PREFIX: Final = re.compile(r"^[0-9a-f]{8}-(?=.)")


def image_key(data: dict[str, Any]) -> str | None:
    """The member of a task's data that names its image: one that looks like a file, usual names first."""
    strings = [key for key, value in data.items() if isinstance(value, str)]
    images = [key for key in strings if is_image_name(_paths(data[key])[-1].rpartition("/")[2])]
    usual = [key for name in _IMAGE_KEYS for key in strings if key.lower() == name]
    return next((key for key in usual if key in images), next(iter([*images, *usual]), None))


def find_task_image(root: ImageRoot, reference: str) -> Path:
    """The file of an image that a task refers to by a path or an address.

    Of `folder/photo.jpg`, however it is written (`/data/local-files/?d=folder/photo.jpg`,
    `s3://bucket/folder/photo.jpg`, ...), the longest end that is there counts, below the root or its folder
    `images`. Uploaded files get eight digits and a dash before their names; without a file called so, it is
    the one without them. A file that is not there is refused as by `ImageRoot.locate`.
    """
    ends = [end for path in _paths(reference) for end in _ends(path)]
    last = ends[-1] if ends else reference
    ends.append(_UPLOAD_PREFIX.sub("", last, count=1))
    return find_image(root, last, [folder + end for end in ends for folder in ("", "images/")])


def _paths(reference: str) -> list[str]:
    """What may be the path in a reference: itself, where it is no address, and what it is as an address."""
    try:
        parts = urlsplit(reference)
    except ValueError:  # no valid address, perhaps a name
        return [reference]
    local = re.search(r"(?:^|&)d=([^&]*)", parts.query)
    path = unquote(local[1] if local else parts.path)
    is_address = local is not None or "://" in reference
    return [path] if is_address or path == reference else [reference, path]


def _ends(path: str) -> list[str]:
    """`a/b/c`, `b/c`, `c` of `/a/b/c`."""
    names = [name for name in path.replace("\\", "/").split("/") if name]
    return ["/".join(names[first:]) for first in range(len(names))]
