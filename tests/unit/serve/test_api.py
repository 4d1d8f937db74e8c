"""What the routes answer, over real connections."""

import base64
import io
import json
import os
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from query2label.errors import ConfigError
from query2label.serve.app import create_app
from query2label.serve.request_log import RequestLog

from .conftest import LABELS, ColourRuntime, LookingRuntime, png, predictor_of

RED, TEAL = png((255, 0, 0)), png((0, 200, 255))
BROKEN = b"\xff\xd8\xff\xe0 no picture"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def predictions(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_predict__gives_the_predictors_answer_in_whichever_form_images_come(client: httpx.Client) -> None:
    expected = [predictor_of(ColourRuntime())(data) for data in (RED, TEAL)]
    form = client.post("/v1/predict", files=[("a", ("red.png", RED)), ("b", ("teal.png", TEAL))])
    as_json = client.post(
        "/v1/predict",
        json={"images": [{"data": encoded(RED)}, f"data:image/png;base64,{encoded(TEAL)}"]},
    )
    bare = [
        predictions(client.post("/v1/predict", content=data, headers=headers))[0]
        for data, headers in ((RED, {"Content-Type": "image/png"}), (TEAL, {}))
    ]
    assert [answer["name"] for answer in predictions(form)] == ["red.png", "teal.png"]
    for answers in (predictions(form), predictions(as_json), bare):
        for answer, prediction in zip(answers, expected, strict=True):
            assert answer["scores"] == prediction.scores
            assert answer["labels"] == list(prediction.labels)
            assert answer["thresholds"] == dict.fromkeys(LABELS, 0.5)
            assert (answer["width"], answer["height"], answer["error"]) == (12, 10, None)


@pytest.mark.parametrize("place", ["query", "form", "json"])
def test_predict__takes_options_from_query_form_and_json(client: httpx.Client, place: str) -> None:
    def ask(texts: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
        if place == "json":
            answer = client.post("/v1/predict", json={"images": [encoded(TEAL)], **values})
        elif place == "form":
            answer = client.post("/v1/predict", files={"image": TEAL}, data=texts)
        else:
            answer = client.post("/v1/predict", content=TEAL, params=texts)
        return predictions(answer)[0]

    both = {"labels": ["blue, dark", "red"]}
    answer = ask(both, both)
    assert list(answer["scores"]) == ["red", "blue, dark"]
    assert answer["labels"] == ["blue, dark"]
    assert ask({"top_k": "3"}, {"top_k": 3})["labels"] == ["blue, dark", "green", "red"]
    assert ask({"threshold": "0.0"}, {"threshold": 0.0})["labels"] == ["blue, dark", "green", "red"]
    one = ask({"threshold": "blue, dark=1"}, {"threshold": {"blue, dark": 1}})
    assert one["thresholds"] == {"red": 0.5, "green": 0.5, "blue, dark": 1.0}


def test_predict__answers_the_others_where_an_image_is_broken(client: httpx.Client) -> None:
    bomb = Image.new("1", (9000, 9000))
    file = io.BytesIO()
    bomb.save(file, format="PNG")
    body = {
        "images": [
            {"data": encoded(BROKEN), "name": "b"},
            encoded(RED),
            "http://a/b.jpg",
            encoded(file.getvalue()),
        ]
    }
    broken, red, url, large = predictions(client.post("/v1/predict", json=body))
    assert broken["name"] == "b"
    assert "damaged or cut off" in broken["error"]
    assert broken["scores"] == {}
    assert red["labels"] == ["red"]
    assert url["error"] == "It is not base64 of an image file (URLs are not fetched)."
    assert "more than the limit of 50 megapixels" in large["error"]


def test_predict__is_422_with_the_reasons_where_all_images_are_broken(client: httpx.Client) -> None:
    answer = client.post("/v1/predict", files=[("a", ("x.jpg", BROKEN)), ("b", ("y.txt", b"hello"))])
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == ("unreadable_image", "None of the images can be read.")
    assert [(image["index"], image["name"]) for image in error["images"]] == [(0, "x.jpg"), (1, "y.txt")]
    alone = client.post("/v1/predict", content=b"hello").json()["error"]
    assert alone["message"] == alone["images"][0]["message"]
    assert "but a text file" in alone["message"]


@pytest.mark.parametrize(
    ("request_options", "status", "message"),
    [
        ({"content": RED, "params": {"top_k": 0}}, 422, "top_k: Input should be greater than or equal to 1."),
        ({"content": RED, "params": {"colour": 1}}, 422, "colour: Extra inputs are not permitted."),
        ({"content": RED, "params": {"labels": "dog"}}, 422, "Unknown label 'dog'"),
        (
            {"content": RED, "params": {"threshold": "high"}},
            422,
            "The threshold high is neither a number nor",
        ),
        ({"content": RED, "params": {"threshold": "2"}}, 422, "is not within 0 and 1"),
        ({"content": RED, "params": {"threshold": "nan"}}, 422, "is not within 0 and 1"),
        ({"files": {"a": RED}, "data": {"top_k": "x"}}, 422, "top_k: Input should be a valid integer"),
        (
            {"files": {"a": RED}, "data": {"top_k": 1}, "params": {"top_k": 1}},
            422,
            "in the query and in the body",
        ),
        ({"content": b""}, 422, "The request holds no image."),
        ({"data": {"labels": "red"}, "files": {}}, 415, "A body of type 'application/x-www-form-urlencoded'"),
        ({"json": {"images": []}}, 422, "images: List should have at least 1 item"),
        ({"json": {"images": [encoded(RED)] * 13}}, 413, "One request may hold 12 images"),
        ({"files": [("a", RED)] * 13}, 413, "One request may hold 12 images"),
        ({"json": {"images": [1]}}, 422, "images.0"),
        ({"json": {"image": ""}}, 422, "images: Field required."),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "Invalid JSON"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "names no boundary"),
    ],
)
def test_predict__says_what_is_wrong_in_one_form(
    client: httpx.Client, request_options: dict[str, Any], status: int, message: str
) -> None:
    answer = client.post("/v1/predict", **request_options)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v2", 404), ("POST", "/v1/model", 405)])
def test_errors__of_routing_have_the_same_form(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message"}


def test_attention__is_a_grey_picture_of_the_whole_image_per_label(serving: Callable[..., Any]) -> None:
    with serving(predictor_of(LookingRuntime())) as client:
        data = png((255, 0, 255), (400, 100))
        answer = predictions(client.post("/v1/predict", content=data, params={"attention": True}))[0]
        asked = {"attention": True, "labels": ["green"]}
        named = predictions(client.post("/v1/predict", content=data, params=asked))[0]
    assert set(answer["attention"]) == {"red", "blue, dark"}
    assert set(named["attention"]) == {"green"}
    maps = {
        label: np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
        for label, text in answer["attention"].items()
    }
    assert maps["red"].shape == (48, 192)
    assert maps["red"].dtype == np.uint8
    for label, most, least in (("red", (0, 0), (-1, -1)), ("blue, dark", (-1, -1), (0, 0))):
        assert maps[label][most] == 255
        assert maps[label][least] == 0


def test_attention__where_there_is_none_the_answer_says_why(client: httpx.Client) -> None:
    answer = client.post("/v1/predict", content=RED, params={"attention": True})
    assert predictions(answer)[0]["attention"] is None
    assert answer.json()["no_attention"] == "The head of this model has no attention maps."
    assert client.get("/v1/model").json()["no_attention"] == "The head of this model has no attention maps."
    assert client.post("/v1/predict", content=RED).json()["no_attention"] is None


def test_model__says_what_is_served(client: httpx.Client) -> None:
    model = client.get("/v1/model").json()
    assert model["labels"] == [{"name": label, "threshold": 0.5} for label in LABELS]
    assert model["preprocess"]["image_size"] == [8, 8]
    assert model["metrics"] == {"map": 0.75}
    assert model["limits"] == {"max_images": 12, "max_body_bytes": 64_000_000, "max_pixels": 50_000_000}


def test_metrics__count_images_requests_and_batches(client: httpx.Client) -> None:
    client.post("/v1/predict", files=[("a", RED), ("b", BROKEN)])
    lines = dict(
        line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#")
    )
    assert lines['q2l_images_total{outcome="scored"}'] == "1.0"
    assert lines['q2l_images_total{outcome="broken"}'] == "1.0"
    assert lines['q2l_requests_total{route="/v1/predict",status="200"}'] == "1.0"
    assert lines["q2l_batch_images_count"] == "1.0"
    assert lines["q2l_ready"] == "1.0"


def test_token__is_wanted_everywhere_but_for_probes_and_the_page(serving: Callable[..., Any]) -> None:
    with serving(predictor_of(ColourRuntime()), token="secret-1") as client:
        for path in ("/healthz", "/readyz", "/"):
            assert client.get(path).status_code == 200
        for header in (None, "secret-1", "Bearer", "Bearer secret-2", "Basic secret-1", "Bearer secret-1é"):
            headers = {} if header is None else {"Authorization": header.encode()}
            for method, path in (
                ("POST", "/v1/predict"),
                ("GET", "/v1/model"),
                ("GET", "/metrics"),
                ("GET", "/openapi.json"),
                ("GET", "/other"),
            ):
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 401, (header, path)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["error"]["code"] == "unauthorized"
        answer = client.post("/v1/predict", content=RED, headers={"Authorization": "bearer secret-1"})
        assert predictions(answer)[0]["labels"] == ["red"]


@pytest.mark.parametrize("token", ["", "two words", "ümlaut", "line\n"])
def test_token__must_fit_into_a_header(token: str) -> None:
    with pytest.raises(ConfigError, match="one word of printable ASCII"):
        create_app(predictor_of(ColourRuntime()), token=token)


def test_headers__are_strict_on_every_answer(client: httpx.Client) -> None:
    for path in ("/", "/healthz", "/v1/model", "/nowhere"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_openapi__describes_every_form_of_body_with_examples(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    predict = schema["paths"]["/v1/predict"]["post"]
    assert {"multipart/form-data", "application/json", "image/jpeg"} <= set(predict["requestBody"]["content"])
    assert "example" in predict["requestBody"]["content"]["application/json"]["schema"]
    assert {"200", "401", "413", "415", "422", "503"} <= set(predict["responses"])
    assert "example" in schema["components"]["schemas"]["PredictAnswer"]
    example = predict["requestBody"]["content"]["application/json"]["schema"]["example"]
    assert predictions(client.post("/v1/predict", json=example))[0]["error"] is None


def test_log__has_a_line_per_request_and_nothing_of_its_content(serving: Callable[..., Any]) -> None:
    reading, writing = os.pipe()
    log = RequestLog(writing)
    with serving(predictor_of(ColourRuntime()), log=log) as client:
        client.post("/v1/predict?top_k=1", files=[("a", ("private.png", RED)), ("b", ("x", BROKEN))])
        client.get("/private")
    log.close()
    os.close(writing)
    with os.fdopen(reading) as file:
        lines = [line for line in map(json.loads, file) if line["route"] != "/readyz"]
    first, second = lines
    assert (first["route"], first["status"], first["images"], first["broken"]) == ("/v1/predict", 200, 2, 1)
    assert first["bytes_in"] > len(RED)
    assert (second["route"], second["status"], second["code"]) == ("unknown", 404, "not_found")
    assert "private" not in json.dumps(lines)


def test_unexpected_error__is_a_500_that_says_nothing_and_a_traceback_in_the_log(
    serving: Callable[..., Any], runtime: ColourRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(predictor_of(runtime)) as client:
        monkeypatch.setattr(ColourRuntime, "__call__", lambda *_: 1 / 0)
        answer = client.post("/v1/predict", content=RED)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal"
        assert "Zero" not in answer.text
        monkeypatch.undo()
        assert predictions(client.post("/v1/predict", content=RED))[0]["labels"] == ["red"]
