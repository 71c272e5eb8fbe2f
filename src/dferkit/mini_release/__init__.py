"""Small releases in the exact form of the official ones, filled with rendered faces of people who do not exist.

They are written from the releases' description alone: nothing here is shared with the readers but names of classes and published counts.
"""

from dferkit.mini_release.faults import FAULTS, Fault, plant_fault
from dferkit.mini_release.write import MiniConfig, write_mini_release

__all__ = ["FAULTS", "Fault", "MiniConfig", "plant_fault", "write_mini_release"]
