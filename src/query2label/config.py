"""What a run is: the configuration of model, data, loss, optimizer and training.

Precedence: the defaults below < a recipe (TOML) < `--set section.key=value`. The help text of each setting
is the string under it, written once; `q2l config`, the documentation and the JSON schema show it.
"""

from __future__ import annotations

import difflib
import importlib.resources
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from query2label.errors import ConfigError
from query2label.formats import DataFormatOrAuto, Difficult
from query2label.preprocess import Interpolation, ResizeMode, Side, Spread

LONGEST_VALUE = 100  # characters of a wrong value that an error message shows


def _as_pair(size: object) -> object:
    return (size, size) if isinstance(size, int) and not isinstance(size, bool) else size


UnitInterval = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=65536)]  # a bundle's could be of any size, and is not ours to trust
TimmName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.-]+$")
]  # timm's `local-dir:` and `hf-hub:` are refused


MapSide = Annotated[int, Field(ge=1, le=64)]


class Section(BaseModel):
    """A frozen group of settings that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class ModelConfig(Section):
    """Backbone and head."""

    backbone: TimmName = "tf_efficientnet_lite0"
    """Name of a timm model that can give a spatial feature map, with or without its weights tag."""
    weights: str = "pretrained"
    """Where the backbone starts: `pretrained` (package, cache or hub), `none`, or a weights file."""
    start_from: str | None = None
    """Trained model to start from instead, with its settings and preprocessing: a bundle's folder or hub
    name, or a published checkpoint."""
    output_stride: Literal[8, 16, 32] | None = None
    """Pixels per step of the feature map, for CNNs that can dilate: 8 or 16 look finer; unset: as usual."""
    freeze: Literal["none", "stem", "all"] = "none"
    """Which part of the backbone stays as it is: nothing, the stem and first stage, or everything."""
    freeze_norm: bool = False
    """Keep the statistics and weights of the backbone's normalization layers (the paper's frozen BN)."""
    head: Literal["query2label", "linear", "csra", "ml_decoder"] = "query2label"
    """What turns the feature map into logits; `linear`, `csra` and `ml_decoder` are for comparison."""
    feature_norm: bool = False
    """Standardize each channel of the feature map before the head (helps when the backbone is frozen)."""
    hidden_dim: Width | None = None
    """Width D of the transformer (also of ml_decoder); unset: the backbone's channel count, as published."""
    feedforward_dim: Width | None = None
    """Width of the feed-forward layers; unset: 4 x the hidden width."""
    attention: Literal["projected", "direct"] = "projected"
    """`projected` as published; `direct` for few images: label queries look at the main components of the
    features themselves, starting from their average, with far fewer parameters to learn."""
    num_heads: PositiveInt = 4
    """Attention heads M; must divide the hidden width."""
    num_encoder_layers: Annotated[int, Field(ge=0, le=100)] = 1
    """Transformer encoder layers over the feature map (query2label)."""
    num_decoder_layers: Annotated[int, Field(ge=1, le=100)] = 2
    """Decoder layers in which the label queries look at the feature map (query2label)."""
    dropout: UnitInterval = 0.1
    """Dropout in attention, feed-forward and residual branches of the head."""
    first_self_attention: bool = False
    """Keep self-attention over labels in the first decoder layer (a constant; removed as published)."""
    other_self_attention: bool = False
    """Keep the self-attention over labels in the other decoder layers (removed as published)."""
    keep_input_projection: bool = False
    """Project the feature map to the hidden width by a 1x1 convolution also where both are equally wide."""
    stored_position: tuple[Side, Side] | None = None
    """(H, W) of the feature map whose position encoding is kept with the weights, as in imported checkpoints;
    maps of other shapes, and all maps where it is unset, get theirs computed."""
    stored_masks: tuple[MapSide, MapSide] | None = None
    """Likewise for a Swin backbone's attention masks."""
    csra_num_heads: Literal[1, 2, 4, 6, 8] = 1
    """Temperatures of the csra head."""
    csra_lambda: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the attended score against the average in the csra head."""
    ml_decoder_num_groups: PositiveInt = 100
    """Group queries of the ml_decoder head; never more than there are labels."""


class AugmentConfig(Section):
    """What happens to a training image; evaluation images are never augmented."""

    flip: UnitInterval = 0.5
    """Probability of a horizontal flip."""
    crop_min_area: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest share of the area that a random resized crop keeps; 1 turns cropping off."""
    randaugment_num_ops: Annotated[int, Field(ge=0)] = 2
    """RandAugment operations per image; 0 turns it off."""
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """Strength of the RandAugment operations (0-30)."""
    cutout: UnitInterval = 0.5
    """Side of the square that is cut out, as a share of the image's sides; 0 turns it off."""
    mixup_alpha: Annotated[float, Field(ge=0)] = 0.0
    """Beta parameter of mixup; 0 turns it off."""
    cutmix_alpha: Annotated[float, Field(ge=0)] = 0.0
    """Beta parameter of cutmix; 0 turns it off."""


