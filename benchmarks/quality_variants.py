"""The rows of the tables of `benchmarks.quality`: overrides of a recipe, by table and name.

Tables of `TODAY` start from the recipe `laptop`, the others from what it was when its settings were chosen,
the file former.toml: EfficientNet-Lite0, 20 epochs, two views. From `layers` on labels start at zero and
queries learn at the rate of the rest of the head, so that the tables say what the photos teach.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.heads import CSRA, HEADS, LINEAR, LONG, ML_DECODER, PLAIN, SLOW, WITHOUT_PHOTOS

FORMER = str(Path(__file__).with_name("former.toml"))
TODAY = ("heads", "recipe")
MIRRORED = ("train.cache_views=2", "data.augment.crop_min_area=1", "data.augment.flip=1")
AT_4 = ("optim.query_lr_scale=4",)
PROJECTED = (
    "model.attention=projected",
    "model.num_heads=4",
    "model.hidden_dim=256",
    "optim.lr=2e-4",
    *SLOW,
)
WITH_FEEDFORWARD = (*PROJECTED, "model.feedforward_dim=512")
TWO_LAYERS = (*WITH_FEEDFORWARD, "model.num_decoder_layers=2")
TRAINED = ("train.cache_features=false", "model.freeze_norm=true", "data.augment.flip=0.5", "train.epochs=8")
# For samples on which 20 epochs at 384 px take hours.
SHORT = ("data.image_size=224", "train.epochs=10")

Variants = dict[str, tuple[str, ...]]

# The paper's ablations; in the projected form, which has all parts that they take away.
LAYERS: Variants = {
    "projected, 1 decoder layer": WITH_FEEDFORWARD,
    "2 decoder layers": TWO_LAYERS,
    "3 decoder layers": (*WITH_FEEDFORWARD, "model.num_decoder_layers=3"),
    "1 encoder layer": (*WITH_FEEDFORWARD, "model.num_encoder_layers=1"),
    "1 encoder, 2 decoder layers": (*TWO_LAYERS, "model.num_encoder_layers=1"),
    "2 decoder layers, self-attention": (*TWO_LAYERS, "model.other_self_attention=true"),
    "no feed-forward part": (*PROJECTED, "model.feedforward_dim=0"),
}
WIDTHS: Variants = {
    f"projected, D = {width}": (*WITH_FEEDFORWARD, f"model.hidden_dim={width}")
    for width in (256, 128, 512, 1024)
}

TABLES: dict[str, Variants] = {
    "heads": {name: HEADS[name] for name in HEADS if name != "query2label as published"},
    "recipe": {
        "laptop": (),
        "20 epochs": LONG,
        "labels do not start from photos": WITHOUT_PHOTOS,
        "20 epochs, not from photos": (*LONG, *WITHOUT_PHOTOS),
        "not from photos, queries at 16 x": (*WITHOUT_PHOTOS, "optim.query_lr_scale=16"),
        "not from photos, 4 x": (*WITHOUT_PHOTOS, *AT_4),
        "20 epochs, not from photos, 4 x": (*LONG, *WITHOUT_PHOTOS, *AT_4),
        "not from photos, 4 x, 2 views": (*WITHOUT_PHOTOS, *AT_4, *MIRRORED),
        "not from photos, 4 x, 2 views, dropout 0.5": (
            *WITHOUT_PHOTOS,
            *AT_4,
            *MIRRORED,
            "model.dropout=0.5",
        ),
        "20 epochs, not from photos, 4 x, 2 views": (*LONG, *WITHOUT_PHOTOS, *AT_4, *MIRRORED),
        "20 epochs, not from photos, 4 x, 2 views, lite0": (
            *(*LONG, *WITHOUT_PHOTOS, *AT_4, *MIRRORED),
            "model.backbone=tf_efficientnet_lite0",
        ),
    },
    "former heads": {"query2label": (), "linear": LINEAR, "csra": CSRA, "ml_decoder": ML_DECODER},
    "start": {"from names": SLOW, "at zero": PLAIN},
    "rate of queries": {
        "4 x": (),
        **{f"{scale} x": (f"optim.query_lr_scale={scale}",) for scale in (1, 2, 8)},
    },
    "length and rate": {
        "20 epochs": SLOW,
        "40 epochs": (*SLOW, "train.epochs=40"),
        "80 epochs": (*SLOW, "train.epochs=80"),
        "twice the rate": (*SLOW, "optim.lr=1e-3"),
        "weight decay 2": (*SLOW, "optim.weight_decay=2"),
    },
    "layers": LAYERS,
    "width": WIDTHS,
    "layers, 224 px": {row: (*overrides, *SHORT) for row, overrides in LAYERS.items()},
    "width, 224 px": {row: (*overrides, *SHORT) for row, overrides in WIDTHS.items()},
    "attention heads": {
        f"direct, M = {heads}": (*PLAIN, f"model.num_heads={heads}") for heads in (1, 2, 4, 8)
    },
    "attention": {
        "direct": PLAIN,
        "direct, feed-forward 512": (*PLAIN, "model.feedforward_dim=512"),
        "direct, 2 layers": (*PLAIN, "model.num_decoder_layers=2"),
        "direct, raw features": (*PLAIN, "model.feature_norm=false"),
        "projected": PROJECTED,
    },
    "loss": {
        "bce": PLAIN,
        "focal": (*PLAIN, "loss.name=focal"),
        "asymmetric": (*PLAIN, "loss.name=asymmetric"),
        "asymmetric, gamma- 4, margin 0.05": (
            *PLAIN,
            "loss.name=asymmetric",
            "loss.gamma_neg=4",
            "loss.margin=0.05",
        ),
    },
    "averaging": {
        "EMA 0.99": PLAIN,
        "no EMA": (*PLAIN, "train.ema_decay=0"),
        "EMA 0.999": (*PLAIN, "train.ema_decay=0.999"),
    },
    "regularization": {
        "dropout 0.3": PLAIN,
        "dropout 0": (*PLAIN, "model.dropout=0"),
        "dropout 0.6": (*PLAIN, "model.dropout=0.6"),
        "weight decay 0.1": (*PLAIN, "optim.weight_decay=0.1"),
        "one view": (*PLAIN, "train.cache_views=1"),
    },
    "views": {
        "plain and mirrored": PLAIN,
        "4 views, crops from 50 %": (
            *PLAIN,
            "train.cache_views=4",
            "data.augment.crop_min_area=0.5",
            "data.augment.flip=0.5",
        ),
    },
    "input size": {
        "384": PLAIN,
        "224": (*PLAIN, "data.image_size=224"),
        "320": (*PLAIN, "data.image_size=320"),
        "448": (*PLAIN, "data.image_size=448"),
    },
    "resize": {
        "squash": PLAIN,
        "crop": (*PLAIN, "data.resize=crop"),
        "letterbox": (*PLAIN, "data.resize=letterbox"),
    },
    "backbone": {
        "lite0": PLAIN,
        "lite0, linear": LINEAR,
        "lite2": (*PLAIN, "model.backbone=tf_efficientnet_lite2"),
        "lite2, linear": ("model.backbone=tf_efficientnet_lite2", *LINEAR),
    },
    # 224 px, because each step computes the backbone: a fully trained run takes minutes instead of seconds.
    "training": {
        "frozen, 224 px": (*PLAIN, "data.image_size=224"),
        "frozen, 224 px, linear": ("data.image_size=224", *LINEAR),
        "all but stem": (*PLAIN, "data.image_size=224", *TRAINED, "model.freeze=stem"),
        "all but stem, linear": ("data.image_size=224", *TRAINED, "model.freeze=stem", *LINEAR),
        "all": (*PLAIN, "data.image_size=224", *TRAINED, "model.freeze=none"),
        "all, linear": ("data.image_size=224", *TRAINED, "model.freeze=none", *LINEAR),
    },
}
