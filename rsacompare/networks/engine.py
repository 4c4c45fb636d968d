"""Keras and TensorFlow, imported when a network is built and without their talk on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rsacompare.errors import MissingDependency


def keras() -> Any:
    """The module `keras`, on TensorFlow.

    Raises
    ------
    MissingDependency
        Where it is not installed: the message holds the install line.
    """
    if sys.modules.get("keras") is not None:
        return sys.modules["keras"]
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _silent():  # TensorFlow writes of processors and graphics cards before it can be told
            import keras as module
            import tensorflow as tf

            tf.config.list_physical_devices()
    except ImportError as err:
        raise MissingDependency(
            f"networks need TensorFlow: pip install 'rsacompare[networks]' ({err})"
        ) from err
    return module


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on file descriptor 2, where C++ writes; exceptions pass."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)
