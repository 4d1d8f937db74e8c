"""What a run is: the configuration of model, data, loss, optimizer and training.

Precedence: the defaults < a recipe (TOML) < `--set section.key=value`. Each section has a file of its own.
The help text of a setting is the string under it, written once; `q2l config`, the documentation and the JSON
schema show it.
"""

from query2label.config.data import AugmentConfig, DataConfig
from query2label.config.dump import dump_config
from query2label.config.load import load_config, parse_config, read_settings, recipe_names
from query2label.config.loss import LossConfig
from query2label.config.model import ModelConfig
from query2label.config.optim import OptimConfig
from query2label.config.run import RunConfig, settings
from query2label.config.section import UnitInterval
from query2label.config.train import TrainConfig

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "TrainConfig",
    "UnitInterval",
    "dump_config",
    "load_config",
    "parse_config",
    "read_settings",
    "recipe_names",
    "settings",
]
