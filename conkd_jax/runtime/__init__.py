"""The process of a program: its devices, threads and memory, and the other processes beside it."""
