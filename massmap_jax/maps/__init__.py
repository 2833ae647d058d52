"""Mass maps and lensing maps of the field, from coherent draws of all masses."""
