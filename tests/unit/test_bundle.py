import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import query2label.bundle.hub as hub
from query2label.bundle import (
    PICTURE_NAME,
    Bundle,
    bundle_digest,
    edit_bundle,
    predicted,
    read_bundle,
    read_weights,
    resolve_bundle_path,
    save_bundle,
    scores_from_logits,
)
from query2label.bundle.card import model_card
from query2label.config import ModelConfig
from query2label.errors import BundleError, StorageError
from query2label.preprocess import PreprocessSpec

HOSTILE = "a|b <script>`x`</script> [l](javascript:x) \x1b[31m # *y*"


def make_bundle(**changes: Any) -> Bundle:
    values: dict[str, Any] = {
        "model": ModelConfig(backbone="test_resnet", weights="none"),
        "labels": ("cat", "dog"),
        "preprocess": PreprocessSpec(image_size=(32, 48)),
        "thresholds": (0.5, 0.25),
        "temperature": 1.5,
        "metrics": {"protocol": "plain AP", "mAP": 0.9, "by_size": {"small": 0.5}},
        "run": {"train": {"seed": 3}},
        "versions": {"torch": "2.14"},
        **changes,
    }
    return Bundle(**values)


TENSORS = {"head.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "head.bias": torch.ones(2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_bundle(make_bundle(), TENSORS, tmp_path / "bundle")
    return tmp_path / "bundle"


def change_config(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "config.json").read_text())
    document.update(changes)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in document.items() if v is not ...}))


def test_save_bundle__is_read_back_equal(folder: Path) -> None:
    assert read_bundle(folder) == make_bundle()
    weights = read_weights(folder)
    assert weights.keys() == TENSORS.keys()
    np.testing.assert_array_equal(weights["head.weight"].numpy(), TENSORS["head.weight"])
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("other", ["photo.jpg", ".git/HEAD", "config.json/photo.jpg"])
def test_save_bundle__never_replaces_what_is_no_bundle(tmp_path: Path, other: str) -> None:
    file = tmp_path / "photos" / other
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    name = other.partition("/")[0]
    with pytest.raises(BundleError, match=rf"photos holds more than a bundle \({name}\): name a new folder"):
        save_bundle(make_bundle(), TENSORS, tmp_path / "photos")
    with pytest.raises(BundleError, match=f"{file.name} is a file: name a folder for the bundle"):
        save_bundle(make_bundle(), TENSORS, file)
    assert file.read_text() == "mine"
    assert [path.name for path in (tmp_path / "photos").iterdir()] == [name]


def test_save_bundle__config_has_the_keys_of_the_hub(folder: Path) -> None:
    document = json.loads((folder / "config.json").read_text())
    assert document["model_type"] == "query2label"
    assert document["problem_type"] == "multi_label_classification"
    assert document["id2label"] == {"0": "cat", "1": "dog"}
    assert document["label2id"] == {"cat": 0, "dog": 1}
    assert "labels" not in document


