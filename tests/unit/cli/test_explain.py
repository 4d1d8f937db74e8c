import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from query2label.bundle import Bundle
from query2label.cli.app import app
from query2label.cli.explain import _free_name, _names
from query2label.config import ModelConfig
from query2label.inference.explanation_files import safe_name
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec


def test_free_name__no_files_of_a_call_replace_others() -> None:
    taken: set[str] = set()
    names = [
        _free_name(Path(name), taken) for name in ("a/photo.jpg", "b/photo.png", "c/Photo.jpg", "c/...jpg")
    ]
    assert names == ["photo", "photo-2", "Photo-3", "image"]


def test_names__a_label_with_a_comma_is_known_as_a_whole() -> None:
    labels = ("salt, pepper", "salt", "oil")
    assert _names("salt, pepper", labels) == ["salt, pepper"]
    assert _names("oil, salt", labels) == ["oil", "salt"]


def test_explain__refuses_a_file_as_output_folder_before_it_starts(tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    out.touch()
    result = CliRunner().invoke(app, ["explain", "photo.jpg", "--model", "none", "--out", str(out)])
    assert result.exit_code == 2
    assert result.stderr == f"Error: --out {out} is a file: give a folder for the pictures.\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "last"], "--layer 'last' is neither a number from 1 on nor mean."),
        (["--head", "0"], "--head '0' is neither a number from 1 on nor mean or each."),
    ],
)
def test_explain__says_which_layers_and_heads_there_are(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["explain", "photo.jpg", "--out", "looks", *options])
    assert result.exit_code == 2
    assert result.stderr == f"Error: {message}\n"


MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = ("../../up", "a/b\\c:d", MARKUP, "na\u00efve \u732b", "CON", "\x00\x1b[31m", "x" * 300)


def test_explain__writes_a_sheet_a_picture_per_label_and_the_maps(tmp_path: Path) -> None:
    model = make_bundle(tmp_path / "bundle")
    Image.effect_noise((70, 50), 80).save(tmp_path / "photo.png")
    out = tmp_path / "out" / "looks"
    command = ["explain", str(tmp_path / "photo.png"), "--model", str(model), "--out", str(out)]

    result = CliRunner().invoke(app, [*command, "--head", "each", "--labels", MARKUP])

    assert result.exit_code == 0
    assert result.stdout == f"{out / 'photo.png'}\n"
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    picture = "01-_img_src_x_onerror_alert_1_.png"
    assert written == ["looks/photo.png", f"looks/photo/{picture}", "looks/photo/maps.npz"]
    with np.load(out / "photo" / "maps.npz", allow_pickle=False) as maps:
        assert maps["labels"].tolist() == [MARKUP]
        assert maps["maps"].shape == (1, 2, 3)
        assert maps["head_maps"].shape == (1, 4, 2, 3)
        np.testing.assert_allclose(maps["head_maps"].mean(1), maps["maps"], atol=1e-6)
        assert maps["heat"].shape == (1, 50, 70)
        assert maps["heat"].max() == 1
        assert maps["image_size"].tolist() == [50, 70]
        assert (str(maps["method"]), str(maps["layer"]), str(maps["head"])) == ("attention", "mean", "each")
        assert maps["thresholds"] == [0.0]

    assert CliRunner().invoke(app, [*command, "--method", "gradcam"]).exit_code == 0
    names = [path.name for path in (out / "photo").glob("*.png")]
    assert len(names) == 5
    assert picture not in names
    assert all(name.removesuffix(".png").replace("_", "").replace("-", "").isalnum() for name in names)


def make_bundle(folder: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=16)
    model = build_model(config, len(HOSTILE), image_size=(64, 96))
    model.bundle = Bundle(
        model=config,
        labels=HOSTILE,
        preprocess=PreprocessSpec(image_size=(64, 96)),
        thresholds=(0.0,) * len(HOSTILE),
    )
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("text", [*HOSTILE, "", "---", "\u732b"])
def test_safe_name__is_one_part_of_a_path_on_any_system(text: str) -> None:
    name = safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name)


def test_safe_name__keeps_what_can_be_read() -> None:
    assert safe_name("potted plant") == "potted_plant"
    assert safe_name("na\u00efve") == "naive"
