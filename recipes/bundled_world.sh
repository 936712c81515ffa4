#!/bin/sh
# A world that ships with Oneiros, from nothing to its place in the package, in steps that go on where they were.
#
#   sh recipes/bundled_world.sh prepare health_gathering     record, train the tokenizer, write the codes: a CPU, an hour
#   sh recipes/bundled_world.sh train health_gathering       train the world on the codes: a GPU, 8 minutes; or a CPU, hours
#   sh recipes/bundled_world.sh finish health_gathering      measure it, and put it into the package
#
# Where worlds/NAME/data is not, `train` needs worlds/NAME/cache/codes-* (20 MB) and nothing else: carry that to the
# machine with the GPU, and worlds/NAME/world back. STEPS, BATCH and EPISODES change how much is done.
set -eu
stage=${1:?say what to do: prepare, train or finish}
name=${2:?say which scenario of ViZDoom: health_gathering, my_way_home, ...}
out=worlds/$name
mkdir -p "$out"

if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    steps=${STEPS:-8000} batch=${BATCH:-64}  # many clips a step, or the GPU would wait for Python
else
    steps=${STEPS:-6000} batch=${BATCH:-4}
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
fi

case $stage in
prepare)
    [ -f "$out/data/meta/info.json" ] ||
        oneiros record "doom:$name" --depth --labels --episodes "${EPISODES:-300}" --out "$out/data"
    resume=$([ ! -f "$out/tokenizer/state.pt" ] || echo --resume)
    oneiros train tokenizer "$out/data" --depth --steps "${TOKENIZER_STEPS:-2600}" \
        --sharpen-steps "${SHARPEN_STEPS:-700}" --cache "$out/cache" --out "$out/tokenizer" $resume
    # A world of one step, for the codes that it leaves in the cache.
    oneiros train world "$out/data" --tokenizer "$out/tokenizer" --cache "$out/cache" --preset tiny --steps 1 \
        --out "$out/probe"
    rm -r "$out/probe"
    ;;
train)
    if [ -f "$out/world/state.pt" ]; then
        set -- --resume
    elif [ -d "$out/data" ]; then
        set -- "$out/data" --tokenizer "$out/tokenizer" --cache "$out/cache"
    else
        set -- --codes "$out"/cache/codes-*
    fi
    oneiros train world "$@" --steps "$steps" --batch-size "$batch" --save-every 500 --picture-every 1000 \
        --out "$out/world"
    ;;
finish)
    oneiros eval "$out/world" "$out/data" --clips 64 --drift 1000
    rm -rf "src/oneiros/world/bundled/$name"
    python -m oneiros.world.bundle "$out/world" "src/oneiros/world/bundled/$name" "$out/data"
    ;;
*)
    echo "there is no step $stage; there are prepare, train and finish" >&2
    exit 2
    ;;
esac
