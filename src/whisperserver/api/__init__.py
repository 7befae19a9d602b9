"""The HTTP API, a controller for each resource: parse, one call, answer. docs/api.md is the same in prose."""
