"""WhisperAgent's server: where the model is.

The second half of the line: `api` receives a sealed call, `store` keeps it, `jobs` has it transcribed by
`transcribe`, `live` tells the PCs, a person reviews it, and `tickets` turns it into a ticket. From the
agent's package it takes only the shared files: errors, wire, sealed, settings, console, i18n.
"""
