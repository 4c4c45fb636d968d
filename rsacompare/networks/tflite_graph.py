"""The operations of a TFLite file as a graph of named places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod

from rsacompare.networks.graph import Graph, Place
from rsacompare.networks.tflite_file import WEIGHTED, Model, Operation

# last parts of a tensor's name that say no more than the kind of operation does
_GENERIC = re.compile(
    r"(relu\w?|bias_?add|add_fold|conv2d(_fold)?|depthwise_fold|matmul|fusedbatchnorm\w*"
    r"|batch_?norm\w*|softmax|reshape)(_\d+)?(:\d+)?",
    re.IGNORECASE,
)
# as layer specs call them, for Keras models too
_KINDS = {"depthwise_conv": "conv", "conv_transpose": "conv", "relu6": "relu",
          "concatenate": "concat"}  # fmt: skip


def readable(model: Model) -> list[Operation]:
    """The operations whose output for one picture has a fixed size."""
    return [
        operation
        for operation in model.operations
        if len(shape := model.tensors[operation.output].shape) > 1
        and shape[0] == 1
        and prod(shape) > 0
    ]


def label(operation: Operation) -> str:
    """Its kind, with the activation inside it: `conv+relu6`."""
    return f"{operation.op}+{operation.fused}" if operation.fused else operation.op


def graph_of(model: Model, operations: list[Operation]) -> Graph:
    """The operations as the places that layer specs and the default set are found among.

    The first place is the picture.
    """
    taken = model.inputs[0]
    shape = model.tensors[taken].shape[1:]
    places = [Place("picture", None, None, "input", "", [], [shape], 0, False)]
    made = {taken: 0}
    kept = {id(operation) for operation in operations}
    names = iter(short_names([(model.tensors[o.output].name, o.op) for o in operations]))
    before = {taken: 0}
    for operation in model.operations:
        weighted = operation.op in WEIGHTED
        before[operation.output] = weighted + max(
            (before.get(tensor, 0) for tensor in operation.inputs), default=0
        )
        parents = [made[tensor] for tensor in operation.inputs if tensor in made]
        if id(operation) not in kept:  # nothing to read: what it takes leads on to its users
            if parents:
                made[operation.output] = parents[0]
            continue
        index = len(places)
        for parent in dict.fromkeys(parents):
            places[parent].consumers.append(index)
        places.append(
            Place(
                name=next(names),
                operation=None,
                node=None,
                kind=_KINDS.get(operation.op, operation.op),
                fused=_KINDS.get(operation.fused, operation.fused),
                inputs=[(parent, (parent, 0)) for parent in parents],
                shapes=[model.tensors[operation.output].shape[1:]],
                n_parameters=operation.n_parameters,
                weighted=weighted,
                before=before[operation.output],
            )
        )
        made[operation.output] = index
    ends = [made[tensor] for tensor in model.outputs if made.get(tensor)]
    return Graph(
        places,
        {place.name: k for k, place in enumerate(places) if k},
        {},
        ends or [len(places) - 1],
        shape,
        model.tensors[taken].dtype,
    )


def short_names(tensors: Sequence[tuple[str, str]]) -> list[str]:
    """Short, readable and unique names from those of the tensors.

    Parameters
    ----------
    tensors : sequence of (name in the file, kind of operation)

    Examples
    --------
    >>> short_names([
    ...     ("Net/Net/Conv2d_0/Relu6;Net/Net/Conv2d_0/add_fold", "conv"),
    ...     ("Net/Logits/Conv2d_1c_1x1/BiasAdd", "conv"),
    ...     ("Net/Predictions/Softmax", "softmax"),
    ...     ("StatefulPartitionedCall:0", "add"),
    ... ])
    ['Conv2d_0', 'Logits_Conv2d_1c_1x1', 'Predictions', 'add']
    """
    firsts = [name.split(";")[0].strip("/").split("/") for name, _ in tensors]
    scopes = [parts[0] for parts in firsts if len(parts) > 1]
    scope = max(set(scopes), key=scopes.count) if scopes else ""
    common = bool(scope) and scopes.count(scope) > len(firsts) / 2
    names = []
    for parts, (_, op) in zip(firsts, tensors, strict=True):
        while common and len(parts) > 1 and parts[0] == scope:
            parts = parts[1:]
        while len(parts) > 1 and _GENERIC.fullmatch(parts[-1]):
            parts = parts[:-1]
        if len(parts) > 1 and parts[-2].startswith(f"{parts[-1]}_"):
            parts = parts[:-1]  # AvgPool_1a/AvgPool
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", "_".join(parts)).strip("_")
        if not name or re.match(r"(StatefulPartitionedCall|Identity)(_|$)", name):
            name = op
        names.append(name)
    used: set[str] = set()
    for k, name in enumerate(names):
        new, number = name, 1
        while new in used or (new != name and new in names):
            number += 1
            new = f"{name}_{number}"
        names[k] = new
        used.add(new)
    return names
