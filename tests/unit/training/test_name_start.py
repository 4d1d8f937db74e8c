import pytest
import torch
from PIL import Image

from query2label.config import parse_config
from query2label.data.load import load_dataset
from query2label.models.build import build_model
from query2label.models.offline import offline_weights_path
from query2label.training.name_start import start_from_names

DIRECT = {"attention": "direct", "num_encoder_layers": 0, "num_decoder_layers": 1, "start_from_names": True}
NOT_DIRECT = (
    "Names of labels are not used: model.start_from_names is for the head query2label with "
    'model.attention = "direct".'
)
NO_CLASSIFIER = (
    "Names of labels are not used: the backbone's weights have no classifier for ImageNet-1k on the channels "
    "that the labels look at."
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rows = ["image,labels", *(f"{n}.png,{'dog|L17' if n < 3 else 'zebra'}" for n in range(4))]
    for number in range(4):
        Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
    (folder / "labels.csv").write_text("\n".join(rows))
    return load_dataset(folder)


def started(photos, **settings):
    """The model's head before and after, and the note."""
    config = parse_config({"model": {**DIRECT, **settings}}, where="a test").model
    model = build_model(config, len(photos.labels))
    before = model.head.output_weight.detach().clone()
    note = start_from_names(model, config, photos)
    return before, model.head, note


def test_start_from_names__sets_output_rows_and_nothing_else(photos):
    if offline_weights_path("tf_efficientnet_lite0") is None:
        pytest.skip("the weights package of tf_efficientnet_lite0 is not installed")
    before, head, note = started(photos)

    assert photos.labels.names == ("L17", "dog", "zebra")
    assert not before.any()
    assert not head.label_queries.any()
    torch.testing.assert_close(head.output_weight.norm(dim=1), torch.tensor([0, 2.5 / 8, 2.5 / 6]))
    assert note == "2 of 3 labels start at the ImageNet classes of their names; not L17."


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"head": "linear"}, NOT_DIRECT),
        ({"head": "csra"}, NOT_DIRECT),
        ({"attention": "projected", "hidden_dim": 32}, NOT_DIRECT),
        ({"weights": "none"}, NO_CLASSIFIER),
        ({"weights": "pretrained", "keep_input_projection": True}, NO_CLASSIFIER),
        ({"backbone": "test_resnet", "weights": "none"}, NO_CLASSIFIER),
    ],
)
def test_start_from_names__leaves_models_it_is_not_for_as_they_are(photos, settings, expected):
    before, head, note = started(photos, weights=settings.pop("weights", "none"), **settings)
    assert torch.equal(head.output_weight, before)
    assert note == expected
