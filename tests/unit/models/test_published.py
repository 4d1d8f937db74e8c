import contextlib
import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from query2label.errors import BundleError, ConfigError
from query2label.models.coco_labels import COCO_LABELS
from query2label.models.published import load_published
from query2label.models.published_forms import recognize

DIM, HIDDEN = 16, 24
Make = Callable[..., dict[str, torch.Tensor]]


def save(content: object, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def logits_of(path: Path, **options: Any) -> torch.Tensor:
    model = load_published(path, **options)
    with torch.no_grad():
        return model(torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)))


@pytest.fixture
def file(checkpoint: Make, tmp_path: Path) -> Path:
    return save({"state_dict": checkpoint()}, tmp_path / "checkpoint.pkl")


def test_load_published__tells_every_size(file: Path) -> None:
    bundle = load_published(file).bundle

    assert bundle is not None
    assert bundle.model.model_dump(exclude_defaults=True) == {
        "backbone": "resnet18.tv_in1k",
        "weights": "none",
        "freeze": "stem",
        "freeze_norm": True,
        "hidden_dim": DIM,
        "feedforward_dim": HIDDEN,
        "keep_input_projection": True,
        "stored_position": (2, 3),
    }
    assert bundle.preprocess.image_size == (64, 96)
    assert bundle.labels == ("label 0", "label 1", "label 2")
    assert bundle.thresholds == (0.5,) * 3
    assert bundle.threshold_rule == "fixed 0.5, not fitted"
    assert bundle.metrics == {}
    assert bundle.origin.startswith(
        "Imported from a checkpoint of the authors' code (arXiv:2107.10834), checkpoint.pkl (its only weights"
    )
    assert set(bundle.versions) == {"query2label", "torch", "timm"}


def test_load_published__names_labels(checkpoint: Make, tmp_path: Path, file: Path) -> None:
    of_coco = save({"state_dict": checkpoint(80)}, tmp_path / "coco.pkl")

    assert load_published(file, label_names=["c", "a", "b"]).bundle.labels == ("c", "a", "b")
    assert load_published(of_coco).bundle.labels == COCO_LABELS
    assert (COCO_LABELS[0], COCO_LABELS[11], COCO_LABELS[79]) == ("person", "stop sign", "toothbrush")
    with pytest.raises(ConfigError, match="There are 2 label names for a checkpoint with 3 labels"):
        load_published(file, label_names=["a", "b"])
    with pytest.raises(ConfigError, match="Label 'a' occurs twice"):
        load_published(file, label_names=["a", "b", "a"])


def test_coco_labels__are_those_of_the_data_set(coco_sample: Path) -> None:
    from query2label.data.load import load_dataset

    assert load_dataset(coco_sample).labels.names == COCO_LABELS


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema"])
def test_load_published__prefers_averaged_weights(checkpoint: Make, tmp_path: Path, key: str) -> None:
    plain, averaged = checkpoint(seed=1), checkpoint(seed=2)
    inside = {f"module.{name}": tensor for name, tensor in averaged.items()}
    both = save({"state_dict": plain, key: inside}, tmp_path / "both.pkl")
    only_plain = save(plain, tmp_path / "plain.pkl")
    only_averaged = save({"model": averaged}, tmp_path / "averaged.pkl")

    assert torch.equal(logits_of(both), logits_of(only_averaged))
    assert torch.equal(logits_of(both, use_ema=False), logits_of(only_plain))
    assert not torch.equal(logits_of(only_plain), logits_of(only_averaged))
    assert f"(its averaged weights (EMA), {key})" in load_published(both).bundle.origin
    assert (
        "(its plain weights, not averaged ones, state_dict)"
        in load_published(both, use_ema=False).bundle.origin
    )
    assert "(the only weights in it)" in load_published(only_plain).bundle.origin


def test_load_published__says_that_weights_of_several_gpus_are_plain(
    checkpoint: Make, tmp_path: Path
) -> None:
    weights = {f"module.{name}": tensor for name, tensor in checkpoint().items()}

    model = load_published(save({"state_dict": weights}, tmp_path / "c.pkl"))

    assert "its plain weights, not averaged ones" in model.bundle.origin


