"""The scripts of data/few_shot_images import each other as neighbours."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "data" / "few_shot_images"))
