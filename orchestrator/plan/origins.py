"""Which part of project.yaml a failed build step came from. Pure."""

from __future__ import annotations

import re

from orchestrator.plan.plan import Origin, Plan

# (stage or "" for any, what the instruction contains, the field that it came from); the first match counts.
_RULES = (
    ("", "/orchestrator/build.sh", "build.run"),
    ("", "stage-tree.sh", "stage"),
    ("", "find-interpreter.sh", "build.program"),
    ("", "sbom-records.sh", "stage"),
    ("gevulot-packages", "", "gevulot"),
    ("", "install-packages.sh", "build.packages"),
    ("gevulot", "FROM", "gevulot"),
    ("gevulot", "", "gevulot"),
    ("tools", "", "base"),
    ("program", "apt-get install", "build.packages"),
    ("program", "gpu-assets/", "gpu-assets"),
    ("program", "FROM", "base"),
    ("program", "", "build"),
    ("staging", "", "stage"),
    ("", "apt-get install", "build.packages"),
    ("", "gpu-assets/", "gpu-assets"),
    ("", "cargo build", "gevulot"),
)


def origin_of(stage: str, instruction: str, plan: Plan) -> Origin | None:
    """The origin of a step that the engine names by its stage ("" when it doesn't say) and its instruction."""
    for rule_stage, fragment, field in (*(("", *step) for step in plan.image.steps.items()), *_RULES):
        if rule_stage in ("", stage) and fragment in instruction:
            return plan.origins.get(field, Origin(field=field, line=None))
    return None


def line_in_script(tail: str) -> int | None:
    """The 1-based line of build.sh that the shell complained about, when it said so.

    dash writes `/orchestrator/build.sh: 3: cargo: not found`, bash `…build.sh: line 3: …`.
    """
    lines = re.findall(r"/orchestrator/build\.sh: (?:line )?(\d+):", tail)
    return int(lines[-1]) if lines else None
