"""Predicting thousands of photos with `q2l predict`, against a plain loop, the bare runtime and the decoder.

    B="--bundle runs/builtin/bundle"                             # or another
    python -m benchmarks.tagging --photos DATA $B                # 5,000 photos; ONNX, OpenVINO in float32
    python -m benchmarks.tagging --photos DATA $B --model i8.onnx  # any bundles or exported files instead
    python -m benchmarks.tagging --photos DATA $B --quick        # does it run?
    python -m benchmarks.tagging --photos DATA --reduced         # twelve megapixels, whole and reduced
    python -m benchmarks.tagging --names 1000000                 # time and memory of finding a million

The JPEG files below DATA are linked into one folder, again and again until there are enough. Of each model:

    plain loop   PIL, the bundle in eager torch, one image after the other (on a part of the photos)
    bare         the runtime alone on images that are decoded already, in batches
    decoder      decoding and resizing alone, in as many threads as `q2l predict` has
    q2l predict  the command in a process of its own, with its start-up and without

`share` is the speed of `q2l predict` without start-up over the lower one of bare and decoder. Both need the
same processors, so it cannot reach 1: `ceiling` is what it would be if these were busy all the time and
nothing else had to be done, 1 / (1 + lower / higher). Memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from query2label.inference.predictor import Predictor
from query2label.inference.samples import FoundSamples, survey_of
from query2label.inference.threads import choose_threads
from query2label.preprocess import PreprocessSpec, load_image, normalize, preprocess, resize_image

BATCH = 16


@dataclass(frozen=True)
class Setting:
    """What is measured on."""

    photos: list[Path]
    folder: Path
    threads: int
    plain: int
    """Images of the plain loop."""
    bare: int
    """Images of the bare runtime, at least."""


def main() -> None:
    """Measures what was asked for, and prints one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="a folder with JPEG files below it")
    parser.add_argument("--bundle", type=Path, help="with --reduced, unset: the model in the box")
    parser.add_argument("--model", nargs="+", help="files or bundles; unset: --bundle, exported in float32")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--threads", type=int, help="unset: as many as this process may use")
    parser.add_argument("--quick", action="store_true", help="64 images")
    parser.add_argument("--names", type=int, help="only measures finding so many images")
    parser.add_argument("--reduced", action="store_true", help="only measures decoding at reduced scale")
    chosen = parser.parse_args()
    if chosen.names:
        measure_names(chosen.names)
        return
    if chosen.photos is None:
        parser.error("--photos is needed")
    photos = sorted(path for path in chosen.photos.rglob("*.jpg") if path.is_file())
    if chosen.reduced:
        measure_reduced(photos, Predictor.load(chosen.bundle), 3 if chosen.quick else 40)
        return
    if chosen.bundle is None:
        parser.error("--bundle is needed, which the plain loop runs")
    threads = choose_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        linked = link(photos, folder / "photos", 64 if chosen.quick else chosen.images)
        few = (4, 2 * BATCH) if chosen.quick else (100, 20 * BATCH)
        setting = Setting(linked, folder, threads, *few)
        models = chosen.model or export(chosen.bundle, folder, threads)
        Console(width=120).print(table(models, chosen.bundle, setting))


def link(photos: list[Path], folder: Path, count: int) -> list[Path]:
    """So many names for the photos, in one folder."""
    folder.mkdir()
    linked = []
    for number, photo in enumerate(itertools.islice(itertools.cycle(photos), count)):
        linked.append(folder / f"{number:06d}.jpg")
        linked[-1].symlink_to(photo.resolve())
    return linked


def export(bundle: Path, folder: Path, threads: int) -> list[str]:
    """The bundle in float32 for both runtimes."""
    from query2label.export.run import export_bundle

    files = {"onnx": folder / "model.onnx", "openvino": folder / "model.xml"}
    for target, file in files.items():
        print(f"exporting: {export_bundle(bundle, file, to=target, threads=threads)}", file=sys.stderr)
    return [str(file) for file in files.values()]


def table(models: list[str], bundle: Path, setting: Setting) -> Table:
    """One row per model."""
    result = Table(
        title=f"{len(setting.photos):,} photos, {setting.threads} threads, images/s, batches of {BATCH}"
    )
    columns = ("model", "plain loop", "bare", "decoder", "q2l predict", "with start-up", "x plain")
    for column in (*columns, "share", "ceiling", "peak MB"):
        result.add_column(column, justify="left" if column == "model" else "right")
    plain = plain_speed(bundle, setting)
    for model in models:
        print(f"measuring {model}", file=sys.stderr)
        predictor = Predictor.load(model, threads=setting.threads)
        decoder = decoder_speed(setting, predictor.bundle.preprocess)
        bare = bare_speed(setting, predictor)
        whole, without, peak = command_speed(setting, model)
        ceiling = 1 / (1 + min(bare, decoder) / max(bare, decoder))
        speeds = (plain, bare, decoder, without, whole, without / plain)
        result.add_row(
            Path(model).name,
            *(f"{speed:.1f}" for speed in speeds),
            f"{without / min(bare, decoder):.2f}",
            f"{ceiling:.2f}",
            f"{peak:.0f}",
        )
    return result


