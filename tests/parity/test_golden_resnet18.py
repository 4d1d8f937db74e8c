"""The authors' answers for weights that anyone can rebuild (shared/golden/README.md)."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from query2label.config import ModelConfig
from query2label.models.build import build_model
from query2label.models.position import sine_position_encoding
from query2label.models.published import rename_published
from query2label.models.weights import load_strictly

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the golden cases are not at {GOLDEN}")


def draw(name: str, shape: list[int]) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    noise = rng.standard_normal(shape, dtype=np.float32)
    leaf = name.rpartition(".")[2]
    if leaf == "running_var":
        return 1 + 0.1 * np.abs(noise)
    if leaf == "running_mean":
        return 0.1 * noise
    if leaf in {"bias", "in_proj_bias", "b"}:
        return 0.02 * noise
    if name.endswith("query_embed.weight"):
        return noise
    if leaf == "W":
        return noise / np.sqrt(shape[-1])
    if len(shape) == 1:
        return np.where(noise > 1.5, -1, 1) * (1 + 0.1 * noise)
    return noise * np.sqrt(1 / np.prod(shape[1:]))


def published_weights(keys: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    weights = {
        name: torch.from_numpy(np.asarray(draw(name, shape), np.float32)) for name, shape in keys.items()
    }
    _, dim, height, width = keys["backbone.1.pe"]
    position = sine_position_encoding(height, width, dim)
    weights["backbone.1.pe"] = position.transpose(1, 2).reshape(1, dim, height, width)
    return weights


@pytest.mark.parametrize("name", ["R18-96-plain", "R18-96-selfattn"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_query2label__answers_as_the_authors_code(name: str, prefix: str) -> None:
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    settings = dict(case["model"])
    size, num_labels = settings.pop("image_size"), settings.pop("num_labels")
    model = build_model(ModelConfig(weights="none", **settings), num_labels).eval()
    weights = {prefix + key: tensor for key, tensor in published_weights(case["keys"]).items()}
    load_strictly(model, rename_published(weights), source=name)
    rng = np.random.Generator(np.random.PCG64(7))
    image = torch.from_numpy(rng.standard_normal((1, 3, size, size), dtype=np.float32))

    with torch.no_grad():
        logits = model(image)
        with_attention, _ = model.forward_with_attention(image)

    expected = torch.tensor(case["logits"]).reshape(1, -1)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(with_attention, expected, rtol=0, atol=1e-4)
