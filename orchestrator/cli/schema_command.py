"""The JSON Schemas of the documents that people and scripts read and write."""

from __future__ import annotations

import click

from orchestrator.cli.console import answer_json


@click.command(short_help="Print the JSON Schema of project.yaml or of the receipt.")
@click.argument("document", type=click.Choice(["project", "receipt"]), default="project", metavar="[project|receipt]")
def schema(document: str) -> None:
    """Print a JSON Schema: of project.yaml (the default), for editors, or of the receipt.

    `init` writes the former beside project.yaml, where editors with a YAML language server find it.
    """
    if document == "receipt":
        from orchestrator.receipt.schema import json_schema
    else:
        from orchestrator.project.reference import json_schema
    answer_json(json_schema())


COMMANDS = (schema,)
