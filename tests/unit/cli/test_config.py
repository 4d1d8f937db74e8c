import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from query2label.cli.app import app
from query2label.config import RunConfig, load_config, settings


def output(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["config", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_config__what_is_printed_is_a_recipe_with_the_same_settings(tmp_path: Path) -> None:
    recipe = tmp_path / "all.toml"
    recipe.write_text(output())
    assert load_config(recipe) == RunConfig()
    recipe.write_text(output("--set", "optim.lr=3e-4", "--set", "data.image_size=[128, 96]"))
    changed = load_config(recipe)
    assert changed.optim.lr == 3e-4
    assert changed.data.image_size == (128, 96)
    again = tmp_path / "again.toml"
    again.write_text(output("--recipe", str(recipe)))
    assert load_config(again) == changed


def test_config__every_setting_has_help_default_and_kind() -> None:
    text = output()
    for name, field in settings():
        assert " ".join(field.description.split()) in text, name
    assert "# Peak learning rate of the head. [number over 0]\nlr = 0.0001\n" in text
    assert "[whole number from 1 to 65536 or unset]\n# hidden_dim =\n" in text
    assert '["none" | "stem" | "all"]\nfreeze = "none"\n' in text
    assert "[2 x whole number from 1 to 4096]\nimage_size = [224, 224]\n" in text


def test_config__page_lists_every_setting() -> None:
    page = output("--docs")
    assert page.startswith("# Configuration\n")
    for name, field in settings():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name.rpartition('.')[2]}` |"))
        assert row.replace("\\|", "").count("|") == 5
        assert " ".join(field.description.split()) in page, name
    assert "\n## data.augment\n" in page


def test_config__schema_is_json_schema() -> None:
    schema = json.loads(output("--schema"))
    assert set(schema["properties"]) == {"model", "data", "loss", "optim", "train"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "nowhere"], "There is no recipe 'nowhere'"),
        (["--recipe", "nowhere.toml"], "Cannot read recipe nowhere.toml: No such file or directory."),
        (["--set", "optim.lrr=1"], "did you mean optim.lr?"),
        (["--set", "optim.lr=fast"], "Wrong value 'fast' for optim.lr"),
    ],
)
def test_config__a_mistake_is_one_sentence(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["config", *arguments])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