def test_load_published__reads_safetensors_and_half_precision(
    checkpoint: Make, tmp_path: Path, file: Path
) -> None:
    save_file(checkpoint(), tmp_path / "c.safetensors")
    half = {name: tensor.half() for name, tensor in checkpoint().items()}
    save_file(half, tmp_path / "half.safetensors")

    assert torch.equal(logits_of(tmp_path / "c.safetensors"), logits_of(file))
    torch.testing.assert_close(logits_of(tmp_path / "half.safetensors"), logits_of(file), rtol=0, atol=0.02)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("numpy_module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_load_published__takes_what_a_trainer_keeps_beside_weights(
    checkpoint: Make, tmp_path: Path, file: Path, zipped: bool, numpy_module: bytes
) -> None:
    content = {
        "epoch": 17,
        "arch": "Q2L-R101-448",
        "best_mAP": np.float64(84.9),
        "lrs": [np.float32(1e-4), np.int64(3), np.bool_(True)],
        "state_dict": checkpoint(),
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}},
            "param_groups": [],
        },
    }
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    path = tmp_path / "model_best.pth.tar"
    written = re.compile(rb"numpy\.(?:_core|core)\.multiarray")
    path.write_bytes(
        rezipped(buffer.getvalue(), written, numpy_module)
        if zipped
        else written.sub(numpy_module, buffer.getvalue())
    )

    assert torch.equal(logits_of(path), logits_of(file))


