"""What an artifact is: its fingerprint, its manifest, its lock, and when it is built."""
