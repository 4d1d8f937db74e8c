import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from query2label.errors import BundleError, ConfigError
from query2label.models.weights import load_strictly, read_weights_file

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, -1.0])}


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"state_dict": x}, lambda x: {"model": x, "epoch": 3}]
)
def test_read_weights_file__reads_pytorch_files_of_tensors(tmp_path: Path, wrap: object) -> None:
    torch.save(wrap(TENSORS), tmp_path / "w.pth")

    weights = read_weights_file(tmp_path / "w.pth")

    assert list(weights) == ["weight", "bias"]
    assert torch.equal(weights["weight"], TENSORS["weight"])


def test_read_weights_file__reads_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors")

    assert torch.equal(read_weights_file(tmp_path / "w.safetensors")["bias"], TENSORS["bias"])


def test_read_weights_file__says_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no weights file .*w\.pth: model\.weights is"):
        read_weights_file(tmp_path / "w.pth")


def test_read_weights_file__takes_a_tensor_called_model_for_a_tensor(tmp_path: Path) -> None:
    torch.save({"model": torch.ones(3)}, tmp_path / "w.pth")
    assert list(read_weights_file(tmp_path / "w.pth")) == ["model"]


def test_read_weights_file__ends_where_a_file_holds_itself(tmp_path: Path) -> None:
    content: dict[str, object] = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BundleError, match=r"w\.pth does not hold named tensors"):
        read_weights_file(tmp_path / "w.pth")


def test_read_weights_file__never_runs_what_a_file_says(tmp_path: Path) -> None:
    torch.save({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol=2))

    for name in ("trap.pth", "old.pth"):
        with pytest.raises(BundleError, match=rf"{name} holds Python objects or is damaged"):
            read_weights_file(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_read_weights_file__says_that_a_file_is_cut_off(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_file(TENSORS, path) if path.suffix == ".safetensors" else torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(BundleError, match=rf"{name} (cannot be read|holds Python objects or is damaged)"):
        read_weights_file(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"version https://git-lfs.github.com/spec/v1\n"])
def test_read_weights_file__says_that_other_files_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)

    with pytest.raises(BundleError, match=r"w\.pth (cannot be read: it is cut off, or no file|holds Python)"):
        read_weights_file(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [[1, 2], {"a": 1.0}, torch.zeros(2)])
def test_read_weights_file__wants_named_tensors(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")

    with pytest.raises(BundleError, match="does not hold named tensors"):
        read_weights_file(tmp_path / "w.pth")


def test_load_strictly__fills_the_module() -> None:
    module = nn.Linear(3, 2)

    load_strictly(module, TENSORS, source="A file")

    assert torch.equal(module.weight, TENSORS["weight"])


def test_load_strictly__lists_what_does_not_fit() -> None:
    module = nn.Linear(3, 2)
    before = module.weight.detach().clone()
    weights = {"weight": torch.zeros(2, 4), **{f"extra{i}": torch.zeros(1) for i in range(6)}}

    with pytest.raises(BundleError) as caught:
        load_strictly(module, weights, source="The weights file w.pth")

    assert str(caught.value) == (
        "The weights file w.pth does not fit the model; missing: bias; "
        "left over: extra0, extra1, extra2, extra3 and 2 more; "
        "of another shape: weight (2, 4) instead of (2, 3)."
    )
    assert torch.equal(module.weight, before)
