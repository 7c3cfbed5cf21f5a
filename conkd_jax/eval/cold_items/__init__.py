"""Items by how often training text names them; those that it never names are called cold."""
