"""The command groups of `pomona-trainer`, one module each; heavy imports happen inside the run functions."""
