"""The JSON Schemas of the documents that people and scripts read and write."""

from __future__ import annotations

import click

from orchestrator.cli.console import answer_json

_DOCUMENTS = ("project", "receipt", "events")


@click.command(short_help="Print the JSON Schema of project.yaml, of the receipt or of a build's events.")
@click.argument("document", type=click.Choice(_DOCUMENTS), default="project", metavar=f"[{'|'.join(_DOCUMENTS)}]")
def schema(document: str) -> None:
    """Print a JSON Schema: of project.yaml (the default), for editors, of the receipt, or of the lines that `build
    --progress json` writes.

    `init` writes the former beside project.yaml, where editors with a YAML language server find it.
    """
    if document == "receipt":
        from orchestrator.receipt.schema import json_schema
    elif document == "events":
        from orchestrator.cli.event_lines import json_schema
    else:
        from orchestrator.project.reference import json_schema
    answer_json(json_schema())


COMMANDS = (schema,)
