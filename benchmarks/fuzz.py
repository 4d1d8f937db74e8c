"""Broken files for each parser, made by a fuzzer that watches which code they reach: only our own errors.

    pip install atheris                                    # Linux, macOS; 35 MB, so not among the project's
    python -m benchmarks.fuzz --parser images              # or: coco, voc, table, config; ten minutes
    python -m benchmarks.fuzz --parser coco --minutes 1 --out runs/fuzz

It starts from the valid files of `fuzz_seeds`, and changes them. A finding is what `fuzz_targets` says, an
input that takes more than 10 seconds or a gigabyte, and a crash. Each is kept in --out, as the input and its
traceback, once for each place in the code that it comes from; then the exit code is 1. The inputs that
reached new code are kept beside, in `corpus`, and the next run starts from them, too.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

PARSERS = ("images", "coco", "voc", "table", "config")
MAX_SECONDS, MAX_MEGABYTES, MAX_INPUT_BYTES = 10, 1000, 8192
MAX_CRASHES = 10
"""After so many ends of the process a run gives up."""
KINDS = ("*.traceback", "crash-*", "timeout-*", "oom-*")
WORDS = (
    *(b"1e999", b"-0.0", b"NaN", b"9223372036854775808", b"\\ud800", b"..", b"/", b"\0", b"\xff"),
    *(b"[" * 60, b".a" * 30, b"0x" + b"f" * 60),
)


def fuzz(parser: str, out: Path, scratch: Path, seconds: int) -> NoReturn:
    """Fuzzes in this process until the time is up or it crashes; libFuzzer ends the process either way."""
    import atheris

    with atheris.instrument_imports(include=["query2label", "PIL", "tomllib"]):
        from benchmarks.fuzz_targets import PARSERS as TARGETS

        target, make_seeds = TARGETS[parser]
        seeds = list(make_seeds())
        for seed in seeds:  # imports the rest, too
            target(seed, scratch)

    def run_one(content: bytes) -> None:
        try:
            target(content, scratch)
            _refuse_memory()
        except BaseException as error:  # noqa: BLE001 (a panic in Rust is no Exception)
            _keep(error, content, out)

    corpus = out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = out / "words.txt"
    words.write_text("\n".join(map(_quoted, _words(seeds))))
    flags = {
        "artifact_prefix": f"{out}/",
        "close_fd_mask": 3,
        "dict": words,
        "max_len": MAX_INPUT_BYTES,
        "max_total_time": seconds,
        "print_final_stats": 1,
        "rss_limit_mb": 2 * MAX_MEGABYTES,
        "timeout": MAX_SECONDS,
    }
    atheris.Setup([parser, *(f"-{name}={value}" for name, value in flags.items()), str(corpus)], run_one)
    atheris.Fuzz()
    raise SystemExit


def _fast_folder() -> str | None:
    memory = Path("/dev/shm")  # noqa: S108 (a folder of its own is made in it)
    return str(memory) if memory.is_dir() else None


def _refuse_memory() -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    if peak > MAX_MEGABYTES:
        raise MemoryError(f"{peak:.0f} MB were taken")


def _keep(error: BaseException, content: bytes, out: Path) -> None:
    """Writes the input and the traceback, unless there are some of the same place."""
    place = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name != "_expect"][-1]
    name = f"{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
    if not (out / f"{name}.traceback").exists():
        (out / f"{name}.input").write_bytes(content)
        (out / f"{name}.traceback").write_text("".join(traceback.format_exception(error)), errors="replace")
    if isinstance(error, MemoryError):
        os._exit(1)  # the peak does not fall again


def _words(seeds: Iterable[bytes]) -> set[bytes]:
    found = {word for seed in seeds for word in re.findall(rb"[\w.<>/=-]{2,24}", seed)}
    return found | set(WORDS)


def _quoted(word: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"'


def run(parser: str, out: Path, minutes: float) -> tuple[int, int, int]:
    """Fuzzes in processes of their own, again after each crash.

    Returns:
        Executions, places in the code that were reached, and inputs that are kept for it.
    """
    end = time.monotonic() + 60 * minutes
    command = [sys.executable, "-m", "benchmarks.fuzz", "--parser", parser, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    executions = reached = kept = 0
    for _ in range(MAX_CRASHES):
        seconds = round(end - time.monotonic())
        if seconds < 1:
            break
        with tempfile.TemporaryDirectory(dir=_fast_folder()) as scratch:
            inner = [*command, "--inner", scratch, str(seconds)]
            done = subprocess.run(inner, env=environment, stderr=subprocess.PIPE, check=False)
        log = done.stderr.decode(errors="replace")
        (out / "log.txt").write_text(log, encoding="utf-8")
        executions += _last_number(r"^(?:stat::number_of_executed_units: |#)(\d+)", log)
        reached = max(reached, _last_number(r"\bcov: (\d+)", log))
        kept = max(kept, _last_number(r"\bcorp: (\d+)", log))
        if executions == 0:
            raise SystemExit(f"The fuzzer did not start:\n{log[-2000:]}")
        if done.returncode == 0:
            break
    return executions, reached, kept


def _last_number(pattern: str, log: str) -> int:
    return int((re.findall(pattern, log, re.MULTILINE) or ["0"])[-1])


def main() -> None:
    """Prints a line of a table, and the findings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parser", choices=PARSERS, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="a folder for each parser in it")
    parser.add_argument("--inner", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        parser.error("it needs atheris: pip install atheris")
    if options.inner:
        scratch, seconds = options.inner
        fuzz(options.parser, options.out, Path(scratch), int(seconds))
    out = options.out / options.parser
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    executions, reached, kept = run(options.parser, out, options.minutes)
    found = sorted(file.name for kind in KINDS for file in out.glob(kind))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    times = f"{time.monotonic() - started:.0f} | {used.ru_utime + used.ru_stime:.0f}"
    print("| parser | seconds | CPU seconds | executions | places reached | inputs kept | findings |")
    print("|---|---|---|---|---|---|---|")
    print(f"| {options.parser} | {times} | {executions:,} | {reached:,} | {kept:,} | {len(found)} |")
    for name in found:
        print(f"{out / name}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
