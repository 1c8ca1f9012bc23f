"""The pictures say what they claim."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kuleshov.txe.encoder import TxE
from kuleshov.txe.event_masking import block_discrepancies
from kuleshov.txe.visualization import (
    TxEVisualization,
    attention_figure,
    discrepancy_figure,
    frames_in,
    retrieval_figure,
    retrieve,
    shown_windows,
)
from kuleshov.txe.window_data import EventWindows


@pytest.fixture
def data(make_store) -> EventWindows:
    data = EventWindows([str(make_store(counts=[9] * 20 + [23]))], val_fraction=0.3, token_stride=4.0)
    data.setup("fit")
    return data


@pytest.fixture
def txe(tiny_txe) -> TxE:
    return tiny_txe()


def shown_rows(data: EventWindows) -> torch.Tensor:
    windows = shown_windows(data)
    return windows.rows(windows.draw(0)[0])


def test_discrepancies_are_those_of_the_middle_of_a_window(data: EventWindows, txe: TxE):
    (axis,) = discrepancy_figure(txe, data, torch.device("cpu")).axes
    seconds, values = axis.lines[0].get_data()
    rows = data.table.stores[0].rows_of(axis.get_title())
    # windows take nine rows, every second of them
    assert seconds.tolist() == [2.0 * place for place in range(4, len(rows) - 4)] and len(values) == len(rows) - 8
    for begin, value in enumerate(values, rows.start):
        window = torch.arange(begin, begin + 9, 2)[None]
        assert float(block_discrepancies(txe, data.table.take(window), torch.ones(1).long())[0, 2]) == pytest.approx(
            value, abs=1e-5
        )


def test_retrieval_finds_what_is_filled_in(data: EventWindows, txe: TxE):
    rows = shown_rows(data)[:3]
    found = retrieve(txe, data, rows)
    assert [truth for truth, _ in found] == rows[:, 2].tolist()
    masked = torch.tensor([[False, False, True, False, False]])
    for (_, nearest), window in zip(found, rows, strict=True):
        filled = txe.reconstruct(txe(data.table.take(window[None]), masked))[0, 2]
        cosines = [float(filled @ txe.targets(data.table.take(torch.tensor(row)))) for row in nearest]
        assert len(nearest) == 5 and cosines == sorted(cosines, reverse=True)
    figure = retrieval_figure(found, data, lambda movie, second: np.zeros((4, 4, 3), np.uint8))
    assert len(figure.axes) == 3 * 6


def test_rows_are_located(data: EventWindows):
    store = data.table.stores[0]
    for name in store.movie_ids[::7]:
        rows = store.rows_of(name)
        assert data.table.locate(rows.start) == (name, 0.0)
        assert data.table.locate(rows.stop - 1) == (name, 2.0 * (len(rows) - 1))


def test_attention_has_a_picture_a_head(data: EventWindows, txe: TxE):
    figure = attention_figure(txe, data.table.take(shown_rows(data)))
    assert len(figure.axes) == 4
    assert figure.get_supxlabel() == "key event" and figure.get_supylabel() == "query event"
    assert [axis.get_title() for axis in figure.axes] == ["head 1", "head 2", "", ""]
    numbers = ["1", "2", "3", "4", "5"]
    assert [label.get_text() for label in figure.axes[2].get_xticklabels()] == numbers
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == numbers


def test_pictures_reach_tensorboard(data: EventWindows, tmp_path: Path):
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from kuleshov.txe.masked_event import MaskedEventPretraining

    module = MaskedEventPretraining(hidden=8, layers=1, heads=2, feedforward=12, queue_size=20)
    logger = TensorBoardLogger(tmp_path, name="", version="")
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=logger, callbacks=[TxEVisualization(every_n_epochs=2)], **quiet
    )
    trainer.fit(module, datamodule=data)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["images"]) == {"txe/attention", "txe/discrepancy", "txe/retrieval"}
    assert "val/recall" in events.Tags()["scalars"]


def test_frames_of_segments_come_from_their_source(real_data: Path, tmp_path: Path):
    (tmp_path / "abcdefghijk.mp4").symlink_to(real_data / "videos" / "demo.mp4")
    frame_of = frames_in(str(tmp_path))
    whole, segment = frame_of("abcdefghijk", 5.0), frame_of("v_abcdefghijk_seg_4_14", 1.0)
    assert whole.shape[2] == 3 and min(whole.shape[:2]) == 64 and (whole == segment).all()
    assert frame_of("nobody", 1.0) is None and frame_of("v_aaaaaaaaaaa_seg_4_14", 1.0) is None
