"""Names that moved to `inference`."""

from query2label.inference.heat import SMALLEST_SPREAD, heat_colours, overlay, stretched
from query2label.inference.sheet import explanation_sheet

__all__ = ["SMALLEST_SPREAD", "explanation_sheet", "heat_colours", "overlay", "stretched"]
