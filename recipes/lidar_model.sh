#!/bin/sh
# The segmenter that ships with Oneiros, from classified tiles to its place in the package; on one core, about an hour
# and a half. The same command goes on where it was stopped.
#
#   sh recipes/lidar_model.sh tiles      a folder with the six tiles of IGN LiDAR HD of IGNF/las-digital-models
#
# The tile held out is measured on (docs/lidar-model.md) and never learned from.
set -eu
tiles=${1:?say which folder the tiles are in}
held_out=${HELD_OUT:-$tiles/tile50m_77060_627760.laz}
out=${OUT:-lidar}
mkdir -p "$out"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# The others once more as one cloud, which reaches further than a tile does.
[ -f "$out/together.laz" ] || python - "$out/together.laz" "$held_out" "$tiles"/*.laz <<'PYTHON'
import sys
from pathlib import Path

from oneiros.data.clouds.cloud import concatenate
from oneiros.data.clouds.formats import open_cloud, write_cloud

out, held_out, *tiles = map(Path, sys.argv[1:])
write_cloud(out, concatenate([open_cloud(tile).read() for tile in tiles if not tile.samefile(held_out)]))
PYTHON

if [ -f "$out/run/state.pt" ]; then
    set -- --resume
else
    set -- "$out/together.laz" "$tiles"/*.laz --held-out "$held_out" --grid 0.5 --landscapes 12 --steps "${STEPS:-2200}"
fi
oneiros train segmenter "$@" --out "$out/run"
rm -rf src/oneiros/points/bundled/lidar
python -m oneiros.points.built_in "$out/run" src/oneiros/points/bundled/lidar
