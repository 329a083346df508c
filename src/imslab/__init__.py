"""The laboratory: UE, small core, scenarios and the call ladder; test tools, never part of the daemons."""
