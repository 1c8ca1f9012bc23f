"""Video models of Hugging Face transformers as backbones: VideoMAE, TimeSformer, V-JEPA 2."""

import json
from typing import Any

from lightning_utilities.core.imports import RequirementCache
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError, MissingDataError, one_line
from kuleshov.core.files import read_json
from kuleshov.video.clip_format import ClipFormat

TRANSFORMERS = RequirementCache("transformers>=5")
MODELS = ("videomae", "timesformer", "vjepa2")
_PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")


class HuggingFaceBackbone(nn.Module):
    """A video transformer that gives the mean of its tokens (TimeSformer: its class token).

    Clips are read as the model's own processor says: its mean and deviation, size and center crop.

    Args:
        model: a folder written by `save_pretrained`, or a model's id on the hub.
        pretrained: take the model's weights; random ones otherwise.
        frame_stride: distance of neighboring frames, in frames at `frame_rate`; the models' files do not say it.
        frame_rate: nominal frames per second at which the stride is counted.
        config: the model's configuration itself, in place of `model`, as manifests record it; random weights.

    Raises:
        KuleshovError: transformers is not installed, no such model, or one of another kind.
        MissingDataError: the model has no processor's configuration.
    """

    def __init__(
        self,
        model: str | None = None,
        pretrained: bool = True,
        frame_stride: int = 4,
        frame_rate: float = 30.0,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not TRANSFORMERS:
            raise KuleshovError("Hugging Face backbones need transformers: pip install 'kuleshov[hf]'")
        if (model is None) == (config is None):
            raise KuleshovError("a Hugging Face backbone needs `model`: a folder or a model's id")
        from transformers import AutoConfig, AutoModel

        settings, processor = _settings(model) if config is None else (AutoConfig.for_model(**config), {})
        if settings.model_type not in MODELS:
            raise KuleshovError(f"{model} is a {settings.model_type} model: {', '.join(MODELS)} are known")
        if pretrained and config is None:
            network = AutoModel.from_pretrained(model, dtype="float32")
        else:
            network = AutoModel.from_config(settings, dtype="float32")
        # V-JEPA's predictor has no part in the features
        self.network = network.encoder if settings.model_type == "vjepa2" else network
        self.kind, self.feature_width = settings.model_type, settings.hidden_size
        self.clip = _clip_of(settings, processor, frame_stride, frame_rate)
        size, frames = self.clip.crop_size // settings.patch_size, self.clip.num_frames
        self.grid = (frames // getattr(settings, "tubelet_size", 1), size, size)
        recorded: dict[str, Any] = {
            "model_type": settings.model_type,
            **json.loads(settings.to_json_string(use_diff=True)),
        }
        self.init_args = {"config": recorded, "frame_stride": frame_stride, "frame_rate": frame_rate}

    def tokens(self, clips: Tensor) -> Tensor:
        """Tokens (B, N, D) of clips (B, 3, T, H, W); TimeSformer's first is its class token."""
        frames = clips.transpose(1, 2)  # (B, T, 3, H, W)
        given = (self.clip.num_frames, self.clip.crop_size, self.clip.crop_size)
        if (frames.shape[1], *frames.shape[3:]) != given:
            raise KuleshovError(f"the model reads clips (B, 3, {', '.join(map(str, given))}), got {tuple(clips.shape)}")
        name = "pixel_values_videos" if self.kind == "vjepa2" else "pixel_values"
        return self.network(**{name: frames}).last_hidden_state

    def forward_map(self, clips: Tensor) -> Tensor:
        """The tokens as a map (B, D, T', H', W')."""
        tokens = self.tokens(clips)
        if self.kind == "timesformer":
            time, height, width = self.grid
            # the tokens of one place lie together, over time
            return tokens[:, 1:].transpose(1, 2).unflatten(2, (height, width, time)).permute(0, 1, 4, 2, 3)
        return tokens.transpose(1, 2).unflatten(2, self.grid)

    def forward(self, clips: Tensor) -> Tensor:
        """Features (B, D) of clips (B, 3, T, H, W)."""
        tokens = self.tokens(clips)
        return tokens[:, 0] if self.kind == "timesformer" else tokens.mean(dim=1)


def _settings(model: str) -> tuple[Any, dict[str, Any]]:
    """A model's configuration and its processor's, from a folder or the hub (its cache, where it is there)."""
    from transformers import AutoConfig
    from transformers.utils import cached_file

    try:
        settings = AutoConfig.from_pretrained(model)
        found = [cached_file(model, name, _raise_exceptions_for_missing_entries=False) for name in _PROCESSORS]
    except (OSError, ValueError) as error:
        raise KuleshovError(f"no Hugging Face model at {model}: {one_line(str(error))[:200]}") from error
    path = next((path for path in found if path is not None), None)
    if path is None:
        raise MissingDataError(_PROCESSORS[1], model, "save the model's processor beside it")
    return settings, read_json(path, expected=dict)


def _clip_of(settings: Any, processor: dict[str, Any], stride: int, rate: float) -> ClipFormat:
    """The clips of a model, by its configuration and its processor's; ImageNet's statistics where these say none."""
    jepa = settings.model_type == "vjepa2"
    crop = settings.crop_size if jepa else settings.image_size
    size = processor.get("size") or {}
    short = size if isinstance(size, int) else size.get("shortest_edge") or size.get("height") or crop
    plain = processor.get("do_normalize") is False
    return ClipFormat(
        num_frames=settings.frames_per_clip if jepa else settings.num_frames,
        frame_stride=stride,
        frame_rate=rate,
        crop_size=crop,
        short_side=max(short, crop),
        mean=(0, 0, 0) if plain else processor.get("image_mean", (0.485, 0.456, 0.406)),
        std=(1, 1, 1) if plain else processor.get("image_std", (0.229, 0.224, 0.225)),
    )
