"""An exported OpenVINO file on OpenVINO; no torch is imported."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from query2label.bundle.artefact import BUNDLE_KEY, EXPORT_KEY, from_metadata
from query2label.errors import BundleError, ConfigError
from query2label.extras import import_extra
from query2label.inference.threads import choose_threads

_TELEMETRY: Final = "openvino_telemetry"


class OpenVinoRuntime:
    """Computes logits with an exported OpenVINO file.

    Args:
        path: The `.xml` file, its `.bin` beside it.
        device: `auto` and `cpu` are the processor; else one that OpenVINO knows, such as `gpu`.
        threads: Of the processor; unset: as many as this process may use.

    A file that says nothing of its bundle is a `BundleError`.

    Raises:
        BundleError: If the file cannot be read as a model.
    """

    def __init__(self, path: Path, *, device: str = "auto", threads: int | None = None) -> None:
        core = import_openvino("Running an OpenVINO file").Core()
        chosen = _device(core, device)
        try:
            model = core.read_model(path)
            self.bundle, self.artefact = from_metadata(_metadata(model), where=path)
            settings: dict[str, Any] = {
                # Left alone, OpenVINO computes in bfloat16 where the processor can.
                "INFERENCE_PRECISION_HINT": "bf16" if self.artefact.precision == "bf16" else "f32",
                "PERFORMANCE_HINT": "LATENCY",
            }
            if chosen == "CPU":
                settings["INFERENCE_NUM_THREADS"] = choose_threads(threads)
            self._compiled = core.compile_model(model, chosen, settings)
        except RuntimeError as error:
            reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "").rstrip(
                "."
            )
            raise BundleError(f"{path} is not a model that OpenVINO can run: {reason}.") from None
        self._lock = threading.Lock()  # one request at a time

    def __call__(self, images: Float[np.ndarray, "B 3 H W"]) -> Float[np.ndarray, "B K"]:
        """Logits of normalized float32 images."""
        with self._lock:
            return np.array(self._compiled({"images": images})["logits"])

    @property
    def has_attention(self) -> bool:
        """Whether the file gives attention maps."""
        return self.artefact.attention

    def with_attention(
        self, images: Float[np.ndarray, "B 3 H W"]
    ) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B L M K h w"]]:
        """Logits and attention maps of normalized float32 images."""
        with self._lock:
            outputs = self._compiled({"images": images})
            return np.array(outputs["logits"]), np.array(outputs["attention"])


def import_openvino(purpose: str) -> ModuleType:
    """OpenVINO, kept from sending who imported it to its makers.

    Args:
        purpose: What needs it, as the start of a sentence.

    A missing package is a `MissingExtraError`.
    """
    if sys.modules.get("openvino") is not None:
        return sys.modules["openvino"]
    hidden = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # its absence is provided for
    try:
        return import_extra("openvino", extra="openvino", purpose=purpose)
    finally:
        del sys.modules[_TELEMETRY]
        if hidden is not None:
            sys.modules[_TELEMETRY] = hidden


def _device(core: Any, name: str) -> str:
    """OpenVINO's name of a device.

    Raises:
        ConfigError: If it is not there.
    """
    chosen = "CPU" if name == "auto" else name.upper()
    if chosen not in core.available_devices:
        known = ", ".join(device.lower() for device in core.available_devices)
        raise ConfigError(f"There is no device {name!r} for OpenVINO here: use auto or {known}.")
    return chosen


def _metadata(model: Any) -> dict[str, str]:
    places = {key: key.split(".") for key in (BUNDLE_KEY, EXPORT_KEY)}
    return {key: str(model.get_rt_info(at).value) for key, at in places.items() if model.has_rt_info(at)}
