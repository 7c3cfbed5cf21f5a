"""Networks: each takes arrays and gives arrays, and knows no file, no corpus and no loop."""
