"""Where images come from: sources, safe decoding, preprocessing, augmentation, batches."""