class DataConfig(Section):
    """Which images, and what they look like when the model sees them."""

    path: Path | None = None
    """Folder or file with the labelled images; the command line's `--data`."""
    format: DataFormatOrAuto = "auto"
    """Layout of the data; `auto` looks at the path."""
    image_root: Path | None = None
    """Folder of the images, where they do not lie beside their labels."""
    train_split: str = "train"
    """Name of the split to learn from, where the data have splits."""
    val_split: str = "val"
    """Name of the split to validate on; `test` is taken where there is no such split."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the images held out by a stratified split where the data have no splits of their own."""
    labelled_only: bool = False
    """Leave out images that show no label, as papers do on NUS-WIDE; they say that all labels are absent."""
    difficult: Difficult = "ignore"
    """What an object marked difficult (PASCAL VOC) says about its label; `ignore` makes it unknown."""
    image_size: Annotated[tuple[Side, Side], BeforeValidator(_as_pair)] = (224, 224)
    """(height, width) in pixels that the model sees; one number means a square."""
    resize: ResizeMode = "squash"
    """How an image gets that size: `squash` (as published), `letterbox` or `crop` (centre)."""
    interpolation: Interpolation | None = None
    """`bilinear` or `bicubic`, always antialiased; unset: as the backbone was pretrained."""
    mean: tuple[float, float, float] | None = None
    """RGB mean in [0, 1] that is subtracted; unset: as the backbone was pretrained."""
    std: tuple[Spread, Spread, Spread] | None = None
    """RGB standard deviation in [0, 1]; unset: as the backbone was pretrained."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation of training images."""
    num_workers: Annotated[int, Field(ge=0)] = 2
    """Processes that decode and augment; results do not depend on it."""
    worker_timeout_seconds: Annotated[float, Field(ge=0)] = 120.0
    """A batch that takes longer ends the run and is named; 0 waits for ever."""
    max_broken_fraction: UnitInterval = 0.02
    """Share of broken training images that is tolerated (each is named and replaced); more ends the run."""


class LossConfig(Section):
    """What is minimized."""

    name: Literal["asymmetric", "bce", "focal"] = "asymmetric"
    """Asymmetric focal loss (paper), binary cross-entropy, or focal loss."""
    gamma_pos: Annotated[float, Field(ge=0)] = 0.0
    """Focusing exponent of positives (asymmetric); the exponent of both sides for focal is `gamma`."""
    gamma_neg: Annotated[float, Field(ge=0)] = 2.0
    """Focusing exponent of negatives (asymmetric)."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Negatives scored under this add nothing (asymmetric)."""
    gamma: Annotated[float, Field(ge=0)] = 2.0
    """Focusing exponent (focal)."""
    alpha: UnitInterval | None = None
    """Weight of positives, 1 - alpha that of negatives (focal); unset: both 1."""


class OptimConfig(Section):
    """AdamW and its schedule."""

    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate of the head."""
    backbone_lr_scale: Annotated[float, Field(ge=0)] = 0.1
    """The backbone learns at this multiple of the head's rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Decoupled weight decay; never on norms, biases and label queries."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of AdamW's first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of AdamW's second moment."""
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    """`one_cycle` rises and falls as a cosine; `cosine` rises linearly, then falls as a cosine."""
    warmup_fraction: UnitInterval = 0.2
    """Share of all steps in which the rate rises."""
    cycle_beta1: bool = False
    """Let beta1 fall from 0.95 to 0.85 and rise again, against the rate of one_cycle (as published)."""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0 turns clipping off."""

    @model_validator(mode="after")
    def _cycle_is_one_cycles(self) -> OptimConfig:
        if self.cycle_beta1 and self.schedule != "one_cycle":
            raise ValueError('optim.cycle_beta1 needs optim.schedule = "one_cycle"')
        return self


class TrainConfig(Section):
    """The loop."""

    epochs: PositiveInt = 20
    """Passes over the training images."""
    batch_size: PositiveInt = 32
    """Images per optimizer step, over all processes and accumulated micro-batches."""
    accumulate: PositiveInt = 1
    """Micro-batches that a step is cut into to save memory."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of everything random: the same seed gives the same weights."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast precision; fp16 needs a GPU."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9997
    """Decay of the averaged weights, warmed up from 0; 0 turns averaging off."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after so many epochs without a better mAP; 0 never stops early."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 5.0
    """Save `last/` at each epoch's end and this often in between; 0 saves after every step."""
    cache_features: bool = False
    """Compute the frozen backbone's feature maps once, keep them on disk, and train only the head."""
    cache_views: PositiveInt = 2
    """Views of each training image in the feature cache: the plain image and augmented ones."""
    cache_dir: Path | None = None
    """Folder of the feature cache; unset: query2label in the user's cache folder."""
    cache_max_gb: Annotated[float, Field(gt=0)] = 20.0
    """Largest size of the feature cache; least recently used entries go first."""
    tensorboard: bool = False
    """Also write TensorBoard files into the run folder (extra `tensorboard`)."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of the main process; 0 leaves it to PyTorch."""

    @model_validator(mode="after")
    def _accumulation_fits(self) -> TrainConfig:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"train.accumulate ({self.accumulate}) is larger than train.batch_size ({self.batch_size})"
            )
        return self


