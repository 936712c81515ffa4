"""Systems: a frozen config, `forward(batch) -> Loss`, and the verbs of use."""
