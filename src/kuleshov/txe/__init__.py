"""Level 2: TxE, the contextualizer, and its masked-event pretraining."""

from kuleshov.txe.encoder import TxE, load, save

__all__ = ["TxE", "load", "save"]
