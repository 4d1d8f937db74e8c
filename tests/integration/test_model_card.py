from pathlib import Path

import pytest
from PIL import Image
from tests.integration.conftest import TINY_RUN

import query2label
from query2label.bundle import PICTURE_NAME, read_bundle
from query2label.training.run import resume


@pytest.mark.parametrize("head", ["query2label", "linear"])
def test_model_card__has_a_picture_of_photos_only_where_it_is_asked_for(
    shapes: Path, tmp_path: Path, head: str
) -> None:
    result = query2label.train(
        data=shapes,
        out=tmp_path / "run",
        overrides=[*TINY_RUN, f"model.head={head}"],
        device="cpu",
        quiet=True,
    )
    card = (result.best / "README.md").read_text()
    assert not (result.best / PICTURE_NAME).exists()
    assert "![" not in card
    bundle = read_bundle(result.best)
    row = next(row for row in result.report.per_label if row.label == "circle")
    trained_on = bundle.data["training_images_per_label"]["circle"]
    assert 0 < trained_on < 40
    threshold = bundle.thresholds[bundle.labels.index("circle")]
    assert f"| circle | {threshold:.3f} | {trained_on} | {row.num_positives} | {100 * row.ap:.1f} |" in card
    assert f"Trained on 40 images of {shapes.name}; 21 others".replace("-", r"\-") in card
    assert str(shapes.parent) not in card

    again = resume(result.run_dir, overrides=["train.card_images=true"], device="cpu", quiet=True)

    with Image.open(again.best / PICTURE_NAME) as picture:
        picture.load()
        assert picture.format == "JPEG"
        assert picture.width == 3 * 260 + 24
    assert (again.best / PICTURE_NAME).stat().st_size <= 200_000
    assert f"]({PICTURE_NAME})" in (again.best / "README.md").read_text()
