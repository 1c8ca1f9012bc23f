"""LightningCLI as this project uses it: subclass mode, a fixed run folder, weights handed on by files.

`--ckpt_path` resumes one training. It never carries weights from one stage to the next: LightningCLI would
silently replace the configured class and values by those in the checkpoint, so a checkpoint of another
class is refused here.
"""

import os
import re
import sys
from pathlib import Path
from pickle import UnpicklingError

import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.cli import LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.environments import LightningEnvironment

from kuleshov.core.errors import KuleshovError, UsageError, one_line
from kuleshov.core.files import limit_yaml
from kuleshov.core.processes import die_with_parent, forks_die_too, number, under_srun
from kuleshov.training import callbacks
from kuleshov.training.guards import AtomicCheckpointIO

# what torch.load and a look at its content raise on a file that is no checkpoint
UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, UnpicklingError)
SUBCOMMANDS = ("fit", "validate", "test", "predict")


class KuleshovCLI(LightningCLI):
    """Adds the run folder's policy, the guard on `--ckpt_path`, and scoring after a fit."""

    def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
        """Add `--score_after_fit`."""
        text = "after fit, score the reporting split with the best checkpoint, where the module can"
        parser.add_argument("--score_after_fit", type=bool, default=True, help=text)

    def before_instantiate_classes(self) -> None:
        """Find the checkpoint that is to be scored, and refuse one of another class before anything is built."""
        config = self.config[self.subcommand]
        if not config.trainer.get("default_root_dir"):
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", config.model.class_path.rpartition(".")[2]).lower()
            config.trainer.default_root_dir = str(Path("runs", f"fit-{name}").absolute())
        if self.subcommand != "fit" and not config.get("ckpt_path"):
            config.ckpt_path = trained_checkpoint(config.trainer.default_root_dir)
        if config.get("ckpt_path"):
            guard_checkpoint(config.ckpt_path, config.model.class_path)

    def instantiate_trainer(self, **options) -> pl.Trainer:
        """Log to TensorBoard in the run folder itself, so that a run is named by its stage and row."""
        config: Namespace = self.config_init[self.subcommand].trainer
        if config.get("logger") is None:
            options["logger"] = TensorBoardLogger(config.default_root_dir, name="", version="", default_hp_metric=False)
        options["plugins"] = [*(config.get("plugins") or []), AtomicCheckpointIO()]
        if "SLURM_NTASKS" in os.environ and not under_srun():
            # Lightning would wait for tasks that nobody started
            options["plugins"].append(LightningEnvironment())
        trainer = super().instantiate_trainer(**options)
        if trainer.loggers:
            trainer.callbacks.append(LearningRateMonitor("step"))
        return trainer

    def _parse_ckpt_path(self) -> None:
        # the stored hyper-parameters never overwrite the configured ones; guard_checkpoint compares classes
        return

    def after_fit(self) -> None:
        """Score the reporting split with the best epoch's weights, the last one's where no metric is monitored."""
        testable = callbacks.has_step(self.model, "test")
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


def guard_checkpoint(path: str | Path, class_path: str) -> None:
    """Refuse to resume a checkpoint that another class wrote.

    Raises:
        KuleshovError: the file is not there, or it holds another class than the configured one.
    """
    if str(path) in ("best", "last", "hpc", "registry"):
        return
    if not Path(path).is_file():
        raise KuleshovError(f"no checkpoint at {Path(path).absolute()}: check --ckpt_path")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        stored["state_dict"], stored["loops"]
        found = stored.get("hyper_parameters", {}).get("_class_path") or class_path
    except (
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        EOFError,
        UnpicklingError,
    ) as error:
        reason = one_line(str(error) or type(error).__name__)[:120]
        raise KuleshovError(
            f"{path} is damaged, or no checkpoint of a training ({reason}): check --ckpt_path"
        ) from error
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


def original_error(error: BaseException | None) -> KuleshovError | None:
    """The `KuleshovError` of a class's constructor, which jsonargparse wraps in errors of its own."""
    while error is not None and not isinstance(error, KuleshovError):
        error = error.__cause__ or error.__context__
    return error


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
    forks_die_too()
    if "LOCAL_RANK" in os.environ:
        # a further rank, which would wait for the others
        die_with_parent()
    if under_srun():
        # Lightning refuses a number of tasks without one of each node, which `srun -n` does not give
        per_node = number("SLURM_NTASKS") // number("SLURM_NNODES")
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(per_node))
    limit_yaml()
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
    except (ArgumentError, ValueError) as error:
        mistake = original_error(error)
        if mistake is None and not isinstance(error, ArgumentError):
            raise
        raise mistake or UsageError(shortened(str(error))) from error
