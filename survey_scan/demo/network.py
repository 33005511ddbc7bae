"""The demo's network: a model package, trained by configs/demo-simulate.yaml and configs/demo-train.yaml."""

from pathlib import Path

CUTOUT_SIZE = 45
"""Width in pixels of the cutouts the network takes: 11.8 arcsec."""
NETWORK = Path(__file__).with_name("model")
"""The package: the network, its contract, and parity cutouts. It has never seen the demo's sky."""
