"""A world as ONNX files, as programs that dream with them, and as a page."""
