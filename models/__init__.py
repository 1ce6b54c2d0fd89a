"""PyTorch side: data, networks, compression, attacks, and the golden model."""

import os

# Read when torch is first imported. Its threads otherwise spin while they wait, which makes networks as small as these
# many times slower as soon as another process wants the core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
