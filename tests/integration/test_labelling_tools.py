"""What labelling tools export, as they write it: checked and trained on by its path alone."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from tests.conftest import LABELS, draw_shapes
from tests.integration.conftest import TINY_RUN
from typer.testing import CliRunner

from query2label.cli.app import app
from query2label.data.load import load_dataset

NUM_TRAIN, NUM_VAL, SIDE = 16, 8, 40
Labelled = list[tuple[str, str, tuple[str, ...]]]
"""Split, name of the image, labels."""


def labelled() -> Labelled:
    splits = ["train"] * NUM_TRAIN + ["val"] * NUM_VAL
    found = []
    for number, split in enumerate(splits):
        labels = tuple(label for place, label in enumerate(LABELS) if (number + 1) >> place & 1)
        found.append((split, f"photo {number:02d}.jpg", labels))
    return found


def draw(path: Path, labels: tuple[str, ...], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_shapes(path, labels, seed=seed, size=SIDE)


def write_cvat(folder: Path) -> None:
    declared = "".join(
        f"<label><name>{label}</name><color>#fa3253</color><type>any</type><attributes></attributes></label>"
        for label in LABELS
    )
    parts = [
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta><project>'
        f"<id>3</id><name>shapes</name><labels>{declared}</labels></project></meta>"
    ]
    for number, (split, name, labels) in enumerate(labelled()):
        draw(folder / "images" / split / name, labels, number)
        parts.append(
            f'  <image id="{number}" name={quoteattr(name)} subset="{split}" task_id="1" width="{SIDE}" '
            f'height="{SIDE}">'
        )
        for label in labels:
            if number % 2:
                parts.append(f'    <tag label="{label}" source="manual">\n    </tag>')
            else:
                parts.append(
                    f'    <box label="{label}" source="manual" occluded="0" xtl="1.00" ytl="2.00" '
                    'xbr="20.50" ybr="30.00" z_order="0">\n    </box>'
                )
        parts.append("  </image>")
    (folder / "annotations.xml").write_text("\n".join([*parts, "</annotations>\n"]), encoding="utf-8")


def write_labelstudio(folder: Path) -> None:
    tasks = []
    for number, (_, name, labels) in enumerate(labelled()):
        draw(folder / "images" / name.replace(" ", "_"), labels, number)
        answer = {
            "value": {"choices": list(labels)},
            "id": f"id{number}",
            "from_name": "choice",
            "to_name": "image",
            "type": "choices",
            "origin": "manual",
        }
        annotation = {
            "id": number,
            "completed_by": 1,
            "result": [answer] if labels else [],
            "was_cancelled": False,
            "ground_truth": False,
        }
        tasks.append(
            {
                "id": number,
                "annotations": [annotation],
                "file_upload": f"0a1b2c3d-{name.replace(' ', '_')}",
                "drafts": [],
                "predictions": [],
                "data": {"image": f"/data/upload/1/0a1b2c3d-{name.replace(' ', '_')}"},
            }
        )
    (folder / "project-1-at-2024-05-01-10-00-0a1b2c3d.json").write_text(json.dumps(tasks))


def write_labelstudio_min(folder: Path) -> None:
    records = []
    for number, (_, name, labels) in enumerate(labelled()):
        draw(folder / "shots" / name, labels, number)
        answers = {"choice": labels[0] if len(labels) == 1 else {"choices": list(labels)}} if labels else {}
        records.append(
            {
                "image": f"/data/local-files/?d=project/shots/{name.replace(' ', '%20')}",
                "id": number,
                **answers,
                "annotator": 1,
                "annotation_id": number,
                "created_at": "2024-05-01T10:00:00Z",
                "updated_at": "2024-05-01T10:00:00Z",
                "lead_time": 1.5,
            }
        )
    (folder / "export.json").write_text(json.dumps(records, indent=2))


def write_yolo(folder: Path) -> None:
    for number, (split, name, labels) in enumerate(labelled()):
        draw(folder / "images" / split / name, labels, number)
        lines = [f"{LABELS.index(label)} 0.5 0.5 0.25 0.5" for label in labels]
        if lines:
            file = folder / "labels" / split / name.replace(".jpg", ".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lines))
    names = "".join(f"  {number}: {label}\n" for number, label in enumerate(LABELS))
    text = f"path: ../datasets/shapes # root\ntrain: images/train\nval: images/val\ntest:\n\nnames:\n{names}"
    (folder / "data.yaml").write_text(text)


def write_yolo_flat(folder: Path) -> None:
    for number, (_, name, labels) in enumerate(labelled()):
        draw(folder / name, labels, number)
        lines = [f"{LABELS.index(label)} 0.5 0.5 0.25 0.5\n" for label in labels]
        (folder / name.replace(".jpg", ".txt")).write_text("".join(lines))
    (folder / "classes.txt").write_text("\n".join(LABELS) + "\n")


def write_datumaro(folder: Path) -> None:
    items: dict[str, list[object]] = {"train": [], "val": []}
    for number, (split, name, labels) in enumerate(labelled()):
        draw(folder / "images" / split / name, labels, number)
        annotations = [
            {"id": place, "type": "label", "attributes": {}, "group": 0, "label_id": LABELS.index(label)}
            for place, label in enumerate(labels)
        ]
        items[split].append(
            {
                "id": name.removesuffix(".jpg"),
                "annotations": annotations,
                "image": {"path": name, "size": [SIDE, SIDE]},
            }
        )
    (folder / "annotations").mkdir()
    for split, part in items.items():
        declared = [{"name": label, "parent": "", "attributes": []} for label in LABELS]
        value = {
            "dm_format_version": "1.0",
            "media_type": 2,
            "infos": {},
            "categories": {"label": {"labels": declared, "label_groups": [], "attributes": []}},
            "items": part,
        }
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("format_name", "write", "has_splits"),
    [
        ("cvat", write_cvat, True),
        ("labelstudio", write_labelstudio, False),
        ("labelstudio", write_labelstudio_min, False),
        ("yolo", write_yolo, True),
        ("yolo", write_yolo_flat, False),
        ("datumaro", write_datumaro, True),
    ],
)
def test_exports__are_checked_and_trained_on_by_path(
    tmp_path: Path, format_name: str, write: Callable[[Path], None], has_splits: bool
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write(data)
    dataset = load_dataset(data)
    assert dataset.format == format_name
    assert dataset.labels.names == LABELS
    found = {
        (sample.path.name.replace("_", " "), tuple(LABELS[index] for index in sample.positive))
        for sample in dataset.samples
    }
    assert found == {(name, labels) for _, name, labels in labelled()}
    assert [sample.split for sample in dataset.samples] == [
        split if has_splits else None for split, _, _ in labelled()
    ]
    result = CliRunner().invoke(app, ["data", "check", str(data)])
    assert result.exit_code == 0, result.output
    assert format_name in result.output
    assert "no errors" in result.output
    settings = [word for setting in TINY_RUN for word in ("--set", setting)]
    run = tmp_path / "run"
    command = ["train", "--data", str(data), "--out", str(run), "--device", "cpu", *settings]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    report = json.loads((run / "evaluation" / "report.json").read_text())
    assert not has_splits or report["num_images"] == NUM_VAL
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
