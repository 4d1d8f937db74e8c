import pytest

from query2label.config import RunConfig
from query2label.errors import ConfigError
from query2label.training.run_folder import RunFolder


def test_run_folder__reads_back_its_configuration(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.check_free()
    config = RunConfig.model_validate({"optim": {"lr": 0.0123}, "data": {"image_size": [64, 96]}})
    folder.write_config(config)
    assert folder.holds_a_run()
    assert folder.read_config() == config


def test_check_free__offers_to_resume(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_config(RunConfig())
    with pytest.raises(ConfigError, match="already holds a run: go on with it by --resume"):
        folder.check_free()


def test_check_free__refuses_someone_elses_folder(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="is not empty: name another folder"):
        RunFolder(tmp_path).check_free()
    with pytest.raises(ConfigError, match="is a file: name another folder"):
        RunFolder(tmp_path / "thesis.tex").check_free()


def test_read_config__refuses_a_folder_without_a_run(tmp_path):
    with pytest.raises(ConfigError, match="holds no run to resume"):
        RunFolder(tmp_path).read_config()
