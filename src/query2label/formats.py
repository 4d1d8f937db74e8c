"""The names that labelled images are asked for by: their layouts, and what difficult objects mean."""

from __future__ import annotations

from typing import Literal

DataFormat = Literal[
    "table",
    "cvat",
    "labelstudio",
    "datumaro",
    "yolo",
    "coco",
    "voc",
    "nuswide",
    "vg500",
    "webdataset",
    "sidecar",
    "folders",
]
"""Layouts of labelled images."""

DataFormatOrAuto = Literal["auto", DataFormat]
"""A layout, or `auto`: look at the path."""

Difficult = Literal["ignore", "positive", "negative"]
"""What a label is in an image where all its objects are marked difficult: unknown, positive or absent."""
