"""The processes of a run: one alone, or several that `torchrun` started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from query2label.errors import ConfigError, Q2LError, TrainingError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """This process among its peers. Every method with peers in it must be called by all of them."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the processes; itself where there is one process."""
        if self.world_size == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=devices)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Each process's (small, picklable) value, in order of rank, to all of them."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """The first process's (small, picklable) value, to all of them."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def first_does(self, action: Callable[[], Result]) -> Result:
        """Lets the first process do something; its (small, picklable) result, or its error, is everyone's."""
        if self.world_size == 1:
            return action()
        outcome: tuple[Result | None, Q2LError | None] = (None, None)
        if self.is_first:
            try:
                outcome = (action(), None)
            except Q2LError as error:
                outcome = (None, error)
        result, problem = self.from_first(outcome)
        if problem is not None:
            raise problem
        return cast("Result", result)

    def gather_rows(self, rows: Tensor) -> Tensor:
        """The rows (n, ...) of all processes one after another, in order of rank, to the first one.

        The processes may hold different numbers of rows. The others get their own back.
        """
        if self.world_size == 1:
            return rows
        counts: list[int] = self.gather(len(rows))
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts] if self.is_first else None
        dist.gather(padded, parts, dst=0)
        if parts is None:
            return rows
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def share_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrites every process's tensors with the first one's."""
        if self.world_size > 1:
            for name in sorted(tensors):
                dist.broadcast(tensors[name], src=0)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world_size > 1:
            dist.barrier()


def choose_device(name: str, *, local_rank: int = 0) -> torch.device:
    """The device a process computes on.

    Args:
        name: `auto` (CUDA where there is one), `cpu` or `cuda`.
        local_rank: Number of the process on its machine.

    Raises:
        ConfigError: If the device is unknown or absent.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise ConfigError(f"Unknown device {name!r}: it is auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("There is no CUDA device here (or this PyTorch cannot use it): take --device cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"There are {torch.cuda.device_count()} CUDA devices here, too few for process {local_rank + 1}: "
            "start at most one process per device, or take --device cpu."
        )
    return torch.device("cuda", local_rank)


@contextlib.contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Joins the processes that `torchrun` started, or stands alone; leaves them at the end.

    The engine is NCCL on CUDA and Gloo on the CPU.

    Args:
        device: `auto`, `cpu` or `cuda`.

    Raises:
        TrainingError: If the processes cannot find each other.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        yield Ranks(choose_device(device))
        return
    chosen = choose_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise TrainingError(
            f"The processes of this run cannot find each other ({error}): start them with torchrun."
        ) from error
    yield Ranks(chosen, rank=dist.get_rank(), world_size=dist.get_world_size())
    # Not after an error: others may be waiting for this process, and it would wait for them.
    dist.destroy_process_group()