def rezipped(archive: bytes, pattern: re.Pattern[bytes], replacement: bytes, **options: Any) -> bytes:
    """A PyTorch archive with its pickle changed, or packed in another way."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, pattern.sub(replacement, data) if name.endswith("data.pkl") else data)
    return target.getvalue()


class Payload:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


class InScalar(Payload):
    """Hidden in what looks like a NumPy scalar."""

    def __reduce__(self) -> Any:
        function = np.float64(1).__reduce__()[0]
        return function, (np.dtype("O"), Payload(self.path))


class InDtype(Payload):
    """Hidden in the state of what looks like a NumPy type."""

    def __reduce__(self) -> Any:
        return np.dtype, ("f8", False, True), (3, "<", None, None, None, -1, -1, Payload(self.path))


class Evaluated(Payload):
    """A call of a builtin."""

    def __reduce__(self) -> Any:
        return eval, (f"__import__('pathlib').Path({str(self.path)!r}).touch()",)


@pytest.mark.parametrize("kind", [Payload, InScalar, InDtype, Evaluated])
@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_load_published__never_runs_what_a_file_says(
    checkpoint: Make, tmp_path: Path, kind: type[Payload], form: str
) -> None:
    mark, path = tmp_path / "sprung", tmp_path / "checkpoint.pkl"
    content = {"state_dict": checkpoint(), "best_mAP": kind(mark)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(kind(mark), protocol=2))
    else:
        save(content, path, _use_new_zipfile_serialization=form == "zip")

    with pytest.raises(
        BundleError, match=r"checkpoint\.pkl holds Python objects or is damaged: such a file could run"
    ):
        load_published(path)
    assert not mark.exists()


def test_load_published__the_payloads_would_run(tmp_path: Path) -> None:
    for kind in (Payload, InScalar, InDtype, Evaluated):
        mark = tmp_path / kind.__name__
        with contextlib.suppress(TypeError, ValueError, DeprecationWarning):  # but first it runs
            pickle.loads(pickle.dumps(kind(mark)))
        assert mark.exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # TorchScript is deprecated, but its files are around
def test_load_published__refuses_an_archive_of_code(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "scripted.pt")

    with pytest.raises(BundleError, match=r"scripted\.pt"):
        load_published(tmp_path / "scripted.pt")


def test_load_published__refuses_archives_that_unpack_to_more(tmp_path: Path, file: Path) -> None:
    packed = rezipped(file.read_bytes(), re.compile(b"$^"), b"", compression=zipfile.ZIP_DEFLATED)
    file.write_bytes(packed)

    with pytest.raises(BundleError, match="unpacks to more than it is, as no file of PyTorch does"):
        load_published(file)


def test_load_published__refuses_tensors_larger_than_the_file(checkpoint: Make, tmp_path: Path) -> None:
    weights = checkpoint()
    weights["fc.W"] = torch.zeros(1).expand(1, 3, 4096, 4096)[..., 0]
    weights["transformer.decoder.layers.0.linear1.weight"] = torch.zeros(1).expand(65536, 65536)

    with pytest.raises(BundleError, match=r"claims tensors larger than itself"):
        load_published(save(weights, tmp_path / "c.pkl"))


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(2, 2).to_sparse(), torch.zeros(2, dtype=torch.complex64), torch.empty(2, device="meta")],
    ids=["sparse", "complex", "meta"],
)
def test_load_published__refuses_tensors_without_plain_values(
    checkpoint: Make, tmp_path: Path, tensor: torch.Tensor
) -> None:
    with pytest.raises(BundleError, match=r"c\.pkl does not hold named tensors"):
        load_published(save({**checkpoint(), "fc.b": tensor}, tmp_path / "c.pkl"))


def test_load_published__lists_what_is_missing_and_left_over(checkpoint: Make, tmp_path: Path) -> None:
    weights = checkpoint()
    for name in (
        "fc.b",
        "backbone.0.body.layer2.0.bn1.bias",
        "transformer.decoder.layers.1.multihead_attn.in_proj_bias",
    ):
        del weights[name]
    weights |= {"transformer.encoder.norm.weight": torch.ones(DIM), "backbone.0.body.layer5.x": torch.ones(1)}

    with pytest.raises(BundleError) as caught:
        load_published(save(weights, tmp_path / "c.pkl"))

    assert str(caught.value) == (
        f"The checkpoint {tmp_path / 'c.pkl'} does not fit the model that its shapes tell of; "
        "missing: backbone.0.body.layer2.0.bn1.bias, fc.b, "
        "transformer.decoder.layers.1.multihead_attn.in_proj_bias; "
        "left over: backbone.0.body.layer5.x, transformer.encoder.norm.weight."
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("fc.b", (2, 3)),
        ("fc.b", ()),
        ("query_embed.weight", (4, DIM)),
        ("fc.W", (2, 3, DIM)),
        ("transformer.encoder.layers.0.self_attn.in_proj_weight", ()),
        ("transformer.encoder.layers.0.self_attn.in_proj_weight", (2, DIM)),
        ("transformer.decoder.layers.1.linear1.weight", (HIDDEN + 1, DIM)),
        ("backbone.1.pe", (2, DIM, 2, 3)),
        ("backbone.0.body.conv1.weight", (64, 4, 7, 7)),
    ],
)
def test_load_published__refuses_shapes_that_disagree(
    checkpoint: Make, tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    weights = {**checkpoint(), name: torch.zeros(shape)}

    with pytest.raises(BundleError, match=r"does not fit the model; of another shape: "):
        load_published(save(weights, tmp_path / "c.pkl"))


def test_load_published__refuses_another_model(tmp_path: Path, file: Path) -> None:
    weights = torchvision.models.resnet18(weights=None).state_dict()
    with pytest.raises(
        BundleError, match=r"not a checkpoint of the authors' Query2Label: it lacks fc\.W, backbone\.1\.pe"
    ):
        load_published(save(weights, tmp_path / "c.pkl"))
    for content in ({}, [1, 2], {"state_dict": {"epoch": 3}}):
        with pytest.raises(BundleError, match=r"it lacks fc\.W|does not hold named tensors"):
            load_published(save(content, tmp_path / "c.pkl"))


@pytest.mark.parametrize("change", ["deeper", "unknown"])
def test_load_published__says_which_backbones_are_known(
    checkpoint: Make, tmp_path: Path, change: str
) -> None:
    weights = checkpoint()
    if change == "deeper":
        weights["backbone.0.body.layer3.2.conv1.weight"] = torch.zeros(1)
    else:
        weights = {
            name.replace("backbone.0.body.", "backbone.0.trunk."): tensor for name, tensor in weights.items()
        }

    with pytest.raises(BundleError, match=r"backbone that is not known; known are resnet18, .*, cvt_w24\."):
        load_published(save(weights, tmp_path / "c.pkl"))


def test_load_published__refuses_sizes_that_cannot_be(checkpoint: Make, tmp_path: Path) -> None:
    weights = checkpoint()
    weights["backbone.1.pe"] = torch.zeros(1, DIM, 1, 5000)
    with pytest.raises(
        BundleError, match=r"sizes that no model here can have: stored_position\.1: Input should be less"
    ):
        load_published(save(weights, tmp_path / "c.pkl"))


@pytest.mark.parametrize("heads", [0, 3, -4])
def test_load_published__refuses_heads_that_do_not_divide(file: Path, heads: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"width {DIM}, which {heads} attention heads do not divide: give as many"
    ):
        load_published(file, num_heads=heads)


def test_load_published__says_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint .*nothing\.pkl is not there: give the file"):
        load_published(tmp_path / "nothing.pkl")
    with pytest.raises(ConfigError, match=r"is a folder: give the file"):
        load_published(tmp_path)


KNOWN = {
    "ResNet": ("backbone.0.body.layer{}.{}.bn1.weight", 1, "backbone.0.body.layer1.0.conv1.weight"),
    "TResNet": ("backbone.0.body.body.layer{}.{}.conv2.1.bias", 1, "backbone.0.body.body.conv1.0.weight"),
    "Swin": (
        "backbone.0.layers.{}.blocks.{}.norm1.bias",
        0,
        "backbone.0.layers.0.blocks.0.attn.relative_position_bias_table",
    ),
    "CvT": ("backbone.0.stage{}.blocks.{}.norm1.bias", 0, "backbone.0.stage2.cls_token"),
}


@pytest.mark.parametrize(
    ("family", "depths", "shape", "backbone", "image_size"),
    [
        ("ResNet", (2, 2, 2, 2), (64, 64, 3, 3), "resnet18.tv_in1k", 64),
        ("ResNet", (3, 4, 6, 3), (64, 64, 3, 3), "resnet34.tv_in1k", 64),
        ("ResNet", (3, 4, 6, 3), (64, 64, 1, 1), "resnet50.tv_in1k", 64),
        ("ResNet", (3, 4, 23, 3), (64, 64, 1, 1), "resnet101.tv_in1k", 64),
        ("TResNet", (4, 5, 18, 3), (76, 48, 3, 3), "tresnet_l.miil_in1k_448", 64),
        ("TResNet", (4, 5, 24, 3), (83, 48, 3, 3), "tresnet_xl.miil_in1k_448", 64),
        ("TResNet", (3, 4, 23, 3), (64, 48, 3, 3), "tresnet_v2_l.miil_in21k", 64),
        ("Swin", (2, 2, 18, 2), (169, 4), "swin_base_patch4_window7_224.ms_in22k", 64),
        ("Swin", (2, 2, 18, 2), (529, 6), "swin_large_patch4_window12_384.ms_in22k", 64),
        ("CvT", (2, 2, 20), (1, 1, 1024), "cvt_w24", 32),
    ],
)
def test_recognize__backbones(
    checkpoint: Make, family: str, depths: Any, shape: Any, backbone: str, image_size: int
) -> None:
    weights = {name: tensor for name, tensor in checkpoint(map_size=(2, 2)).items() if ".body." not in name}
    template, first, telltale = KNOWN[family]
    for stage, depth in enumerate(depths, start=first):
        weights |= {template.format(stage, block): torch.zeros(1) for block in range(depth)}
    weights[telltale] = torch.zeros(shape)

    form = recognize(weights, num_heads=4, source="It")

    assert (form.family, form.model.backbone) == (family, backbone)
    assert form.preprocess.image_size == (image_size, image_size)
    assert form.preprocess.mean == ((0, 0, 0) if family == "TResNet" else (0.485, 0.456, 0.406))
