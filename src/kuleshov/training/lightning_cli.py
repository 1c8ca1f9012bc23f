"""LightningCLI as this project uses it: subclass mode, a fixed run folder, weights handed on by files.

`--ckpt_path` resumes one training. It never carries weights from one stage to the next: LightningCLI would
silently replace the configured class and values by those in the checkpoint, so a checkpoint of another
class is refused here.
"""

import os
import re
from pathlib import Path

import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from pytorch_lightning.cli import LightningCLI, SaveConfigCallback

from kuleshov.core.errors import KuleshovError, UsageError
from kuleshov.training.export import ExportWeights
from kuleshov.training.seeding import SeedEveryBatch
from kuleshov.training.training_progress import Progress

CHECKPOINT = "pytorch_lightning.callbacks.ModelCheckpoint"


class KuleshovCLI(LightningCLI):
    """Adds the run folder's policy, the guard on `--ckpt_path`, and scoring after a fit."""

    def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
        """Add `--score_after_fit`."""
        parser.add_argument(
            "--score_after_fit",
            type=bool,
            default=True,
            help="after fit, score the reporting split with the best checkpoint, where the module can",
        )

    def before_instantiate_classes(self) -> None:
        """Refuse a checkpoint of another class before anything is built."""
        config = self.config[self.subcommand] if self.subcommand else self.config
        if config.get("ckpt_path"):
            guard_checkpoint(config.ckpt_path, config.model.class_path)
        folder = config.trainer.get("default_root_dir") or os.getcwd()
        if config.trainer.get("logger") is None:
            config.trainer.logger = tensorboard(folder)
        config.trainer.callbacks = in_run_folder(config.trainer.get("callbacks"), folder)

    def _parse_ckpt_path(self) -> None:
        # the stored hyper-parameters never overwrite the configured ones; guard_checkpoint compares classes
        return

    def after_fit(self) -> None:
        """Score the reporting split with the weights that the fit ended with (see `ExportWeights`)."""
        if self.config[self.subcommand].score_after_fit and not self.trainer.interrupted:
            if type(self.model).test_step is not pl.LightningModule.test_step:
                self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)


def tensorboard(folder: str) -> Namespace:
    """Configuration of the TensorBoard logger that writes to `<folder>/tensorboard`."""
    arguments = Namespace(save_dir=folder, name="", version="tensorboard", default_hp_metric=False)
    return Namespace(class_path="pytorch_lightning.loggers.TensorBoardLogger", init_args=arguments)


def in_run_folder(callbacks: list | None, folder: str) -> list:
    """Let checkpoints go to `<folder>/checkpoints`, with a `last.ckpt` to resume from.

    Args:
        callbacks: the configured ones; one that writes `last.ckpt` every epoch is added.
        folder: the run folder.
    """
    # one that monitors a metric writes only when an epoch is the best so far
    every_epoch = Namespace(filename="last", save_on_train_epoch_end=True)
    configured = [*(callbacks or []), Namespace(class_path=CHECKPOINT, init_args=every_epoch)]
    for callback in configured:
        if callback.class_path.endswith("ModelCheckpoint"):
            callback.init_args.dirpath = callback.init_args.get("dirpath") or f"{folder}/checkpoints"
            # a continued training goes on in its own file instead of beginning last-v1.ckpt
            callback.init_args.enable_version_counter = False
    return configured


def guard_checkpoint(path: str | Path, class_path: str) -> None:
    """Refuse to resume a checkpoint that another class wrote.

    Raises:
        KuleshovError: the file is not there, or it holds another class than the configured one.
    """
    if str(path) in ("best", "last", "hpc", "registry"):
        return
    if not Path(path).is_file():
        raise KuleshovError(f"no checkpoint at {Path(path).absolute()}: check --ckpt_path")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    found = stored.get("hyper_parameters", {}).get("_class_path") or class_path
    if found.rsplit(".", 1)[-1] != class_path.rsplit(".", 1)[-1]:
        raise KuleshovError(
            f"{path} is a checkpoint of {found}, the configuration says {class_path}: --ckpt_path only "
            "resumes the same training; hand weights on by a .safetensors argument"
        )


class RunConfig(SaveConfigCallback):
    """Saves the resolved configuration as `<run>/config.yaml`."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Nothing beyond the file that the base class writes."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the file on rank 0 in the run folder, over an older one of the same run."""
        if self.already_saved or trainer.fast_dev_run:
            return
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.parser.save(
                self.config, folder / self.config_filename, skip_none=False, overwrite=True, multifile=False
            )
        self.already_saved = True


def said_by_a_class(error: BaseException | None) -> KuleshovError | None:
    """The `KuleshovError` of a class's constructor, which jsonargparse wraps in errors of its own."""
    while error is not None and not isinstance(error, KuleshovError):
        error = error.__cause__ or error.__context__
    return error


def shortened(text: str) -> str:
    """The part of jsonargparse's message on a class that names the wrong value; any other message as it is."""
    found = re.search(
        r"Problem with given class_path '([^']+)':\s*(.*?)\s*(?:- Expected a <|Given value type|$)",
        text,
        re.S,
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
    subcommands = ("fit", "validate", "test", "predict")
    options = {"prog": "kuleshov", "exit_on_error": False}
    try:
        return KuleshovCLI(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=RunConfig,
            trainer_defaults={
                "callbacks": [SeedEveryBatch(), ExportWeights(), Progress()],
                "enable_progress_bar": False,
            },
            parser_kwargs={**options, **{name: options for name in subcommands}},
            auto_configure_optimizers=False,
            args=arguments,
        )
    except (ArgumentError, ValueError) as error:
        mistake = said_by_a_class(error)
        if mistake is None and not isinstance(error, ArgumentError):
            raise
        raise mistake or UsageError(shortened(str(error))) from error
