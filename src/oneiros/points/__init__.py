"""KPConvX, its networks, and clouds of points that label themselves."""

from importlib import import_module

# found on first use: a layer alone needs neither networks nor readers of clouds
_HOMES = {
    "KPConvX": "oneiros.points.nn.kpconvx",
    "PointEncoder": "oneiros.points.nn.encoder",
    "PointUNet": "oneiros.points.nn.unet",
    "PointUNetConfig": "oneiros.points.nn.unet",
    "Segmenter": "oneiros.points.segmenter",
    "from_vl3d": "oneiros.points.vl3d",
}


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'oneiros.points' has no attribute {name!r}")
