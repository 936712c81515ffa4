"""Where the repository is, the golden vectors in it, and the shared data that may lie beside it."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
SHARED = ROOT.parent / "shared"
