"""Predicting many images into a folder of parts: what is missing is computed, part by part."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter

from query2label.data.samples import Sample
from query2label.errors import DataError
from query2label.inference.choice import LabelChoice
from query2label.inference.outputs import save_predictions
from query2label.inference.parts import Part, PartFolder, Shard, wanted_parts
from query2label.inference.prediction import Prediction
from query2label.inference.predictor import Predictor, batched
from query2label.inference.samples import Survey, SurveyedSamples

Engine = Callable[[Iterator[Part]], Iterable[tuple[int, Iterable[Prediction]]]]
"""Predicts parts: gives the number of each with its predictions in order, parts in any order."""


def tag_parts(
    samples: Iterable[Sample],
    folder: PartFolder,
    engine: Engine,
    *,
    shard: Shard | None = None,
    watch: Callable[[Iterable[Prediction]], Iterable[Prediction]] = iter,
) -> None:
    """Writes the parts that are missing, each at once when its last image is predicted.

    Args:
        samples: All images, in the order that the folder was begun with.
        folder: Where the parts go.
        engine: What predicts.
        shard: Only the parts of this share.
        watch: Sees all predictions as they are written, for example to show progress.

    Raises:
        DataError: If the images are others at the end than they were at the beginning.
    """
    folder.remove_leftovers(shard)
    manifest = folder.manifest
    missing = folder.missing(shard)
    surveyed = SurveyedSamples(samples)
    for number, predictions in engine(wanted_parts(surveyed, missing, manifest.part_size)) if missing else ():
        save_predictions(
            watch(predictions),
            folder.part_path(number),
            manifest.choice.labels,
            form=manifest.form,
            keep_logits=manifest.keep_logits,
        )
    if missing and surveyed.survey != Survey(manifest.num_images, manifest.images):
        raise DataError(
            f"Images came or went while {folder.path} was written, so that its rows may not fit them: "
            "predict them into a new folder."
        )


def local_engine(
    predictor: Predictor, choice: LabelChoice, *, batch_size: int, keep_logits: bool = False
) -> Engine:
    """Predicts in this process; the next part is decoded while one is still computed and written."""

    def run(parts: Iterator[Part]) -> Iterator[tuple[int, Iterable[Prediction]]]:
        batches = ((part.number, batch) for part in parts for batch in batched(part.samples, batch_size))
        results = predictor.predict_batches(batches, choice, keep_logits=keep_logits)
        for number, group in itertools.groupby(results, key=itemgetter(0)):
            yield number, itertools.chain.from_iterable(predictions for _, predictions in group)

    return run
