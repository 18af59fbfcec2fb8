"""The page of `report`, live: over HTTP, with the builds that run now. It changes nothing, and wants a token."""
