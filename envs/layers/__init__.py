"""Where a deployment leaves the reference: layer by layer, by optimisation pass, by cause of other inputs."""
