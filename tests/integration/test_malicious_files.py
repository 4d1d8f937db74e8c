"""Hostile models, recipes and annotations: nothing runs, nothing outside is touched, one sentence each."""

import json
import os
import pickle
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from typer.testing import CliRunner

from query2label import Query2Label
from query2label.bundle import Bundle, edit_bundle, read_bundle
from query2label.cli.app import app
from query2label.config import ModelConfig, load_config
from query2label.data.load import load_dataset
from query2label.errors import Q2LError
from query2label.inference.predictor import Predictor
from query2label.models.build import build_model, load_model
from query2label.preprocess import PreprocessSpec

_PROGRAMS = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect")
_events: list[tuple[str, Any]] = []
_watching = False


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and (event == "open" or event in _PROGRAMS):
        _events.append((event, arguments[0] if arguments else None))


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


class Trap:
    """A folder that nothing may touch, beside the place where hostile files lie."""

    def __init__(self, tmp_path: Path) -> None:
        self.outside = tmp_path / "outside"
        self.inside = tmp_path / "inside"
        self.outside.mkdir()
        self.inside.mkdir()
        self.mark = self.outside / "was-here"
        Image.new("RGB", (40, 40), (200, 10, 10)).save(self.outside / "secret.jpg")
        (self.outside / "secret.txt").write_text("cat\n")
        self.before = self._state()

    def _state(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in sorted(self.outside.iterdir())}

    def check(self) -> None:
        assert not self.mark.exists(), "code was executed"
        assert self._state() == self.before, "something outside was written"
        for event, what in _events:
            assert event == "open", f"{event}: {what}"
            if isinstance(what, str | bytes):
                assert not os.path.realpath(os.fsdecode(what)).startswith(str(self.outside)), f"read {what}"


@pytest.fixture(scope="module", autouse=True)
def _audit() -> None:
    sys.addaudithook(_record)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path)


def attempt(trap: Trap, action: Callable[[], Any]) -> str:
    """Runs `action`, which has to fail with one sentence, soon, and without touching anything outside."""
    global _watching  # noqa: PLW0603 (an audit hook cannot be removed)
    _events.clear()
    _watching = True
    started = time.monotonic()
    try:
        with pytest.raises(Q2LError) as caught:
            action()
    finally:
        _watching = False
    trap.check()
    assert time.monotonic() - started < 60
    message = str(caught.value)
    assert 20 < len(message) < 1000
    return message


def make_bundle(folder: Path, labels: tuple[str, ...] = ("cat", "dog")) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=16)
    model = build_model(config, len(labels))
    spec = PreprocessSpec(image_size=(32, 32))
    model.bundle = Bundle(model=config, labels=labels, preprocess=spec, thresholds=(0.0,) * len(labels))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def bundle(trap: Trap) -> Path:
    return make_bundle(trap.inside / "bundle")


def change_config(bundle: Path, *path: str, to: Any) -> None:
    document = json.loads((bundle / "config.json").read_text())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    (bundle / "config.json").write_text(json.dumps(document))


def safetensors_with_header(header: str, data: bytes = b"\0" * 16, length: int | None = None) -> bytes:
    encoded = header.encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + data


def tensor_entry(start: int, end: int, shape: str = "[2]", dtype: str = "F32") -> str:
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}'


def plain_pickle(trap: Trap) -> bytes:
    return pickle.dumps(Payload(trap.mark))


def torch_archive(trap: Trap) -> bytes:
    file = trap.inside / "made.pth"
    torch.save({"weight": Payload(trap.mark)}, file)
    return file.read_bytes()


