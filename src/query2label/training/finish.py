"""The end of a run: the best weights, scored as prediction scores, with thresholds and a report."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from query2label.bundle import Bundle, read_weights, save_bundle, scores_from_logits
from query2label.evaluation.calibration import fit_temperature
from query2label.evaluation.fit import FITTED_HERE
from query2label.evaluation.inputs import difficult_words
from query2label.evaluation.report import Report, report_from_scores
from query2label.evaluation.sizes import object_sizes
from query2label.evaluation.thresholds import fit_thresholds
from query2label.models.weights import load_strictly
from query2label.training.cautions import label_cautions, noise_caution
from query2label.training.examples import draw_examples
from query2label.training.feeds import on_device, plain_images
from query2label.training.plan import Indices, rank_share
from query2label.training.progress import as_text
from query2label.training.run_context import Run
from query2label.training.scoring import score_batches
from query2label.training.signals import RunInterruptedError

Logits = Float[np.ndarray, "n K"]


def finish(run: Run) -> Report:
    """Scores the validation images with the best weights, and completes the bundle by what that tells.

    The images go through the path of prediction, also where training used cached features. Temperature and
    thresholds are fitted on their scores; the report goes into `evaluation/`, broken images are listed.

    Returns:
        The report, in every process.
    """
    indices, logits = _score_best(run)
    return run.ranks.first_does(lambda: _complete(run, indices, logits))


def _complete(run: Run, indices: Indices, logits: Logits) -> Report:
    data, bundle, folder = run.start.data, run.start.bundle, run.folder
    targets = data.val.targets()[indices]
    temperature = fit_temperature(logits, targets)
    scores = scores_from_logits(logits, temperature)
    thresholds = fit_thresholds(scores, targets)
    difficult = difficult_words(data.val, run.config.data.difficult)
    cautions = [*label_cautions(bundle.labels, targets), *data.warnings, *run.state.cautions]
    if (noise := noise_caution(run.state.records)) is not None:
        cautions.append(noise)
    report = report_from_scores(
        scores,
        targets,
        labels=bundle.labels,
        thresholds=thresholds,
        temperature=temperature,
        object_sizes=object_sizes(data.val, indices),
        seed=run.config.train.seed,
        images=f"validation images of the run{difficult}{FITTED_HERE}",
        broken_images=run.broken.among(sample.path for sample in data.val.samples).to_dict(),
        warnings=cautions,
    )
    changes = {
        "thresholds": tuple(thresholds.tolist()),
        "threshold_rule": "f1",
        "temperature": temperature,
        "metrics": report.bundle_metrics(),
    }
    complete = Bundle.model_validate({**dict(bundle), **changes})
    picture = None
    if run.config.train.card_images:
        picture = draw_examples(run.start.model, complete, data.val, indices, scores, targets)
    save_bundle(complete, run.start.model.state_dict(), folder.best, picture=picture)
    report.save(folder.evaluation)
    if len(run.broken):
        run.broken.save_csv(folder.broken_images)
    _tell(run, report)
    return report


def _score_best(run: Run) -> tuple[Indices, Logits]:
    model, data = run.start.model, run.start.data
    best = run.folder.best
    run.ranks.first_does(
        lambda: load_strictly(model, read_weights(best), source=f"The weights file of {best}")
    )
    run.ranks.share_tensors(model.state_dict())
    share = rank_share(np.arange(len(data.val)), rank=run.ranks.rank, world_size=run.ranks.world_size)
    images = plain_images(
        data.val, run.start.spec, run.config, indices=share, device=run.ranks.device, broken=run.broken
    )
    inputs = ((on_device(batch.images, run.ranks.device), batch.indices) for batch in images)
    try:
        with run.reporter.phase("final validation", total=len(images)) as phase:
            indices, logits = score_batches(
                {"best": model.optimize_for_inference(image_size=run.start.spec.image_size)},
                inputs,
                num_labels=len(data.val.labels),
                ranks=run.ranks,
                stop=run.stop,
                advance=phase.advance,
            )
    except RunInterruptedError as error:
        raise RunInterruptedError(
            f"Stopped by a signal after the last step, while the best weights were evaluated: finish with "
            f"`q2l train --resume {run.folder.path}`.",
            signal_number=error.signal_number,
        ) from None
    run.share_broken()
    return indices, logits["best"]


def _tell(run: Run, report: Report) -> None:
    say, interval = run.reporter.say, report.map_interval
    spread = f" (95 % interval {interval.low:.4f} to {interval.high:.4f})" if interval else ""
    at = report.decisions["thresholds"]
    say(
        f"Best epoch {run.state.best_epoch}: mAP {as_text(report.map)}{spread} on {report.num_images} "
        f"validation images; with the fitted thresholds CF1 {as_text(at.cf1)}, OF1 {as_text(at.of1)}."
    )
    for warning in report.warnings:
        run.reporter.warn(warning)
    say("The thresholds were fitted on these images, so CF1 and OF1 on new images will be a little lower.")
    if len(run.broken):
        for path, reason in run.broken.to_dict().items():
            run.reporter.note(f"Broken image: {path}: {reason}")
        run.reporter.warn(
            f"{len(run.broken)} images could not be read: replaced in training, left out of validation; "
            f"{run.folder.broken_images} lists them."
        )
    say(f"The model is in {run.folder.best}: q2l predict PHOTO --model {run.folder.best}")
