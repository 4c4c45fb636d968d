"""All layers of the paper for a set of pictures: one pass of ours against a pass per layer.

The other way is what a user would write: `load_img`, and `model.predict` of a sub-model for each
layer, of which 1,000 units are kept. Each runs in a process of its own, so that its peak of memory
can be read. At full size theirs runs on 100 pictures and is scaled to all of them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

NETWORKS = {"alexnet": "yu2018", "resnet50": "yu2018"}
LIMIT = 2048  # MiB

OURS = """
import json, resource, sys, time
import rsacompare as rc
from rsacompare.networks.zoo import network
name, layers, units, folder, out = sys.argv[1:]
net = network(name, weights=None)
heard = []
start = time.perf_counter()
rc.extract(net, folder, layers, int(units) if units.isdigit() else units, out=out,
           progress=lambda stage, done, total: heard.append((time.perf_counter(), done)))
whole = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
steady = (heard[-1][1] - heard[0][1]) / (heard[-1][0] - heard[0][0])
print(json.dumps({"seconds": whole, "steady": steady, "peak": peak}))
"""

THEIRS = """
import json, resource, sys, time
from pathlib import Path
import keras, numpy as np
from rsacompare.networks.zoo import network
name, layers, folder, n = sys.argv[1:]
net = network(name, weights=None)
model, size = net.model, net.preprocessing.size
files = sorted(Path(folder).iterdir())[: int(n)]
rng = np.random.default_rng(0)

def run(files):
    images = np.array([keras.utils.img_to_array(keras.utils.load_img(f, target_size=size))
                       for f in files])
    images = images[..., ::-1] - [103.939, 116.779, 123.68]
    for spec in net.choose(layers):
        part = keras.Model(model.input, model.get_layer(spec.split(":")[0]).output)
        found = part.predict(images, batch_size=32, verbose=0).reshape(len(images), -1)
        found[:, rng.permutation(found.shape[1])[:1000]]

start = time.perf_counter()
run(files)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak}))
"""


def write_pictures(folder, n):
    """JPEGs of 500 x 375 with structure at several scales, as photographs have it."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(n):
        picture = np.zeros((375, 500, 3))
        for cells in (3, 10, 40):
            coarse = rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
            picture += np.asarray(Image.fromarray(coarse).resize((500, 375), 3))
        Image.fromarray((picture / 3).astype(np.uint8)).save(folder / f"p{i:04d}.jpg", quality=90)


def child(code, *arguments):
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )
    if run.returncode:
        raise RuntimeError(run.stderr[-2000:])
    return json.loads(run.stdout.strip().splitlines()[-1])


def main(full: bool = False) -> list[str]:
    if find_spec("tensorflow") is None:
        return ["extract    left out: TensorFlow is not installed"]
    n, n_theirs = (1250, 100) if full else (96, 32)
    lines = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        folder.mkdir()
        write_pictures(folder, n)
        for name, layers in NETWORKS.items() if full else [("alexnet", "yu2018")]:
            theirs = child(THEIRS, name, layers, folder, n_theirs)
            rate = n_theirs / theirs["seconds"]
            for units in ("1000", "yu2018") if full else ("1000",):
                out = Path(place) / f"{name}-{units}.nc"
                ours = child(OURS, name, layers, units, folder, out)
                ok = "under" if ours["peak"] < LIMIT else "OVER"
                lines.append(
                    f"extract    x{n / ours['seconds'] / rate:.1f}  ({name}, 8 layers, "
                    f"units={units}: {n} pictures in {ours['seconds']:.0f} s, "
                    f"{n / ours['seconds']:.1f} images/s, {ours['steady']:.1f} once it runs, peak "
                    f"{ours['peak']:.0f} MiB, {ok} {LIMIT}; predict of a layer at a time "
                    f"{rate:.1f} images/s, {theirs['peak']:.0f} MiB, on {n_theirs} pictures)"
                )
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    print("\n".join(main(full=parser.parse_args().full)))
