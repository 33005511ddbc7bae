"""How much memory scoring with a network takes."""

from typing import Any

import numpy as np

from survey_scan.models.network import Pixels

#: Python with TensorFlow, Keras, Zarr, pandas and Dask loaded: 705 MiB, and what grows while scoring. With JAX it is
#: some 150 MiB less.
BASE = 900 << 20

#: Peak memory measured over that of the live tensors: convolutions need room to work in.
WORKSPACE = 1.3


def projected_bytes(live: int, weight_bytes: int, batch_size: int, pixels: Pixels) -> int:
    """Estimate of a scoring process' memory, meant to be a little too high.

    The base, the weights twice (as read, and repacked for the convolutions), six stored batches (read, waiting, on the
    device), and what the compiled call holds at once. On a GPU the last is in its memory.

    Parameters
    ----------
    live : int
        Bytes the compiled call needs at one time: of TensorFlow :func:`live_bytes`, of JAX what XLA says.
    weight_bytes : int
        Size of the network's weights.
    batch_size : int
        Rows of one call.
    pixels : Pixels
        The cutouts.
    """
    batch = batch_size * int(np.prod(pixels.shape)) * np.dtype(pixels.dtype).itemsize
    return BASE + 2 * weight_bytes + 6 * batch + int(WORKSPACE * live)


def live_bytes(graph: Any, free: tuple[int, int]) -> int:
    """The most bytes of a graph's tensors that are needed at one time, its operations run in order.

    Parameters
    ----------
    graph : tf.Graph
        Functions it calls are followed, as those of a SavedModel.
    free : tuple of int
        What stands for an unknown length: of the first axis, of the others.
    """
    operations = graph.get_operations()
    last_use = {tensor.ref(): i for i, op in enumerate(operations) for tensor in op.inputs}
    ends: dict[int, int] = {}
    live = peak = 0
    for i, op in enumerate(operations):
        for tensor in op.outputs:
            size = _bytes(tensor, free)
            end = last_use.get(tensor.ref(), i)
            ends[end] = ends.get(end, 0) + size
            live += size
        inside = 0
        if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
            inside = live_bytes(graph._get_function(op.get_attr("f").name).graph, free)
        peak = max(peak, live + inside)
        live -= ends.pop(i, 0)
    return peak


def _bytes(tensor: Any, free: tuple[int, int]) -> int:
    """Size of a tensor; 0 if its rank is unknown or it is no array of numbers."""
    if tensor.shape.rank is None or not tensor.dtype.size:
        return 0
    known = [n if n is not None else free[min(axis, 1)] for axis, n in enumerate(tensor.shape)]
    return int(np.prod(known)) * int(tensor.dtype.size)
