"""The configuration: defaults < recipe < overrides, and a sentence for everything that is wrong."""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from query2label.config import RunConfig, dump_config, load_config, parse_config, recipe_names, settings
from query2label.errors import ConfigError
from query2label.preprocess import PreprocessSpec


def refused(message: str) -> Any:
    return pytest.raises(ConfigError, match=f"^{message}$")


def test_load_config__without_anything_gives_the_defaults() -> None:
    assert load_config() == RunConfig()


def test_load_config__overrides_beat_the_recipe_and_the_recipe_the_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[optim]\nlr = 1e-3\nweight_decay = 0.5\n[data.augment]\nflip = 0\n")
    config = load_config(recipe, ["optim.lr=3e-4", "data.image_size=[320, 448]"])
    assert (config.optim.lr, config.optim.weight_decay, config.optim.beta1) == (3e-4, 0.5, 0.9)
    assert (config.data.image_size, config.data.augment.flip) == ((320, 448), 0)


def test_load_config__refuses_a_recipe_whose_section_is_a_setting(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("train = 8\n")
    with refused(rf"train in recipe {recipe} is a section, not a setting: .*"):
        load_config(recipe)
    with refused("--set 'train.epochs=3': train is a setting, not a section."):
        load_config(recipe, ["train.epochs=3"])


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.image_size=448", (448, 448)),
        ("model.backbone=resnet50.a1_in1k", "resnet50.a1_in1k"),
        ('model.backbone="resnet50"', "resnet50"),
        (" model.backbone = resnet50 ", "resnet50"),
        ("data.path=my photos/a=b", Path("my photos/a=b")),
        ("model.hidden_dim=unset", None),
        ("model.first_self_attention=true", True),
        ("data.mean=[0.5, 0.5, 0.5]", (0.5, 0.5, 0.5)),
    ],
)
def test_load_config__reads_values_as_toml_or_as_words(override: str, value: object) -> None:
    config: Any = load_config(None, ["model.hidden_dim=64", override])
    for key in override.partition("=")[0].strip().split("."):
        config = getattr(config, key)
    assert config == value


@pytest.mark.parametrize("override", ["optim.lr", "=3", "optim..lr=3", ".lr=3", "optim.=3", ""])
def test_load_config__refuses_overrides_without_the_form(override: str) -> None:
    with refused(re.escape(f"--set {override!r} is not of the form section.key=value.")):
        load_config(None, [override])


