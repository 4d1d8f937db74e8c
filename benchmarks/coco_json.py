"""Time and memory of reading a COCO instances file of the size of 2014's training annotations (450 MB).

    python benchmarks/coco_json.py                   # three rounds
    python benchmarks/coco_json.py --share 0.1       # a tenth of the images, for a quick look

The file is generated in a temporary folder: 82,783 images and 604,907 objects, written in the order and with
the members of the published file, outlines of about 40 corners, one object in 80 a crowd (run lengths).
Each measurement runs in a process of its own, and the rounds are interleaved, so that a noisy machine spoils
all rows alike. Time is CPU time; memory is the peak of the whole process, interpreter and imports included
(about 60 MB).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

NUM_IMAGES, NUM_OBJECTS, NUM_CATEGORIES = 82_783, 604_907, 80
CROWD_SHARE = 0.012
WORK = {
    "json": "json.load: the whole file as Python objects",
    "stream": "one pass over the file (read_contents)",
    "dataset": "samples with targets and boxes (load_dataset)",
}


def write_file(path: Path, *, share: float) -> None:
    """A file as MS-COCO 2014's, with this share of its images and objects."""
    draw = random.Random(0)
    numbers = draw.sample(range(1, 600_000), int(NUM_IMAGES * share))
    with path.open("w") as file:
        file.write('{"info": {"description": "generated", "year": 2014}, "images": ')
        _write_list(file, map(_image, numbers))
        file.write(', "licenses": [{"id": 1, "name": "none", "url": "http://localhost/"}], "annotations": ')
        own_ids = range(1, int(NUM_OBJECTS * share) + 1)
        _write_list(file, (_annotation(own_id, draw.choice(numbers), draw) for own_id in own_ids))
        file.write(', "categories": ')
        categories = range(1, NUM_CATEGORIES + 1)
        _write_list(file, ({"supercategory": "thing", "id": k, "name": f"thing {k}"} for k in categories))
        file.write("}")


def _write_list(file: TextIO, values: Iterator[dict[str, Any]]) -> None:
    file.write("[")
    for number, value in enumerate(values):
        file.write(", " if number else "")
        file.write(json.dumps(value))
    file.write("]")


def _image(number: int) -> dict[str, Any]:
    name = f"COCO_train2014_{number:012d}.jpg"
    return {
        "license": 1,
        "file_name": name,
        "coco_url": f"http://localhost/train2014/{name}",
        "height": 480,
        "width": 640,
        "date_captured": "2013-11-14 16:28:13",
        "flickr_url": f"http://localhost/photos/{number}_z.jpg",
        "id": number,
    }


def _annotation(own_id: int, image: int, draw: random.Random) -> dict[str, Any]:
    is_crowd = draw.random() < CROWD_SHARE
    num_numbers = 2 * draw.randint(4, 70)
    outline: Any = [[round(600 * draw.random(), 2) for _ in range(num_numbers)]]
    if is_crowd:
        outline = {"counts": [draw.randrange(500) for _ in range(num_numbers)], "size": [480, 640]}
    return {
        "segmentation": outline,
        "area": 20_000 * draw.random(),
        "iscrowd": int(is_crowd),
        "image_id": image,
        "bbox": [round(300 * draw.random(), 2) for _ in range(4)],
        "category_id": draw.randint(1, NUM_CATEGORIES),
        "id": own_id,
    }


def work_of(name: str, path: Path) -> Callable[[], object]:
    """What is measured, imported beforehand."""
    from query2label.data.coco_json import read_contents
    from query2label.data.load import load_dataset

    def plain() -> object:
        with path.open(encoding="utf-8") as file:
            return json.load(file)

    return {
        "json": plain,
        "stream": lambda: read_contents(path),
        "dataset": lambda: load_dataset(path, check_files=False),
    }[name]


def measure(path: Path, name: str) -> None:
    """Prints CPU seconds and peak megabytes of one piece of work, as JSON; runs in a process of its own."""
    work = work_of(name, path)
    started = time.process_time()
    result = work()
    seconds = time.process_time() - started
    del result
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "peak_mb": peak / 1e6}))


def run(path: Path, name: str) -> dict[str, float]:
    """One measurement in a new process."""
    command = [sys.executable, __file__, "--measure", str(path), name]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the images and objects")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), options.measure[1])
        return
    results: dict[str, list[dict[str, float]]] = {name: [] for name in WORK}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances_train2014.json"
        write_file(path, share=options.share)
        size_mb = path.stat().st_size / 1e6
        for _ in range(options.rounds):
            for name in WORK:
                results[name].append(run(path, name))
    print_table(results, size_mb)


def print_table(results: dict[str, list[dict[str, float]]], size_mb: float) -> None:
    """Medians with ranges; the ratio is that to json.load, round by round."""
    print(f"File: {size_mb:,.0f} MB\n")
    print("| work | CPU s, median (range) | time / json.load | peak MB | peak / file |")
    print("|---|---|---|---|---|")
    for name, measured in results.items():
        seconds = [one["seconds"] for one in measured]
        ratios = [mine / one["seconds"] for mine, one in zip(seconds, results["json"], strict=True)]
        peak = max(one["peak_mb"] for one in measured)
        print(
            f"| {WORK[name]} | {statistics.median(seconds):.1f} ({min(seconds):.1f}-{max(seconds):.1f}) "
            f"| {statistics.median(ratios):.2f} | {peak:,.0f} | {peak / size_mb:.2f} |"
        )


if __name__ == "__main__":
    main()
