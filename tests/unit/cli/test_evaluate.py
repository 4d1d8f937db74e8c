"""`q2l evaluate` and `q2l thresholds` on a small bundle: what is printed, written and changed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from query2label.bundle import Bundle, read_bundle
from query2label.cli.app import app
from query2label.config import ModelConfig
from query2label.evaluation.evaluate import evaluate
from query2label.evaluation.paper_table import Method, Style, paper_table
from query2label.evaluation.protocols import PROTOCOLS
from query2label.inference.predictor import Predictor
from query2label.models.build import build_model
from query2label.preprocess import PreprocessSpec
from query2label.storage import sha256_of

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "140"})
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,labels,split"]
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        labels = "|".join(name for name in ("cat", "dog") if rng.random() < 0.6)
        lines.append(f"{number}.png,{labels},{'val' if number < 7 else 'test'}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(backbone="test_resnet", weights="none", hidden_dim=16)
    model = build_model(config, 2)
    model.bundle = Bundle(
        model=config,
        labels=("cat", "dog"),
        preprocess=PreprocessSpec(image_size=(32, 32)),
        thresholds=(0.5, 0.5),
        metrics={"mAP": 0.9, "CF1": 0.8},
    )
    model.save_pretrained(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_evaluate__prints_the_headline_and_writes_the_report(
    run: Run, bundle: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run("evaluate", "--model", bundle, "--data", data, "--workers", 0, "--out", out)
    expected = evaluate(Predictor.load(bundle, device="cpu"), data)
    assert result.stdout.startswith(f"mAP {100 * expected.map:.1f} (95% interval")
    assert (
        "5 images: plain (average precision as scikit-learn's): split test of data (table)" in result.stdout
    )
    assert json.loads((out / "report.json").read_text()) == json.loads(expected.to_json())
    assert (out / "labels.csv").read_text().startswith("label,num_positives,")


def test_evaluate__prints_json_and_nothing_else(run: Run, bundle: Path, data: Path) -> None:
    options = ("--workers", 0, "--split", "val", "--top-k", 1, "--resamples", 0, "--json")
    report = json.loads(run("evaluate", "--model", bundle, "--data", data, *options).stdout)
    assert report["num_images"] == 7
    assert report["map_interval"] is None
    assert list(report["decisions"]) == ["thresholds", "0.5", "top-1", "top-1 at 0.5"]


def test_evaluate_and_thresholds__take_the_layout_and_the_folder_of_the_images(
    run: Run, bundle: Path, data: Path, tmp_path: Path
) -> None:
    expected = evaluate(bundle, data).to_dict() | {"protocol": ""}
    labels = tmp_path / "elsewhere" / "labels.csv"
    labels.parent.mkdir()
    (data / "labels.csv").rename(labels)
    options = (
        "--model",
        bundle,
        "--data",
        labels,
        "--images",
        data,
        "--data-format",
        "table",
        "--workers",
        0,
    )
    report = json.loads(run("evaluate", *options, "--json").stdout)
    assert report | {"protocol": ""} == json.loads(json.dumps(expected))
    assert "elsewhere" not in report["protocol"]
    run("thresholds", *options)
    assert read_bundle(bundle).threshold_rule == "f1 on 7 images"


def test_evaluate__takes_a_protocol(run: Run, bundle: Path, data: Path) -> None:
    options = ("evaluate", "--model", bundle, "--data", data, "--workers", 0)
    expected = evaluate(bundle, data, protocol="voc-allpoint")
    text = run(*options, "--protocol", "voc-allpoint").stdout
    assert text.startswith(f"mAP (all-point) {100 * expected.map_voc:.1f} (95% interval")
    report = json.loads(run(*options, "--protocol", "voc-allpoint", "--json").stdout)
    assert report == json.loads(expected.to_json())
    assert report["headline_ap"] == "voc"
    wrong = run(*options, "--protocol", "coco", code=2)
    assert wrong.stderr == f"Error: Unknown protocol 'coco': choose {', '.join(PROTOCOLS)}.\n"
    both = run(*options, "--protocol", "voc-11pt", "--difficult", "positive", code=2)
    assert both.stderr == (
        "Error: In the protocol voc-11pt, what becomes of difficult objects is 'ignore', not 'positive': "
        "leave one of the two out.\n"
    )


def test_evaluate__refuses_a_protocol_of_other_images_with_the_counts(
    run: Run, bundle: Path, data: Path
) -> None:
    options = ("evaluate", "--model", bundle, "--data", data, "--workers", 0)
    assert run(*options, "--protocol", "coco14-all", code=2).stderr == (
        f"Error: Protocol coco14-all is 40,504 images with 80 labels; {data} has 7 images with 2 labels in "
        "split val: evaluate without a protocol, or with plain.\n"
    )
    assert run(*options, "--protocol", "vg500", "--split", "val", code=2).stderr == (
        "Error: The protocol vg500 is measured on the split test, not 'val': leave one of the two out.\n"
    )


def test_evaluate__prints_the_tables_of_papers_and_nothing_else(run: Run, bundle: Path, data: Path) -> None:
    options = ("evaluate", "--model", bundle, "--data", data, "--workers", 0, "--resamples", 0)
    report = evaluate(bundle, data, num_resamples=0, protocol="voc-11pt")
    method = Method("query2label", "test_resnet", (32, 32))
    styles: dict[str, Style] = {"paper": "text", "paper-markdown": "markdown", "paper-latex": "latex"}
    for form, style in styles.items():
        printed = run(*options, "--protocol", "voc-11pt", "--format", form).stdout
        assert printed == paper_table(report, method, style=style) + "\n"


def test_evaluate__has_one_form_of_output(run: Run, bundle: Path, data: Path) -> None:
    options = ("evaluate", "--model", bundle, "--data", data, "--workers", 0, "--resamples", 0)
    as_json = run(*options, "--json").stdout
    assert json.loads(as_json)["num_images"] == 5
    assert run(*options, "--format", "json").stdout == as_json
    assert run(*options, "--format", "text").stdout == run(*options).stdout
    assert run(*options, "--json", "--format", "paper", code=2).stderr == (
        "Error: --json and --format paper contradict each other: leave one of the two out.\n"
    )


def test_evaluate__its_help_names_every_protocol(run: Run) -> None:
    text = run("evaluate", "--help").stdout
    assert all(name in text for name in PROTOCOLS)


@pytest.mark.parametrize("command", ["evaluate", "thresholds"])
def test_evaluate_and_thresholds__mistakes_in_how_the_data_lie_are_one_sentence(
    run: Run, bundle: Path, data: Path, command: str
) -> None:
    options = (command, "--model", bundle, "--data", data)
    result = run(*options, "--images", data / "nowhere", code=2)
    assert result.stderr == f"Error: The folder of images {data / 'nowhere'} does not exist.\n"
    result = run(*options, "--images", data, "--data-format", "sidecar", code=2)
    assert "has its labels beside the images: leave image_root out" in result.stderr
    assert "--format" in run(*options, "--format", "table", code=2).stderr


def test_evaluate__refuses_a_file_as_output_folder_before_it_starts(
    run: Run, bundle: Path, data: Path
) -> None:
    out = data / "labels.csv"
    result = run("evaluate", "--model", bundle, "--data", data, "--out", out, code=2)
    assert f"--out {out} is a file: give a folder" in result.stderr


def test_evaluate__a_bundle_path_gives_the_same_report_as_its_predictor(bundle: Path, data: Path) -> None:
    assert evaluate(bundle, data) == evaluate(Predictor.load(bundle, device="cpu"), data)


def test_thresholds__fits_on_the_validation_split_and_leaves_the_weights(
    run: Run, bundle: Path, data: Path
) -> None:
    weights = sha256_of(bundle / "model.safetensors")
    result = run("thresholds", "--model", bundle, "--data", data, "--rule", "recall=1", "--workers", 0)
    changed = read_bundle(bundle)
    assert changed.threshold_rule == "recall=1 on 7 images"
    assert changed.thresholds != (0.5, 0.5)
    assert changed.metrics["num_images"] == 7
    assert f"{changed.thresholds[0]:.3f}" in result.stdout
    assert sha256_of(bundle / "model.safetensors") == weights
    report = evaluate(bundle, data, split="val")
    assert report.decisions["thresholds"].cr == 1.0
    assert changed.metrics["mAP"] == pytest.approx(report.map)


def test_thresholds__sets_one_for_all_without_data(run: Run, bundle: Path) -> None:
    result = run("thresholds", "--model", bundle, "--set-all", "0.3")
    changed = read_bundle(bundle)
    assert (changed.thresholds, changed.threshold_rule) == ((0.3, 0.3), "fixed 0.3")
    assert changed.metrics == {"mAP": 0.9}
    assert "Rule: fixed 0.3. Temperature 1.000." in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give either --data to fit thresholds on, or --set-all"),
        (("--data", "x", "--set-all", "0.5"), "Give either --data to fit thresholds on, or --set-all"),
        (("--data", "x", "--rule", "f2"), "Unknown threshold rule 'f2'"),
        (("--data", "x"), "does not exist"),
    ],
)
def test_thresholds__mistakes_are_one_sentence_and_change_nothing(
    run: Run, bundle: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = sha256_of(bundle / "config.json")
    result = run("thresholds", "--model", bundle, *arguments, code=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sha256_of(bundle / "config.json") == before


def test_thresholds__needs_a_bundle_on_this_machine(run: Run) -> None:
    result = run("thresholds", "--model", "someone/model", "--set-all", "0.5", code=2)
    assert "There is no bundle at someone/model" in result.stderr


def test_evaluate__a_narrow_terminal_cuts_no_number(bundle: Path, data: Path) -> None:
    arguments = ["evaluate", "--model", str(bundle), "--data", str(data), "--workers", "0"]
    wide, narrow = (CliRunner().invoke(app, arguments, env={"COLUMNS": columns}) for columns in ("80", "30"))
    assert narrow.stdout == wide.stdout
    assert "sample F1" in narrow.stdout


def test_evaluate__says_what_was_left_out_of_the_data(run: Run, bundle: Path, data: Path) -> None:
    table = data / "labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},weather", *(f"{line},fine" for line in lines[1:])]))
    options = ("evaluate", "--model", bundle, "--data", data, "--workers", 0)
    note = "Columns that were not used: weather."
    assert f"Note: {note}" in run(*options).stdout
    assert json.loads(run(*options, "--json").stdout)["notes"] == [note]
