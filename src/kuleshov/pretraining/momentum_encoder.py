"""Key encoders: slow copies of the networks that are trained."""

import copy

import torch
from torch import nn


def key_encoder(network: nn.Module) -> nn.Module:
    """A copy of a network that takes no gradient and follows it by `update`."""
    copied = copy.deepcopy(network)
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied


@torch.no_grad()
def update(key: nn.Module, network: nn.Module, momentum: float) -> None:
    """Move the key encoder's parameters towards the network's: key = m * key + (1 - m) * network.

    Only parameters are averaged; batch-norm statistics are the key encoder's own (as in MoCo). All ranks
    hold the same parameters after a step of DDP, so the copies stay the same on all of them.
    """
    for follower, leader in zip(key.parameters(), network.parameters(), strict=True):
        follower.lerp_(leader, 1 - momentum)
