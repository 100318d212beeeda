"""Ray's processes: the cluster that searches and full trainings share, and full training by Ray Train."""
