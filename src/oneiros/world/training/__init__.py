"""From datasets to tokenizers and worlds."""
