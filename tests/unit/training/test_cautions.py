import numpy as np

from query2label.training.cautions import label_cautions, noise_caution
from query2label.training.loop import describe


def test_label_cautions__names_labels_that_never_always_and_seldom_occur() -> None:
    targets = np.zeros((12, 4), dtype=np.int8)
    targets[:, 1] = 1
    targets[0, 1] = -1
    targets[:9, 2] = 1
    targets[:10, 3] = 1
    assert label_cautions(("never", "always", "nine", "ten"), targets) == [
        "1 of 4 labels is never shown by a validation image and in no mean: never.",
        "1 of 4 labels is shown by all validation images, so that their average precision and threshold say "
        "nothing: always.",
        "1 of 4 labels is shown by fewer than 10 validation images, too few to trust their average precision "
        "and threshold: nine.",
    ]
    assert label_cautions(("ten",), targets[:, 3:]) == []


def test_label_cautions__names_the_first_few_of_many() -> None:
    (caution,) = label_cautions([f"label{number}" for number in range(20)], np.zeros((3, 20), dtype=np.int8))
    assert caution.startswith("20 of 20 labels are never shown by a validation image")
    assert caution.endswith("label6, label7 and 12 more.")


def record(epoch: int, *, best: bool, gain: list[float] | None) -> dict:
    return {
        "epoch": epoch, "train_loss": 1.0, "val_loss": 1.0, "map": 0.5 + epoch / 100, "best": best,
        "images_per_second": 1.0, "seconds": 1.0, "validation_seconds": 1.0, "gain_interval": gain,
    }  # fmt: skip


def test_noise_caution__compares_the_best_epoch_with_the_best_before() -> None:
    records = [
        record(1, best=True, gain=None),
        record(2, best=True, gain=[0.01, 0.03]),
        record(3, best=False, gain=None),
        record(4, best=True, gain=[-0.002, 0.022]),
        record(5, best=False, gain=None),
    ]
    assert noise_caution(records) == (
        "The best epoch 4 (mAP 0.5400) is not better than epoch 2 (mAP 0.5200) beyond noise: 95 % interval "
        "of the difference -0.0020 to +0.0220."
    )
    assert noise_caution(records[:3]) is None
    assert noise_caution(records[:1]) is None


def test_describe__says_that_a_gain_is_within_noise() -> None:
    text = describe(record(4, best=True, gain=[-0.002, 0.022]), num_epochs=5)
    assert text.endswith(
        ", the best so far but within noise of the best before (95 % interval of the gain -0.0020 to +0.0220)"
    )
    assert describe(record(2, best=True, gain=[0.01, 0.03]), num_epochs=5).endswith(", the best so far")
    assert describe(record(3, best=False, gain=None), num_epochs=5).endswith("2 s")
