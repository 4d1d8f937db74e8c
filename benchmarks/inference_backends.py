"""What `inference.py` measures: models, and what computes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from benchmarks.plain_model import PlainQuery2Label
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from query2label.bundle import Bundle, bundle_digest
from query2label.bundle.artefact import Artefact, to_metadata
from query2label.config import ModelConfig, load_config
from query2label.data.load import load_dataset
from query2label.errors import ExportError
from query2label.export.graph import trace
from query2label.export.int8_images import calibration_images
from query2label.export.onnx import onnx_bytes, write_onnx
from query2label.export.openvino import write_openvino
from query2label.export.quantization import Quantizable
from query2label.export.run import export_bundle
from query2label.formats import ExportPrecision, ExportTarget
from query2label.inference.runtimes import load_exported
from query2label.models.build import build_model, load_model
from query2label.models.query2label import Query2Label
from query2label.preprocess import PreprocessSpec

Run = Callable[[np.ndarray], np.ndarray]

MODELS = ("r101-448", "cvt_w24-384", "laptop", "builtin", "tiny")
EXPORTED: dict[str, tuple[ExportTarget, ExportPrecision]] = {
    "onnx": ("onnx", "fp32"),
    "onnx-int8": ("onnx", "int8"),
    "openvino": ("openvino", "fp32"),
    "openvino-bf16": ("openvino", "bf16"),
    "openvino-int8": ("openvino", "int8"),
}
BACKENDS = ("plain", "ours", "compiled", "bf16", *EXPORTED)
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


@dataclass(frozen=True)
class Candidate:
    """A model, the folder of its exported files, and the photos that int8 is calibrated on."""

    name: str
    model: Query2Label
    bundle_path: Path
    folder: Path
    data: Path | None
    photos: list[np.ndarray]
    threads: int

    @classmethod
    def load(
        cls, name: str, bundle_path: Path, folder: Path, data: Path | None, num_photos: int, threads: int
    ) -> Candidate:
        """The model of a name, made where there is no bundle; with `data`, also photos of its `train`."""
        if not bundle_path.is_dir():
            build(name).save_pretrained(bundle_path)
        model = load_model(bundle_path)
        photos: list[np.ndarray] = []
        if data is not None:
            samples = load_dataset(data).select("train").samples[:num_photos]
            images = [sample.image_source() for sample in samples]
            photos = calibration_images(images, data, cast(Bundle, model.bundle))
        return cls(name, model, bundle_path, folder, data, photos, threads)

    @property
    def bundle(self) -> Bundle:
        """Of the model."""
        return cast(Bundle, self.model.bundle)

    def images(self, count: int) -> np.ndarray:
        """Photos, or noise where there are none."""
        height, width = self.bundle.preprocess.image_size
        if len(self.photos) >= count:
            return np.stack(self.photos[:count])
        return np.random.default_rng(0).normal(size=(count, 3, height, width)).astype(np.float32)

    def multiply_adds(self, backend: str) -> int:
        """Of one image, in matrix products and convolutions: the plain model's, or the optimized one's."""
        model = PlainQuery2Label(self.model) if backend == "plain" else self.model.optimize_for_inference()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.from_numpy(self.images(1)))
        return int(counter.get_total_flops()) // 2

    def run(self, backend: str) -> Run:
        """What computes logits; an exported file is made where there is none yet."""
        if backend in EXPORTED:
            to, precision = EXPORTED[backend]
            path = self.folder / f"{backend}{SUFFIXES[to]}"
            if not path.exists():
                print(f"  exporting {path}", file=sys.stderr)
                self._export(path, to, precision)
            return load_exported(path, threads=self.threads)
        if backend == "plain":
            return in_torch(PlainQuery2Label(self.model))
        optimized = self.model.optimize_for_inference()
        if backend == "compiled":
            torch.compiler.reset()  # what was compiled for another batch size
            return in_torch(torch.compile(optimized, dynamic=False))
        return in_torch(optimized, autocast=backend == "bf16")

    def _export(self, path: Path, to: ExportTarget, precision: ExportPrecision) -> None:
        """Writes a file, verified; int8 of random weights has no mAP to be held to, and so no gate."""
        if precision == "int8" and self.name != "builtin":
            self._quantize(path, to)
            return
        data = self.data if precision == "int8" else None
        try:
            verified = export_bundle(
                self.bundle_path, path, to=to, precision=precision, data=data, threads=self.threads
            )
            print(f"    {verified}", file=sys.stderr)
        except ExportError as error:
            if not path.exists():
                raise
            print(f"    {error}", file=sys.stderr)  # measured all the same: the table has the difference

    def _quantize(self, path: Path, to: ExportTarget) -> None:
        """Writes a file with all operations in 8 bits that can be; both runtimes get the same graph."""
        artefact = Artefact(
            bundle_digest=bundle_digest(self.bundle_path),
            precision="int8",
            any_image_size=False,
            attention=False,
        )
        metadata = to_metadata(self.bundle, artefact)
        graph = self.folder / "onnx-int8.onnx"
        if not graph.exists():
            program = trace(
                self.model,
                image_size=self.bundle.preprocess.image_size,
                precision="int8",
                attention=False,
                any_image_size=False,
            )
            model = Quantizable.of(onnx_bytes(program, metadata), self.photos, threads=self.threads)
            write_onnx(model.quantized(model.operations), graph)
        if to == "openvino":
            write_openvino(graph.read_bytes(), path, metadata)


def settings(name: str) -> tuple[ModelConfig, int, int]:
    """Configuration, side of the images in pixels, and number of labels."""
    if name == "laptop":
        config = load_config("laptop")
        return config.model.model_copy(update={"weights": "none"}), config.data.image_size[0], 20
    if name == "tiny":
        return ModelConfig(backbone="test_resnet", weights="none", hidden_dim=32), 64, 20
    backbone, side, width = {"r101-448": ("resnet101", 448, 2048), "cvt_w24-384": ("cvt_w24", 384, 1024)}[
        name
    ]
    return ModelConfig(backbone=backbone, weights="none", feedforward_dim=4 * width), side, 80


def build(name: str) -> Query2Label:
    """The model with random weights, in evaluation mode; what starts at zero is random as well."""
    torch.manual_seed(0)
    config, side, num_labels = settings(name)
    model = build_model(config, num_labels, image_size=(side, side)).eval()
    if config.attention == "direct":
        nn.init.normal_(model.head.output_weight, std=0.02)
        nn.init.normal_(model.head.label_queries, std=0.02)
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.constant_(module.weight, 0.2)  # the end of a residual branch
    model.bundle = Bundle(
        model=config,
        labels=tuple(f"label {index}" for index in range(num_labels)),
        preprocess=PreprocessSpec(image_size=(side, side)),
        thresholds=(0.5,) * num_labels,
    )
    return model


def in_torch(module: Callable[[Tensor], Tensor], *, autocast: bool = False) -> Run:
    """A torch module as a function of arrays, in float32 or by autocast in bfloat16."""

    @torch.inference_mode()
    def run(images: np.ndarray) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return module(torch.from_numpy(images)).float().numpy()

    return run
