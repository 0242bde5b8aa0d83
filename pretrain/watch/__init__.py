"""Numbers that are watched while a run trains: values that are not finite, spikes, slow processes, layers."""