def test_save_bundle__replaces_the_bundle_that_was_there(folder: Path) -> None:
    (folder / ".DS_Store").touch()
    save_bundle(make_bundle(labels=("x",), thresholds=(0.1,)), {"w": np.zeros(1)}, folder, card="my card")
    assert read_bundle(folder).labels == ("x",)
    assert (folder / "README.md").read_text() == "my card"
    assert not (folder / ".DS_Store").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_save_bundle__refuses_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    with pytest.raises(BundleError, match="Weight w has values that are not finite"):
        save_bundle(make_bundle(), {"w": np.array([0, value])}, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_save_bundle__refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be written as JSON"):
        save_bundle(make_bundle(metrics={"x": object()}), TENSORS, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_save_bundle__keeps_the_old_one_when_the_new_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bundle_digest(folder)

    def no_room(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_room)
    with pytest.raises(StorageError, match="No room to write"):
        save_bundle(make_bundle(temperature=9.0), TENSORS, folder)
    assert bundle_digest(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_scores_from_logits__equals_the_sigmoid_and_never_overflows() -> None:
    logits = np.array([[-1000.0, -2.0, 0.0], [3.0, 90.0, 1000.0]], dtype=np.float32)
    expected = torch.sigmoid(torch.tensor(logits, dtype=torch.float64) / 2).numpy()
    scores = scores_from_logits(logits, 2.0)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-45)
    np.testing.assert_array_equal(
        make_bundle(labels=("a", "b", "c"), thresholds=(0, 0, 0), temperature=2).scores(logits), scores
    )


def test_predicted__a_score_that_equals_its_threshold_counts() -> None:
    scores = np.array([[0.7, 0.2], [0.69, 0.3]], dtype=np.float32)
    expected = [[True, False], [False, True]]
    assert predicted(scores, np.array([0.7, 0.3])).tolist() == expected
    assert make_bundle(thresholds=(0.7, 0.3)).predicted(scores).tolist() == expected


def test_bundle_digest__changes_with_configuration_and_weights(folder: Path) -> None:
    first = bundle_digest(folder)
    edit_bundle(folder, temperature=2.0)
    second = bundle_digest(folder)
    save_bundle(make_bundle(temperature=2.0), {"w": np.zeros(1)}, folder)
    assert len({first, second, bundle_digest(folder)}) == 3
    edit_bundle(folder, temperature=1.5)
    save_bundle(make_bundle(), TENSORS, folder)
    assert bundle_digest(folder) == first


def test_edit_bundle__changes_thresholds_and_their_table_only(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(f"{card}\nMy own words.\n")
    edited = edit_bundle(folder, thresholds=(0.125, 0.875), threshold_rule="precision=0.9")
    assert (
        read_bundle(folder)
        == edited
        == make_bundle(thresholds=(0.125, 0.875), threshold_rule="precision=0.9")
    )
    assert (folder / "model.safetensors").read_bytes() == weights
    renewed = (folder / "README.md").read_text()
    assert "| cat | 0.125 |" in renewed
    assert "precision=0.9" in renewed
    assert renewed.startswith("---\n")
    assert renewed.endswith("My own words.\n")


def test_edit_bundle__leaves_a_card_of_ones_own_alone(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    edit_bundle(folder, temperature=2.0)
    assert (folder / "README.md").read_text() == "mine"
    (folder / "README.md").unlink()
    edit_bundle(folder, temperature=3.0)
    assert not (folder / "README.md").exists()


def test_edit_bundle__refuses_a_wrong_value_and_keeps_the_old(folder: Path) -> None:
    before = bundle_digest(folder)
    with pytest.raises(BundleError, match="there are 1 thresholds for 2 labels"):
        edit_bundle(folder, thresholds=(0.5,))
    with pytest.raises(BundleError, match="unknown key 'threshold'"):
        edit_bundle(folder, threshold=(0.5,))
    assert bundle_digest(folder) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, r'model_type" is not "query2label'),
        ({"schema_version": 2}, r"written by a newer query2label \(form 2, this one knows 1\)"),
        ({"schema_version": "one"}, r'"schema_version" must be a whole number from 1 on, not \'one\''),
        ({"schema_version": ...}, r'"schema_version" must be a whole number from 1 on, not None'),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"model": {"backbone": "x", "depth": 1}}, r"unknown key 'model\.depth'"),
        ({"preprocess": ...}, "the key 'preprocess' is missing"),
        ({"preprocess": {"image_size": [0, 5]}}, r"preprocess\.image_size\.0: .*greater than or equal to 1"),
        ({"preprocess": {"image_size": [5, 10**9]}}, r"preprocess\.image_size\.1: .*less than"),
        ({"thresholds": [0.5]}, "there are 1 thresholds for 2 labels"),
        ({"thresholds": [0.5, 1.5]}, r"thresholds\.1: .*less than or equal to 1"),
        ({"temperature": 0}, "temperature: .*greater than 0"),
        ({"id2label": {}, "label2id": {}, "thresholds": []}, "labels: There are no labels"),
        ({"id2label": ["cat", "dog"]}, '"id2label" and "label2id" must both be there'),
        ({"id2label": {"0": "cat", "2": "dog"}}, '"id2label" must name every output from "0" to "1"'),
        (
            {"id2label": {"0": "cat", "1": "cat"}},
            '"id2label" and "label2id" disagree, or a label occurs twice',
        ),
        ({"label2id": {"cat": 1, "dog": 0}}, '"id2label" and "label2id" disagree'),
        ({"model": {"backbone": "local-dir:/etc"}}, r"model\.backbone: String should match pattern"),
    ],
)
def test_read_bundle__says_what_is_wrong_in_one_sentence(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    change_config(folder, **changes)
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(folder)
    assert str(folder / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON that can be used"),
        ("[]", "does not describe a query2label model"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ('{"a": 1e400}', "the number 1e400 is too large"),
        (f'{{"a": {"9" * 400}}}', r"the number 9999999999\.\.\. is too large"),
        (f'{{"a": {"9" * 10_000}}}', r"the number 9999999999\.\.\. is too large"),
        ("[" * 40 + "]" * 40, "nested more than 32 levels deep"),
        ("[" * 200_000 + "]" * 200_000, "is not JSON that can be used"),
    ],
)
def test_read_bundle__refuses_json_that_is_broken_or_a_trap(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        read_bundle(folder)


def test_read_bundle__refuses_what_is_not_text(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(BundleError, match="is not UTF-8 text"):
        read_bundle(folder)


def test_read_bundle__refuses_a_configuration_of_absurd_size(folder: Path) -> None:
    with (folder / "config.json").open("r+b") as file:
        file.truncate(33_000_000)
    with pytest.raises(BundleError, match="has 33 MB: more than 32 are refused"):
        read_bundle(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_read_bundle__says_that_it_may_not_read(folder: Path) -> None:
    (folder / "config.json").chmod(0)
    with pytest.raises(BundleError, match="Permission denied"):
        read_bundle(folder)


def test_read_bundle__points_from_a_run_folder_to_its_bundle(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    folder.rename(run / "best")
    with pytest.raises(BundleError, match=r"run has no config\.json: its bundle is .*best: give that"):
        read_bundle(run)
    with pytest.raises(BundleError, match=r"There is no bundle at .*nowhere"):
        read_bundle(tmp_path / "nowhere")
    (run / "best" / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"best has no model\.safetensors: it is not a bundle"):
        read_weights(run / "best")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"\x80\x04" + data]
)
def test_read_weights__refuses_a_damaged_file(folder: Path, damage: Any) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BundleError, match=r"model\.safetensors is not a whole safetensors file"):
        read_weights(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_files__a_link_out_of_the_bundle_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match="is a link that leads out of the bundle"):
        bundle_digest(folder)


def test_files__links_of_the_hubs_cache_are_followed(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "abc"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(blobs / name)
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    assert read_bundle(snapshot) == make_bundle()
    assert read_weights(snapshot).keys() == TENSORS.keys()


def test_model_card__front_matter_is_yaml_and_hostile_names_are_text() -> None:
    bundle = make_bundle(labels=("dog", HOSTILE), metrics={HOSTILE: HOSTILE, "AP": [0.1] * 90})
    _, front, body = model_card(bundle).split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["library_name"] == "query2label"
    assert matter["pipeline_tag"] == "image-classification"
    assert matter["tags"] == ["query2label", "multi-label-image-classification", "test_resnet"]
    assert "<script>" not in body
    assert "\x1b" not in body
    assert "](javascript" not in body
    row = next(line for line in body.splitlines() if line.startswith(r"| a\|b"))
    assert row.replace(r"\|", "").count("|") == 3


def test_model_card__says_how_well_and_how_to_use() -> None:
    card = model_card(make_bundle())
    for part in ("| protocol | plain AP |", "| mAP | 0.9 |", r"| by\_size.small | 0.5 |", "| dog | 0.250 |"):
        assert part in card
    for part in (
        "Predictor.load(",
        "q2l predict photo.jpg --model",
        "## Limits",
        "\nseed = 3\n",
        "Made with torch 2.14.",
    ):
        assert part in card


def test_model_card__says_what_is_known_of_each_label() -> None:
    bundle = make_bundle(
        labels=("cat", HOSTILE),
        data={
            "name": "pets|2026",
            "training_images": 90,
            "validation_images": 30,
            "training_images_per_label": {"cat": 41, HOSTILE: 5},
        },
        metrics={
            "mAP": 0.5,
            "per_label": {
                "cat": {"positives": 12, "AP": 0.9046, "precision": 1.0, "recall": None},
                HOSTILE: {"positives": 0, "AP": None, "precision": None, "recall": None},
            },
        },
    )
    card = model_card(bundle)
    assert "| label | threshold | trained on | measured on | AP (%) | precision (%) | recall (%) |" in card
    assert "| cat | 0.500 | 41 | 12 | 90.5 | 100.0 | - |" in card
    row = next(line for line in card.splitlines() if line.startswith(r"| a\|b"))
    assert row.endswith("| 0.250 | 5 | 0 | - | - | - |")
    assert r"Trained on 90 images of pets\|2026; 30 others chose the best epoch." in card
    assert "per\\_label" not in card
    for damaged in ({"per_label": 3}, {"per_label": {"cat": "x"}}):
        assert "| cat | 0.500 |\n" in model_card(make_bundle(metrics=damaged))


def test_save_bundle__has_a_picture_only_where_it_is_given_and_keeps_it(folder: Path) -> None:
    assert "![" not in (folder / "README.md").read_text()
    save_bundle(make_bundle(), TENSORS, folder, picture=b"\xff\xd8\xff picture")
    assert (folder / PICTURE_NAME).read_bytes() == b"\xff\xd8\xff picture"
    link = f"![Validation images with where the model looked for a label]({PICTURE_NAME})"
    assert link in (folder / "README.md").read_text()
    edit_bundle(folder, thresholds=(0.1, 0.2))
    assert link in (folder / "README.md").read_text()
    save_bundle(make_bundle(), TENSORS, folder)
    assert not (folder / PICTURE_NAME).exists()


def test_model_card__leaves_out_a_recipe_it_does_not_know() -> None:
    assert "toml" not in model_card(make_bundle(run={"train": {"seeds": "```"}}))


def test_model_card__of_thousands_of_labels_stays_readable() -> None:
    labels = tuple(f"label {number}" for number in range(2000))
    card = model_card(make_bundle(labels=labels, thresholds=(0.5,) * 2000))
    assert "and 1000 more in `config.json`" in card
    assert "label 1000" not in card


def test_resolve_bundle_path__a_local_folder_wins_without_the_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_download", lambda *_: pytest.fail("the hub was asked"))
    monkeypatch.chdir(folder.parent.parent)
    assert resolve_bundle_path(f"{folder.parent.name}/bundle") == Path(f"{folder.parent.name}/bundle")
    for nowhere in (Path("owner/name"), "./owner/name", "/a/b", "name", "../x"):
        with pytest.raises(BundleError, match="There is no bundle at"):
            resolve_bundle_path(nowhere)


def test_resolve_bundle_path__without_network_says_so() -> None:
    with pytest.raises(BundleError, match="hub cannot be reached to look for it there"):
        resolve_bundle_path("no-such-owner/no-such-name")


def test_resolve_bundle_path__explains_the_hubs_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    for error, message in (
        (RepositoryNotFoundError, "no repository of that name"),
        (RevisionNotFoundError, "has no revision 'v9'"),
        (HfHubHTTPError, r"did not give a/b: quota used up\.$"),
    ):
        # Its own constructor wants the response of one HTTP library or another.
        own = {"__init__": lambda _: None, "__str__": lambda _: "quota used up.\nmore"}
        refusal = type("Refusal", (error,), own)

        def refuse(*_: Any, refusal: type[Exception] = refusal, **__: Any) -> str:
            raise refusal

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(BundleError, match=message):
            resolve_bundle_path("a/b", revision="v9")


def test_resolve_bundle_path__asks_the_hub_for_three_files(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def give(repo_id: str, **options: Any) -> str:
        asked.update(repo_id=repo_id, **options)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    assert resolve_bundle_path("a/b", revision="v1") == folder
    names = ["config.json", "model.safetensors", "README.md"]
    assert asked == {"repo_id": "a/b", "revision": "v1", "allow_patterns": names}


def test_bundle__is_read_without_torch(folder: Path) -> None:
    import subprocess

    code = (
        "import sys; from query2label.bundle import read_bundle, bundle_digest\n"
        f"read_bundle({str(folder)!r}); bundle_digest({str(folder)!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"


HALVABLE = {
    "weight": torch.tensor([1.0, 1 / 3, -7e-3]),
    "norm.running_var": torch.tensor([1e9, 1e-9]),
    "norm.num_batches_tracked": torch.tensor(70_000),
}


def test_save_bundle__half_precision_rounds_weights_and_keeps_statistics(tmp_path: Path) -> None:
    save_bundle(make_bundle(), HALVABLE, tmp_path / "half", half_precision=True)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert stored["weight"].dtype == torch.float16
    weights = read_weights(tmp_path / "half")
    assert weights["weight"].dtype == torch.float32
    assert weights["weight"].tolist() == np.array([1, 1 / 3, -7e-3], np.float16).astype(float).tolist()
    for name in ("norm.running_var", "norm.num_batches_tracked"):
        assert weights[name].dtype == HALVABLE[name].dtype
        assert torch.equal(weights[name], HALVABLE[name])


def test_save_bundle__stores_float32_unless_told_otherwise(tmp_path: Path) -> None:
    save_bundle(make_bundle(), HALVABLE, tmp_path / "full")
    assert torch.equal(read_weights(tmp_path / "full")["weight"], HALVABLE["weight"])


def test_save_bundle__refuses_what_half_precision_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="Weight weight has values that are not finite"):
        save_bundle(make_bundle(), {"weight": torch.tensor([7e4])}, tmp_path / "half", half_precision=True)
    assert not (tmp_path / "half").exists()
