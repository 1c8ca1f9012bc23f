"""`kuleshov contextualize`: a store of event features through TxE. Importing this module does not import torch."""

from pathlib import Path
from typing import Literal

from kuleshov.core.devices import Accelerator, device_of
from kuleshov.core.errors import FormatError, require_positive
from kuleshov.core.progress import progress_bar
from kuleshov.features.store_index import Dtype, Summary


def contextualize(
    txe: Path | str,
    features: Path | str,
    output: Path | str,
    token_stride: float | None = None,
    windows: Literal["sliding", "blocks"] = "sliding",
    dtype: Dtype | None = None,
    allow_other_backbone: bool = False,
    accelerator: Accelerator = "auto",
    progress: bool = True,
) -> Summary:
    """Write what each event means among its neighbors: features (n, D) of every movie through TxE, (n, H).

    The store that is written has the movies and times of the one that is read; run again, it goes on after the last
    whole movie.

    Args:
        txe: TxE's weights (.safetensors), as pretrain-txe writes them.
        features: folder of the event store to read.
        output: folder of the event store to write.
        token_stride: seconds between two events of a window; null: as TxE was trained.
        windows: sliding takes each event from the window in which it is most central; blocks cuts a movie into windows
            that do not overlap, at a fifth of the cost.
        dtype: precision on disk; null: that of the features.
        allow_other_backbone: take features of another backbone than TxE was trained on.
        accelerator: where TxE runs.
        progress: show progress on stderr.

    Raises:
        KuleshovError: weights that are no TxE's, or features of another width or backbone than it was trained on.
        StoreError: no store to read, one whose stride does not divide the token stride, or another one at the output.
    """
    import torch

    from kuleshov.core.weights import load_weights
    from kuleshov.features.feature_store import EventStore, grid_step
    from kuleshov.features.store_writer import StoreWriter
    from kuleshov.txe.contextualizer import encode_long
    from kuleshov.txe.encoder import load, refuse_other_backbone

    device = device_of(accelerator)
    network, manifest = load(txe).to(device), load_weights(txe)[1]
    store = EventStore(features, memory=False, width=network.input_width)
    if not allow_other_backbone:
        refuse_other_backbone(txe, store.backbone_sha256, "allow it with --allow-other-backbone")
    if token_stride is None:
        token_stride = manifest.get("data", {}).get("token_stride")
        if token_stride is None:
            raise FormatError(txe, "its manifest does not say at which stride it was trained: give --token-stride")
    require_positive(token_stride=token_stride)
    step = grid_step(store, token_stride)
    made = {
        "stores": [str(Path(features).absolute())],
        "backbone": store.manifest.get("backbone"),
        "txe_sha256": manifest["sha256"],
        "token_stride": token_stride,
        "windows": windows,
    }
    settings = {"contextualized": made, "data": store.manifest.get("data")}
    grid = (store.window, store.stride, dtype or store.dtype)
    with StoreWriter(output, network.out_width, *grid, settings) as writer, torch.inference_mode():
        waiting = writer.begin(store)
        with progress_bar("contextualize", len(waiting), shown=progress) as advance:
            for movie in waiting:
                events = store.events(movie).to(device)
                found = encode_long(network, events.unsqueeze(0), step, windows)[0]
                writer.add(movie, found.float(), store.place(movie).start)
                advance()
        return Summary.of_store(output, writer.finish())
