"""Make `rsacompare/networks/layers.toml`: what the layers of the zoo's named sets must be.

Builds every network of `zoo.toml` with random weights (minutes) and writes, for each layer of its
sets, shape and parameters. Run it with ``python data/make_layer_table.py`` when a network is
added; a difference after an update of Keras means that a network is no longer the one it was.
"""

import gc
import sys
from pathlib import Path

from rsacompare.networks import keras_models
from rsacompare.networks.keras_network import KerasNetwork
from rsacompare.networks.resnet import SETS

HEAD = """\
# Made by data/make_layer_table.py; do not edit. Layer = shape (height, width, channel), parameters.
"""


def entries(name: str) -> tuple[dict[str, list[int]], int]:
    """{layer: [*shape, parameters]} of a network's named sets, and all its parameters."""
    model, _ = keras_models.build(name, None, 0)
    sets = SETS if name == "resnet50" else None
    net = KerasNetwork(model, name, keras_models.default_preprocessing(name), sets)
    wanted = {spec.rpartition(":")[0] or spec for specs in net.sets.values() for spec in specs}
    held = {
        layer.name: [*layer.shape, layer.n_parameters]
        for layer in net.layers()
        if layer.name in wanted
    }
    return held, model.count_params()


def main(out: Path) -> None:
    """Write the table; say where the parameters in all differ from `zoo.toml`."""
    text = HEAD
    for name, row in keras_models.table().items():
        held, total = entries(name)
        text += f"\n[{name}]\n"
        text += "".join(f'"{layer}" = {values}\n' for layer, values in held.items())
        if total != row["n_parameters"]:
            print(f"{name}: {total} parameters, zoo.toml has {row['n_parameters']}")
        print(name, flush=True)
        gc.collect()
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("rsacompare/networks/layers.toml"))