class RunConfig(Section):
    """Everything that defines a run."""

    model: ModelConfig = ModelConfig()
    """Backbone and head."""
    data: DataConfig = DataConfig()
    """Images, preprocessing and augmentation."""
    loss: LossConfig = LossConfig()
    """What is minimized."""
    optim: OptimConfig = OptimConfig()
    """AdamW and its schedule."""
    train: TrainConfig = TrainConfig()
    """The loop."""

    @model_validator(mode="after")
    def _cache_needs_frozen_backbone(self) -> RunConfig:
        if self.train.cache_features and self.model.freeze != "all":
            raise ValueError(
                'train.cache_features needs model.freeze = "all": features that change cannot be cached'
            )
        return self


def load_config(recipe: str | Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """The configuration of a run.

    Args:
        recipe: Name of a shipped recipe (`laptop`), path of a TOML file, or None for the defaults.
        overrides: Settings like `optim.lr=3e-4`; the value is read as TOML, else as a plain word.

    A missing recipe, a file that is not TOML and a wrong key or value are each a `ConfigError`.
    """
    values, where = read_settings(recipe, overrides)
    return parse_config(values, where=where)


def read_settings(
    recipe: str | Path | None = None, overrides: Iterable[str] = ()
) -> tuple[dict[str, Any], str]:
    """The settings that a recipe and overrides give, not yet checked, and what they came from.

    A missing recipe, a file that is not TOML and an override without the form are each a `ConfigError`.
    """
    values: dict[str, Any] = {}
    where = "the configuration"
    if recipe is not None:
        values, where = _read_recipe(recipe)
    for override in overrides:
        _apply_override(values, override)
    return values, where


def parse_config(values: Mapping[str, Any], *, where: str) -> RunConfig:
    """A configuration from plain values, as a recipe or a bundle has them.

    Args:
        values: Nested settings.
        where: What they came from, for the error message.

    Raises:
        ConfigError: If a key or value is wrong.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, where)) from None


def dump_config(config: RunConfig) -> str:
    """The complete configuration as TOML; `load_config` reads it back to an equal one."""
    lines: list[str] = []
    for table, values in _tables("", config.model_dump(mode="json")):
        lines += [f"[{table}]", *(f"{key} = {_toml_value(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)


def settings() -> Iterator[tuple[str, Any]]:
    """Every setting as (dotted name, pydantic field), in the order of the file."""
    yield from _settings_of(RunConfig, "")


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(
        file.name.removesuffix(".toml") for file in _recipe_folder().iterdir() if file.name.endswith(".toml")
    )


def _recipe_folder() -> Any:
    return importlib.resources.files("query2label") / "recipes"


def _read_recipe(recipe: str | Path) -> tuple[dict[str, Any], str]:
    path = Path(recipe)
    if path.suffix != ".toml":
        if str(recipe) not in recipe_names():
            raise ConfigError(
                f"There is no recipe {str(recipe)!r}: shipped are {', '.join(recipe_names())}; "
                "for a file of your own give its path, ending in .toml."
            )
        path = _recipe_folder() / f"{recipe}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), f"recipe {recipe}"
    except OSError as error:
        raise ConfigError(f"Cannot read recipe {recipe}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"Recipe {recipe} is not TOML: {error}.") from None


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override!r} is not of the form section.key=value.")
    value = _toml_or_word(text.strip())
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {key} is a setting, not a section.")
    values[keys[-1]] = None if value == "unset" else value


def _toml_or_word(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _explain(error: ValidationError, where: str) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [*(dotted for dotted, _ in settings()), *RunConfig.model_fields]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "`q2l config` lists all settings."
        return f"Unknown setting {name} in {where}: {hint}"
    if first["type"] == "model_type":
        return f"{name} in {where} is a section, not a setting: `q2l config` lists the settings in it."
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":  # of a whole section
        return f"Wrong settings in {where}: {reason}."
    value = repr(first["input"])
    if len(value) > LONGEST_VALUE:
        value = f"{value[:LONGEST_VALUE]}..."
    return f"Wrong value {value} for {name} in {where}: {reason}."


def _settings_of(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _settings_of(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _tables(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict) and value is not None}
    if prefix:
        yield prefix, plain
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _tables(f"{prefix}.{key}".lstrip("."), value)


def _toml_value(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON scalars are TOML scalars
