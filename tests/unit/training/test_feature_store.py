"""The store of arrays: built once, never half, bounded, and safe between processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from query2label.errors import ConfigError, StorageError
from query2label.training import feature_store
from query2label.training.feature_entry import ArraySpec, Entry, EntryWriter
from query2label.training.feature_store import FeatureStore, gigabytes

ROWS, ROW_BYTES = 10, 4 * 25 * 250  # each array has 250 kB


def array_spec(digit: str, *, rows: int = ROWS, dtype: str = "float32") -> ArraySpec:
    return ArraySpec(digit * 32, (rows, 5, 5, 250), dtype, {"view": 0})


def fill(writer: EntryWriter, *, start: float = 0.0, until: int = ROWS) -> None:
    for row in range(writer.done, until):
        writer.write(np.array([row]), np.full((1, 5, 5, 250), start + row, np.float32))
        writer.finish(row + 1)


def ignore(*_: int) -> None:
    pass


def refuse(writer: EntryWriter) -> None:
    raise AssertionError("it is there already")


def open_filled(store: FeatureStore, spec: ArraySpec) -> Entry:
    return store.open(spec, lambda writer: fill(writer, until=spec.shape[0]), on_wait=ignore)


def keys_in(root: Path) -> set[str]:
    return {path.name[0] for path in root.iterdir() if path.is_dir()}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A store with room for three arrays."""
    return FeatureStore(tmp_path / "cache", max_bytes=3 * (ROWS * ROW_BYTES + 128))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_open__builds_once_and_gives_what_was_written(store: FeatureStore, dtype: str) -> None:
    spec = array_spec("a", dtype=dtype)
    open_filled(store, spec)
    entry = store.open(spec, refuse, on_wait=ignore)
    assert entry.array.dtype == dtype
    assert entry.array.shape == spec.shape
    np.testing.assert_array_equal(entry.array[:, 0, 0, 0], np.arange(ROWS))
    np.testing.assert_array_equal(entry.array[:, -1, -1, -1], np.arange(ROWS))
    assert entry.broken == {}
    folder = store.root / spec.key
    assert sorted(path.name for path in folder.iterdir()) == ["features.npy", "lock", "manifest.json"]
    assert (folder / "features.npy").stat().st_size == spec.num_bytes
    assert json.loads((folder / "manifest.json").read_text()) == {"view": 0, "broken": {}}
    np.testing.assert_array_equal(np.load(folder / "features.npy"), entry.array)


def test_open__rows_may_be_written_in_any_portions_and_broken_ones_are_zero(store: FeatureStore) -> None:
    def build(writer: EntryWriter) -> None:
        writer.write(
            np.array([0, 3, 4]), np.stack([np.full((5, 5, 250), row, np.float32) for row in (1, 3, 4)])
        )
        writer.broken.update({1: "bad", 2: "worse"})
        writer.finish(5)

    spec = array_spec("a", rows=5)
    for entry in (store.open(spec, build, on_wait=ignore), store.open(spec, refuse, on_wait=ignore)):
        np.testing.assert_array_equal(entry.array[:, 2, 2, 2], [1, 0, 0, 3, 4])
        assert entry.broken == {1: "bad", 2: "worse"}


def test_open__the_array_is_read_only(store: FeatureStore) -> None:
    # A writable private mapping would count as memory, and the system may refuse one larger than that.
    assert not open_filled(store, array_spec("a")).array.flags.writeable


