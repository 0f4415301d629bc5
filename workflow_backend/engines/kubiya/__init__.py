"""The remote engine: runs of Kubiya's API, recorded here as they are told."""