def test_load_config__refuses_a_setting_as_a_section(tmp_path: Path) -> None:
    with refused(re.escape("--set 'optim.lr.x=1': lr is a setting, not a section.")):
        load_config(None, ["optim.lr=1", "optim.lr.x=1"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "Unknown setting optim.lrr in the configuration: did you mean optim.lr?"),
        ("seed=1", "Unknown setting seed in the configuration: did you mean train.seed?"),
        ("optimm.lr=1", "Unknown setting optimm in the configuration: did you mean optim?"),
        (
            "data.augment.flipp=1",
            "Unknown setting data.augment.flipp in the configuration: did you mean data.",
        ),
        ("x=1", "Unknown setting x in the configuration: `q2l config` lists all settings."),
        (
            "optim=3",
            "optim in the configuration is a section, not a setting: `q2l config` lists the settings in",
        ),
        (
            "optim.lr=fast",
            "Wrong value 'fast' for optim.lr in the configuration: Input should be a valid number",
        ),
        (
            "optim.lr=nan",
            "Wrong value nan for optim.lr in the configuration: Input should be a finite number.",
        ),
        ("optim.lr=-1", "Wrong value -1 for optim.lr in the configuration: Input should be greater than 0."),
        ("optim.lr=1\ntrain=2", r"Wrong value '1\ntrain=2' for optim.lr in the configuration: Input should"),
        ("optim.lr=" + "[" * 5000, f"Wrong value '{'[' * 99}... for optim.lr in the configuration: Input"),
        (
            "train.epochs=1.5",
            "Wrong value 1.5 for train.epochs in the configuration: Input should be a valid in",
        ),
        (
            "train.seed=9223372036854775808",
            "Wrong value 9223372036854775808 for train.seed in the configurati",
        ),
        (
            "model.head=foo",
            "Wrong value 'foo' for model.head in the configuration: Input should be",
        ),
        (
            "model.backbone=../x",
            "Wrong value '../x' for model.backbone in the configuration: String",
        ),
        (
            "data.image_size=true",
            "Wrong value True for data.image_size in the configuration: Input should be a ",
        ),
        (
            "data.image_size=0",
            "Wrong value 0 for data.image_size.0 in the configuration: Input should be greater",
        ),
        (
            "data.std=[0, 1, 1]",
            "Wrong value 0 for data.std.0 in the configuration: Input should be greater than",
        ),
        (
            "model.feedforward_dim=4000000000000",
            "Wrong value 4000000000000 for model.feedforward_dim in the configuration: Input should be less",
        ),
        (
            "optim.beta2=1",
            "Wrong value 1 for optim.beta2 in the configuration: Input should be less than 1",
        ),
        (
            "train.accumulate=64",
            "Wrong settings in the configuration: train.accumulate (64) is larger than train.batch_size",
        ),
        (
            "optim={cycle_beta1 = true, schedule = 'cosine'}",
            'Wrong settings in the configuration: optim.cycle_beta1 needs optim.schedule = "one_cycle".',
        ),
        (
            "train.cache_features=true",
            'Wrong settings in the configuration: train.cache_features needs model.freeze = "all": features '
            "that change cannot be cached.",
        ),
        (
            f"optim.lr=0x{'f' * 4000}",
            "optim.lr in the configuration is a whole number of more than 64 bits.",
        ),
        (
            f"data.mean=[0x{'f' * 4000}, 1, 1]",
            "data.mean.0 in the configuration is a whole number of more than 64 bits.",
        ),
        (
            f"model.backbone{'.a' * 3000}=1",
            "model.backbone.a.a.a.a.a.a.a in the configuration is nested too deeply.",
        ),
        (
            "data.path=ol\udce9",  # in Latin-1, as a command line has it
            r"--set 'data.path=ol\udce9' is no Unicode text.",
        ),
    ],
)
def test_load_config__says_what_is_wrong_with_a_setting(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        load_config(None, [override])


@pytest.mark.parametrize("mixing", ["mixup_alpha=0.2", "cutmix_alpha=1"])
def test_load_config__does_not_mix_cached_feature_maps(mixing: str) -> None:
    with refused(
        "Wrong settings in .*: data.augment.mixup_alpha and cutmix_alpha mix images, not cached feature "
        "maps, where mixing did not help: set both to 0, or train.cache_features to false."
    ):
        load_config("laptop", [f"data.augment.{mixing}"])


def test_load_config__says_what_is_wrong_with_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    with refused(rf"Cannot read recipe {recipe}: No such file or directory\."):
        load_config(recipe)
    recipe.write_text("[optim\n")
    with refused(rf"Recipe {recipe} is not TOML: .*line 1, column 7.*\."):
        load_config(recipe)
    recipe.write_bytes(b"\xff\xfe")
    with refused(rf"Recipe {recipe} is not TOML: .*decode byte 0xff.*\."):
        load_config(recipe)
    recipe.write_text("a = " + "[" * 5000)
    with pytest.raises(ConfigError, match=rf"^Recipe {recipe} is not TOML: "):
        load_config(recipe)
    recipe.write_text("[optim]\nlrr = 1\n")
    with refused(rf"Unknown setting optim\.lrr in recipe {recipe}: did you mean optim\.lr\?"):
        load_config(recipe)
    (tmp_path / "folder.toml").mkdir()
    with refused(rf"Cannot read recipe {tmp_path}/folder.toml: Is a directory\."):
        load_config(tmp_path / "folder.toml")


@pytest.mark.parametrize("name", ["no_such", "../laptop", "/etc/passwd"])
def test_load_config__lists_the_shipped_recipes(name: str) -> None:
    with refused(
        rf"There is no recipe '{name}': shipped are .*; for a file of your own give its path, "
        r"ending in \.toml\."
    ):
        load_config(name)


@pytest.mark.parametrize("name", recipe_names())
def test_recipes__are_valid_and_say_what_to_expect(name: str) -> None:
    load_config(name)
    text = (importlib.resources.files("query2label") / "recipes" / f"{name}.toml").read_text()
    header = text[: text.index("\n[")]
    for word in ("Source:", "Expected:", "Hardware:", "Time:", "Command: q2l train"):
        assert word in header, word


def test_parse_config__says_where_values_came_from() -> None:
    with refused(r"Unknown setting optim\.lrr in bundle x: did you mean optim\.lr\?"):
        parse_config({"optim": {"lrr": 1}}, where="bundle x")


def test_dump_config__is_complete_toml() -> None:
    values = tomllib.loads(dump_config(RunConfig()))
    assert values["data"]["augment"]["flip"] == 0.5
    unset = [name for name, _ in settings() if _value(values, name) is None]
    assert all(_value(RunConfig().model_dump(), name) is None for name in unset)


def _value(values: Any, name: str) -> Any:
    for key in name.split("."):
        values = values.get(key)
    return values


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"])).filter(lambda text: "\0" not in text)


@given(
    weights=texts,
    path=texts.filter(bool),
    lr=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    seed=st.integers(0, 2**63 - 1),
    size=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    hidden_dim=st.none() | st.integers(1, 65536),
    mean=st.none() | st.tuples(*3 * [st.floats(allow_nan=False, allow_infinity=False)]),
)
def test_dump_config__is_read_back_equal(
    weights: str, path: str, lr: float, seed: int, size: tuple[int, int], hidden_dim: int | None, mean: Any
) -> None:
    config = RunConfig.model_validate(
        {
            "model": {"weights": weights, "hidden_dim": hidden_dim},
            "data": {"path": path, "image_size": size, "mean": mean},
            "optim": {"lr": lr},
            "train": {"seed": seed},
        }
    )
    assert parse_config(tomllib.loads(dump_config(config)), where="here") == config


def test_settings__have_a_help_text_and_one_default() -> None:
    found = dict(settings())
    assert "data.augment.flip" in found
    assert "data.augment" not in found
    for name, field in found.items():
        assert field.description, name
        assert not field.is_required(), name


def test_run_config__is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().optim.lr = 1.0


def test_data_config__allows_only_what_preprocessing_does() -> None:
    config = load_config(None, ["data.image_size=4096", "data.std=[1e-9, 1, 1]", "data.mean=[-1, 0, 2]"]).data
    assert config.mean is not None
    assert config.std is not None
    PreprocessSpec(image_size=config.image_size, mean=config.mean, std=config.std)
