"""Train on your own data, look at the mistakes, fix the labels, train again.

The cells run from top to bottom as a script, and one by one in an editor that knows `# %%` (or in Jupyter,
where predictions and explanations show themselves). Nothing is downloaded.

    python examples/fix_labels.py --out fix-labels-output

The data are scenes of real handwritten digits (from scikit-learn), and every tenth label is wrong as it
happens: a digit was overlooked, or taken for another. Here the truth is known, so it can be told how many of
the wrong labels are found; with your own data, you are the one who looks. It takes one or two minutes of
processor time; docs/fixing-labels.md shows what it prints.
"""

# %%
from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import query2label
from query2label.report.label_errors import suspected_errors

NAMES = ("zero", "one", "two", "three", "four")
SCENE_PX = 64
SETTINGS = [
    "model.backbone=test_efficientnet",
    "model.weights=none",
    "model.output_stride=8",
    "model.feature_norm=true",
    "model.hidden_dim=64",
    "model.num_encoder_layers=0",
    "model.num_decoder_layers=1",
    "model.dropout=0.0",
    "data.image_size=64",
    "data.num_workers=0",
    "data.augment.flip=0.0",
    "data.augment.randaugment_num_ops=0",
    "data.augment.cutout=0.0",
    "optim.lr=3e-3",
    "optim.backbone_lr_scale=1.0",
    "loss.name=bce",
    "train.epochs=12",
    "train.batch_size=16",
    "train.ema_decay=0.98",
    "train.threads=1",
]
"""A network of 0.2 million parameters that learns such scenes from scratch; for photos take a recipe."""


# %% [markdown]
# ## Data: images, a table of labels, and mistakes in it


# %%
def scene(digits: list[int], glyphs: dict[int, np.ndarray], rng: np.random.Generator) -> Image.Image:
    """Digits side by side on paper, each a random handwriting at a random size and height."""
    picture = Image.new("RGB", (SCENE_PX, SCENE_PX), colour(rng, 200, 250))
    for place, digit in enumerate(digits):
        glyph = rng.choice(glyphs[digit])
        side = int(rng.integers(22, 32))
        mask = Image.fromarray((glyph * 15.9).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        corner = (place * 32 + int(rng.integers(0, 33 - side)), int(rng.integers(0, SCENE_PX - side)))
        picture.paste(Image.new("RGB", mask.size, colour(rng, 0, 110)), corner, mask)
    return picture


def colour(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    """Any colour whose red, green and blue lie within these bounds."""
    red, green, blue = rng.integers(low, high, 3).tolist()
    return red, green, blue


def handwriting(part: slice) -> dict[int, np.ndarray]:
    """The glyphs of each digit, of some of scikit-learn's 1,797."""
    bunch = load_digits()
    images, kinds = bunch.images[part], bunch.target[part]
    return {digit: images[kinds == digit] for digit in range(len(NAMES))}


def mistaken(digits: set[int], rng: np.random.Generator) -> set[int]:
    """What a hasty person writes down: each label is overlooked or taken for another one time in ten."""
    written = set()
    for digit in digits:
        if rng.random() >= 0.1:
            written.add(digit)
        elif rng.random() < 0.5:
            written.add(int(rng.integers(len(NAMES))))
    return written


def write_table(path: Path, rows: dict[str, set[int]], splits: dict[str, str]) -> Path:
    """Writes the table that `q2l train` reads: image, labels, split."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "labels", "split"])
        for name, digits in rows.items():
            writer.writerow([name, "|".join(NAMES[digit] for digit in sorted(digits)), splits[name]])
    return path


parser = argparse.ArgumentParser(description="Train, look at mistakes, fix labels, train again.")
parser.add_argument("--out", type=Path, default=Path("fix-labels-output"), help="new folder for everything")
out = parser.parse_known_args()[0].out  # a notebook has arguments of its own
(out / "data").mkdir(parents=True)

rng = np.random.default_rng(0)
glyphs = {"a": handwriting(slice(None, 1200)), "test": handwriting(slice(1200, None))}
glyphs["b"] = glyphs["a"]
truth: dict[str, set[int]] = {}
halves: dict[str, str] = {}
for number in range(900):
    name, half = f"{number:04d}.png", "ab"[number % 2] if number < 600 else "test"
    digits = rng.integers(0, len(NAMES), size=rng.integers(1, 3)).tolist()
    scene(digits, glyphs[half], rng).save(out / "data" / name)
    truth[name], halves[name] = set(digits), half
written = {name: truth[name] if halves[name] == "test" else mistaken(truth[name], rng) for name in truth}
wrong = [name for name in truth if written[name] != truth[name]]
print(f"{len(truth)} scenes; of the 600 to learn from, {len(wrong)} have a wrong label.")

# %% [markdown]
# ## Train: on half a, so that half b is judged by a model that has not seen it


# %%
def train(name: str, learn_from: str, judge: str, rows: dict[str, set[int]]) -> query2label.Predictor:
    """A model that learned from one half, with the other as its validation images."""
    roles = {learn_from: "train", judge: "val", "test": "test"}
    splits = {image: roles[half] for image, half in halves.items()}
    table = write_table(out / "data" / f"{name}.csv", rows, splits)
    result = query2label.train(data=table, out=out / name, overrides=SETTINGS, quiet=True)
    report = query2label.evaluate(result.best, table, split="test")
    print(f"{name}: learned from half {learn_from}, mAP on 300 clean test scenes {100 * report.map:.1f}")
    return query2label.Predictor.load(result.best, device="cpu")


first = train("first", "a", "b", written)

# %% [markdown]
# ## Look: which labels of half b does the model contradict, and where does it look for them?

# %%
names = [name for name in truth if halves[name] == "b"]
predictions = first([out / "data" / name for name in names])
order = [NAMES.index(label) for label in first.labels]
scores = np.array([list(prediction.scores.values()) for prediction in predictions], dtype=np.float32)
targets = np.array([[digit in written[name] for digit in order] for name in names], dtype=np.int8)
suspects = [(names[error.row], order[error.label], error) for error in suspected_errors(scores, targets)]
right = [(digit in truth[name]) != (digit in written[name]) for name, digit, _ in suspects]
print(f"{len(suspects)} labels are suspected; {sum(right)} are wrong, {sum(right[:20])} of the first 20.")
for name, digit, error in suspects[:3]:
    said, score = "" if digit in written[name] else "not ", f"{error.score:.2f}"
    print(f"  {name}: {said}{NAMES[digit]}, says the table; the model's score of {NAMES[digit]} is {score}")
    first.explain(out / "data" / name, labels=[NAMES[digit]]).save(out / f"suspect-{name}")

# %% [markdown]
# ## Fix: somebody looks at the suspected labels, and only at those

# %%
fixed = {name: set(digits) for name, digits in written.items()}
for name, digit, _ in suspects:
    if digit in truth[name]:  # what you would see in the picture
        fixed[name].add(digit)
    else:
        fixed[name].discard(digit)
seen = {name for name, _, _ in suspects}
before, after = (sum(rows[name] != truth[name] for name in names) for rows in (written, fixed))
print(
    f"{len(seen)} of {len(names)} scenes were looked at; {before} had a wrong label, {after} still have one."
)

# %% [markdown]
# ## Train again: on half b, as many scenes as before, with the fixed labels

# %%
second = train("second", "b", "a", fixed)
second(out / "data" / "0700.png")
