import shutil

import numpy as np
import pytest
import torch

from query2label.config import DataConfig
from query2label.data.samples import Dataset
from query2label.errors import ConfigError, DataError
from query2label.training.run_data import load_run_data
from query2label.training.start import label_prior


def config(path, **settings):
    return DataConfig(path=path, **settings)


def test_load_run_data__takes_the_splits_of_the_data(shapes):
    data = load_run_data(config(shapes), seed=0)
    assert (len(data.train), len(data.val)) == (40, 21)
    assert data.made_split is None
    assert data.warnings == ()


def test_load_run_data__holds_a_part_out_of_the_only_split(shapes, tmp_path):
    folder = shutil.copytree(shapes, tmp_path / "data")
    (folder / "labels.csv").write_text((shapes / "labels.csv").read_text().replace(",val", ",train"))
    data = load_run_data(config(folder, val_fraction=0.3), seed=0)
    assert len(data.train) + len(data.val) == 61
    assert 14 <= len(data.val) <= 22
    assert len(data.made_split) == 61
    assert load_run_data(config(folder, val_fraction=0.3), seed=0).digest() == data.digest()
    assert load_run_data(config(folder, val_fraction=0.3), seed=1).digest() != data.digest()


def test_load_run_data__learns_from_trainval_where_there_is_no_train(shapes, tmp_path):
    folder = shutil.copytree(shapes, tmp_path / "data")
    table = (shapes / "labels.csv").read_text().replace(",train", ",trainval")
    (folder / "labels.csv").write_text(table.replace(",val", ",test"))
    data = load_run_data(config(folder), seed=0)
    assert ({sample.split for sample in data.train.samples}, len(data.train)) == ({"trainval"}, 40)
    assert ({sample.split for sample in data.val.samples}, len(data.val)) == ({"test"}, 21)
    (folder / "labels.csv").write_text(table.replace(",val", ",trainval"))
    data = load_run_data(config(folder), seed=0)
    assert len(data.train) + len(data.val) == 61
    assert not {sample.path for sample in data.train.samples} & {sample.path for sample in data.val.samples}


def test_digest__follows_labels_images_and_targets_but_not_the_place(shapes, tmp_path):
    digest = load_run_data(config(shapes), seed=0).digest()
    moved = shutil.copytree(shapes, tmp_path / "moved")
    assert load_run_data(config(moved), seed=0).digest() == digest
    table = (shapes / "labels.csv").read_text()
    (moved / "new.png").write_bytes((shapes / "00.png").read_bytes())
    changes = [(",train", ",val"), ("circle", "ring"), ("circle|square", "circle"), ("00.png", "new.png")]
    for old, new in changes:
        (moved / "labels.csv").write_text(table.replace(old, new, 1))
        assert load_run_data(config(moved), seed=0).digest() != digest


def test_load_run_data__asks_which_of_several_years_is_meant(shapes, tmp_path):
    folder = shutil.copytree(shapes, tmp_path / "data")
    table = (shapes / "labels.csv").read_text().replace(",train", ",train2017")
    (folder / "labels.csv").write_text(table.replace(",val", ",val2014", 9).replace(",val\n", ",val2017\n"))
    with pytest.raises(DataError, match=r"no split 'train': it has train2017, val2014, val2017; name one"):
        load_run_data(config(folder), seed=0)
    message = r"no split 'val', but val2014 and val2017: name the one that is meant with --set data.val_split"
    with pytest.raises(DataError, match=message):
        load_run_data(config(folder, train_split="train2017"), seed=0)
    data = load_run_data(config(folder, train_split="train2017", val_split="val2017"), seed=0)
    assert (len(data.train), len(data.val)) == (40, 12)


def test_load_run_data__holds_nothing_out_where_another_split_lies_unused(shapes, tmp_path):
    folder = shutil.copytree(shapes, tmp_path / "data")
    with pytest.raises(DataError, match=r"no split 'other', but val: name the one that is meant with --set"):
        load_run_data(config(folder, val_split="other"), seed=0)
    table = (shapes / "labels.csv").read_text().replace(",val", ",exam")
    (folder / "labels.csv").write_text(table)
    with pytest.raises(DataError, match=r"no split 'val', but exam: name the one"):
        load_run_data(config(folder), seed=0)
    assert len(load_run_data(config(folder, val_split="exam"), seed=0).val) == 21


def test_load_run_data__knows_the_usual_names_of_splits(shapes):
    data = load_run_data(config(shapes, train_split="Training", val_split="valid"), seed=0)
    assert (len(data.train), len(data.val)) == (40, 21)
    with pytest.raises(ConfigError, match="are both 'val'"):
        load_run_data(config(shapes, train_split="val", val_split="validation"), seed=0)


def test_load_run_data__leaves_images_without_a_label_out_where_told(shapes, tmp_path):
    folder = shutil.copytree(shapes, tmp_path / "data")
    head, *rows = (shapes / "labels.csv").read_text().splitlines()
    emptied = [
        f"{row.split(',')[0]},,{row.split(',')[2]}" if place % 10 == 0 else row
        for place, row in enumerate(rows)
    ]
    (folder / "labels.csv").write_text("\n".join([head, *emptied]))
    whole = load_run_data(config(folder), seed=0)
    data = load_run_data(config(folder, labelled_only=True), seed=0)
    expected = [[sample for sample in part.samples if sample.positive] for part in (whole.train, whole.val)]
    assert [data.train.samples, data.val.samples] == expected
    left_out = 61 - sum(map(len, expected))
    assert left_out >= 7
    note = f"Images without a label, left out: {left_out} of 61 (data.labelled_only)."
    assert data.train.notes == [*whole.train.notes, note]
    (folder / "labels.csv").write_text("\n".join([head, *(row for row in rows if row.split(",")[1])]))
    assert not load_run_data(config(folder, labelled_only=True), seed=0).train.notes


def test_load_run_data__refuses_what_cannot_be_learned(shapes, monkeypatch):
    with pytest.raises(ConfigError, match="No data are named"):
        load_run_data(DataConfig(), seed=0)
    with pytest.raises(ConfigError, match="are both 'val'"):
        load_run_data(config(shapes, train_split="val"), seed=0)
    for train, val in (("trainval", "val"), ("trainval", "train"), ("train", "trainval")):
        with pytest.raises(ConfigError, match=r"share images, as trainval is train and val together"):
            load_run_data(config(shapes, train_split=train, val_split=val), seed=0)
    with pytest.raises(DataError, match=r"has no split 'x': it has train, val; name one with --set"):
        load_run_data(config(shapes, train_split="x"), seed=0)


def test_load_run_data__refuses_targets_that_are_no_targets(shapes, monkeypatch):
    monkeypatch.setattr(Dataset, "targets", lambda self: np.full((len(self), 3), 2, dtype=np.int8))
    with pytest.raises(DataError, match=r"The training targets of .* are not all 1, 0 or -1"):
        load_run_data(config(shapes), seed=0)


def test_label_prior__is_the_share_among_the_known():
    targets = np.array([[1, 0, -1, -1], [1, 0, 1, -1], [0, 0, 0, -1], [0, 0, -1, -1]], dtype=np.int8)
    torch.testing.assert_close(label_prior(targets), torch.tensor([0.5, 0.0, 0.5, 0.5]))
