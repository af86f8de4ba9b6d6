"""What a deployment is, without I/O: records, manifests, refusals and the ports that adapters implement."""
