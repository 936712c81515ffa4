"""Perceiver resamplers that condense the features of a video into a few tokens."""

from importlib import import_module

# found on first use: masks alone need no former
_HOMES = {
    "GeometryVideoFormer": "oneiros.video_former.geometry",
    "VideoFormer2D": "oneiros.video_former.video_former",
    "VideoFormer3D": "oneiros.video_former.video_former",
    "alignment_loss": "oneiros.video_former.alignment",
    "load_reference": "oneiros.video_former.reference_checkpoint",
}


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'oneiros.video_former' has no attribute {name!r}")
