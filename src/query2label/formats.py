"""Names that people choose by: layouts of labelled images, what difficult objects mean, forms of exports."""

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
    "openimages",
    "webdataset",
    "huggingface",
    "sidecar",
    "folders",
]
"""Layouts of labelled images."""

DataFormatOrAuto = Literal["auto", DataFormat]
"""A layout, or `auto`: look at the path."""

Difficult = Literal["ignore", "positive", "negative"]
"""What a label is in an image where all its objects are marked difficult: unknown, positive or absent."""

ExportTarget = Literal["onnx", "openvino", "torch"]
"""What a model is exported for."""

ExportPrecision = Literal["fp32", "fp16", "bf16", "int8"]
"""Numbers of an exported model."""

RuntimeName = Literal["auto", "torch", "onnx", "openvino"]
"""What computes a model's logits; `auto` is the fastest one that is installed and can."""
