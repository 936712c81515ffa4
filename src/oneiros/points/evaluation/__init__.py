"""How well a segmenter labels clouds whose classes are known."""
