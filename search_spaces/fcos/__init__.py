"""The FCOS detector's decoders: the spaces of NAS-FCOS and the modules that their choices stand for."""
