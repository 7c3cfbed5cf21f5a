"""OpenDialKG: films and books, recommended along a knowledge graph of their own."""
