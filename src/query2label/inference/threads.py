"""How many threads to compute with: what this process may really use, in a container as well."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

from query2label.errors import ConfigError

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


def choose_threads(asked: int | None = None) -> int:
    """The number of threads: as asked, else `OMP_NUM_THREADS`, else `usable_processors`.

    Raises:
        ConfigError: If less than one is asked for.
    """
    if asked is not None:
        if asked < 1:
            raise ConfigError(f"The number of threads must be at least 1, not {asked}.")
        return asked
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdecimal() and int(setting) > 0 else usable_processors()


def usable_processors() -> int:
    """Processors that this process may run on, and not more than its containers' quotas give it."""
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    allowed = len(affinity(0))
    return max(1, min([allowed, *(math.ceil(quota) for quota in processor_quotas())]))


def processor_quotas(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> list[float]:
    """The quotas of the control groups (versions 1 and 2) that this process is in, in processors.

    Args:
        cgroups: Where they are mounted.
        own: The file that says which is this process's.
    """
    entries = _text(own).splitlines()
    path = next((line.removeprefix("0::/") for line in entries if line.startswith("0::/")), "")
    group = cgroups / path
    groups = [folder for folder in (group, *group.parents) if folder.is_relative_to(cgroups)]
    quotas = [_ratio(_text(folder / "cpu.max").split()) for folder in groups]
    first_version = (cgroups / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
    quotas.append(_ratio([_text(file).strip() for file in first_version]))
    return [quota for quota in quotas if quota is not None]


def _ratio(numbers: list[str]) -> float | None:
    """Quota over period; None where there is no limit (`max` or -1)."""
    if len(numbers) != 2 or not all(number.isdecimal() and int(number) > 0 for number in numbers):
        return None
    return int(numbers[0]) / int(numbers[1])


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
