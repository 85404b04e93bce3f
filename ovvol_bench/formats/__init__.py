"""Files of other programs: one module a format, each reads detections and writes them."""
