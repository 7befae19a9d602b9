"""What the forked programs would import, imported once before the fork."""

from importlib import import_module

for name in (
    "whisperagent.agent",
    "whisperserver.logs",
    "whisperserver.serve",
    "whisperserver.tickets.ninjaone",
    "whisperserver.tickets.standin",
    "whisperserver.transcribe.engine",
    "whisperserver.worker",
):
    import_module(name)
