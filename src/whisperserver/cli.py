"""`wa server …`, `wa transcribe`, `wa demo`."""

import typer

server = typer.Typer()
transcribe = typer.Typer()
demo = typer.Typer()
