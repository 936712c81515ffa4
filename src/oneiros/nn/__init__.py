"""Modules: tensors in, tensors out; no files, no devices."""

from importlib import import_module

# found on first use: most of what is here needs neither the kernels nor the readers of clouds
_HOMES = {
    "KPConvX": "oneiros.nn.kpconvx",
    "PointEncoder": "oneiros.nn.point_encoder",
    "PointUNet": "oneiros.nn.point_unet",
    "PointUNetConfig": "oneiros.nn.point_unet",
}
_MODULES = ("kernel_points",)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"oneiros.nn.{name}")
    raise AttributeError(f"module 'oneiros.nn' has no attribute {name!r}")
