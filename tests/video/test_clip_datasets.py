"""Clip data sets: what they show, when, and that nothing else than (seed, epoch, index) decides it."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kuleshov.core.errors import KuleshovError, VideoError
from kuleshov.video.augmentation import NUM_PARAMETERS, ViewParameters, ViewPolicy, crop_clip, crop_view, cvrl_views
from kuleshov.video.bad_files import BadFiles
from kuleshov.video.clip_datasets import EventClips, LabeledClip, MotionInput, TwoClips, VisualMotionClips
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.optical_flow import MotionSettings, motion_path, precompute
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video

CLIP = ClipFormat(num_frames=4, frame_stride=2, frame_rate=8.0)
# the whole frame, so that the numbers in the pixels stay legible
WHOLE = ViewPolicy(64, area=(1.0, 1.0), aspect=(2.0, 2.0), flip=0.0)


@pytest.fixture
def videos(video_folder):
    return [Video(f"v{i}", video_folder / f"v{i}.mp4", label=i % 2) for i in range(6)]


@pytest.fixture
def source(videos):
    return FrameSource([video.path for video in videos], short_side=32)


def two_clips(videos, source, **options):
    return TwoClips(videos, source, options.pop("views", (WHOLE, WHOLE)), CLIP, **options)


def clip_numbers(clip, numbers):
    return numbers(clip.permute(1, 2, 3, 0).numpy())


def equal(one, other):
    return all(torch.equal(one[key], other[key]) for key in one if key != "read_s")


def test_two_clips_show_their_times(videos, source, numbers):
    data = two_clips(videos, source)
    for index in range(6):
        sample = data[index]
        for name in "ab":
            clip = sample[f"clip_{name}"]
            assert clip.shape == (3, 4, 64, 64) and clip.dtype == torch.uint8
            assert sample[f"params_{name}"].shape == (NUM_PARAMETERS,)
            times = float(sample[f"start_{name}"]) + np.arange(4) / 4
            assert clip_numbers(clip, numbers) == np.floor(times * 8 + 1e-3).astype(int).tolist()
        assert int(sample["index"]) == index


def test_samples_depend_on_seed_epoch_and_index_only(videos, source):
    views = cvrl_views(16)
    one, other = two_clips(videos, source, views=views), two_clips(videos, source, views=views)
    _ = other[3], other[0]
    assert equal(one[2], other[2])
    other.set_epoch(1)
    assert not equal(one[2], other[2])
    other.set_epoch(0)
    assert equal(one[2], other[2])
    assert not equal(one[2], two_clips(videos, source, views=views, seed=1)[2])


def test_the_epoch_reaches_workers_that_live_on(videos, source):
    data = two_clips(videos, source)
    loader = DataLoader(data, batch_size=3, num_workers=2, persistent_workers=True)
    starts = []
    for epoch in range(3):
        data.set_epoch(epoch)
        batches = list(loader)
        starts.append(torch.cat([batch["start_a"] for batch in batches]))
        torch.testing.assert_close(starts[-1], torch.stack([data[i]["start_a"] for i in range(6)]))
    assert not torch.equal(starts[0], starts[1]) and not torch.equal(starts[1], starts[2])


def test_a_view_is_replayed_from_its_vector(videos, source):
    sample = two_clips(videos, source, views=cvrl_views(16))[4]
    times = CLIP.times(float(sample["start_a"]), 0.0, 6.0)
    frames = source.read(videos[4].path, times)
    view = ViewParameters.from_vector(sample["params_a"].numpy())
    assert torch.equal(crop_clip(frames, view, 16), sample["clip_a"])


def test_both_clips_are_read_in_one_pass(videos, source, monkeypatch):
    calls = []
    original = VideoReader.read
    monkeypatch.setattr(VideoReader, "read", lambda *a, **k: calls.append(a[1]) or original(*a, **k))
    data = two_clips(videos, source)
    _ = data[0], data[1]
    assert calls == [videos[0].path, videos[1].path]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_cache_changes_nothing_and_decodes_once(videos, source, workers, tmp_path):
    paths = [video.path for video in videos]
    cached = FrameSource(paths, short_side=32, cache_bytes=10**8)
    assert cached.cached == 6
    plain, kept = two_clips(videos, source), two_clips(videos, cached)
    loader = DataLoader(kept, batch_size=1, num_workers=workers)
    for epoch in range(2):
        plain.set_epoch(epoch), kept.set_epoch(epoch)
        for index, batch in enumerate(loader):
            assert equal(plain[index], {key: value[0] for key, value in batch.items()})
    assert cached._filled.all()
    # what is kept needs its file no more
    cached.reader = None
    assert len(kept[3]) == 8


def test_the_cache_keeps_what_fits(videos):
    one = 48 * 32 * 64 * 3
    assert FrameSource([v.path for v in videos], 32, cache_bytes=2 * one + 5).cached == 2


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"not a video")
    return Video("broken", path, label=0)


def test_an_unreadable_sample_is_replaced_alike_everywhere(videos, broken, tmp_path):
    videos = [broken, *videos]
    source = FrameSource([video.path for video in videos], 32)
    bad_files = BadFiles(len(videos), tmp_path / "bad_files.jsonl", limit=0.5)
    data = two_clips(videos, source, bad_files=bad_files)
    again = two_clips(videos, source, bad_files=BadFiles(len(videos), limit=0.5))
    found = [data[0] for _ in range(2)] + [again[0]]
    assert int(found[0]["index"]) != 0
    assert equal(found[0], found[1]) and equal(found[0], found[2])
    batches = list(DataLoader(data, batch_size=7, num_workers=2))
    assert equal({k: v[0] for k, v in batches[0].items()}, found[0])
    assert list(bad_files.reasons) == [str(broken.path)]


def test_too_many_unreadable_files_stop_the_run(videos, broken):
    data = two_clips([broken, *videos], FrameSource([broken.path]), bad_files=BadFiles(7, limit=0.1))
    with pytest.raises(KuleshovError, match=r"1 of 7 videos cannot be read: .*broken\.mp4 \(it cannot be opened"):
        data[0]


def test_evaluation_does_not_replace(broken, videos):
    source = FrameSource([broken.path])
    data = LabeledClip([broken], source, WHOLE, CLIP, train=False)
    with pytest.raises(KuleshovError, match=r"cannot read video .*broken\.mp4"):
        data[0]


def test_labeled_clips(videos, source, numbers):
    view = crop_view(24)
    center = LabeledClip(videos, source, view, CLIP, train=False)
    train = LabeledClip(videos, source, view, CLIP, train=True)
    assert center[3]["clip"].shape == train[3]["clip"].shape == (3, 4, 24, 24)
    assert int(center[3]["label"]) == 1
    assert equal(center[3], center[3])
    train.set_epoch(1)
    first = train[3]["clip"]
    train.set_epoch(2)
    assert not torch.equal(first, train[3]["clip"])
    with pytest.raises(KuleshovError, match="video bare has no label"):
        LabeledClip([Video("bare", videos[0].path)], source, view, CLIP, train=True)


def test_event_clips_stand_around_the_centers(write_video, tmp_path, numbers):
    path = write_video(tmp_path / "long.mp4", range(200), 10)
    source = FrameSource([path])
    segment = Video("s", path, 5.0, 15.0)
    data = EventClips([segment], source, 64, ClipFormat(16, 1, 8.0))
    clips = data[0]["clips"]
    assert clips.shape == (5, 3, 16, 64, 64)
    for event, center in enumerate([6, 8, 10, 12, 14]):
        times = np.clip(center + (np.arange(16) - 8) / 8, 5.0, 15.0 - 1 / 8)
        assert clip_numbers(clips[event], numbers) == np.floor(times * 10 + 1e-3).astype(int).tolist()


def test_spans_are_kept_to(videos, source, numbers):
    span = Video("span", videos[0].path, 2.0, 3.0)
    data = two_clips([span], source)
    for epoch in range(10):
        data.set_epoch(epoch)
        sample = data[0]
        shown = clip_numbers(sample["clip_a"], numbers) + clip_numbers(sample["clip_b"], numbers)
        assert min(shown) >= 16 and max(shown) <= 24
    # the file ends at 6 s
    reaching = two_clips([Video("reaching", videos[0].path, 5.0, 15.0)], source)
    assert max(float(reaching[0][f"start_{name}"]) for name in "ab") < 6.0
    for begin, end in ((3.0, 3.0), (6.0, 16.0), (60.0, 70.0)):
        with pytest.raises(KuleshovError, match=rf"v0.mp4: {begin:g} to {end:g} s are not in it: it ends at 6.00 s"):
            two_clips([Video("none", videos[0].path, begin, end)], source)[0]


def test_a_segment_is_padded_by_less_than_half_an_event(videos, source, numbers):
    path = videos[0].path
    whole = EventClips([Video("a", path, 0.0, 6.0)], source, 48, CLIP, events=3, seconds=6.0)[0]["clips"]
    short = EventClips([Video("a", path, 0.9, 6.9)], source, 48, CLIP, events=3, seconds=6.0)[0]["clips"]
    assert whole.shape == short.shape and max(clip_numbers(short[2], numbers)) == 47
    with pytest.raises(KuleshovError, match="1 to 7 s are not in it: it ends at 6.00 s"):
        EventClips([Video("a", path, 1.0)], source, 48, CLIP, events=3, seconds=6.0)[0]


def test_visual_and_motion_clips(videos, source, tmp_path):
    motion = MotionInput(ClipFormat(6, 1, 8.0), crop_view(16), maximum=1.0)
    data = VisualMotionClips(videos, source, cvrl_views(24)[0], CLIP, motion, shift=(0.5, 3.0))
    sample = data[0]
    for name in "ab":
        assert sample[f"clip_{name}"].shape == (3, 4, 24, 24)
        assert sample[f"motion_{name}"].shape == (3, 6, 16, 16)
        assert sample[f"motion_{name}"].dtype == torch.uint8
        assert sample[f"motion_params_{name}"].shape == (NUM_PARAMETERS,)
    assert equal(sample, data[0])


def test_motion_from_files_is_read_instead_of_computed(videos, source, tmp_path, monkeypatch):
    precompute(videos[:2], tmp_path, MotionSettings(8.0, 32, 1.0))
    files = FrameSource([motion_path(tmp_path, video.id) for video in videos[:2]])
    motion = MotionInput(ClipFormat(6, 1, 8.0), crop_view(16), 1.0, tmp_path, files)
    monkeypatch.setattr("kuleshov.video.clip_datasets.motion_frames", None)
    data = VisualMotionClips(videos[:2], source, crop_view(24), CLIP, motion)
    assert data[1]["motion_a"].shape == (3, 6, 16, 16)
    with pytest.raises(KuleshovError, match="needs a source"):
        VisualMotionClips(videos, source, WHOLE, CLIP, MotionInput(CLIP, WHOLE, folder=tmp_path))


def test_nothing_to_read_is_refused(source):
    with pytest.raises(KuleshovError, match="at least one video"):
        two_clips([], source)


def test_a_source_knows_only_its_files(source):
    with pytest.raises(KuleshovError, match="other.mp4 is not among this source's files"):
        source.duration("other.mp4")


def test_a_damaged_file_in_the_cache_gives_its_good_part(write_video, tmp_path):
    path = write_video(tmp_path / "a.mp4", range(200), 25, muxer={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    plain, kept = FrameSource([path]), FrameSource([path], cache_bytes=10**8)
    np.testing.assert_array_equal(plain.read(path, [0.0, 0.5]), kept.read(path, [0.0, 0.5]))
    for source in (plain, kept):
        with pytest.raises(VideoError):
            source.read(path, [7.5])
