"""The method: torch and numerics, without paths or pipeline."""

import os

# Threads that wait must sleep. OpenMP's default is to spin, which on a machine with few cores takes them from whoever else
# has work: a training step then costs five times the processor time. It is read when torch and numba load.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
