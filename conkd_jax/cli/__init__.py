"""The command line that all programs share: options, help, output, and how a program ends."""
