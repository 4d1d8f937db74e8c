"""Heads side by side: the same frozen backbone, images, views, epochs and loss; several seeds.

    python -m benchmarks.heads --data ../shared/data --out runs/heads
    python -m benchmarks.heads --sets photos/labels.csv --out runs/heads     # other photos, with other labels

Prints, per data set and head, the mAP on the validation images (plain AP) as mean and standard deviation over
the seeds, once of the best epoch (chosen on the same images, as all papers do) and once of the last epoch,
and the seconds that the epochs took, without the feature maps, which all heads share. Runs that are there
already are not made again, so that the table can be built in several sittings.
"""

from __future__ import annotations

import statistics
import sys

from benchmarks.training_runs import Result, folder_name, parser_of, photos_of, spread, trained
from rich.console import Console
from rich.table import Table

SLOW = ("optim.query_lr_scale=1",)
"""Queries at the rate of the rest of the head."""
PROJECTED = ("model.attention=projected", "model.hidden_dim=512", "model.feedforward_dim=512", *SLOW)
WITHOUT_PHOTOS = ("model.start_from_photos=false",)
"""Labels start at what their names say, or at zero."""
PLAIN = ("model.start_from_names=false", *WITHOUT_PHOTOS, *SLOW)
"""The recipe without what labels are called, without a start from photos and without faster queries."""
LONG = ("train.epochs=20",)
"""Heads of averages learn more slowly than label queries: they are shown with twice the epochs, too."""
# All heads get the recipe's standardized features, which help each of them, and each compared one the rate
# and dropout that did best for it on the VOC sample.
# The backbone, where it learns, does so at the same rate under both heads.
LINEAR = ("model.head=linear", "model.dropout=0.2", "optim.lr=2e-3", "optim.backbone_lr_scale=0.025")
CSRA = ("model.head=csra",)
ML_DECODER = ("model.head=ml_decoder", *PROJECTED, "model.num_heads=8", "optim.lr=3e-4")
HEADS: dict[str, tuple[str, ...]] = {
    "query2label": (),
    "query2label, 20 epochs": LONG,
    "query2label, plain": PLAIN,
    "linear": LINEAR,
    "linear, 20 epochs": (*LINEAR, *LONG),
    "csra": CSRA,
    "csra, 20 epochs": (*CSRA, *LONG),
    "ml_decoder": ML_DECODER,
    "ml_decoder, 20 epochs": (*ML_DECODER, *LONG),
    "query2label as published": (
        *PROJECTED,
        "model.num_heads=4",
        "model.num_encoder_layers=1",
        "model.num_decoder_layers=2",
        "model.feedforward_dim=2048",
        "model.dropout=0.1",
        "optim.lr=1e-4",
        *LONG,
    ),
}
FROM_PHOTOS = ("model.start_from_photos=true",)
TRIALS: dict[str, tuple[str, ...]] = {
    "query2label, from photos": FROM_PHOTOS,
    "query2label, from photos, 8 x": (*FROM_PHOTOS, "optim.query_lr_scale=8"),
    "query2label, from photos, 8 x, 8 epochs": (*FROM_PHOTOS, "optim.query_lr_scale=8", "train.epochs=8"),
}
"""Of the recipe `small`, which took an hour each; only where they are named."""
ROWS = {**HEADS, **TRIALS}


def main() -> None:
    """Runs what is missing, seed by seed, and prints the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--heads", nargs="+", choices=ROWS, default=list(HEADS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    chosen = parser.parse_args()

    results: dict[tuple[str, str], list[Result]] = {}
    for name in chosen.sets:
        for seed in chosen.seeds:  # interleaved, so that a slow hour of the machine meets every head
            for head in chosen.heads:
                out = chosen.out / folder_name(name) / f"{head.replace(' ', '-')}-{seed}"
                overrides = (*ROWS[head], f"train.seed={seed}")
                result = trained(photos_of(chosen.data, name), out, recipe=chosen.recipe, overrides=overrides)
                results.setdefault((name, head), []).append(result)
                print(
                    f"{name} {head} seed {seed}: {100 * result.best:.2f}, {result.seconds:.0f} s",
                    file=sys.stderr,
                )

    table = Table(title=f"recipe {chosen.recipe}, seeds {', '.join(map(str, chosen.seeds))}; mAP in percent")
    for column in ("data", "head", "mAP, best epoch", "mAP, last epoch", "seconds"):
        table.add_column(column, justify="left" if column in {"data", "head"} else "right")
    for (name, head), runs in results.items():
        table.add_row(
            name,
            head,
            spread([100 * result.best for result in runs]),
            spread([100 * result.last for result in runs]),
            f"{statistics.median(result.seconds for result in runs):.0f}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
