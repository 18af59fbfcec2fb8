"""manifests/receipt.schema.json, generated from the receipt's model and its docstrings."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from orchestrator.project.reference import descriptions
from orchestrator.receipt import receipt
from orchestrator.receipt.receipt import Receipt


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a receipt as this version writes it."""
    schema = Receipt.model_json_schema(by_alias=True)
    title = schema.pop("description")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title.rstrip(".")}
    models = {name: value for name, value in vars(receipt).items() if isinstance(value, type)}
    for name, table in [(Receipt.__name__, schema), *schema["$defs"].items()]:
        owner = models[name]
        assert issubclass(owner, BaseModel)
        texts = descriptions(owner)
        for field, info in owner.model_fields.items():
            key = table["properties"][info.alias or field]
            key.pop("title", None)
            if not info.is_required():
                # Left out where there is nothing to say; never null.
                key.pop("default", None)
                key |= next((option for option in key.pop("anyOf", ()) if option != {"type": "null"}), {})
            key["description"] = texts[field]
        table.pop("title", None) if table is not schema else None
    return schema


def json_schema_text() -> str:
    """`json_schema` as text, with a final newline."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
