"""What one request, and all of them together, may take of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from query2label.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of the service; each is there so that no sender can take it from the others.

    Raises:
        ConfigError: If a bound is not positive.
    """

    max_batch: int | None = None
    """Images that are computed at once, at most; unset: 8, or 1 where two callers with an image each are
    faster (ONNX Runtime on processors)."""
    queue: int = 12
    """Images that are in work or waiting, at most, and so of one request; beyond it requests get 503."""
    max_body_bytes: int = 64_000_000
    """Of one request."""
    max_buffered_bytes: int = 512_000_000
    """Of all requests whose bodies have arrived and are not yet answered; beyond it requests get 503."""
    max_pixels: int = 50_000_000
    """Of one image."""
    body_seconds: float = 30.0
    """In which a request must arrive; also the time for its headers."""
    answer_seconds: float = 30.0
    """In which it must be answered after that; then it gets 503."""
    drain_seconds: float = 1.0
    """For which `/readyz` says no, and all else goes on, before a SIGTERM ends the service."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is None:
                continue
            if value < 0 or (value == 0 and name != "drain_seconds"):
                raise ConfigError(f"{name} ({value}) must be greater than 0.")
