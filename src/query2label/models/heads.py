"""What every head has in common: feature map in, one logit per label out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from query2label.errors import ConfigError

SMALLEST_PRIOR = 1e-4


class Head(nn.Module, ABC):
    """Turns feature maps into logits.

    A head does its work in two steps: `encode`, which is the same for all labels, and `score`, which gives
    the logits of all labels or of some. Scoring some labels gives the same logits as
    scoring all, or is refused.
    """

    output_bias: nn.Parameter
    """Bias (K,) of the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_norm: nn.Module = nn.Identity()

    def standardize_features(self, num_channels: int) -> None:
        """From now on, gives each of `num_channels` channels of the feature map mean 0 and variance 1.

        A frozen backbone's channels differ in scale by orders of magnitude, and one rate cannot fit all.
        """
        self.feature_norm = nn.BatchNorm2d(num_channels, affine=False)

    def centred(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The feature map less each channel's mean, where the head standardizes; else as it is."""
        mean = getattr(self.feature_norm, "running_mean", None)
        return features if mean is None else features - mean.to(features)[:, None, None]

    @property
    def num_labels(self) -> int:
        """Number of labels K."""
        return len(self.output_bias)

    @abstractmethod
    def encode(self, features: Float[Tensor, "B C H W"]) -> tuple[Tensor, ...]:
        """Whatever `score` needs of an image, independent of the labels."""

    @abstractmethod
    def score(
        self, encoded: tuple[Tensor, ...], label_indices: Int[Tensor, " k"] | None
    ) -> Float[Tensor, "B k"]:
        """Logits of the labels in `label_indices`, in that order; of all labels where it is None."""

    def forward(
        self,
        features: Float[Tensor, "B C H W"],
        *,
        label_indices: Int[Tensor, " k"] | None = None,
        label_chunk: int | None = None,
    ) -> Float[Tensor, "B _"]:
        """Logits.

        Args:
            features: The backbone's feature map.
            label_indices: Indices of the labels to score, in the wanted order; None scores all.
            label_chunk: Score at most so many labels at once, to save memory; the logits stay the same.
        """
        encoded = self.encode(self.feature_norm(features))
        if label_chunk is None:
            return self.score(encoded, label_indices)
        if label_indices is None:
            label_indices = torch.arange(self.num_labels, device=features.device)
        chunks = torch.split(label_indices, label_chunk)
        return torch.cat([self.score(encoded, chunk) for chunk in chunks], dim=1)

    def forward_with_attention(
        self, features: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "L B M K H W"]]:
        """Logits, and where each label looked, per decoder layer and attention head.

        Raises:
            ConfigError: If this head has no attention maps.
        """
        raise ConfigError(
            f"A {type(self).__name__} has no attention maps per label: only a model with "
            'model.head = "query2label" can show where each label looked.'
        )

    @torch.no_grad()
    def set_label_prior(self, prior: Float[Tensor, " K"]) -> None:
        """Lets training begin at the labels' frequencies: sets the output bias to logit(prior).

        Args:
            prior: Share of images that show each label, in [0, 1]; clipped to [1e-4, 1 - 1e-4], so that a
                label that is never (or always) there starts at -9.2 (or 9.2) and can still be learned.
        """
        self.output_bias.copy_(torch.logit(prior, eps=SMALLEST_PRIOR))


def reset_output(weight: nn.Parameter, bias: nn.Parameter) -> None:
    """Draws output rows and bias from U(+-1/sqrt(D)), D the last dimension of `weight`."""
    bound = 1 / math.sqrt(weight.shape[-1])
    nn.init.uniform_(weight, -bound, bound)
    nn.init.uniform_(bias, -bound, bound)


def rows(parameter: Tensor, label_indices: Int[Tensor, " k"] | None) -> Tensor:
    """The rows of `parameter` that belong to some labels, or all of them."""
    return parameter if label_indices is None else parameter[label_indices]
