"""Scoring validation images with one or several networks, over one or several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from query2label.errors import TrainingError
from query2label.training.distributed import Ranks
from query2label.training.plan import Indices
from query2label.training.signals import RunInterruptedError, StopRequest


@contextlib.contextmanager
def evaluating(networks: Iterable[nn.Module]) -> Iterator[None]:
    """The networks in evaluation mode and without autograd; their modes are put back afterwards."""
    modes = [(network, network.training) for network in networks]
    try:
        for network, _ in modes:
            network.eval()
        with torch.no_grad():
            yield
    finally:
        for network, was_training in modes:
            network.train(was_training)


def score_batches(
    networks: Mapping[str, nn.Module],
    batches: Generator[tuple[Tensor, Indices], None, None],
    *,
    num_labels: int,
    ranks: Ranks,
    stop: StopRequest,
    advance: Callable[..., None],
) -> tuple[Int64[np.ndarray, " n"], dict[str, Float[np.ndarray, "n K"]]]:
    """Logits of all processes' images, in float32 whatever the precision of training.

    Args:
        networks: Name -> what gives logits; all see the same batches.
        batches: This process's (inputs, indices of the images).
        num_labels: Number of labels K.
        ranks: The processes; the first gets everything, the others get their own part.
        stop: A signal ends the scoring, in all processes.
        advance: Told the number of `images` after each batch.

    Returns:
        The indices of the images, and each network's logits of them in the same order.

    Raises:
        RunInterruptedError: If any process received a signal.
        TrainingError: If a network gives something that is not finite.
    """
    indices: list[Indices] = []
    logits: dict[str, list[Tensor]] = {name: [] for name in networks}
    with evaluating(networks.values()), contextlib.closing(batches):
        for inputs, numbers in batches:
            indices.append(numbers)
            for name, network in networks.items():
                logits[name].append(network(inputs).float())
            advance(images=len(numbers))
            if stop.signal_number:
                break
    whole = {
        name: torch.cat([torch.empty(0, num_labels, device=ranks.device), *parts])
        for name, parts in logits.items()
    }
    mine = (stop.signal_number, all(bool(torch.isfinite(value).all()) for value in whole.values()))
    outcomes = ranks.gather(mine)
    if signal_number := max(number for number, _ in outcomes):
        raise RunInterruptedError("Stopped while scoring images.", signal_number=signal_number)
    if not all(is_finite for _, is_finite in outcomes):
        raise TrainingError(
            "The model's logits on the validation images are not finite: start again with a lower optim.lr "
            "or with train.precision fp32."
        )
    numbers = np.concatenate([np.empty(0, np.int64), *indices])
    order = ranks.gather_rows(torch.from_numpy(numbers).to(ranks.device)).cpu().numpy()
    return order, {name: ranks.gather_rows(value).cpu().numpy() for name, value in whole.items()}
