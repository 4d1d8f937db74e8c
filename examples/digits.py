"""Scenes of handwritten digits: make data, train, evaluate, predict and look, with nothing downloaded.

scikit-learn ships 1,797 real handwritten digits. Each scene shows one to five of them, of different size,
ink and place, overlapping, some together more often than chance would have it; its labels are the digits to
be seen. Digits of held-out scenes were never seen in training.

    python examples/digits.py --out demo-output
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

import query2label

SCENE_PX = 128
TARGET_MAP = 0.95
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COMPANIONS = {1: 7, 3: 8, 4: 9}
"""Pairs of digits that like to appear together, so that labels are correlated as in real photos."""


def choose_digits(rng: np.random.Generator) -> list[int]:
    """One to five digits of a scene, companions included, repetitions allowed."""
    digits = [int(digit) for digit in rng.integers(0, 10, size=rng.integers(1, 4))]
    companions = [COMPANIONS[digit] for digit in digits if digit in COMPANIONS and rng.random() < 0.5]
    return digits + companions[:2]


def paper(rng: np.random.Generator) -> Image.Image:
    """A scene's background: tinted, unevenly lit paper with a few scribbles."""
    light = np.linspace(*rng.uniform(0.8, 1.0, 2), SCENE_PX)[:, None] * np.linspace(
        *rng.uniform(0.8, 1.0, 2), SCENE_PX
    )
    tint = rng.uniform(190, 250, size=3)
    scene = Image.fromarray((light[..., None] * tint).astype(np.uint8))
    draw = ImageDraw.Draw(scene)
    for _ in range(rng.integers(0, 4)):
        ink = tuple(int(value) for value in rng.integers(120, 200, 3))
        draw.line([tuple(point) for point in rng.integers(0, SCENE_PX, (3, 2)).tolist()], fill=ink, width=1)
    return scene


def compose(digits: list[int], glyphs: dict[int, np.ndarray], rng: np.random.Generator) -> Image.Image:
    """One scene: every digit is a random glyph of its kind at a random place, size, tilt and ink."""
    scene = paper(rng)
    taken: list[tuple[int, int, int]] = []
    for digit in digits:
        glyph = glyphs[digit][rng.integers(len(glyphs[digit]))]
        side = int(rng.integers(24, 56))
        mask = Image.fromarray((glyph * 15.9).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        mask = mask.rotate(float(rng.uniform(-15, 15)), Image.Resampling.BICUBIC)
        place = find_place(side, taken, rng)
        taken.append((*place, side))
        ink = tuple(int(value) for value in rng.integers(0, 110, 3))
        scene.paste(Image.new("RGB", (side, side), ink), place, mask)
    return scene


def find_place(side: int, taken: list[tuple[int, int, int]], rng: np.random.Generator) -> tuple[int, int]:
    """A place (left, top) where at most a third of another digit is hidden, if one is found in ten tries."""
    for _ in range(10):
        left, top = (int(value) for value in rng.integers(0, SCENE_PX - side, 2))
        shared = [
            max(0, min(left + side, x + s) - max(left, x))
            * max(0, min(top + side, y + s) - max(top, y))
            / min(s, side) ** 2
            for x, y, s in taken
        ]
        if max(shared, default=0) < 1 / 3:
            break
    return left, top


def write_scenes(folder: Path, *, counts: dict[str, int], seed: int = 0) -> Path:
    """Writes the scenes and `labels.csv` (image, labels, split) into `folder`, which `q2l train` reads.

    Training scenes are made of the first 1,200 digits, all others of the rest.
    """
    rng = np.random.default_rng(seed)
    bunch = load_digits()
    (folder / "scenes").mkdir(parents=True, exist_ok=True)
    rows = []
    for split, count in counts.items():
        part = slice(None, 1200) if split == "train" else slice(1200, None)
        images, kinds = bunch.images[part], bunch.target[part]
        glyphs = {digit: images[kinds == digit] for digit in range(10)}
        for number in range(count):
            digits = choose_digits(rng)
            name = f"scenes/{split}-{number:05d}.png"
            compose(digits, glyphs, rng).save(folder / name)
            rows.append([name, "|".join(NAMES[digit] for digit in sorted(set(digits))), split])
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "labels", "split"], *rows])
    return folder


def main() -> None:
    """Makes scenes, trains, evaluates, predicts, and draws where the model looked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="new folder for everything")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)

    print(f"1. Scenes of handwritten digits -> {out}/data")
    data = write_scenes(out / "data", counts={"train": 2000, "val": 300, "test": 500})

    recipe = Path(__file__).with_suffix(".toml")
    print(f"2. Train: q2l train --data {data} --out {out}/run --recipe {recipe}")
    result = query2label.train(data=data, out=out / "run", recipe=recipe)

    print(f"3. Evaluate: q2l evaluate --model {result.best} --data {data} --split test")
    report = query2label.evaluate(result.best, data, split="test")
    print(f"   mAP on held-out scenes: {report.map:.4f}")

    print(f"4. Predict: q2l predict {data}/scenes/test-0000*.png --model {result.best}")
    predictor = query2label.Predictor.load(result.best)
    scenes = sorted((data / "scenes").glob("test-0000*.png"))
    for prediction in predictor(scenes):
        print("  ", prediction)

    print(f"5. Look: q2l explain {data}/scenes/test-0000*.png --model {result.best} --out {out}/looks")
    for scene in scenes:
        predictor.explain(scene).save(out / "looks" / scene.name)
    print(f"   Open the pictures in {out}/looks to see where each label was found.")
    if report.map < TARGET_MAP:
        raise SystemExit(f"The mAP should be at least {TARGET_MAP}: something is broken.")


if __name__ == "__main__":
    main()