HOSTILE_WEIGHTS: dict[str, Callable[[Trap], bytes]] = {
    "pickle": plain_pickle,
    "torch archive with a payload": torch_archive,
    "header of 2^60 bytes": lambda _: safetensors_with_header("{}", length=2**60),
    "header longer than the file": lambda _: safetensors_with_header("{}", length=90_000_000),
    "offsets that overlap": lambda _: safetensors_with_header(
        f'{{"a":{tensor_entry(0, 8)},"b":{tensor_entry(4, 12)}}}'
    ),
    "negative offsets": lambda _: safetensors_with_header(f'{{"a":{tensor_entry(-8, 0)}}}'),
    "offsets behind the end": lambda _: safetensors_with_header(f'{{"a":{tensor_entry(0, 2**40)}}}'),
    "shape that overflows": lambda _: safetensors_with_header(
        f'{{"a":{tensor_entry(0, 16, f"[{2**40},{2**40}]")}}}'
    ),
    "unknown type": lambda _: safetensors_with_header(f'{{"a":{tensor_entry(0, 16, dtype="OBJECT")}}}'),
    "header nested deep": lambda _: safetensors_with_header('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "tensors of another model": lambda _: save({"../../evil": torch.ones(2)}),
}


@pytest.mark.parametrize("name", HOSTILE_WEIGHTS)
def test_bundle__hostile_weights(trap: Trap, bundle: Path, name: str) -> None:
    (bundle / "model.safetensors").write_bytes(HOSTILE_WEIGHTS[name](trap))
    message = attempt(trap, lambda: Predictor.load(bundle, device="cpu"))
    assert str(bundle) in message
    assert "\n" not in message


HOSTILE_CONFIGS: dict[str, Callable[[Trap, Path], Any]] = {
    "nested deep": lambda _, b: (b / "config.json").write_text("[" * 500_000),
    "not a number": lambda _, b: change_config(b, "temperature", to=float("nan")),
    "beyond floats": lambda _, b: (b / "config.json").write_text('{"temperature": 1e400}'),
    "a number of 10,000 digits": lambda _, b: (b / "config.json").write_text(
        f'{{"schema_version": {"9" * 10_000}}}'
    ),
    "code of a hub": lambda _, b: change_config(b, "auto_map", to={"AutoModel": "modeling.Evil"}),
    "backbone in a local folder": lambda t, b: change_config(
        b, "model", "backbone", to=f"local-dir:{t.outside}"
    ),
    "backbone on a hub": lambda _, b: change_config(b, "model", "backbone", to="hf-hub:evil/model"),
    "a thousand million layers": lambda _, b: change_config(b, "model", "num_encoder_layers", to=10**9),
    "a layer of a terabyte": lambda _, b: change_config(b, "model", "hidden_dim", to=400_000),
    "a position encoding of a terabyte": lambda _, b: (
        change_config(b, "model", "stored_position", to=[4096, 4096]),
        change_config(b, "model", "hidden_dim", to=65536),
    ),
    "attention masks of a gigabyte": lambda _, b: (
        change_config(b, "model", "backbone", to="swin_tiny_patch4_window7_224"),
        change_config(b, "model", "stored_masks", to=[4096, 4096]),
    ),
    "an image of 10^12 pixels": lambda _, b: change_config(b, "preprocess", "image_size", to=[10**6, 10**6]),
    "division by zero": lambda _, b: change_config(b, "preprocess", "std", to=[0, 1, 1]),
    "a pipe": lambda _, b: ((b / "config.json").unlink(), os.mkfifo(b / "config.json")),
    "a folder": lambda _, b: ((b / "config.json").unlink(), (b / "config.json").mkdir()),
}


@pytest.mark.parametrize("name", HOSTILE_CONFIGS)
def test_bundle__hostile_configuration(trap: Trap, bundle: Path, name: str) -> None:
    HOSTILE_CONFIGS[name](trap, bundle)
    assert "\n" not in attempt(trap, lambda: Predictor.load(bundle, device="cpu"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_bundle__links_that_lead_out(trap: Trap, bundle: Path, name: str) -> None:
    (bundle / name).rename(trap.inside / name)
    trap.outside.joinpath(name).write_bytes((trap.inside / name).read_bytes())
    trap.before[name] = (trap.inside / name).read_bytes()
    (bundle / name).symlink_to(trap.outside / name)
    assert "is a link that leads out" in attempt(trap, lambda: load_model(bundle))


def test_bundle__a_card_that_leads_out_is_not_written_through(trap: Trap, bundle: Path) -> None:
    (bundle / "README.md").unlink()
    (bundle / "README.md").symlink_to(trap.outside / "secret.txt")
    assert "is a link that leads out" in attempt(trap, lambda: edit_bundle(bundle, thresholds=(0.1, 0.2)))


def test_bundle__a_path_of_weights_in_it_is_not_followed(trap: Trap, bundle: Path) -> None:
    global _watching  # noqa: PLW0603
    (trap.outside / "secret.txt").chmod(0o600)
    change_config(bundle, "model", "weights", to=str(trap.outside / "secret.txt"))
    change_config(
        bundle, "run", to={"data": {"path": str(trap.outside)}, "train": {"cache_dir": str(trap.outside)}}
    )
    _events.clear()
    _watching = True
    try:
        Predictor.load(bundle, device="cpu")(np.zeros((9, 9, 3), dtype=np.uint8))
    finally:
        _watching = False
    trap.check()


def test_bundle__names_that_command_a_terminal_are_shown_as_text(trap: Trap) -> None:
    bundle = make_bundle(trap.inside / "b", labels=("\x1b]0;title\x07", "[red]x[/red][link=file:///x]y"))
    photo = trap.inside / "\x1b[31m[bold]=1+1.png"
    Image.new("RGB", (9, 9)).save(photo)
    result = CliRunner().invoke(app, ["predict", str(photo), "--model", str(bundle)], env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert r"\x1b]0;title\x07" in result.stdout
    assert "[red]x[/red][link=file:///x]y" in result.stdout
    assert r"\x1b[31m[bold]=1+1.png" in result.stdout


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "9" * 10_000,
        'train.__class__ = "os.system"',
        '__import__ = "os"',
        "optim.lr = inf",
        "optim.lr = nan",
        "[model]\nbackbone = 'local-dir:/etc'",
        "data.image_size = [1000000, 1000000]",
        "\0",
    ],
)
def test_recipe__tricks_of_toml(trap: Trap, text: str) -> None:
    recipe = trap.inside / "recipe.toml"
    recipe.write_text(text)
    attempt(trap, lambda: load_config(recipe))


@pytest.mark.parametrize("name", ["../../outside/secret.txt", "/etc/passwd", "..", "laptop/../../config", ""])
def test_recipe__a_name_is_not_a_path(trap: Trap, name: str) -> None:
    assert "There is no recipe" in attempt(trap, lambda: load_config(name))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
@pytest.mark.parametrize("make", [plain_pickle, torch_archive], ids=["pickle", "archive"])
def test_weights_file__is_never_executed(trap: Trap, suffix: str, make: Callable[[Trap], bytes]) -> None:
    file = trap.inside / f"weights{suffix}"
    file.write_bytes(make(trap))
    config = ModelConfig(backbone="test_resnet", weights=str(file))
    attempt(trap, lambda: build_model(config, 2))


@pytest.mark.parametrize("suffix", [".pkl", ".pth.tar", ".safetensors"])
@pytest.mark.parametrize("make", [plain_pickle, torch_archive], ids=["pickle", "archive"])
def test_checkpoint__is_never_executed(trap: Trap, suffix: str, make: Callable[[Trap], bytes]) -> None:
    file = trap.inside / f"checkpoint{suffix}"
    file.write_bytes(make(trap))
    attempt(trap, lambda: Query2Label.from_published(file))


def table_with(name: str) -> Callable[[Trap], Path]:
    def make(trap: Trap) -> Path:
        (trap.inside / "labels.csv").write_text(f"image,labels\n{name.format(outside=trap.outside)},cat\n")
        return trap.inside

    return make


def coco_with(name: str) -> Callable[[Trap], Path]:
    def make(trap: Trap) -> Path:
        content = {
            "images": [{"id": 1, "file_name": name.format(outside=trap.outside), "width": 40, "height": 40}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
            ],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (trap.inside / "instances.json").write_text(json.dumps(content))
        return trap.inside / "instances.json"

    return make


def voc_with(name: str, xml: str | None = None) -> Callable[[Trap], Path]:
    def make(trap: Trap) -> Path:
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (trap.inside / folder).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(trap.inside / "JPEGImages" / "good.jpg")
        (trap.inside / "ImageSets" / "Main" / "train.txt").write_text(f"{name}\n")
        if xml is not None:
            text = xml.format(outside=trap.outside)
            (trap.inside / "Annotations" / f"{name}.xml").write_text(text)
        return trap.inside

    return make


def folders_with_link(trap: Trap) -> Path:
    (trap.inside / "cat").mkdir()
    (trap.inside / "cat" / "a.jpg").symlink_to(trap.outside / "secret.jpg")
    return trap.inside


_ENTITY = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file://{outside}/secret.txt">]>'
_LAUGHS = (
    "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY a '"
    + "ha" * 50
    + "'>"
    + "".join(
        f"<!ENTITY {name} '{f'&{before};' * 20}'>" for before, name in zip("abcdefg", "bcdefgh", strict=True)
    )
    + "]>"
)
_OBJECT = "<annotation><object><name>{}</name></object></annotation>"

HOSTILE_DATA: dict[str, Callable[[Trap], Path]] = {
    "table, path upwards": table_with("../outside/secret.jpg"),
    "table, absolute path": table_with("{outside}/secret.jpg"),
    "table, /etc/passwd": table_with("../../../../../../etc/passwd"),
    "table, backslashes": table_with("..\\outside\\secret.jpg"),
    "table, address": table_with("http://127.0.0.1:9/x.jpg"),
    "coco, path upwards": coco_with("../outside/secret.jpg"),
    "coco, absolute path": coco_with("{outside}/secret.jpg"),
    "voc, path upwards": voc_with("../../outside/secret"),
    "voc, entity of a file": voc_with("good", _ENTITY + _OBJECT.format("&x;")),
    "voc, a thousand million laughs": voc_with("good", _LAUGHS + _OBJECT.format("&h;")),
    "folders, link": folders_with_link,
}


@pytest.mark.parametrize("name", HOSTILE_DATA)
def test_data__annotations_that_lead_out(trap: Trap, name: str) -> None:
    path = HOSTILE_DATA[name](trap)
    message = attempt(trap, lambda: list(load_dataset(path).samples))
    assert "Traceback" not in message


@pytest.fixture(autouse=True)
def _memory_stays_bounded() -> Iterator[None]:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    assert grown < 1000, f"{grown:.0f} MB more than before"


def test_read_bundle__of_a_good_bundle_passes_the_same_trap(trap: Trap, bundle: Path) -> None:
    assert read_bundle(bundle).labels == ("cat", "dog")
    trap.check()
