"""From an image, wherever it comes from, to its labels."""

from __future__ import annotations

import io
import itertools
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, overload

import numpy as np
from PIL import Image

from query2label.bundle import Bundle
from query2label.data.samples import Sample
from query2label.errors import ConfigError, DataError, ImageError
from query2label.formats import RuntimeName
from query2label.inference.choice import LabelChoice
from query2label.inference.explanation import Explanation, HeadChoice, LayerChoice
from query2label.inference.inputs import images_in
from query2label.inference.pipeline import Loaded, computed, overlapped
from query2label.inference.prediction import Prediction
from query2label.inference.runtime import Runtime
from query2label.inference.runtimes import load_runtime
from query2label.inference.threads import choose_threads
from query2label.preprocess import ImageSource, preprocess

_Key = TypeVar("_Key")


class Predictor:
    """A trained model, ready for images of any kind.

    Args:
        bundle: What the model is: labels, preprocessing, thresholds, calibration.
        runtime: What computes its logits.
        threads: That decode images; unset: as many as this process may use.

    Example:
        >>> predictor = Predictor.load("runs/birds/best")  # doctest: +SKIP
        >>> predictor("photo.jpg").labels  # doctest: +SKIP
        ('robin', 'feeder')
    """

    def __init__(self, bundle: Bundle, runtime: Runtime, *, threads: int | None = None) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self._decoders = choose_threads(threads)

    @classmethod
    def load(
        cls,
        path_or_hub_id: str | Path | None = None,
        *,
        runtime: RuntimeName = "auto",
        device: str = "auto",
        threads: int | None = None,
    ) -> Predictor:
        """The predictor of a bundle folder, of `owner/name` on the Hugging Face hub, or of an exported file.

        An exported file (`.onnx`; `.xml` of OpenVINO) needs no torch, and answers sooner.

        Args:
            path_or_hub_id: Where the model is; what is on this machine needs no network. Unset: the model in
                the box, for a few everyday labels, an exported file which comes with the package.
            runtime: What computes; `auto` is the fastest that is installed and can.
            device: `auto` (a GPU where there is one), `cpu`, or what the runtime has, such as `cuda`.
            threads: Of the processor; unset: as many as this process may use.
        """
        loaded = load_runtime(path_or_hub_id, runtime=runtime, device=device, threads=threads)
        return cls(*loaded, threads=threads)

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names that the model knows, in output order."""
        return self.bundle.labels

    @overload
    def __call__(  # type: ignore[overload-overlap]  # an array can be iterated, and is one image
        self,
        source: bytes | Image.Image | np.ndarray,
        *,
        top_k: int | None = ...,
        threshold: float | Mapping[str, float] | None = ...,
        batch_size: int = ...,
    ) -> Prediction: ...
    @overload
    def __call__(
        self,
        source: str | Path,
        *,
        top_k: int | None = ...,
        threshold: float | Mapping[str, float] | None = ...,
        batch_size: int = ...,
    ) -> Any: ...  # a Prediction for a file, a list of them for a folder
    @overload
    def __call__(
        self,
        source: Iterable[ImageSource],
        *,
        top_k: int | None = ...,
        threshold: float | Mapping[str, float] | None = ...,
        batch_size: int = ...,
    ) -> list[Prediction]: ...
    def __call__(
        self,
        source: ImageSource | Iterable[ImageSource],
        *,
        top_k: int | None = None,
        threshold: float | Mapping[str, float] | None = None,
        batch_size: int = 16,
    ) -> Any:
        """The prediction for one image, or a list of them for several.

        Args:
            source: A path, PIL image, uint8 array (H, W, 3) in RGB or (H, W), or the bytes of an image file;
                or several of these (list, tuple, generator), or a folder, whose images are taken in order of
                their paths.
            top_k: Give the so many best labels, whether or not they reach their thresholds; together with
                `threshold`, at most so many of those that do.
            threshold: One threshold for all labels, or some by name; unset: those of the bundle.
            batch_size: Images that are computed at once; it changes speed and memory, not results.

        Returns:
            A `Prediction` for one image, else a list. An image that cannot be read gives a `Prediction` with
            `error` and no labels.
        """
        predictions = self.stream(source, top_k=top_k, threshold=threshold, batch_size=batch_size)
        return next(predictions) if _is_one_image(source) else list(predictions)

    def stream(
        self,
        source: ImageSource | Iterable[ImageSource | Sample],
        *,
        top_k: int | None = None,
        threshold: float | Mapping[str, float] | None = None,
        batch_size: int = 16,
        keep_logits: bool = False,
    ) -> Iterator[Prediction]:
        """Predictions one after the other, for more images than fit into memory; arguments as in a call.

        Images are read, decoded and computed in other threads while the caller works with a prediction: a
        generator is asked for up to three batches before the first prediction comes. Samples of a data set
        are images too, also in archives; an archive that cannot be read any more is a `DataError`.

        Other options that are out of range are a `ConfigError` too; an unknown label, and a source of another
        kind, are a `DataError`.

        Args:
            source: Images, as in a call, or samples.
            top_k: As in a call.
            threshold: As in a call.
            batch_size: As in a call.
            keep_logits: Whether predictions have the `logits`, too.

        Raises:
            ConfigError: If `batch_size` is out of range.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size ({batch_size}) must be at least 1.")
        choice = LabelChoice.of(self.bundle, top_k=top_k, threshold=threshold)
        if _is_one_image(source):
            image: Any = source
            errors, logits = computed([self._load(image)], self.runtime)
            return iter(self._predictions([image], errors, logits, choice, keep_logits=keep_logits))
        batches = ((None, batch) for batch in batched(_each(source), batch_size))
        return self._stream(batches, choice, keep_logits=keep_logits)

    def explain(
        self,
        source: ImageSource,
        *,
        labels: Sequence[str] | None = None,
        method: Literal["auto", "attention", "gradcam"] = "auto",
        layer: LayerChoice | None = None,
        head: HeadChoice | None = None,
    ) -> Explanation:
        """The prediction for an image, and where the model looked for its labels.

        Attention shows where a label's query took its evidence from, Grad-CAM which places raise its logit;
        neither proves what a person would call the reason.

        Args:
            source: One image, as for a call.
            labels: Which labels to explain; unset: the (at most five) best predicted ones, or the best one.
            method: `attention` for heads that have it (a bundle, or a file exported with it), `gradcam` for
                any bundle; `auto` is attention where there is some, else Grad-CAM.
            layer: Of attention: a decoder layer from 1 on, or `mean` over all; unset: `mean`.
            head: Of attention: a head from 1 on, or `mean`; `each` also gives each one's map. Unset: `mean`.

        An image that cannot be read is an `ImageError`, an unknown label a `DataError`, a method, layer or
        head that this model does not have a `ConfigError`.
        """
        from query2label.inference.looking import explain_image  # it knows this class

        return explain_image(self, source, labels=labels, method=method, layer=layer, head=head)

    def _stream(
        self,
        batches: Iterable[tuple[None, Sequence[ImageSource | Sample]]],
        choice: LabelChoice,
        *,
        keep_logits: bool,
    ) -> Iterator[Prediction]:
        for _, predictions in self.predict_batches(batches, choice, keep_logits=keep_logits):
            yield from predictions

    def predict_batches(
        self,
        batches: Iterable[tuple[_Key, Sequence[ImageSource | Sample]]],
        choice: LabelChoice,
        *,
        keep_logits: bool = False,
    ) -> Iterator[tuple[_Key, list[Prediction]]]:
        """Predictions of whole batches, each with what it is known by; how far ahead it works, see `stream`.

        What a batch is computed with can change the last bits of its logits: equal batches give equal ones.
        """
        results = overlapped(batches, load=self._load, compute=self.runtime, decoders=self._decoders)
        for key, sources, errors, logits in results:
            yield key, self._predictions(sources, errors, logits, choice, keep_logits=keep_logits)

    def _predictions(
        self,
        sources: Sequence[ImageSource | Sample],
        errors: list[str | None],
        logits: np.ndarray,
        choice: LabelChoice,
        *,
        keep_logits: bool,
    ) -> list[Prediction]:
        rows = iter(zip(self.bundle.scores(logits), logits, strict=True))
        predictions = []
        for source, error in zip(sources, errors, strict=True):
            name = _name_of(source)
            if error is not None:
                predictions.append(Prediction(source=name, error=error))
                continue
            scores, row = next(rows)
            predictions.append(choice.prediction(scores, source=name, logits=row if keep_logits else None))
        return predictions

    def _load(self, source: object) -> Loaded:
        """The normalized image, or why there is none.

        Raises:
            DataError: If a sample's archive cannot be read, or something else than an image was given.
        """
        if isinstance(source, Sample):
            try:
                content: ImageSource = source.image_source()
            except ImageError as error:
                raise DataError(f"{source.path} cannot be read: {error}") from None
        elif isinstance(source, _ONE_IMAGE):
            content = source
        else:
            raise DataError(f"{reprlib.repr(source)} {_NO_IMAGE}")
        try:
            return preprocess(content, self.bundle.preprocess)
        except ImageError as error:
            return str(error)


_ONE_IMAGE: Final = (str, Path, bytes, Image.Image, np.ndarray)
_NO_IMAGE: Final = "is no image: give a path, a PIL image, an array, the bytes of a file, or several of them."


def batched(sources: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` of what comes; the last one may have fewer."""
    rest = iter(sources)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _is_folder(source: object) -> bool:
    return isinstance(source, str | Path) and Path(source).is_dir()


def _is_one_image(source: object) -> bool:
    return isinstance(source, _ONE_IMAGE) and not _is_folder(source)


def _each(source: Any) -> Iterable[ImageSource | Sample]:
    if _is_folder(source):
        return images_in(Path(source))
    # An open file would be taken for the images that its lines name, and a buffer for numbers.
    if not isinstance(source, Iterable) or isinstance(source, io.IOBase | bytearray | memoryview):
        raise DataError(f"{reprlib.repr(source)} {_NO_IMAGE}")
    return source


def _name_of(source: ImageSource | Sample) -> str | None:
    if isinstance(source, Sample):
        return str(source.path)
    name = source if isinstance(source, str | Path) else getattr(source, "filename", None)
    return str(name) if name else None