def test_open__goes_on_after_an_error_where_it_was(store: FeatureStore) -> None:
    spec = array_spec("a")

    def stop_halfway(writer: EntryWriter) -> None:
        fill(writer, until=4)
        writer.broken[2] = "bad"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.open(spec, stop_halfway, on_wait=ignore)
    assert not (store.root / spec.key / "manifest.json").exists()

    def go_on(writer: EntryWriter) -> None:
        assert (writer.done, writer.broken) == (4, {2: "bad"})
        fill(writer)

    entry = store.open(spec, go_on, on_wait=ignore)
    np.testing.assert_array_equal(entry.array[:, 0, 0, 0], np.arange(ROWS))
    assert entry.broken == {2: "bad"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "manifest.json").write_text('{"view": 0, "bro'),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: os.truncate(folder / "features.npy", 1000),
        lambda folder: os.truncate(folder / "features.npy", 0),
        lambda folder: (folder / "features.npy").unlink(),
        lambda folder: np.save(folder / "features.npy", np.zeros((1, 5, 5, 250), np.float32)),
    ],
)
def test_open__builds_a_damaged_entry_again(store: FeatureStore, damage: object) -> None:
    spec = array_spec("a")
    open_filled(store, spec)
    damage(store.root / spec.key)  # type: ignore[operator]
    built: list[int] = []

    def build(writer: EntryWriter) -> None:
        built.append(writer.done)
        fill(writer)

    entry = store.open(spec, build, on_wait=ignore)
    assert built == [0]
    np.testing.assert_array_equal(entry.array[:, 0, 0, 0], np.arange(ROWS))


KILLED_BUILDER = """
import sys, time
from pathlib import Path
import numpy as np
from query2label.training import feature_entry
from query2label.training.feature_entry import ArraySpec
from query2label.training.feature_store import FeatureStore

feature_entry.MARK_SECONDS = 0.0
spec = ArraySpec("a" * 32, (10, 5, 5, 250), "float32", {"view": 0})

def build(writer):
    for row in range(writer.done, 10):
        writer.write(np.array([row]), np.full((1, 5, 5, 250), row, np.float32))
        writer.finish(row + 1)
        print(row + 1, flush=True)
        time.sleep(0.1)

FeatureStore(Path(sys.argv[1]), max_bytes=10**9).open(spec, build, on_wait=lambda done: None)
"""


def test_open__goes_on_after_a_kill_and_never_serves_half(store: FeatureStore) -> None:
    done = 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED_BUILDER, str(store.root)], stdout=subprocess.PIPE, text=True
        ) as builder:
            assert builder.stdout is not None
            for _ in range(2):
                reported = int(builder.stdout.readline())
                assert reported == done + 1  # nothing is done twice or skipped
                done = reported
            builder.kill()
        assert not (store.root / ("a" * 32) / "manifest.json").exists()
        done = json.loads((store.root / ("a" * 32) / "progress.json").read_text())["done"]

    def go_on(writer: EntryWriter) -> None:
        assert writer.done == done >= 6
        fill(writer)

    entry = store.open(array_spec("a"), go_on, on_wait=ignore)
    np.testing.assert_array_equal(entry.array[:, 0, 0, 0], np.arange(ROWS))


def test_open__a_second_process_waits_and_sees_the_progress(store: FeatureStore) -> None:
    seen: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_BUILDER, str(store.root)], stdout=subprocess.PIPE, text=True
    ) as builder:
        assert builder.stdout is not None
        builder.stdout.readline()
        entry = store.open(array_spec("a"), refuse, on_wait=seen.append)
        builder.stdout.read()
    assert builder.returncode == 0
    assert seen == sorted(seen)
    assert 1 <= seen[0] < ROWS
    np.testing.assert_array_equal(entry.array[:, 0, 0, 0], np.arange(ROWS))


def test_open__waiting_may_be_stopped(store: FeatureStore) -> None:
    waiting, stop = threading.Event(), threading.Event()

    def slow(writer: EntryWriter) -> None:
        waiting.set()
        assert stop.wait(30)
        fill(writer)

    def give_up(done: int) -> None:
        raise InterruptedError(f"at {done}")

    builder = threading.Thread(target=lambda: store.open(array_spec("a"), slow, on_wait=ignore))
    builder.start()
    assert waiting.wait(30)
    with pytest.raises(StorageError, match="at 0"):
        store.open(array_spec("a"), refuse, on_wait=give_up)
    stop.set()
    builder.join()
    store.open(array_spec("a"), refuse, on_wait=ignore)


