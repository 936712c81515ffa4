"""Modules: tensors in, tensors out; no files, no devices."""

from importlib import import_module

# found on first use: most of what is here needs neither the kernels nor the readers of clouds
_HOMES = {
    "GeometryVideoFormer": "oneiros.nn.video_former",
    "KPConvX": "oneiros.nn.kpconvx",
    "PointEncoder": "oneiros.nn.point_encoder",
    "PointUNet": "oneiros.nn.point_unet",
    "PointUNetConfig": "oneiros.nn.point_unet",
    "VideoFormer2D": "oneiros.nn.video_former",
    "VideoFormer3D": "oneiros.nn.video_former",
    "alignment_loss": "oneiros.nn.alignment",
}
_MODULES = ("attention", "kernel_points")


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"oneiros.nn.{name}")
    raise AttributeError(f"module 'oneiros.nn' has no attribute {name!r}")
