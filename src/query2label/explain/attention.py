"""Names that moved to `inference`."""

from query2label.inference.explanation import Explanation
from query2label.inference.heat import map_on_image
from query2label.inference.looking import explain_image

__all__ = ["Explanation", "explain_image", "map_on_image"]