def test_open__removes_the_least_recently_used(store: FeatureStore) -> None:
    for digit in "abc":
        open_filled(store, array_spec(digit))
        time.sleep(0.01)
    open_filled(store, array_spec("a"))
    open_filled(store, array_spec("d"))
    assert keys_in(store.root) == {"a", "c", "d"}


def test_open__what_is_used_stays_and_the_message_says_what_to_set(store: FeatureStore) -> None:
    used = [open_filled(store, array_spec(digit)) for digit in "abc"]
    wanted = (
        r"^The feature cache .*cache has no room: 0\.001 GB are needed and 0\.001 GB are in use, of "
        r"0\.001 GB: set train\.cache_max_gb to at least 0\.002 GB, or lower train\.cache_views or "
        r"data\.image_size\.$"
    )
    with pytest.raises(ConfigError, match=wanted):
        open_filled(store, array_spec("d"))
    np.testing.assert_array_equal(used[0].array[:, 0, 0, 0], np.arange(ROWS))
    del used
    open_filled(store, array_spec("d"))
    assert keys_in(store.root) == {"b", "c", "d"}


def test_open__leaves_what_is_not_its_own(store: FeatureStore) -> None:
    (store.root / "photos").mkdir(parents=True)
    (store.root / "photos" / "features.npy").write_bytes(bytes(10**7))
    (store.root / ".tmp-01234567-holiday").mkdir()
    for digit in "abcd":
        open_filled(store, array_spec(digit))
    assert (store.root / "photos" / "features.npy").stat().st_size == 10**7
    assert (store.root / ".tmp-01234567-holiday").exists()


def test_open__removes_what_a_killed_removal_left(store: FeatureStore) -> None:
    leftover = store.root / f".tmp-01234567-{'e' * 32}"
    leftover.mkdir(parents=True)
    open_filled(store, array_spec("a"))
    assert not leftover.exists()


def test_reserve__takes_the_room_for_all_and_keeps_what_is_needed(store: FeatureStore) -> None:
    for digit in "abc":
        open_filled(store, array_spec(digit))
        time.sleep(0.01)
    store.reserve([array_spec("a"), array_spec("d"), array_spec("e")], on_wait=ignore)
    assert keys_in(store.root) == {"a", "d", "e"}
    assert (store.root / ("e" * 32) / "features.npy").stat().st_blocks * 512 >= ROWS * ROW_BYTES
    store.open(array_spec("a"), refuse, on_wait=ignore)
    open_filled(store, array_spec("d"))


def test_reserve__takes_no_room_where_it_is_too_little(store: FeatureStore) -> None:
    kept = open_filled(store, array_spec("a"))
    with pytest.raises(ConfigError, match="has no room"):
        store.reserve([array_spec(digit) for digit in "bcd"], on_wait=ignore)
    assert keys_in(store.root) == {"a"}
    assert kept.array.shape[0] == ROWS


def test_reserve__a_full_disk_is_said_before_anything_is_computed(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(
        StorageError, match=r"No room to write .*a{32}: 0\.3 MB are needed, \d+\.\d MB are free"
    ):
        store.reserve([array_spec("a")], on_wait=ignore)
    assert keys_in(store.root) == set()


def test_reserve__gives_up_unused_entries_where_the_disk_is_full(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_filled(store, array_spec("a"))

    class Usage:
        free = 100_000

    monkeypatch.setattr(feature_store.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(StorageError, match=r"No room to write .*cache: 0\.3 MB are needed, 0\.1 MB are free"):
        store.reserve([array_spec("b")], on_wait=ignore)
    assert keys_in(store.root) == set()


def test_open__a_root_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(StorageError, match=r"^Cannot write .*cache/a{32}: Not a directory\.$"):
        open_filled(FeatureStore(tmp_path / "cache", max_bytes=10**9), array_spec("a"))


def test_gigabytes__rounds_up() -> None:
    assert gigabytes(1) == "0.001 GB"
    assert gigabytes(20_000_000_000) == "20.000 GB"
    assert gigabytes(20_000_000_001) == "20.001 GB"
