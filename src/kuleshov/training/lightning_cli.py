"""LightningCLI as this project uses it: subclass mode, a fixed run folder, weights handed on by files.

`--ckpt_path` resumes one training. It never carries weights from one stage to the next: LightningCLI would
silently replace the configured class and values by those in the checkpoint, so a checkpoint of another
class is refused here.
"""

import atexit
import hashlib
import logging
import os
import pickle
import re
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.cli import LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.model_helpers import is_overridden

from kuleshov.core.distributed import leave_group
from kuleshov.core.errors import KuleshovError, UsageError, message, one_line
from kuleshov.core.files import is_whole_archive, limit_yaml
from kuleshov.core.processes import settle_slurm
from kuleshov.training import callbacks

SUBCOMMANDS = ("fit", "validate", "test", "predict")


class KuleshovCLI(LightningCLI):
    """Adds the run folder's policy, the guard on `--ckpt_path`, and scoring after a fit."""

    def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
        """Add `--score_after_fit`."""
        text = "after fit, score the reporting split with the best checkpoint, where the module can"
        parser.add_argument("--score_after_fit", type=bool, default=True, help=text)

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise UsageError(f"seed_everything: {error}") from error

    def before_instantiate_classes(self) -> None:
        """Name the run's folder, find the checkpoint, and refuse what cannot be meant before anything is built."""
        config = self.config[self.subcommand]
        check_numbers(config)
        if self.subcommand == "fit":
            config.trainer.default_root_dir = config.trainer.default_root_dir or self.own_folder()
        elif not config.get("ckpt_path"):
            config.ckpt_path = trained_checkpoint(config.trainer.get("default_root_dir") or os.getcwd())
        if config.get("ckpt_path"):
            guard_checkpoint(config.ckpt_path, config.model.class_path)

    def own_folder(self) -> str:
        """The folder of a fit that was given none: the same on every rank, and for the same training once more."""
        config = self.config.clone()
        config[self.subcommand].ckpt_path = None
        digest = hashlib.sha256(self.parser.dump(config, skip_none=False).encode()).hexdigest()
        return str(Path("runs", f"fit-{digest[:8]}"))

    def instantiate_classes(self) -> None:
        """Build the module, its data and the trainer.

        Raises:
            UsageError: Lightning refuses a value, or a package that the configuration names is not installed.
        """
        try:
            super().instantiate_classes()
        except (MisconfigurationException, ImportError) as error:
            raise UsageError(one_line(str(error))) from error

    def instantiate_trainer(self, **options) -> pl.Trainer:
        """Log a fit to TensorBoard in the run folder itself, so that a run is named by its stage and row."""
        config: Namespace = self.config_init[self.subcommand].trainer
        if self.subcommand != "fit":
            options["logger"] = False
        elif config.get("logger") is None:
            folder = config.default_root_dir
            options["logger"] = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
        options["plugins"] = [*(config.get("plugins") or []), callbacks.AtomicCheckpointIO()]
        try:
            trainer = super().instantiate_trainer(**options)
        except (ValueError, TypeError, RuntimeError) as error:
            raise UsageError(f"trainer: {one_line(str(error))}") from error
        if trainer.loggers:
            trainer.callbacks.append(LearningRateMonitor("step"))
        return trainer

    def _parse_ckpt_path(self) -> None:
        # the stored hyper-parameters never overwrite the configured ones; guard_checkpoint compares classes
        return

    def after_fit(self) -> None:
        """Score the reporting split with the best epoch's weights, the last one's where no metric is monitored."""
        testable = is_overridden("test_step", self.model)
        if testable and self.config[self.subcommand].score_after_fit and not self.trainer.interrupted:
            best = "best" if callbacks.best_checkpoint(self.trainer) else None
            self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, verbose=False)


def trained_checkpoint(folder: str | Path) -> str:
    """The checkpoint of a run folder: the best epoch's, else the last one's.

    Raises:
        KuleshovError: the folder has none: weights at random are not worth a score.
    """
    for name in ("best.ckpt", "last.ckpt"):
        path = Path(folder) / callbacks.CHECKPOINTS / name
        if path.is_file():
            print(f"weights of {path}", file=sys.stderr)
            return str(path)
    raise KuleshovError(
        f"no checkpoint in {Path(folder).absolute()}: name a trained run's folder with --trainer.default_root_dir, "
        "or a checkpoint with --ckpt_path"
    )


LEAST = {  # of numbers that a configuration may set; -1 stands for no end
    "trainer": {name: 1 for name in ("max_epochs", "max_steps", "log_every_n_steps", "accumulate_grad_batches")}
    | {"num_nodes": 1, "check_val_every_n_epoch": 1, "gradient_clip_val": 0},
    "data": {"batch_size": 1, "eval_batch_size": 1, "num_workers": 0},
}


