"""Transcribe: from the bytes of a call to who said what, when.

decode.py makes samples of bytes (in a process of its own), parts.py makes one call of its parts, pauses.py
says what of them to hear, engine.py makes words of it, one side of the call at a time, guards.py takes out
what nobody said, doubt.py says what to hear again, merge.py puts both sides on one time line. models.py knows
where speech models lie. score.py says how well it went, where the truth is known.
"""
