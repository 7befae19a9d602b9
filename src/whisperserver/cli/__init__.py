"""The commands that the server brings to `wa`, one module each; found by the entry points `wa.commands`."""
