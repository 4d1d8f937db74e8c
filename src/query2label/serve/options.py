"""The options of a request: from its query, its form fields or its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ValidationError

from query2label.errors import ConfigError
from query2label.inference.choice import parse_thresholds
from query2label.labels import LabelSet
from query2label.serve.refusal import InvalidRequestError, first_problem
from query2label.serve.schemas import PredictJson, PredictQuery


@dataclass(frozen=True)
class Options:
    """What a request wants of the model; None is its own way."""

    labels: tuple[str, ...] | None = None
    top_k: int | None = None
    threshold: float | Mapping[str, float] | None = None
    attention: bool | None = None

    @classmethod
    def of_query(cls, query: PredictQuery) -> Options:
        """From texts.

        Raises:
            InvalidRequestError: If a threshold is neither a number nor LABEL=NUMBER.
        """
        labels = None if query.labels is None else tuple(query.labels)
        try:
            threshold = parse_thresholds(query.threshold or [])
        except ConfigError as error:
            raise InvalidRequestError(str(error)) from None
        return cls(labels, query.top_k, threshold, query.attention)

    @classmethod
    def of_form(cls, form: Mapping[str, list[str]]) -> Options:
        """From the fields of a form.

        Raises:
            InvalidRequestError: If a field has a wrong value.
        """
        lists = {"labels", "threshold"}
        values = {name: texts if name in lists else texts[-1] for name, texts in form.items()}
        try:
            return cls.of_query(PredictQuery.model_validate(values))
        except ValidationError as error:
            raise InvalidRequestError(first_problem(error.errors())) from None

    @classmethod
    def of_json(cls, body: PredictJson) -> Options:
        """From JSON, where they are checked already."""
        labels = None if body.labels is None else tuple(body.labels)
        return cls(labels, body.top_k, body.threshold, body.attention)

    def joined(self, other: Options) -> Options:
        """Those of both.

        Raises:
            InvalidRequestError: If both have one.
        """
        values: dict[str, Any] = {}
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if ours is not None and theirs is not None:
                raise InvalidRequestError(f"{field.name} is given in the query and in the body.")
            values[field.name] = theirs if ours is None else ours
        return Options(**values)

    def label_indices(self, known: LabelSet) -> list[int]:
        """Output indices of the labels that are asked for, in the model's order.

        An unknown one is a `DataError`.
        """
        if self.labels is None:
            return list(range(len(known)))
        return sorted({known.index(label) for label in self.labels})
