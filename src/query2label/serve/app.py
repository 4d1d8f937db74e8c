"""The application: its routes, and what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from query2label import __version__
from query2label.errors import ConfigError
from query2label.inference.predictor import Predictor
from query2label.serve.gate import LOGGED, Gate
from query2label.serve.limits import Limits
from query2label.serve.metrics import CONTENT_TYPE, Metrics
from query2label.serve.model import ServedModel
from query2label.serve.page import add_page
from query2label.serve.refusal import InvalidRequestError, RequestError, error_response, first_problem
from query2label.serve.request_log import RequestLog
from query2label.serve.schemas import (
    ErrorAnswer,
    ModelAnswer,
    PredictAnswer,
    PredictJson,
    PredictQuery,
    StatusAnswer,
)
from query2label.serve.service import Service

_PROBES: Final = frozenset({"/healthz", "/readyz"})
_CODES: Final = {404: "not_found", 405: "method_not_allowed"}
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_FORM: Final = {
    "type": "object",
    "properties": {
        "image": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
    },
    "required": ["image"],
    "description": "Any number of files, under any name; the options may be fields as well.",
}


def create_app(
    predictor: Predictor | ServedModel,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    log: RequestLog | None = None,
) -> FastAPI:
    """The service of one model, for uvicorn or any other ASGI server.

    It gets ready in the background when the server starts it, and finishes what it took when that ends it.

    Args:
        predictor: The model.
        limits: What requests may take; unset: the defaults of `Limits`.
        token: What requests must bear, but for the probes and the page's own files; unset: everybody may ask.
        log: Gets a line for every request; unset: none.

    Raises:
        ConfigError: If the token cannot be sent in a header.
    """
    if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigError("The token must be one word of printable ASCII characters.")
    model = ServedModel(predictor) if isinstance(predictor, Predictor) else predictor
    service = Service(model, limits or Limits(), Metrics())
    app = FastAPI(
        title="query2label",
        summary="Every label that an image shows, with where it was seen.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        dependencies=[] if token is None else [Security(HTTPBearer(auto_error=False))],
    )
    app.state.service = service
    _watch(service, log)
    _add_probes(app, service)
    _add_api(app, service)
    _add_errors(app)
    open_paths = _PROBES | add_page(app)
    app.add_middleware(Gate, metrics=service.metrics, log=log, token=token, open_paths=open_paths)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    warming = asyncio.create_task(service.warm_up())
    yield
    await asyncio.wait({warming})
    await service.close()


def _watch(service: Service, log: RequestLog | None) -> None:
    metrics, model = service.metrics, service.model.described(service.limits)
    metrics.describe(digest=model.digest, runtime=model.runtime, precision=model.precision)
    metrics.watch("q2l_images_in_work", "Images in work or waiting.", lambda: service.num_images)
    metrics.watch("q2l_queue", "Images that may be in work or waiting.", lambda: service.limits.queue)
    metrics.watch("q2l_buffered_bytes", "Of bodies in memory.", lambda: service.buffers.used)
    metrics.watch("q2l_ready", "1 while requests are taken.", lambda: service.is_ready)
    if log is not None:
        metrics.watch("q2l_log_lines_dropped", "Because nobody read them in time.", lambda: log.num_dropped)


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["probes"])
    async def healthz() -> StatusAnswer:
        """Whether the process lives: always, where this is answered."""
        return StatusAnswer(status="alive")

    @app.get("/readyz", tags=["probes"], responses={503: {"model": ErrorAnswer}})
    async def readyz() -> StatusAnswer:
        """Whether requests should be sent here: not before the model is warm, and not while draining."""
        service.require_ready()
        return StatusAnswer(status="ready")


def _add_api(app: FastAPI, service: Service) -> None:
    described = service.model.described(service.limits)

    @app.get("/v1/model", tags=["model"], responses=_errors(401))
    async def model() -> ModelAnswer:
        """What is served: labels, thresholds, preprocessing, results, and what a request may hold."""
        return described

    @app.get("/metrics", tags=["probes"], response_class=Response, responses=_errors(401))
    async def metrics() -> Response:
        """Counters in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.post(
        "/v1/predict",
        tags=["model"],
        response_class=Response,
        responses={200: {"model": PredictAnswer}, **_errors(401, 408, 413, 415, 422, 503)},
        openapi_extra={"requestBody": _request_body()},
    )
    async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
        """The labels of one image or several: a form with files, the bytes of an image file, or JSON.

        An image that cannot be read has an `error` in its place; 422 if that is true of all of them.
        """
        answered = await service.predict(request, query)
        request.scope[LOGGED].update(images=answered.num_images, broken=answered.num_broken)
        return Response(answered.body, media_type="application/json")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        request.scope[LOGGED]["code"] = error.code
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return await refused(request, InvalidRequestError(first_problem(error.errors())))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "http_error")
        message = f"{error.detail}."
        return await refused(request, RequestError(error.status_code, code, message, headers=error.headers))


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorAnswer} for status in statuses}


def _request_body() -> dict[str, Any]:
    schema = PredictJson.model_json_schema(ref_template="#/components/schemas/{model}")
    encoded = schema.pop("$defs")["EncodedImage"]
    items = {"anyOf": [encoded, {"type": "string"}]}
    schema["properties"]["images"]["items"] = items
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "image/jpeg": _BINARY,
            "image/png": _BINARY,
            "image/webp": _BINARY,
            "application/octet-stream": _BINARY,
            "application/json": {"schema": schema},
        },
    }
