"""Who runs the cells of a plan: this process, processes of this machine, or a cluster."""
