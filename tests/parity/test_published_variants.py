"""Checkpoints of the authors' form that nobody published, against other implementations of their parts."""

import math
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from query2label import Query2Label


class EncoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads)
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, tokens: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        placed = tokens + position
        tokens = self.norm1(tokens + self.self_attn(placed, placed, tokens)[0])
        return self.norm2(tokens + self.linear2(self.linear1(tokens).relu()))


class DecoderLayer(EncoderLayer):
    def __init__(self, dim: int, heads: int, hidden: int, *, self_attention: bool) -> None:
        super().__init__(dim, heads, hidden)
        self.multihead_attn, self.norm3 = nn.MultiheadAttention(dim, heads), nn.LayerNorm(dim)
        if not self_attention:
            del self.self_attn, self.norm1

    def look(self, target: torch.Tensor, query: torch.Tensor, memory: torch.Tensor, position: torch.Tensor):
        if hasattr(self, "self_attn"):
            asking = target + query
            target = self.norm1(target + self.self_attn(asking, asking, target)[0])
        seen = self.multihead_attn(target + query, memory + position, memory)[0]
        target = self.norm2(target + seen)
        return self.norm3(target + self.linear2(self.linear1(target).relu()))


class Reference(nn.Module):
    """The paper's function with the authors' names, written with other parts than ours."""

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        labels: int = 6,
        dim: int = 32,
        hidden: int = 48,
        heads: int = 4,
        encoders: int = 1,
        decoders: int = 2,
        first: bool = False,
        others: bool = False,
        projection: bool = True,
        map_size: tuple[int, int] = (3, 3),
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        body = getattr(torchvision.models, backbone)(weights=None)
        channels = body.fc.in_features
        del body.fc
        self.backbone = nn.ModuleList([nn.Module(), nn.Module()])
        self.backbone[0].body = body
        self.backbone[1].register_buffer(
            "pe", self.position(*map_size, dim) + 0.1 * torch.randn(dim, *map_size)
        )
        self.transformer = nn.Module()
        self.transformer.encoder, self.transformer.decoder = nn.Module(), nn.Module()
        self.transformer.encoder.layers = nn.ModuleList(
            EncoderLayer(dim, heads, hidden) for _ in range(encoders)
        )
        self.transformer.decoder.layers = nn.ModuleList(
            DecoderLayer(dim, heads, hidden, self_attention=others if index else first)
            for index in range(decoders)
        )
        self.transformer.decoder.norm = nn.LayerNorm(dim)
        self.input_proj = nn.Conv2d(channels, dim, 1) if projection else nn.Identity()
        self.query_embed = nn.Embedding(labels, dim)
        self.fc = nn.Module()
        self.fc.W = nn.Parameter(torch.randn(1, labels, dim) / math.sqrt(dim))
        self.fc.b = nn.Parameter(torch.randn(1, labels))
        for name, tensor in self.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.add_(0.2 * torch.randn_like(tensor))
        self.eval()

    @staticmethod
    def position(height: int, width: int, dim: int) -> torch.Tensor:
        encoding = torch.zeros(1, dim, height, width)
        for y in range(height):
            for x in range(width):
                for axis, (place, length) in enumerate(((y, height), (x, width))):
                    angle = (place + 1) / (length + 1e-6) * 2 * math.pi
                    for i in range(dim // 2):
                        phase = angle / 10_000 ** (2 * (i // 2) / (dim // 2))
                        wave = math.cos(phase) if i % 2 else math.sin(phase)
                        encoding[0, axis * dim // 2 + i, y, x] = wave
        return encoding

    def checkpoint(self) -> dict[str, torch.Tensor]:
        """The weights as the authors save them: their frozen batch norms count nothing."""
        return {k: v for k, v in self.state_dict().items() if not k.endswith("num_batches_tracked")}

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        body = self.backbone[0].body
        features = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
            features = stage(features)
        features = self.input_proj(features)
        pe = self.backbone[1].pe
        if pe.shape[2:] != features.shape[2:]:
            pe = self.position(*features.shape[2:], features.shape[1])
        memory, place = features.flatten(2).permute(2, 0, 1), pe.flatten(2).permute(2, 0, 1)
        place = place.expand_as(memory)
        for layer in self.transformer.encoder.layers:
            memory = layer(memory, place)
        query = self.query_embed.weight[:, None].expand(-1, len(images), -1)
        target = torch.zeros_like(query)
        for layer in self.transformer.decoder.layers:
            target = layer.look(target, query, memory, place)
        target = self.transformer.decoder.norm(target)
        return (target.transpose(0, 1) * self.fc.W).sum(-1) + self.fc.b


VARIANTS = {
    "eight heads": {"heads": 8},
    "first self-attention kept": {"first": True},
    "other self-attention kept": {"others": True, "decoders": 3},
    "all self-attention kept, deep": {"first": True, "others": True, "encoders": 2, "decoders": 3},
    "no encoder, one decoder": {"encoders": 0, "decoders": 1},
    "as wide as the backbone": {"dim": 512, "projection": False},
    "as wide as the backbone, projected all the same": {"dim": 512, "projection": True},
    "one label": {"labels": 1},
    "not square": {"map_size": (2, 4)},
    "ResNet-34": {"backbone": "resnet34"},
    "ResNet-50": {"backbone": "resnet50"},
}


def images(map_size: tuple[int, int]) -> torch.Tensor:
    return torch.randn(2, 3, 32 * map_size[0], 32 * map_size[1], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", VARIANTS)
def test_from_published__answers_as_the_reference(tmp_path: Path, name: str) -> None:
    settings = VARIANTS[name]
    reference = Reference(**settings)
    torch.save({"state_dict": reference.checkpoint()}, tmp_path / "checkpoint.pth.tar")

    model = Query2Label.from_published(tmp_path / "checkpoint.pth.tar", num_heads=settings.get("heads", 4))

    at_home = settings.get("map_size", (3, 3))
    assert model.bundle.preprocess.image_size == (32 * at_home[0], 32 * at_home[1])
    with torch.no_grad():
        for map_size in (at_home, (4, 2), (2, 2)):
            batch = images(map_size)
            torch.testing.assert_close(model(batch), reference(batch), rtol=0, atol=1e-4)
        model.save_pretrained(tmp_path / "bundle")
        restored = Query2Label.from_pretrained(tmp_path / "bundle")
        assert torch.equal(restored(images(at_home)), model(images(at_home)))


def test_from_published__keeps_the_position_that_is_stored(tmp_path: Path) -> None:
    reference = Reference()
    torch.save({"state_dict": reference.checkpoint()}, tmp_path / "checkpoint.pkl")
    model = Query2Label.from_published(tmp_path / "checkpoint.pkl")

    with torch.no_grad():
        stored = model(images((3, 3)))
        model.head.stored_position = None

        assert (model(images((3, 3))) - stored).abs().max() > 1e-3