def check_numbers(config: Namespace) -> None:
    """Refuse numbers of a configuration that no training can have, and that nobody else refuses in one line.

    Raises:
        UsageError: which one, and what it has to be.
    """
    given = {"trainer": config.trainer, "data": config.data.get("init_args") or {}}
    for part, least in LEAST.items():
        for name, smallest in least.items():
            value, endless = given[part].get(name), name in ("max_epochs", "max_steps")
            if isinstance(value, (int, float)) and not value >= smallest and not (endless and value == -1):
                or_endless = ", or -1 for no end" * endless
                raise UsageError(f"{part}: {name} must be at least {smallest}{or_endless}, got {value}")


def guard_checkpoint(path: str | Path, class_path: str) -> None:
    """Refuse to resume a checkpoint that is damaged, or that another class wrote.

    Raises:
        KuleshovError: the file is not there, is no whole checkpoint, or holds another class than the configured one.
    """
    if str(path) in ("best", "last", "hpc", "registry"):
        return
    if not Path(path).is_file():
        raise KuleshovError(f"no checkpoint at {Path(path).absolute()}: check --ckpt_path")
    try:
        whole = is_whole_archive(path)
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True) if whole else None
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError):
        stored = None
    if not isinstance(stored, dict) or not {"state_dict", "loops"} <= stored.keys():
        raise KuleshovError(f"{path} is damaged, or no checkpoint of a training: name another with --ckpt_path")
    found = stored.get("hyper_parameters", {}).get("_class_path") or class_path
    if found.rsplit(".", 1)[-1] != class_path.rsplit(".", 1)[-1]:
        raise KuleshovError(
            f"{path} is a checkpoint of {found}, the configuration says {class_path}: --ckpt_path only "
            "resumes the same training; hand weights on by a .safetensors argument"
        )


class RunConfig(SaveConfigCallback):
    """Saves the resolved configuration as `<run>/config.yaml`, which `fit`, `test` and `predict` take with `-c`."""

    already_saved = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the file on rank 0 in the run folder when a fit begins, over an older one of the same run."""
        if self.already_saved or trainer.fast_dev_run or stage != "fit":
            return
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            config = self.config.clone()
            # the checkpoint that this very process went on from is no part of the configuration
            config.ckpt_path = None
            self.parser.save(config, folder / self.config_filename, skip_none=False, overwrite=True, multifile=False)
        self.already_saved = True


def hush() -> None:
    """Keep Lightning's advertisements, and its remarks on code or settings that are not the user's, out of the logs."""
    messages = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    messages.filters[:] = [lambda record: "Tip:" not in record.getMessage()]
    for start in (
        r"`isinstance\(treespec",
        "The number of training batches",
        "The dirpath has changed",
        r"`\.test\(ckpt_path=\"best\"\)` is called",  # the first checkpoint is the one that is meant
    ):
        warnings.filterwarnings("ignore", start)


def original_error(error: BaseException) -> KuleshovError | None:
    """What a class's constructor raised, which jsonargparse wraps in errors of its own, as a user's mistake."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KuleshovError):
            return cause
        if isinstance(cause, ImportError) or "ckpt_path" in str(cause):
            return UsageError(one_line(str(cause)))
        if cause.__cause__ is None and "Got value: [Namespace(class_path=" in str(cause):
            # jsonargparse says no more of a class in a list than that it could not be built
            return UsageError(one_line(str(cause))[:200])
        cause = cause.__cause__ or cause.__context__
    return None


def shortened(text: str) -> str:
    """The part of jsonargparse's message on a class that names the wrong value; any other message as it is."""
    found = re.search(
        r"Problem with given class_path '([^']+)':\s*(.*?)\s*(?:- Expected a <|Given value type|$)", text, re.S
    )
    return f"{found[1]}: {' '.join(found[2].split())}" if found else text


def main(arguments: list[str] | None = None) -> KuleshovCLI:
    """Run `fit`, `validate`, `test` or `predict` as LightningCLI does, in subclass mode.

    Args:
        arguments: command-line words after `kuleshov`; None takes them from the command line.

    Raises:
        KuleshovError: a mistake that a user can mend, in one line.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    settle_slurm()
    limit_yaml()
    hush()
    # Lightning does so with nccl alone
    atexit.register(leave_group)
    options = {"prog": "kuleshov", "exit_on_error": False}
    try:
        return KuleshovCLI(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=RunConfig,
            trainer_defaults={"callbacks": [kind() for kind in callbacks.DEFAULT], "enable_progress_bar": False},
            parser_kwargs={**options, **{name: options for name in SUBCOMMANDS}},
            auto_configure_optimizers=False,
            args=arguments,
        )
    except MisconfigurationException as error:
        raise UsageError(one_line(str(error))) from error
    except RuntimeError as error:
        if not str(error).startswith("Error(s) in loading state_dict"):
            raise
        raise KuleshovError(f"the checkpoint does not fit the configured module: {message(error)[:300]}") from error
    except (ArgumentError, ValueError) as error:
        mistake = original_error(error)
        if mistake is None and not isinstance(error, ArgumentError):
            raise
        raise mistake or UsageError(shortened(str(error))) from error
