"""The workspace of the project's runs on W&B, as code: sections, panels, grouping.

    pip install wandb-workspaces
    python experiments/sweeps/wandb_workspace.py ENTITY [PROJECT]     # saves it, prints its address
    python experiments/sweeps/wandb_workspace.py --show               # prints what it would save

Panels read what `tracking=wandb` logs. The version is in the workspace's name, so that a changed
definition becomes a workspace of its own.
"""

from __future__ import annotations

import json
import sys
from typing import Any

VERSION = 1
TRAINED = ("biencoder", "colbert", "cross_encoder", "generator", "splade")


def workspace(entity: str, project: str) -> Any:
    """The definition."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as spaces

    quality = [
        panels.BarPlot(title=name, metrics=[name], groupby=panels.Config("identity.label"))
        for name in ("nDCG@10", "condensed nDCG@10", "judged@10", "Recall@100")
    ]
    cost = [
        panels.ScatterPlot(title=f"nDCG@10 against {name}", x=name, y="nDCG@10")
        for name in ("p50 ms", "index MB", "build s")
    ]
    curves = [
        panels.LinePlot(title=kind, x=f"{kind}/step", y=[f"{kind}/dev nDCG@10", f"{kind}/loss"])
        for kind in TRAINED
    ]
    return spaces.Workspace(
        name=f"NeuroSearch {VERSION}",
        entity=entity,
        project=project,
        sections=[
            spaces.Section(name="Quality", panels=quality, is_open=True),
            spaces.Section(name="Quality against cost", panels=cost, is_open=True),
            spaces.Section(name="Trainings", panels=curves, is_open=False),
        ],
        runset_settings=spaces.RunsetSettings(groupby=[spaces.Metric("Group")]),
    )


def main(words: list[str]) -> None:
    """Save the workspace, or show it."""
    if not words or words[0] == "--show":
        print(
            json.dumps(
                workspace("ENTITY", "neurosearch")._to_model().model_dump(), default=str, indent=1
            )
        )
        return
    made = workspace(words[0], words[1] if len(words) > 1 else "neurosearch")
    made.save()
    print(made.url)


if __name__ == "__main__":
    main(sys.argv[1:])
