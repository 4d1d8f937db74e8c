"""`q2l doctor`: what is installed here, what it runs on, and what is missing."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator

_DEVELOPERS_EXTRA = "dev"  # nobody who uses the package misses it


def doctor_command() -> None:
    """Print versions, threads, accelerators, and which optional packages are missing."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for title, rows in (
        ("This machine", _machine()),
        ("Packages", _packages(None)),
        ("Optional packages", _packages_of_extras()),
    ):
        table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False, pad_edge=False)
        for _ in range(3):
            table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)


def _machine() -> Iterator[tuple[str, str]]:
    import torch

    yield "system", f"{platform.system()} {platform.release()} ({platform.machine()})"
    yield "python", platform.python_version()
    yield "processors", str(os.cpu_count())
    yield (
        "threads of PyTorch",
        f"{torch.get_num_threads()} (OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')})",
    )
    found = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield from ((f"cuda:{index}", name) for index, name in enumerate(found))
    if torch.backends.mps.is_available():
        yield "mps", "Apple GPU"
    elif not found:
        yield "accelerators", "none: models run on the processor (start with `--recipe laptop`)"


def _packages(extra: str | None) -> Iterator[tuple[str, str]]:
    import importlib.metadata

    for requirement in importlib.metadata.requires("query2label") or []:
        name = re.match(r"[\w.-]+", requirement)
        of_extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name is None or (of_extra.group(1) if of_extra else None) != extra:
            continue
        try:
            yield name.group(), importlib.metadata.version(name.group())
        except importlib.metadata.PackageNotFoundError:
            yield name.group(), f"missing: pip install 'query2label[{extra}]'" if extra else "missing"


def _packages_of_extras() -> Iterator[tuple[str, str, str]]:
    import importlib.metadata

    extras = importlib.metadata.metadata("query2label").get_all("Provides-Extra") or []
    for extra in (extra for extra in extras if extra != _DEVELOPERS_EXTRA):
        yield from ((extra, name, state) for name, state in _packages(extra))