def plain_speed(bundle: Path, setting: Setting) -> float:
    """Images per second of what one writes first."""
    import torch

    from query2label.models.build import load_model

    torch.set_num_threads(setting.threads)
    model = load_model(bundle).eval()
    spec: PreprocessSpec = model.bundle.preprocess
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))

    def run(path: Path) -> None:
        height, width = spec.image_size
        pixels = np.array(Image.open(path).convert("RGB").resize((width, height), spec.resample()))
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        with torch.no_grad():
            torch.sigmoid(model(((image - mean) / std)[None])).numpy()

    run(setting.photos[0])
    start = time.perf_counter()
    for path in setting.photos[: setting.plain]:
        run(path)
    return min(setting.plain, len(setting.photos)) / (time.perf_counter() - start)


def decoder_speed(setting: Setting, spec: PreprocessSpec) -> float:
    """Images per second of decoding alone."""
    photos = setting.photos[: 4 * setting.bare]
    with ThreadPoolExecutor(setting.threads) as pool:
        start = time.perf_counter()
        for _ in pool.map(functools.partial(preprocess, spec=spec), photos):
            pass
        return len(photos) / (time.perf_counter() - start)


def bare_speed(setting: Setting, predictor: Predictor) -> float:
    """Images per second of the runtime alone."""
    images = np.stack([preprocess(path, predictor.bundle.preprocess) for path in setting.photos[:BATCH]])
    predictor.runtime(images)
    start = time.perf_counter()
    for _ in range(setting.bare // BATCH):
        predictor.runtime(images)
    return setting.bare // BATCH * BATCH / (time.perf_counter() - start)


def command_speed(setting: Setting, model: str) -> tuple[float, float, float]:
    """Images per second of the command, of the command without its start-up, and its peak memory in MB."""
    first, _ = run_command(setting, model, setting.photos[:1])
    seconds, peak = run_command(setting, model, [setting.folder / "photos"])
    return len(setting.photos) / seconds, len(setting.photos) / (seconds - first), peak


def run_command(setting: Setting, model: str, images: list[Path]) -> tuple[float, float]:
    """Seconds and peak memory in MB of `q2l predict` into a folder of parts."""
    before = len(list(setting.folder.iterdir()))
    command = [sys.executable, "-m", "query2label", "predict", *map(str, images), "--model", model]
    options = ["--out", setting.folder / f"tags{before}", "--threads", setting.threads, "--batch-size", BATCH]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *map(str, options)], stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, resident_peak(process.pid))
        time.sleep(0.02)
    if process.returncode:
        sys.exit(f"q2l predict ended with {process.returncode}")
    return time.perf_counter() - start, peak


def resident_peak(pid: int) -> float:
    """Peak memory of a process so far in MB; `wait4` would count this one's, which it was forked from."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return max((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), default=0.0)


def measure_names(count: int) -> None:
    """Prints time and memory of finding so many images in one folder."""
    with tempfile.TemporaryDirectory() as name:
        print(f"writing {count:,} empty files", file=sys.stderr)
        for number in range(count):
            os.close(os.open(f"{name}/{number:08d}.jpg", os.O_CREAT))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        survey = survey_of(FoundSamples([name]))
        seconds = time.process_time() - start
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = (after - before) / 1024
        print(f"{survey.num_images:,} images found in {seconds:.1f} CPU seconds, {memory:.0f} MB")


def measure_reduced(photos: list[Path], predictor: Predictor, count: int) -> None:
    """Prints what decoding of 12-megapixel photos at reduced scale saves, and what it does to scores."""
    result = Table(title=f"{count} photos of {len(photos):,}, enlarged to 12 megapixels")
    for column in ("input", "resize", "whole ms", "reduced ms", "x", "scores, mean", "scores, largest"):
        result.add_column(column, justify="right")
    taken = photos[:: max(1, len(photos) // count)][:count]
    for resize in ("squash", "letterbox", "crop"):
        spec = predictor.bundle.preprocess.model_copy(update={"resize": resize})
        seconds, differences = np.zeros(2), []
        for number, path in enumerate(taken):
            content = enlarged(path, number)
            start = time.process_time()
            whole = normalize(np.asarray(resize_image(load_image(content), spec)), spec)
            middle = time.process_time()
            reduced = preprocess(content, spec)
            seconds += middle - start, time.process_time() - middle
            first, second = (
                predictor.bundle.scores(predictor.runtime(image[None])) for image in (whole, reduced)
            )
            differences.append(np.abs(first - second).max())
        whole_ms, reduced_ms = 1000 * seconds / len(taken)
        result.add_row(
            "x".join(map(str, spec.image_size)),
            resize,
            f"{whole_ms:.0f}",
            f"{reduced_ms:.0f}",
            f"{whole_ms / reduced_ms:.1f}",
            f"{np.mean(differences):.4f}",
            f"{np.max(differences):.4f}",
        )
    Console(width=100).print(result)


def enlarged(path: Path, number: int) -> bytes:
    """The photo as a JPEG file of about 4,000 x 3,000 pixels; sizes are odd and even."""
    photo = load_image(path)
    width, height = (round(side * 4000 / max(photo.size)) + number % 8 for side in photo.size)
    file = io.BytesIO()
    photo.resize((width, height), Image.Resampling.LANCZOS).save(file, "JPEG", quality=92)
    return file.getvalue()


if __name__ == "__main__":
    main()
