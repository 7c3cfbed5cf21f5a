"""Networks of recommenders: graph convolutions, pooling of what a user mentioned, AutoRec."""
