"""Small releases in the form of the official ones, filled with rendered faces of people who do not exist."""

from dferkit.datasets.mini import MiniConfig
from dferkit.mini_release.faults import FAULTS, Fault, plant_fault
from dferkit.mini_release.write import write_mini_release

__all__ = ["FAULTS", "Fault", "MiniConfig", "plant_fault", "write_mini_release"]
