"""The demonstration: the whole line on this machine, with real programs and a call from a file.

line.py starts a server, an agent and a stand-in for NinjaOne, each a process with a home of its own; play.py
sends one call down the line and says what became of it. `calls/` holds three made-up calls with their truth,
`model/` a very small speech model that knows their vocabulary and no other (scripts/speech/).
"""

from pathlib import Path

CALLS = Path(__file__).parent / "calls"
"""NAME.wav, 16 kHz, the technician left, the caller right; NAME.json says who says what, and when."""
