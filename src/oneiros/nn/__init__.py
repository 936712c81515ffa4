"""What two systems share: tensors in, tensors out; no files, no devices."""
