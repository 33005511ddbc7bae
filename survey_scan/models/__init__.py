"""Networks: from stored pixels to logits, behind one compiled call of one shape.

Nothing here imports TensorFlow or JAX before :func:`load` is called with a network's file.
"""

from survey_scan.models.device import Device, DeviceLost
from survey_scan.models.loader import load
from survey_scan.models.network import Network

__all__ = ["Device", "DeviceLost", "Network", "load"]
