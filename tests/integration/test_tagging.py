"""Real processes of `q2l predict` over many images: killed twenty times, and on a Ray cluster."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from query2label.bundle import Bundle
from query2label.bundle.artefact import Artefact, to_metadata
from query2label.config import ModelConfig
from query2label.preprocess import PreprocessSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NUM_IMAGES, PART_SIZE, NUM_KILLS = 150, 2, 20


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported file whose logits are the mean red, green and blue: it starts fast."""
    bundle = Bundle(
        model=ModelConfig(backbone="test_resnet", weights="none"),
        labels=("red", "green", "blue"),
        preprocess=PreprocessSpec(image_size=(64, 64)),
        thresholds=(0.5, 0.5, 0.5),
    )
    artefact = Artefact(bundle_digest="", precision="fp32", any_image_size=False, attention=False)
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ReduceMean", ["images", "axes"], ["logits"], keepdims=0)],
        "mean",
        [onnx.helper.make_tensor_value_info("images", float32, ["batch", 3, 64, 64])],
        [onnx.helper.make_tensor_value_info("logits", float32, ["batch", 3])],
        [onnx.numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(made, to_metadata(bundle, artefact))
    path = tmp_path_factory.mktemp("model") / "mean.onnx"
    path.write_bytes(made.SerializeToString())
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small JPEG files of noise in two folders; every fiftieth is broken."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        path = folder / "ab"[number % 2] / f"{number:03d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number % 50 == 7:
            path.write_bytes(b"\xff\xd8\xff no picture")
            continue
        coarse = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC).save(path)
    return folder


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "query2label", "predict", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def parts_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*"))


def run(*arguments: object) -> str:
    process = start(*arguments)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return output


def wait_for_a_random_moment(process: subprocess.Popen[str], out: Path, draw: random.Random) -> None:
    """Up to a second after the start, or a moment after a part was written: it has to get on."""
    if draw.random() < 0.25:
        time.sleep(draw.uniform(0, 1))
        return
    before = len(parts_in(out))
    while process.poll() is None and len(parts_in(out)) == before:
        time.sleep(0.002)
    time.sleep(draw.uniform(0, 0.03))


@pytest.mark.parametrize("form", ["parquet"])
def test_predict__killed_twenty_times_ends_as_if_it_had_not_been(
    model: Path, photos: Path, tmp_path: Path, form: str
) -> None:
    options = (photos, "--model", model, "--part-size", PART_SIZE, "--format", form)
    run(*options, "--out", tmp_path / "whole")
    whole = content(tmp_path / "whole")
    assert len(whole) == 1 + NUM_IMAGES // PART_SIZE
    out = tmp_path / "killed"
    draw = random.Random(0)
    kills = 0
    while kills < NUM_KILLS:
        process = start(*options, "--out", out)
        wait_for_a_random_moment(process, out, draw)
        process.kill()
        process.communicate()
        kills += process.returncode != 0
        parts = parts_in(out)
        assert all(part.read_bytes() == whole[part.name] for part in parts)
        if process.returncode == 0:  # all was done before all kills: some of it is to be done again
            for part in draw.sample(parts, 40):
                part.unlink()
    output = run(*options, "--out", out)
    assert output == f"Written: {out} has all {NUM_IMAGES // PART_SIZE} parts of {NUM_IMAGES} images.\n"
    assert content(out) == whole


def test_predict__on_ray_writes_the_same(model: Path, photos: Path, tmp_path: Path) -> None:
    options = (photos, "--model", model, "--part-size", 20, "--keep-logits", "--threads", 1)
    run(*options, "--out", tmp_path / "local")
    run(*options, "--out", tmp_path / "ray", "--engine", "ray")
    assert len(content(tmp_path / "local")) == 9
    assert content(tmp_path / "ray") == content(tmp_path / "local")
