"""What an exported file says about itself: the bundle that it was made from, and how it was made.

It is text by name, which ONNX and OpenVINO files and torch archives can all hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from query2label.bundle import form
from query2label.bundle.schema import Bundle
from query2label.errors import BundleError
from query2label.formats import ExportPrecision

EXPORT_VERSION: Final = 1
BUNDLE_KEY: Final = "query2label.bundle"
EXPORT_KEY: Final = "query2label.export"


class Artefact(BaseModel):
    """How an exported file was made; its bundle says all the rest."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    export_version: Annotated[int, Field(ge=1)] = EXPORT_VERSION
    """Version of this form; newer ones are refused with a sentence."""
    bundle_digest: str
    """`bundle_digest` of the bundle that it was made from."""
    precision: ExportPrecision
    """Of the arithmetic, or at least of the weights."""
    any_image_size: bool
    """Whether it takes images of other sizes than the bundle's."""
    attention: bool
    """Whether it also gives the attention maps: output `attention` (B, L, M, K, H, W)."""
    versions: dict[str, str] = {}
    """Of the packages that made it."""


def to_metadata(bundle: Bundle, artefact: Artefact) -> dict[str, str]:
    """Both as JSON text by key; a bundle that holds what JSON cannot is a `BundleError`."""
    return {
        BUNDLE_KEY: json.dumps(form.to_document(bundle), ensure_ascii=True, allow_nan=False),
        EXPORT_KEY: artefact.model_dump_json(),
    }


def from_metadata(texts: Mapping[str, str], *, where: Path) -> tuple[Bundle, Artefact]:
    """What `to_metadata` wrote, fully checked; a bundle of a wrong form is a `BundleError` as in its folder.

    Args:
        texts: Text by key.
        where: The file, for the error message.

    Raises:
        BundleError: If one is missing or has a wrong form, or the form is newer than we know.
    """
    if BUNDLE_KEY not in texts or EXPORT_KEY not in texts:
        raise BundleError(
            f"{where} was not written by query2label: it does not say which labels and preprocessing it has. "
            "Export the bundle with `q2l export`."
        )
    bundle = form.from_document(form.parse_json_text(texts[BUNDLE_KEY], where=where), where=where)
    document = form.parse_json_text(texts[EXPORT_KEY], where=where)
    version = document.get("export_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > EXPORT_VERSION:
        raise BundleError(
            f"{where} was exported by a newer query2label (form {version}, this one knows {EXPORT_VERSION}): "
            "pip install --upgrade query2label."
        )
    try:
        return bundle, Artefact.model_validate(document)
    except ValidationError as error:
        raise BundleError(form.explain(error, where)) from None
