"""Files of other programs: one module a format, which reads truth, reads detections and writes them."""
