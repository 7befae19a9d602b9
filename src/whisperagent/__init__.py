"""WhisperAgent on the technician's PC.

The line a call travels, one module a step, in reading order:
`detect` → `record` → `sealed` → `spool` → `upload`; `agent` runs it, `client` speaks to the server,
`tui` and `cli` are its face. The server is the sibling package, which nothing here imports.
"""

__version__ = "0.1.0"
