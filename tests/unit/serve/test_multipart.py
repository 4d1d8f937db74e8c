import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query2label.serve.multipart import FormReader, SentImage
from query2label.serve.refusal import RequestError

BODY = (
    b'--xyz\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n\xff\xd8 \r\n--xy not the end\r\n"
    b'--xyz\r\nContent-Disposition: form-data; name="labels"\r\n\r\ndog\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="labels"\r\n\r\ncat, \xc3\xa9\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="whatever"\r\n\r\nbytes\r\n'
    b"--xyz--\r\n"
)


def reader(*, max_images: int = 2) -> FormReader:
    return FormReader(
        "multipart/form-data; boundary=xyz", fields=frozenset({"labels", "top_k"}), max_images=max_images
    )


def _read(form: FormReader, body: bytes) -> None:
    form.feed(body)
    form.finish()


@given(st.lists(st.integers(0, len(BODY)), max_size=6))
def test_form_reader__gives_the_same_however_the_bytes_arrive(cuts: list[int]) -> None:
    form = reader()
    places = [0, *sorted(cuts), len(BODY)]
    for start, end in itertools.pairwise(places):
        form.feed(BODY[start:end])
    images, fields = form.finish()
    assert images == [SentImage(b"\xff\xd8 \r\n--xy not the end", "a.jpg"), SentImage(b"bytes", None)]
    assert fields == {"labels": ["dog", "cat, é"]}


@pytest.mark.parametrize(
    ("body", "max_images", "status", "message"),
    [
        (BODY[:-6], 2, 422, "cut off: its last boundary is missing"),
        (b"no form at all", 2, 422, "not the form that it says it is"),
        (BODY, 1, 413, "One request may hold 1 images"),
        (BODY.replace(b"dog", b"d" * 10_001), 2, 413, "The field labels has more than 10000 bytes"),
        (b'--xyz\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n1\r\n' * 1002, 2, 413, "1000 option"),
    ],
)
def test_form_reader__says_what_is_wrong(body: bytes, max_images: int, status: int, message: str) -> None:
    form = reader(max_images=max_images)
    with pytest.raises(RequestError, match=message) as raised:
        _read(form, body)
    assert raised.value.status == status


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 300])
def test_form_reader__needs_a_boundary(boundary: str) -> None:
    with pytest.raises(RequestError, match=r"boundary|form that it says"):
        FormReader(f"multipart/form-data{boundary}", fields=frozenset(), max_images=1)
