"""The page of `report`, served."""
