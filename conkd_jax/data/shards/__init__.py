"""Shards: fixed-schema records in array_record files, described as a TFDS dataset."""
