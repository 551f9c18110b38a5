"""Central training: simulator, SAC, evaluation, export. Imports `edge`; `edge` never imports this."""
