import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import query2label.export.openvino
import query2label.export.verify
from query2label.bundle import bundle_digest, edit_bundle, read_bundle
from query2label.bundle.artefact import BUNDLE_KEY, EXPORT_KEY
from query2label.cli.app import app
from query2label.errors import ConfigError, DataError, ExportError, MissingExtraError, StorageError
from query2label.export.run import export_bundle
from query2label.export.verify import BATCH_SIZES, TOLERANCES, verify_export
from query2label.inference.predictor import Predictor
from query2label.inference.runtimes import load_exported

FILES = {"onnx": "model.onnx", "openvino": "model.xml"}


@pytest.fixture(scope="module", params=FILES)
def exported(request: pytest.FixtureRequest, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / FILES[request.param]
    verification = export_bundle(bundle, path, to=request.param)
    assert 0 < verification.max_difference < 1e-5
    assert verification.num_same_labels == verification.num_images >= 5
    return path


def test_export__carries_the_whole_contract(exported: Path, bundle: Path) -> None:
    predictor = Predictor.load(exported)

    assert predictor.bundle == read_bundle(bundle)
    artefact = load_exported(exported).artefact
    assert artefact.bundle_digest == bundle_digest(bundle)
    assert (artefact.precision, artefact.attention, artefact.any_image_size) == ("fp32", False, False)
    assert artefact.versions["torch"] == importlib.metadata.version("torch")


def test_export__names_no_folder_of_this_machine(exported: Path) -> None:
    for file in exported.parent.iterdir():
        content = file.read_bytes()
        assert b".py" not in content, file
        assert b"stack_trace" not in content, file


def test_export__leaves_nothing_but_the_file(exported: Path) -> None:
    names = {file.name for file in exported.parent.iterdir()}

    assert names == ({"model.onnx"} if exported.suffix == ".onnx" else {"model.xml", "model.bin"})


def test_predictor__of_an_export_needs_no_torch(exported: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "from query2label import Predictor\n"
        "import numpy as np\n"
        f"prediction = Predictor.load({str(exported)!r})(np.full((40, 50, 3), 99, np.uint8))\n"
        "assert prediction.error is None and len(prediction.scores) == 5\n"
        "names = ('torch', 'torchvision', 'timm', 'openvino_telemetry')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_predict__on_the_command_line_takes_an_export(exported: Path, bundle: Path, tmp_path: Path) -> None:
    Image.effect_noise((70, 50), 80).convert("RGB").save(tmp_path / "photo.png")
    rows = []
    for model in (exported, bundle):
        arguments = ["predict", str(tmp_path / "photo.png"), "--model", str(model), "--format", "jsonl"]
        result = CliRunner().invoke(app, [*arguments, "--threads", "1"])
        assert result.exit_code == 0, result.output
        rows.append(json.loads(result.stdout))

    assert rows[0]["labels"] == rows[1]["labels"]
    assert rows[0]["scores"] == pytest.approx(rows[1]["scores"], abs=1e-5)


@pytest.mark.parametrize("to", FILES)
def test_export__of_attention_gives_the_maps(to: str, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / FILES[to]
    export_bundle(bundle, path, to=to, attention=True)
    images = np.random.default_rng(0).normal(size=(3, 3, 64, 96)).astype(np.float32)

    runtime = load_exported(path)
    logits, maps = runtime.with_attention(images)

    _, expected = Predictor.load(bundle).runtime.model.forward_with_attention(torch.from_numpy(images))
    assert runtime.has_attention
    np.testing.assert_array_equal(logits, runtime(images))
    np.testing.assert_allclose(maps, expected.transpose(0, 1).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("to", FILES)
def test_export__of_any_image_size(to: str, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / FILES[to]
    # In a process of its own: the checks of annotations in tests do not know sizes that are symbols.
    arguments = ["export", "--model", str(bundle), "--to", to, "--image-size", "dynamic", "--out", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "query2label", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    images = np.random.default_rng(0).normal(size=(2, 3, 160, 32)).astype(np.float32)

    runtime = load_exported(path)

    assert runtime.artefact.any_image_size
    expected = Predictor.load(bundle).runtime.model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(runtime(images), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("to", "precision"), [("onnx", "fp16"), ("openvino", "fp16"), ("openvino", "bf16"), ("torch", "bf16")]
)
def test_export__in_less_precision(to: str, precision: str, bundle: Path, tmp_path: Path) -> None:
    whole, path = (
        tmp_path / "whole.onnx",
        tmp_path / f"model{ {**FILES, 'torch': 'm.pt2'}[to][5:] or '.pt2' }",
    )
    path = tmp_path / ("model.pt2" if to == "torch" else FILES[to])
    export_bundle(bundle, whole, to="onnx")

    verification = export_bundle(bundle, path, to=to, precision=precision)

    assert 0 <= verification.max_difference <= verification.tolerance == TOLERANCES[precision]
    weights = path.with_suffix(".bin") if to == "openvino" else path
    if precision == "fp16":
        assert weights.stat().st_size < 0.7 * whole.stat().st_size
        assert verification.max_difference > 1e-6


def test_export__for_torch_is_a_program_with_its_contract(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    export_bundle(bundle, path, to="torch")
    texts = {BUNDLE_KEY: "", EXPORT_KEY: ""}
    images = torch.randn(4, 3, 64, 96)

    program = torch.export.load(path, extra_files=texts)

    expected = Predictor.load(bundle).runtime.model(images)
    torch.testing.assert_close(program.module()(images)[0], expected, rtol=0, atol=1e-5)
    assert json.loads(texts[BUNDLE_KEY])["temperature"] == 1.5
    assert json.loads(texts[EXPORT_KEY])["bundle_digest"] == bundle_digest(bundle)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "onnx", "out": "model.xml"}, r"A file for onnx ends in .onnx: .*model.xml does not"),
        ({"to": "onnx", "precision": "bf16"}, "ONNX Runtime has no bfloat16 convolutions"),
        ({"to": "onnx", "out": "there.onnx"}, r"there.onnx is there already: name another file"),
        ({"to": "openvino", "out": "there.xml"}, r"there.bin is there already"),
    ],
)
def test_export__refuses_before_it_starts(
    options: dict[str, str], message: str, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.onnx").write_text("mine")
    (tmp_path / "there.bin").write_text("mine")
    out = tmp_path / options.pop("out", "model.onnx")

    with pytest.raises(ExportError, match=message):
        export_bundle(bundle, out, **options)
    assert {file.read_text() for file in tmp_path.iterdir()} == {"mine"}


def test_export__of_attention_needs_a_head_that_has_it(
    save_model: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="A LinearHead has no attention maps per label"):
        export_bundle(
            save_model(tmp_path / "linear", head="linear"), tmp_path / "m.onnx", to="onnx", attention=True
        )


@pytest.mark.parametrize("backbone", ["swin_tiny_patch4_window7_224", "test_maxvit"])
def test_export__of_any_image_size_refuses_windows(
    backbone: str, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = save_model(tmp_path / "windows", backbone=backbone, size=(64, 64))

    with pytest.raises(ExportError, match=f"backbone {backbone} attends within windows.*--image-size fixed"):
        export_bundle(model, tmp_path / "m.onnx", to="onnx", any_image_size=True)


def test_export__refuses_what_one_file_cannot_hold(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query2label.export.onnx, "_MAX_BYTES", 1000)

    with pytest.raises(ExportError, match=r"The weights have 0.0 GB, and one ONNX file .* holds 2: export"):
        export_bundle(bundle, bundle.parent / "large.onnx", to="onnx")
    assert not (bundle.parent / "large.onnx").exists()


def test_export__that_disagrees_stays_and_says_by_how_much(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "fp16", 1e-9)
    arguments = ["export", "--model", str(bundle), "--to", "onnx", "--out", str(tmp_path / "m.onnx")]

    result = CliRunner().invoke(app, [*arguments, "--precision", "fp16"])

    assert result.exit_code == 2
    assert "m.onnx is written but must not be used: scores differ from torch" in result.output
    assert "e-0" in result.output
    assert (tmp_path / "m.onnx").is_file()


def test_export__says_what_it_wrote_and_found(bundle: Path, tmp_path: Path) -> None:
    Image.effect_noise((70, 50), 80).convert("L").save(tmp_path / "photo.png")
    out = tmp_path / "new folder" / "m.onnx"
    arguments = ["export", "--model", str(bundle), "--to", "onnx", "--out", str(out)]

    result = CliRunner().invoke(app, [*arguments, "--images", str(tmp_path / "photo.png"), "--threads", "1"])

    assert result.exit_code == 0, result.output
    assert f"Written: {out}" in result.output
    assert "predicted labels agree on 1 of 1 images, in batches of 1, 2, 5" in result.output


def test_verify_export__sees_other_weights_and_other_bundles(
    exported: Path, bundle: Path, tmp_path: Path
) -> None:
    import shutil

    assert verify_export(exported, bundle).passed
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    assert verify_export(exported, copy).passed
    edit_bundle(copy, temperature=2.0)
    with pytest.raises(ExportError, match=r"was made from another bundle than .*copy"):
        verify_export(exported, copy)


def test_verify_export__measures_the_difference(
    exported: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = load_exported(exported)

    class Off:
        bundle, artefact = runtime.bundle, runtime.artefact

        def __call__(self, images: np.ndarray) -> np.ndarray:
            logits = runtime(images).copy()
            if len(images) == BATCH_SIZES[1]:
                predicted = self.bundle.predicted(self.bundle.scores(logits[:1]))
                logits[:1] = np.where(predicted, -20, 20)
            return logits

    monkeypatch.setattr(query2label.export.verify, "load_exported", lambda *_, **__: Off())

    found = verify_export(exported, bundle)

    assert not found.passed
    assert 0.3 < found.max_difference <= 1
    assert found.num_same_labels == found.num_images // 2


def test_verify_export__does_not_take_nan_for_agreement(
    exported: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = load_exported(exported)

    class Broken:
        bundle, artefact = runtime.bundle, runtime.artefact

        def __call__(self, images: np.ndarray) -> np.ndarray:
            return np.full((len(images), 5), np.nan, dtype=np.float32)

    monkeypatch.setattr(query2label.export.verify, "load_exported", lambda *_, **__: Broken())

    assert not verify_export(exported, bundle).passed


def test_verify_export__names_a_broken_photo(exported: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")

    with pytest.raises(DataError, match=r"Cannot verify the export on .*broken.png"):
        verify_export(exported, bundle, images=[tmp_path / "broken.png"])


def test_export__for_openvino_that_cannot_be_written_leaves_nothing(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = query2label.export.openvino.import_openvino("A test")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Exception from core.cpp:1:\nCan't open bin file.\n")

    monkeypatch.setattr(openvino, "save_model", refuse)
    with pytest.raises(StorageError, match=r"OpenVINO could not write m.xml in .*: Can't open bin file."):
        export_bundle(bundle, tmp_path / "m.xml", to="openvino")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("to", "package", "extra"), [("onnx", "onnxscript", "onnx"), ("openvino", "openvino", "openvino")]
)
def test_export__needs_its_packages(
    to: str, package: str, extra: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtraError, match=rf"Exporting .* package {package}: .*query2label\[{extra}\]"):
        export_bundle(bundle, tmp_path / FILES[to], to=to)
