"""An exported ONNX file on ONNX Runtime; no torch is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from jaxtyping import Float

from query2label.bundle.artefact import from_metadata
from query2label.errors import BundleError, ConfigError
from query2label.inference.threads import choose_threads

_PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ERRORS: Final = (
    "EPFail",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "ModelLoaded",
    "NoModel",
    "NoSuchFile",
    "NotImplemented",
    "RuntimeException",
)


class OnnxRuntime:
    """Computes logits with an exported ONNX file.

    Args:
        path: The file.
        device: `auto` (CUDA where this ONNX Runtime has it), `cpu`, `cuda`.
        threads: Of the processor; unset: as many as this process may use.
        shared: Whether decoders and other callers work on the same processors: its threads then sleep where
            they otherwise wait awake, which costs a lone caller a sixth and gives all together a fifth more.

    A file that says nothing of its bundle is a `BundleError`.

    Raises:
        BundleError: If the file cannot be read as a model.
    """

    def __init__(
        self, path: Path, *, device: str = "auto", threads: int | None = None, shared: bool = False
    ) -> None:
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = choose_threads(threads)
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(not shared)))
        options.log_severity_level = 3  # errors only; they come as exceptions as well
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except _errors() as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise BundleError(f"{path} is not an ONNX model that can be run: {reason}.") from None
        is_on_cpu = self._session.get_providers()[0] == _PROVIDERS["cpu"]
        self.pays_to_batch = not (shared and is_on_cpu)
        """Whether a batch is faster than callers with an image each; on processors it is not."""
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.bundle, self.artefact = from_metadata(metadata, where=path)

    def __call__(self, images: Float[np.ndarray, "B 3 H W"]) -> Float[np.ndarray, "B K"]:
        """Logits of normalized float32 images."""
        (logits,) = self._session.run(["logits"], {"images": images})
        return np.asarray(logits)

    @property
    def has_attention(self) -> bool:
        """Whether the file gives attention maps."""
        return self.artefact.attention

    def with_attention(
        self, images: Float[np.ndarray, "B 3 H W"]
    ) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B L M K h w"]]:
        """Logits and attention maps of normalized float32 images."""
        logits, attention = self._session.run(["logits", "attention"], {"images": images})
        return np.asarray(logits), np.asarray(attention)


def _providers(device: str) -> list[str]:
    """The execution providers for a device, best first.

    Raises:
        ConfigError: If this ONNX Runtime does not have it.
    """
    available = onnxruntime.get_available_providers()
    if device == "auto":
        return [provider for provider in reversed(_PROVIDERS.values()) if provider in available]
    if _PROVIDERS.get(device) not in available:
        raise ConfigError(
            f"There is no device {device!r} for ONNX Runtime here: use auto or cpu, or put onnxruntime-gpu "
            "in its place."
        )
    return [_PROVIDERS[device]]


def _errors() -> tuple[type[Exception], ...]:
    """What it raises: children of `Exception` itself, so they must be named."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    return tuple(getattr(state, name) for name in _ERRORS if hasattr(state, name))
