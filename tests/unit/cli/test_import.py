import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from query2label import Query2Label
from query2label.cli.app import app
from query2label.models import published
from query2label.preprocess import preprocess


def q2l(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def file(checkpoint: Callable[..., dict[str, torch.Tensor]], tmp_path: Path) -> Path:
    content = {"state_dict": checkpoint(seed=1), "state_dict_ema": checkpoint(seed=2), "epoch": 3}
    torch.save(content, tmp_path / "model_best.pth.tar")
    return tmp_path / "model_best.pth.tar"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for label, value in (("a", 40), ("b", 120), ("c", 200)):
        (folder / label).mkdir(parents=True)
        Image.new("RGB", (50, 40), (value, 90, 30)).save(folder / label / f"{label}.png")
    return folder


def test_import__says_what_it_found_and_writes_a_bundle(file: Path, photos: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\n")

    result = q2l("import", file, "--out", tmp_path / "bundle", "--labels", names)

    assert result.stdout.splitlines() == [
        "Imported from a checkpoint of the authors' code (arXiv:2107.10834), model_best.pth.tar "
        "(its averaged weights (EMA), state_dict_ema).",
        "Backbone: resnet18.tv_in1k",
        "Head: width 16, feed-forward 24, 4 heads, 1 encoder and 2 decoder layers",
        "Labels: 3 (a, b, c)",
        "Input: 64 x 96 (height x width), squash, bilinear, mean (0.485, 0.456, 0.406), "
        "std (0.229, 0.224, 0.225)",
        f"Written: {tmp_path / 'bundle'}",
    ]
    assert "Imported from a checkpoint" in (tmp_path / "bundle" / "README.md").read_text()
    assert "mAP" in q2l("evaluate", "--model", tmp_path / "bundle", "--data", photos, "--workers", 0).stdout

    opened = Query2Label.from_published(file, label_names=["a", "b", "c"])
    with torch.no_grad():
        again = Query2Label.from_pretrained(tmp_path / "bundle")
        image = torch.randn(1, 3, 64, 96)
        assert torch.equal(opened(image), again(image))
    photo = photos / "a" / "a.png"
    (line,) = q2l("predict", photo, "--model", tmp_path / "bundle", "--format", "jsonl").stdout.splitlines()
    with torch.no_grad():
        logits = opened(torch.from_numpy(preprocess(photo, opened.bundle.preprocess))[None])[0]
    assert list(json.loads(line)["scores"].values()) == pytest.approx(logits.sigmoid().tolist(), abs=1e-4)


def test_import__takes_the_plain_weights(file: Path, tmp_path: Path) -> None:
    averaged = q2l("import", file, "--out", tmp_path / "averaged").stdout
    plain = q2l("import", file, "--out", tmp_path / "plain", "--raw", "--heads", 2).stdout

    assert "averaged weights (EMA), state_dict_ema" in averaged
    assert "plain weights, not averaged ones, state_dict" in plain
    assert "2 heads" in plain
    files = [tmp_path / name / "model.safetensors" for name in ("averaged", "plain")]
    assert files[0].read_bytes() != files[1].read_bytes()


def test_import__tells_the_published_result(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = published.PublishedModel("Q2L-R18", "resnet18.tv_in1k", 64, 0.849)
    monkeypatch.setattr(published, "published_model", lambda _: model)

    printed = q2l("import", file, "--out", tmp_path / "bundle").stdout

    assert "it has the form of the published Q2L-R18." in printed
    assert "Published mAP: 84.9, coco14-all (40,504 validation images of MS-COCO 2014" in printed
    assert "| published.mAP | 0.849 |" in (tmp_path / "bundle" / "README.md").read_text()


def test_import__leaves_other_folders_alone(file: Path, photos: Path) -> None:
    result = q2l("import", file, "--out", photos, code=2)

    assert "holds more than a bundle" in result.stderr
    assert (photos / "a" / "a.png").exists()


def test_import__refuses_names_that_do_not_fit(file: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\nb\n")

    result = q2l("import", file, "--out", tmp_path / "bundle", "--labels", names, code=2)

    assert "There are 2 label names for a checkpoint with 3 labels" in result.stderr
    assert not (tmp_path / "bundle").exists()
