"""Masked-event pretraining of TxE, section 3.3 of the paper with every setting of its Table 2."""

import shutil
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from kuleshov.core.distributed import gather_rows, rank, world_size
from kuleshov.core.errors import KuleshovError
from kuleshov.features.store_writer import StoreWriter
from kuleshov.pretraining.modist import follow
from kuleshov.pretraining.representation_health import effective_rank, embedding_std
from kuleshov.training.feature_queue import FeatureQueue
from kuleshov.training.optimization import OptimizedModule
from kuleshov.txe.contextualizer import encode_long
from kuleshov.txe.encoder import Positions, Target, TxE, describe
from kuleshov.txe.event_masking import allowed_sizes, block_discrepancies, block_mask, draw_blocks
from kuleshov.txe.feature_normalizer import Normalization
from kuleshov.txe.masked_event_losses import MaskedEventRecall, masked_event_infonce

Sampling = Literal["uniform", "max_discrepancy"]
LossName = Literal["infonce", "l2"]
STATISTICS_ROWS = 65_536


class MaskedEventPretraining(OptimizedModule):
    """Trains TxE to fill in hidden events.

    In each window a contiguous block of events is hidden; for each hidden event the L2-normalized output has to
    find the L2-normalized input feature among a queue of other events. The loss is the mean over the hidden
    events of all ranks. The queue is filled with random training events before the first step, and each
    step's events enter it afterwards.

    Args:
        input_width: D; default: the feature width of the data.
        hidden: H of TxE.
        layers: encoder layers.
        heads: attention heads.
        feedforward: width of the feed-forward part.
        dropout: in TxE.
        max_events: longest window TxE can be run on; default: the data's window.
        positions: learned (paper) or sinusoidal.
        feature_normalization: none (paper), center, standardize, whiten or soft-whiten the features that go in, with
            statistics of at most 65,536 training events; they are saved with TxE.
        target: what is looked for: the event's `feature`, TxE's own projected input `token`, to which its output is
            compared directly, or that of a `momentum` copy. The paper says "the corresponding input v_t".
        target_normalization: the same for the `feature` that is looked for; by default that of what goes in. Of
            several the feature is looked for in each, by itself: the loss is the mean over them.
        target_momentum: share of the momentum copy that stays at each step.
        mask_ratio: alpha: sizes 1 to floor(alpha N); paper: 0.6.
        mask_sizes: an explicit set of block sizes in place of mask_ratio.
        sampling: place of the block: uniform (paper) or max_discrepancy.
        loss: infonce (paper) or l2.
        temperature: tau; paper: 0.1.
        queue_size: K; paper: 65,536.
        queue_per_position: a queue of K / N for each place in the window instead of one.
        keep_share: share of the hidden events that stay as they are (BERT's 10 %).
        other_share: share of them in whose place another event of the batch stands (BERT's 10 %).
        window_negatives: the other events of the same window are distractors too, as the paper's are not: what a whole
            scene shares then tells nothing, and what happens has to be found.
        skip_own_event: a queue entry that is the very event looked for does not count against it. Matters
            where the queue holds more than an epoch; the paper says nothing about it.
    """

    def __init__(
        self,
        *,
        input_width: int | None = None,
        hidden: int = 1024,
        layers: int = 3,
        heads: int = 16,
        feedforward: int = 2048,
        dropout: float = 0.1,
        max_events: int | None = None,
        positions: Positions = "learned",
        feature_normalization: Normalization = "none",
        target: Target = "feature",
        target_normalization: Normalization | list[Normalization] | None = None,
        target_momentum: float = 0.999,
        mask_ratio: float = 0.6,
        mask_sizes: list[int] | None = None,
        sampling: Sampling = "uniform",
        loss: LossName = "infonce",
        temperature: float = 0.1,
        queue_size: int = 65_536,
        queue_per_position: bool = False,
        keep_share: float = 0.0,
        other_share: float = 0.0,
        window_negatives: bool = False,
        skip_own_event: bool = True,
        **optimization,
    ) -> None:
        super().__init__(**optimization)
        if sampling not in get_args(Sampling) or loss not in get_args(LossName):
            raise KuleshovError(
                f"sampling is uniform or max_discrepancy and loss infonce or l2, not {sampling!r} and {loss!r}"
            )
        if window_negatives and loss == "l2":
            raise KuleshovError("window_negatives are distractors, which loss=l2 has none of: leave one of them out")
        if min(keep_share, other_share) < 0 or keep_share + other_share > 1:
            raise KuleshovError(f"keep_share and other_share are shares of 1, got {keep_share} and {other_share}")
        self.txe: TxE | None = None
        if input_width is not None and max_events is not None:
            self.build(input_width, max_events)

    def build(self, input_width: int, max_events: int) -> None:
        """Make TxE and the queues for features of this width."""
        given = self.hparams
        names = ("hidden", "layers", "heads", "feedforward", "dropout", "positions", "feature_normalization")
        names += ("target", "target_normalization")
        self.txe = TxE(input_width, max_events=max_events, **{name: given[name] for name in names})
        if given.loss == "infonce":
            places = max_events if given.queue_per_position else 1
            size, width = max(1, given.queue_size // places), self.txe.target_width
            self.queues = torch.nn.ModuleList(FeatureQueue(size, width) for _ in range(places))
            # row numbers are exact in float64; a step's events are known by them
            self.queue_rows = torch.nn.ModuleList(FeatureQueue(size, 1).double() for _ in range(places))
        self.hparams["input_width"], self.hparams["max_events"] = input_width, max_events

    def setup(self, stage: str) -> None:
        """Build for the data's width, and take the statistics of its features."""
        data = self.trainer.datamodule
        if self.txe is None:
            self.build(self.hparams.input_width or data.width, self.hparams.max_events or data.events)
        self.sizes = allowed_sizes(data.events, self.hparams.mask_ratio, self.hparams.mask_sizes)
        self.recall = MaskedEventRecall(data.events)
        if stage == "fit" and any(one.mode != "none" for one in (self.txe.normalizer, *self.txe.target_normalizers)):
            rows = torch.from_numpy(data.sample_rows(STATISTICS_ROWS))
            self.txe.fit_statistics(data.table.take(rows))

    def on_train_start(self) -> None:
        """Fill the queues with random training events, each rank its share, unless they were restored."""
        if self.hparams.loss != "infonce" or int(self.queues[0].fill):
            return
        rows = self.trainer.datamodule.sample_rows(self.queues[0].size)
        share = torch.tensor_split(torch.from_numpy(rows).to(self.device), world_size())[rank()]
        for queue, numbers in zip(self.queues, self.queue_rows, strict=True):
            queue.enqueue(self.txe.targets(self.trainer.datamodule.table.take(share)))
            numbers.enqueue(share.unsqueeze(1).double())

    def choose_mask(self, events: Tensor, uniforms: Tensor) -> Tensor:
        """The events to hide, bool (B, N), for windows (B, N, D) and uniform numbers (B, 2)."""
        size, start = draw_blocks(uniforms, self.sizes, events.shape[1])
        if self.hparams.sampling == "max_discrepancy":
            start = block_discrepancies(self.txe, events, size).argmax(1)  # ties take the first
        return block_mask(size, start, events.shape[1])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch (see `EventWindows`); its events then enter the queue."""
        events = batch["events"]
        if self.hparams.target == "momentum":
            follow(self.txe.followed, self.txe.project, self.hparams.target_momentum)
        masked = self.choose_mask(events, batch["mask"])
        targets = self.txe.targets(events)
        predictions = self.txe.reconstruct(self.fill_in(events, masked)[masked])  # (M, T)
        neighbors = window_neighbors(targets, masked) if self.hparams.window_negatives else None
        place = masked.nonzero()[:, 1]
        losses = self.token_losses(predictions, targets[masked], batch["rows"][masked], place, neighbors)
        # the mean over all ranks' tokens: DDP averages gradients over ranks, which hold unequal numbers
        total = gather_rows(losses.new_full((1,), losses.numel())).sum()
        loss = losses.sum() * (world_size() / total)
        self._fresh = (targets, batch["rows"].unsqueeze(2).double())
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, sync_dist=True, batch_size=len(events))
        return loss

    def on_after_backward(self) -> None:
        """Enqueue the step's events: not before, as backward needs the queue that the loss was made with."""
        if self.hparams.loss != "infonce":
            return
        for queues, fresh in zip((self.queues, self.queue_rows), self._fresh, strict=True):
            # (B, N, T): all of it into the one queue, or each place into its own
            parts = fresh.unbind(1) if len(queues) > 1 else [fresh.flatten(0, 1)]
            for queue, part in zip(queues, parts, strict=True):
                queue.enqueue(part)

    def fill_in(self, events: Tensor, masked: Tensor) -> Tensor:
        """TxE's output (B, N, H) for windows (B, N, D) of which some events (B, N) are hidden, kept or replaced."""
        keep, other = self.hparams.keep_share, self.hparams.other_share
        if not (keep or other):
            return self.txe(events, masked)
        embedded = self.txe.embed(events)
        drawn = torch.rand(masked.shape, device=masked.device)
        replaced = masked & (keep <= drawn) & (drawn < keep + other)
        mixed = embedded.flatten(0, 1)[torch.randperm(masked.numel(), device=masked.device)].view_as(embedded)
        embedded = torch.where(replaced.unsqueeze(-1), mixed, embedded)
        return self.txe.encode(embedded, masked & (drawn >= keep + other))

    def token_losses(
        self,
        predictions: Tensor,
        targets: Tensor,
        rows: Tensor,
        place: Tensor | None = None,
        neighbors: Tensor | None = None,
    ) -> Tensor:
        """The configured loss of each hidden event (M,).

        Args:
            predictions: L2-normalized (M, T).
            targets: L2-normalized (M, T).
            rows: (M,) the events' numbers in the data.
            place: (M,) their places in the window, for a queue each.
            neighbors: L2-normalized (M, N - 1, T), the other events of their windows, where those are distractors.
        """
        if self.hparams.loss == "l2":
            return (predictions - targets).square().sum(-1)
        losses = predictions.new_zeros(len(predictions), dtype=torch.promote_types(predictions.dtype, torch.float32))
        for number, queue in enumerate(self.queues):
            chosen = (place == number) if len(self.queues) > 1 else slice(None)
            own = self.own_events(rows[chosen].double(), number) if self.hparams.skip_own_event else None
            near = None if neighbors is None else neighbors[chosen]
            found = (predictions[chosen], targets[chosen], queue.filled(), self.hparams.temperature, own, near)
            found += (self.txe.target_parts,)
            if len(self.queues) == 1:
                return masked_event_infonce(*found)
            losses[chosen] = masked_event_infonce(*found).to(losses.dtype)
        return losses

    def own_events(self, rows: Tensor, number: int = 0) -> Tensor:
        """Pairs (hidden event, entry of a queue) that are the same event, int64 (2, P); `rows` (M,) float64."""
        held = self.queue_rows[number].filled().flatten()  # (K,)
        entries = torch.isin(held, rows).nonzero().flatten()
        # an event may be hidden in two windows, and be in the queue twice
        token, which = (rows.unsqueeze(1) == held[entries]).nonzero(as_tuple=True)
        return torch.stack([token, entries[which]])

    def on_train_epoch_end(self) -> None:
        """Log how full the queue is and how old, in steps, its rows are on average."""
        if self.hparams.loss == "infonce":
            queue = self.queues[0]
            self.log_dict({"queue/filled": int(queue.fill) / queue.size, "queue/age": queue.mean_age()}, sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's predictions."""
        self.seen: list[Tensor] = []

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Count how often a hidden event's prediction is nearest to the true one among 1,000 others."""
        events = batch["events"]
        size, start = draw_blocks(batch["mask"], self.sizes, events.shape[1])
        masked = block_mask(size, start, events.shape[1])
        predictions = self.txe.reconstruct(self.txe(events, masked)[masked])
        others = self.txe.targets(batch["others"])
        self.recall.update(predictions, self.txe.targets(events), others, masked, size, batch)
        self.seen.append(predictions.detach().float())

    def on_validation_epoch_end(self) -> None:
        """Log recall, and the spread and rank of the predictions, which fall when they collapse."""
        values = {f"val/{name}": float(value) for name, value in self.recall.compute().items()}
        self.recall.reset()
        seen = gather_rows(torch.cat(self.seen)) if self.seen else torch.zeros(0, 1, device=self.device)
        if len(seen) > 1:
            few = seen[:512]
            values |= {"ssl/embed_std": float(embedding_std(seen)), "ssl/eff_rank": float(effective_rank(few))}
        self.log_dict(values, sync_dist=True)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The contextualized features (L, H) of a movie, each event's from its most central window."""
        data = self.trainer.datamodule
        movie, _ = data.table.locate(int(batch["rows"][0]))
        return {movie: encode_long(self.txe, batch["events"].unsqueeze(0), data.step)[0].float().cpu()}

    def write_predictions(self, folder: Path, predictions: dict[str, Tensor]) -> None:
        """Write movies' contextualized features (L, H) as an event store, `<folder>/txe_features`."""
        table = self.trainer.datamodule.table
        folder, store = Path(folder) / "txe_features", table.stores[0]
        if folder.exists():
            shutil.rmtree(folder)  # of an earlier prediction
        settings = {"contextualized": table.describe()}
        writer = StoreWriter(folder, self.txe.out_width, store.window, store.stride, store.dtype, settings)
        movies = table.movies()
        for name, first in zip(movies.ids, movies.first, strict=True):
            if name in predictions:
                writer.add(name, predictions[name], table.locate(int(first))[1])
        writer.finish()

    def exports(self) -> dict[str, tuple[TxE, dict[str, Any]]]:
        """TxE and how it came about."""
        names = ("sampling", "loss", "temperature", "queue_size", "queue_per_position", "keep_share", "other_share")
        names += ("window_negatives",)
        facts = {
            "kind": "txe",
            "method": "masked-event",
            "mask_sizes": list(self.sizes),
            **{name: self.hparams[name] for name in names},
            "data": self.trainer.datamodule.describe(),
        }
        return {"txe": (self.txe, {**describe(self.txe), **facts})}


def window_neighbors(targets: Tensor, masked: Tensor) -> Tensor:
    """For each hidden event the other events of its window: (B, N, T), bool (B, N) with M true -> (M, N - 1, T)."""
    window, place = masked.nonzero(as_tuple=True)
    others = torch.arange(masked.shape[1] - 1, device=masked.device).expand(len(place), -1)
    others = others + (others >= place.unsqueeze(1))  # (M, N - 1)
    return targets[window.unsqueeze(1), others]
