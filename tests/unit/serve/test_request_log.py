import json
import os

from query2label.serve import request_log
from query2label.serve.request_log import RequestLog


def test_request_log__writes_a_line_of_json_each() -> None:
    reading, writing = os.pipe()
    log = RequestLog(writing)
    for number in range(3):
        log.write({"number": number, "text": "a\nb"})
    log.close()
    os.close(writing)
    with os.fdopen(reading) as file:
        assert [json.loads(line) for line in file] == [{"number": n, "text": "a\nb"} for n in range(3)]


def test_request_log__waits_for_nobody_and_counts_what_it_drops(monkeypatch) -> None:
    monkeypatch.setattr(request_log, "_MAX_WAITING", 10)
    monkeypatch.setattr(request_log, "_CLOSE_SECONDS", 0.1)
    reading, writing = os.pipe()
    log = RequestLog(writing)
    for _ in range(100):
        log.write({"text": "x" * 10_000})  # a pipe holds 64 kB, and nobody reads
    assert 70 <= log.num_dropped <= 90
    log.close()
    os.close(reading)  # lets the thread go on, to its end
    log._thread.join()
    os.close(writing)


def test_request_log__goes_on_when_its_reader_has_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = RequestLog(writing)
    log.write({})
    log.close()
    os.close(writing)
    assert log.num_dropped == 1
