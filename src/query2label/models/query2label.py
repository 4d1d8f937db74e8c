"""The model: backbone and head, with the ways in and out that Hugging Face users expect."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from jaxtyping import Float, Int
from torch import Tensor, nn

from query2label.bundle import Bundle, resolve_bundle_path, save_bundle
from query2label.errors import BundleError
from query2label.models.backbone import SpatialBackbone
from query2label.models.heads import Head

HUB_ERRORS = cast("tuple[type[Exception], ...]", (OSError, HFValidationError, *HfHubHTTPError.__bases__))
"""What the hub's client raises when it fails: also its HTTP library's error, whichever that is today."""


class Query2Label(nn.Module):
    """Images in, one logit per label out.

    Args:
        backbone: Images -> feature map.
        head: Feature map -> logits; `LabelQueryHead` is the paper's.
        bundle: What is saved beside the weights (labels, preprocessing, ...); the model never reads it.

    Source:
        Liu et al. (2021), arXiv:2107.10834.
    """

    def __init__(self, backbone: SpatialBackbone, head: Head, *, bundle: Bundle | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.bundle = bundle

    @property
    def num_labels(self) -> int:
        """Number of labels K."""
        return self.head.num_labels

    def forward(
        self,
        images: Float[Tensor, "B 3 height width"],
        *,
        label_indices: Int[Tensor, " k"] | None = None,
        label_chunk: int | None = None,
    ) -> Float[Tensor, "B _"]:
        """Logits (before the sigmoid) of normalized images.

        Args:
            images: As `preprocess` gives them.
            label_indices: Indices of the labels to score, in the wanted order; None scores all.
            label_chunk: Score at most so many labels at once, to save memory; the logits stay the same.

        Scoring some labels, or labels in chunks, is a `ConfigError` where labels look at one another.
        """
        return self.forward_head(
            self.forward_features(images), label_indices=label_indices, label_chunk=label_chunk
        )

    def forward_features(self, images: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B C H W"]:
        """The backbone's feature maps."""
        features: Tensor = self.backbone(images)
        return features

    def forward_head(
        self,
        features: Float[Tensor, "B C H W"],
        *,
        label_indices: Int[Tensor, " k"] | None = None,
        label_chunk: int | None = None,
    ) -> Float[Tensor, "B _"]:
        """Logits of feature maps; the arguments are those of `forward`."""
        logits: Tensor = self.head(features, label_indices=label_indices, label_chunk=label_chunk)
        return logits

    def forward_with_attention(
        self, images: Float[Tensor, "B 3 height width"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "L B M K H W"]]:
        """Logits, and where each label looked: the cross-attention per decoder layer and attention head.

        Each map sums to 1 over H and W. Other heads than `LabelQueryHead` have none: a `ConfigError`.
        """
        return self.head.forward_with_attention(self.forward_features(images))

    def optimize_for_inference(
        self, *, image_size: tuple[int, int] | None = None, any_size: bool = False
    ) -> Query2Label:
        """A new model in evaluation mode that gives the same logits sooner; this one stays as it is.

        Batch norms are folded into convolutions, what does not depend on the image is computed once, and
        projections lie where they cost least. In float32 the logits agree up to rounding. It cannot be
        trained or saved.

        Args:
            image_size: (height, width) of the images to come; images of other sizes are scored as well, but
                it may take longer. Unset: that of the `bundle`, or what the backbone was pretrained with.
            any_size: Keep nothing for this one size, so that a trace of the model (`torch.export`) is good
                for all.
        """
        from query2label.models.optimized import optimize  # it makes a subclass of this class

        own = self.bundle.preprocess.image_size if self.bundle else self.backbone.pretrained_spec.image_size
        return optimize(self, image_size=image_size or own, any_size=any_size)

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path, *, revision: str | None = None) -> Query2Label:
        """The model of a bundle, in evaluation mode, with its `bundle`.

        Args:
            path_or_hub_id: A bundle folder, or `owner/name` on the Hugging Face hub.
            revision: Branch, tag or commit on the hub; unset: its main branch.

        A bundle that is not there or does not fit is a `BundleError`.
        """
        from query2label.models.build import load_model  # build.py knows this class

        return load_model(resolve_bundle_path(path_or_hub_id, revision=revision))

    @classmethod
    def from_published(
        cls,
        path: str | Path,
        *,
        num_heads: int = 4,
        use_ema: bool = True,
        label_names: Sequence[str] | None = None,
    ) -> Query2Label:
        """The model of a checkpoint that the authors' code wrote, in evaluation mode, with its `bundle`.

        It takes images of any size that its backbone takes, not only of that in `bundle.preprocess`.

        Args:
            path: PyTorch or `.safetensors` file, as published or from one's own training.
            num_heads: Attention heads, which no shape tells; 4 in all published models.
            use_ema: Where the file holds averaged weights (EMA) beside the plain ones, take those.
            label_names: In output order; unset: MS-COCO's where there are 80 labels, else `label 0`, ...

        A file that is not there is a `ConfigError`; one that cannot be opened safely, or holds another
        model, is a `BundleError`.
        """
        from query2label.models.published import load_published  # it knows this class

        return load_published(Path(path), num_heads=num_heads, use_ema=use_ema, label_names=label_names)

    def save_pretrained(self, path: str | Path) -> None:
        """Writes the model as a bundle folder, whole or not at all; a bundle that stood there is replaced.

        A refused write and a full disk are each a `StorageError`; a folder with anything else in it is a
        `BundleError`, and stays as it is.

        Raises:
            BundleError: If the model has no `bundle`.
        """
        if self.bundle is None:
            raise BundleError(
                "This model has no bundle, so its labels and preprocessing are unknown: "
                "set model.bundle = Bundle(...) before saving it."
            )
        save_bundle(self.bundle, self.state_dict(), path)

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Saves the model to the Hugging Face hub; the repository is made where it is missing.

        Args:
            repo_id: `owner/name`.
            private: Whether a new repository is private.
            token: Access token; unset: that of `hf auth login`.

        Returns:
            Address of the commit.

        A model without `bundle` is a `BundleError` as well.

        Raises:
            BundleError: If the hub cannot be reached, or refuses the name or the token.
        """
        hub = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            bundle_path = Path(folder) / "bundle"
            self.save_pretrained(bundle_path)
            try:
                hub.create_repo(repo_id, private=private, exist_ok=True)
                return str(hub.upload_folder(repo_id=repo_id, folder_path=bundle_path).commit_url)
            except HUB_ERRORS as error:
                reason = str(error).partition("\n")[0].rstrip(".")
                raise BundleError(
                    f"The model was not saved to the Hugging Face hub as {repo_id} ({reason}): check the "
                    "name, the network, and that you are logged in (`hf auth login`)."
                ) from None
